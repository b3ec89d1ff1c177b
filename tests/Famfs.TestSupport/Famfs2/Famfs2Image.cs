using System.Text;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Famfs2.Codec;
using Famfs.TestSupport.Dax;

namespace Famfs.TestSupport.Famfs2;

/// <summary>A famfs-2 file system made byte by byte, good or bad, in memory of its own.</summary>
public sealed class Famfs2Image
{
    /// <summary>Unit of the tests' extents.</summary>
    public const int Unit = MediaLayout.UnitBytes;

    /// <summary>First unit behind superblock and log.</summary>
    public const int FirstFreeUnit = 5;

    /// <summary>Makes one with an empty log on a device of <paramref name="units"/> units.</summary>
    public Famfs2Image(int units = 64, long unitBytes = Unit, bool coherent = true)
    {
        Memory = new((long)units * Unit, seed: 1, coherent) { AccidentOneIn = 0 };
        Superblock = new()
        {
            FileSystem = new("aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb"),
            Device = new("cccccccc-1111-4222-8333-dddddddddddd"),
            System = new("eeeeeeee-1111-4222-8333-ffffffffffff"),
            LogLengthBytes = Famfs2Layout.MinLogBytes,
            UnitBytes = unitBytes,
            DeviceLengthBytes = Memory.LengthBytes,
            RawName = Famfs2Superblock.StoredName("/dev/dax0.0"),
        };
        WriteSuperblock();
        WriteHeader(0, 0);
    }

    /// <summary>The device's memory.</summary>
    public FakeSharedMemory Memory { get; }

    /// <summary>The superblock; follow a change with <see cref="WriteSuperblock"/>.</summary>
    public Famfs2Superblock Superblock { get; set; }

    /// <summary>Entries so far.</summary>
    public ulong Count { get; private set; }

    /// <summary>A simple extent of device 0, in units.</summary>
    public static Famfs2Extent Extent(int unit, int units = 1, ulong device = 0) => new(device, (ulong)unit * Unit, (ulong)units * Unit);

    /// <summary>A file with simple extents.</summary>
    public static Famfs2File File(string path, ulong size, params Famfs2Extent[] extents) => new()
    {
        Path = Encoding.Latin1.GetBytes(path),
        SizeBytes = size,
        Mode = 0x1A4,
        Count = (ulong)extents.Length,
        Extents = extents,
    };

    /// <summary>An interleaved file.</summary>
    public static Famfs2File Interleaved(string path, ulong size, ulong chunk, params Famfs2Extent[] strips) => new()
    {
        Path = Encoding.Latin1.GetBytes(path),
        SizeBytes = size,
        Mode = 0x1A4,
        ExtentType = Famfs2File.Interleaved,
        Count = 1,
        StripCount = (ulong)strips.Length,
        ChunkBytes = chunk,
        Extents = strips,
    };

    /// <summary>Adds a directory.</summary>
    public Famfs2Image Directory(string path, uint mode = 0x1ED) =>
        Add((entry, index) => new Famfs2Directory { Path = Encoding.Latin1.GetBytes(path), Mode = mode }.Format(entry, index));

    /// <summary>Adds a file.</summary>
    public Famfs2Image Add(Famfs2File file) => Add(file.Format);

    /// <summary>Adds a device.</summary>
    public Famfs2Image Add(Famfs2Device device) => Add(device.Format);

    /// <summary>Adds whatever <paramref name="format"/> makes of an entry's bytes and its index.</summary>
    public Famfs2Image Add(EntryFormatter format)
    {
        byte[] entry = new byte[Famfs2Entry.Size];
        format(entry, Count);
        Memory.WriteMemory(Famfs2Layout.EntryOffset(Count), entry);
        Count++;
        WriteHeader(Count, Count);
        return this;
    }

    /// <summary>Adds a file of which <paramref name="change"/> changes bytes before the checksum is made.</summary>
    public Famfs2Image AddChanged(Famfs2File file, Action<byte[]> change) => Add((entry, index) =>
    {
        file.Format(entry, index);
        byte[] bytes = entry.ToArray();
        change(bytes);
        BitConverter.TryWriteBytes(bytes.AsSpan(Famfs2Layout.EntryCrcOffset), (ulong)Crc32.Compute(bytes.AsSpan(0, Famfs2Layout.EntryCrcOffset)));
        bytes.CopyTo(entry);
    });

    /// <summary>Writes the superblock.</summary>
    public void WriteSuperblock()
    {
        byte[] block = new byte[Famfs2Superblock.Size];
        Superblock.Format(block);
        Memory.WriteMemory(0, block);
    }

    /// <summary>Writes a log header with these counters.</summary>
    public void WriteHeader(ulong nextSequence, ulong nextIndex)
    {
        byte[] block = new byte[Famfs2LogHeader.Size];
        new Famfs2LogHeader(Superblock.LogLengthBytes, nextSequence, nextIndex).Format(block);
        Memory.WriteMemory(Famfs2Layout.LogOffset, block);
    }

    /// <summary>Changes bits of memory.</summary>
    public void Flip(long offset, byte bits)
    {
        byte[] one = new byte[1];
        Memory.ReadMemory(offset, one);
        one[0] ^= bits;
        Memory.WriteMemory(offset, one);
    }

    /// <summary>Opens it as a host does.</summary>
    public DevicePool Open(string host = "a") => TestFormats.All.Open([Memory.Attach(host)]);

    /// <summary>The tree as text: one line per file and directory, in the order of inode numbers.</summary>
    public static List<string> Describe(InodeTree tree)
    {
        List<string> lines = [];
        using TreeReader reader = tree.RegisterReader();
        using TreeScope scope = reader.Enter();
        InodeNumber at = default;
        while (scope.TryGetNext(at, out InodeAttributes attributes))
        {
            at = attributes.Inode;
            if (attributes.Kind is not (InodeKind.File or InodeKind.Directory) || at == InodeNumber.Root)
                continue;
            string path = "";
            for (InodeNumber up = at; scope.TryGetName(up, out InodeNumber parent, out ReadOnlySpan<byte> name); up = parent)
                path = Encoding.Latin1.GetString(name) + (path.Length > 0 ? "/" + path : "");
            string map = "";
            if (attributes.Kind == InodeKind.File && scope.TryGetMap(at, out MapView view))
            {
                map = $" {attributes.SizeBytes} chunk {view.ChunkBytes}";
                for (int i = 0; i < view.ExtentCount; i++)
                    map += $" {view[i].Device}:{view[i].OffsetBytes}+{view[i].LengthBytes}";
            }
            lines.Add($"{at} {path} 0{Convert.ToString(attributes.Mode, 8)} {attributes.Uid}:{attributes.Gid}{map}");
        }
        return lines;
    }

    /// <summary>Writes an entry's bytes for its index.</summary>
    public delegate void EntryFormatter(Span<byte> entry, ulong index);
}
