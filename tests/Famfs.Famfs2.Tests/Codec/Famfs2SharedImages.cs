using System.IO.Compression;
using System.Text.Json;
using Xunit;

namespace Famfs.Famfs2.Tests.Codec;

/// <summary>Images that the existing tools wrote (superblock and log area of a device) and what they hold, beside
/// the repository in ../shared/golden/famfs-2; a test skips where they are not.</summary>
internal static class Famfs2SharedImages
{
    public static readonly string[] Names = ["a_empty", "b_simple", "c_interleaved", "d_add_daxdev"];

    public static byte[] ReadImage(string name)
    {
        using FileStream file = File.OpenRead(Require(name + ".small.gz"));
        using GZipStream unpacked = new(file, CompressionMode.Decompress);
        using MemoryStream bytes = new();
        unpacked.CopyTo(bytes);
        return bytes.ToArray();
    }

    public static JsonDocument ReadContent(string name) => JsonDocument.Parse(File.ReadAllBytes(Require(name + ".json")));

    private static string Require(string file)
    {
        DirectoryInfo? directory = new(AppContext.BaseDirectory);
        while (directory is not null && !File.Exists(Path.Combine(directory.FullName, "Famfs.sln")))
            directory = directory.Parent;
        string path = Path.Combine(directory?.Parent?.FullName ?? "/", "shared", "golden", "famfs-2", file);
        Assert.SkipUnless(File.Exists(path), $"{path} is not there: the images of the existing tools are not part of the repository");
        return path;
    }
}
