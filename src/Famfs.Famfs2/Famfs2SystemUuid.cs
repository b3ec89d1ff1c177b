using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Famfs2;

/// <summary>The uuid by which a famfs-2 file system knows the one system that may append: text in a file that the
/// existing tools keep too, one per system.</summary>
public static class Famfs2SystemUuid
{
    /// <summary>Where the existing tools keep it.</summary>
    public const string DefaultPath = "/opt/famfs/system_uuid";

    private const int MaxFileBytes = 128;

    /// <summary>Reads the file; null when there is none. Throws BAD_REQUEST when something else is there.</summary>
    public static Guid? Read(string path)
    {
        string text;
        try
        {
            if (!File.Exists(path))
                return Directory.Exists(path) ? throw Bad(path) : null;
            // A pipe or a device has no length, and opening or reading one may never end.
            FileSystemInfo file = File.ResolveLinkTarget(path, returnFinalTarget: true) ?? new System.IO.FileInfo(path);
            if (file is not System.IO.FileInfo { Length: > 0 and <= MaxFileBytes })
                throw Bad(path);
            text = File.ReadAllText(path, System.Text.Encoding.ASCII);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new FamfsException(ErrorReason.BadRequest, $"{path}: the system uuid cannot be read: {error.Message}", error) { Path = path };
        }
        // The existing tools may leave the NUL of the text in the file.
        return Guid.TryParseExact(text.Trim('\0', '\n', '\r', ' ', '\t'), "D", out Guid system) && system != Guid.Empty ? system : throw Bad(path);
    }

    /// <summary>Reads the file, or makes it with a new uuid.</summary>
    public static Guid ReadOrMake(string path)
    {
        if (Read(path) is { } system)
            return system;
        system = Guid.NewGuid();
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
            WholeFile.WriteNew(path, System.Text.Encoding.ASCII.GetBytes($"{system:D}\n"));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new FamfsException(ErrorReason.BadRequest, $"{path}: the system uuid cannot be kept there: {error.Message}", error) { Path = path };
        }
        return system;
    }

    private static FamfsException Bad(string path) => new(ErrorReason.BadRequest, $"{path}: is not a system uuid; restore it, or remove it to become another system") { Path = path };
}
