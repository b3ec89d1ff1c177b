using Famfs.Core.Format;
using Famfs.Famfs2.Codec;

namespace Famfs.Famfs2.Tests.Codec;

/// <summary>One of each structure, with a different value in every field.</summary>
internal static class Famfs2Samples
{
    public static readonly Famfs2Superblock Superblock = new()
    {
        FileSystem = new("01020304-0506-0708-090a-0b0c0d0e0f10"),
        Device = new("11121314-1516-1718-191a-1b1c1d1e1f20"),
        System = new("21222324-2526-2728-292a-2b2c2d2e2f30"),
        LogLengthBytes = 16L << 20,
        Flags = Famfs2Superblock.PrimaryFlag,
        Gap = 0x31323334,
        DeviceLengthBytes = 0x4142434445,
        DeviceCopy = new("51525354-5556-5758-595a-5b5c5d5e5f60"),
        RawName = Famfs2Superblock.StoredName("/dev/dax1.0"),
    };

    public static readonly Famfs2LogHeader Header = new(16L << 20, 0x0102, 0x0304);

    public static readonly Famfs2File Simple = new()
    {
        SizeBytes = 3 * MediaLayout.UnitBytes - 5,
        Flags = 2,
        Uid = 0x01020304,
        Gid = 0x05060708,
        Mode = 0xFED,
        Path = "a/simple file"u8.ToArray(),
        Count = 2,
        Extents = [new(0, 10 << 20, 2 << 20), new(3, 1L << 40, 4 << 20)],
    };

    public static readonly Famfs2File Interleaved = new()
    {
        SizeBytes = 0x0102030405,
        Mode = 0x1A4,
        Path = System.Text.Encoding.ASCII.GetBytes(new string('p', Famfs2Layout.MaxPathBytes)),
        ExtentType = Famfs2File.Interleaved,
        Count = 1,
        StripCount = 16,
        ChunkBytes = 8 << 20,
        Extents = [.. Enumerable.Range(0, 16).Select(i => new Famfs2Extent((ulong)i, (ulong)(i + 5) << 21, 64 << 20))],
    };

    public static readonly Famfs2Directory Directory = new() { Uid = 0x11121314, Gid = 0x15161718, Mode = 0x3FF, Path = "d1/sub"u8.ToArray() };

    public static readonly Famfs2Device Device = new(0x0102030405060708, new("61626364-6566-6768-696a-6b6c6d6e6f70"), 0x71727374);

    /// <summary>Name of the golden file → its bytes.</summary>
    public static readonly IReadOnlyDictionary<string, Func<byte[]>> All = new Dictionary<string, Func<byte[]>>
    {
        ["superblock"] = () => Fill(Famfs2Superblock.Size, b => Superblock.Format(b)),
        ["log-header"] = () => Fill(Famfs2LogHeader.Size, b => Header.Format(b)),
        ["entry-file-simple"] = () => Fill(Famfs2Entry.Size, b => Simple.Format(b, 0x81)),
        ["entry-file-interleaved"] = () => Fill(Famfs2Entry.Size, b => Interleaved.Format(b, 0x82)),
        ["entry-directory"] = () => Fill(Famfs2Entry.Size, b => Directory.Format(b, 0x83)),
        ["entry-device"] = () => Fill(Famfs2Entry.Size, b => Device.Format(b, 0x84)),
    };

    private static byte[] Fill(int size, Action<byte[]> format)
    {
        byte[] bytes = new byte[size];
        // Formatting must not rely on what was there.
        bytes.AsSpan().Fill(0xAA);
        format(bytes);
        return bytes;
    }
}
