using System.Runtime.InteropServices;
using System.Text;
using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Famfs2.Codec;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Famfs2;

/// <summary>
/// Turns entries of a famfs-2 log into the records of the native format, and back. Every entry becomes exactly
/// one record, so that positions translate (docs/decisions/0014): behind <see cref="PrologueRecords"/>
/// records that say what the superblock says, entry i is record i + 1 + <see cref="PrologueRecords"/>. Inode
/// number of what entry i makes: i + 2. Term 0, generation 0, no times, no request ids.
/// <para>An entry that cannot be applied without harm becomes a record that changes nothing, and a finding:
/// paths out of the rules, parents that were never made, names that are taken (the first record of a path wins),
/// extents that are not on a known device, aligned, long enough and nobody else's. So replay never fails
/// on what an entry means. Every host comes to the same result, because it follows from the log alone.</para>
/// <para>Translates the log from its start, in order. One thread.</para>
/// </summary>
public sealed class Famfs2Translator
{
    /// <summary>Records that precede that of entry 0: the file system, its first device, its log.</summary>
    public const int PrologueRecords = 3;

    /// <summary>The famfs kernel and the existing tools make the root with this mode, of user 0; the format has none.</summary>
    private const uint RootMode = 0b111_101_101;

    private const uint PermissionBits = 0xFFF;

    /// <summary>Most findings kept of entries that are ignored, and of the others (chosen); a log that has more is not
    /// read any better with all of them.</summary>
    public const int MaxFindings = 10_000;

    private readonly DevicePool _pool;
    private readonly Famfs2Superblock _superblock;
    private readonly Famfs2DeviceTable _devices;
    private readonly ExtentAllocator _space;

    // Path, each byte as one character → what has it.
    private readonly Dictionary<string, Node> _nodes = [];
    private readonly Dictionary<InodeNumber, string> _directories = new() { [InodeNumber.Root] = "" };
    private readonly List<Famfs2Finding> _findings = [];
    private readonly List<MapExtent> _extents = [];

    /// <summary>Begins with the log of <paramref name="pool"/>, which is a famfs-2 one.</summary>
    public Famfs2Translator(DevicePool pool)
    {
        _pool = pool;
        _superblock = Famfs2Format.SuperblockOf(pool);
        _devices = new(_superblock);
        _space = new(_superblock.UnitBytes);
        _space.AddDevice(new(0), _devices.LengthOf(0));
        _space.Reserve(new(new(0), 0, Famfs2Layout.LogOffset + _superblock.LogLengthBytes));
    }

    /// <summary>Index of the entry that is translated next.</summary>
    public ulong NextIndex { get; private set; }

    /// <summary>What was odd about the entries so far: the first <see cref="MaxFindings"/> of either kind.</summary>
    public IReadOnlyList<Famfs2Finding> Findings => _findings;

    /// <summary>Entries so far that have no effect.</summary>
    public long IgnoredCount { get; private set; }

    /// <summary>Findings so far about entries that were applied all the same.</summary>
    public long RemarkCount { get; private set; }

    /// <summary>The record of an entry.</summary>
    public static LogSequence SequenceOf(ulong index) => new(index + 1 + PrologueRecords);

    /// <summary>Number of entries that a position covers.</summary>
    public static ulong EntriesUpTo(LogSequence sequence) => sequence.Value <= PrologueRecords ? 0 : sequence.Value - PrologueRecords;

    /// <summary>Adds the records that precede entry 0.</summary>
    public void AddPrologue(RecordBatch batch)
    {
        batch.Add(RecordType.FileSystemCreated, new FileSystemCreated
        {
            FileSystemUuid = _superblock.FileSystem.ToByteString(),
            UnitBytes = (ulong)_superblock.UnitBytes,
            RootInode = InodeNumber.Root.Value,
            RootMode = RootMode,
            SuperblockInode = Famfs2Inodes.SuperblockOf(new(0)).Value,
        });
        batch.Add(RecordType.DeviceAdded, RecordOf(_pool, new(0), _superblock.Device, _devices.LengthOf(0)));
        batch.Add(RecordType.SegmentReserved, new SegmentReserved
        {
            Inode = Famfs2Inodes.System.Log.Value,
            Extent = new() { Device = 0, OffsetBytes = (ulong)Famfs2Layout.LogOffset, LengthBytes = (ulong)_superblock.LogLengthBytes },
        });
    }

    /// <summary>True for the types that replay knows; it stops before any other.</summary>
    public static bool Knows(Famfs2EntryType type) => type is Famfs2EntryType.File or Famfs2EntryType.Directory or Famfs2EntryType.AddDevice;

    /// <summary>Adds the record of the next entry, whose checksum, sequence and type are good. Gives what keeps it from
    /// being applied, or null.</summary>
    public Famfs2Finding? Translate(Famfs2Entry entry, RecordBatch batch)
    {
        Refusal? refusal = entry.Type switch
        {
            Famfs2EntryType.File => TranslateFile(Famfs2File.Parse(entry), batch),
            Famfs2EntryType.Directory => TranslateDirectory(Famfs2Directory.Parse(entry), batch),
            Famfs2EntryType.AddDevice => TranslateDevice(Famfs2Device.Parse(entry), batch),
            _ => throw new ArgumentException($"entry {NextIndex} has type {(uint)entry.Type}", nameof(entry)),
        };
        Famfs2Finding? finding = null;
        if (refusal is { } why)
        {
            finding = Find(why.Code, why.Cause, ignored: true);
            EntryIgnored record = new() { Index = NextIndex, EntryType = (uint)entry.Type, Code = why.Code, Cause = why.Cause };
            if (entry.Type == Famfs2EntryType.File)
                record.Extents.AddRange(FindExcluded(Famfs2File.Parse(entry)));
            batch.Add(RecordType.EntryIgnored, record, FrameFlags.Skippable);
        }
        NextIndex++;
        return finding;
    }

    /// <summary>Fills the entry that makes <paramref name="frame"/> on the media; its index follows from its sequence.
    /// Its parent must have been translated.</summary>
    public void Encode(in RecordFrame frame, Span<byte> entry)
    {
        ulong index = frame.Sequence.Value - 1 - PrologueRecords;
        switch (frame.Type)
        {
            case RecordType.FileCreated:
                Span<MapExtent> extents = stackalloc MapExtent[Famfs2Layout.MaxExtents];
                if (!FileCreatedRecord.TryRead(frame.Payload, extents, out FileCreatedRecord file) || file.Staged || file.Inode != Famfs2Layout.InodeOf(index))
                    throw Inexpressible(frame);
                bool interleaved = file.ChunkBytes != 0;
                new Famfs2File
                {
                    SizeBytes = file.SizeBytes,
                    Uid = file.Uid,
                    Gid = file.Gid,
                    Mode = file.Mode,
                    Path = PathOf(file.Parent, file.Name, frame),
                    ExtentType = interleaved ? Famfs2File.Interleaved : Famfs2File.Simple,
                    Count = interleaved ? 1 : (ulong)file.Extents.Length,
                    StripCount = interleaved ? (ulong)file.Extents.Length : 0,
                    ChunkBytes = file.ChunkBytes,
                    Extents = [.. file.Extents.ToArray().Select(e => new Famfs2Extent(e.Device.Value, (ulong)e.OffsetBytes, (ulong)e.LengthBytes))],
                }.Format(entry, index);
                break;
            case RecordType.DirectoryMade:
                if (!DirectoryMadeRecord.TryRead(frame.Payload, out DirectoryMadeRecord directory) || directory.Inode != Famfs2Layout.InodeOf(index))
                    throw Inexpressible(frame);
                new Famfs2Directory { Uid = directory.Uid, Gid = directory.Gid, Mode = directory.Mode, Path = PathOf(directory.Parent, directory.Name, frame) }.Format(entry, index);
                break;
            case RecordType.DeviceAdded:
                DeviceAdded device = DeviceAdded.Parser.ParseFrom(frame.Payload);
                new Famfs2Device(device.LengthBytes, device.DeviceUuid.ToGuid("device uuid"), device.Index).Format(entry, index);
                break;
            default:
                throw Inexpressible(frame);
        }
    }

    /// <summary>The record of a device.</summary>
    public static DeviceAdded RecordOf(DevicePool pool, DeviceIndex index, Guid device, long lengthBytes) => new()
    {
        Index = index.Value,
        DeviceUuid = device.ToByteString(),
        LengthBytes = (ulong)lengthBytes,
        // The format does not say it; the memory of one pool is of one kind.
        Coherent = pool.PrimaryDevice.Coherent,
        SuperblockInode = Famfs2Inodes.SuperblockOf(index).Value,
    };

    private static FamfsException Inexpressible(in RecordFrame frame) =>
        new(ErrorReason.NotSupportedByFormat, $"famfs-2 cannot hold record {frame.Sequence} ({frame.Type}); the native format can");

    private static string Key(ReadOnlySpan<byte> path) => Encoding.Latin1.GetString(path);

    private byte[] PathOf(InodeNumber parent, ReadOnlySpan<byte> name, in RecordFrame frame)
    {
        if (!_directories.TryGetValue(parent, out string? directory))
            throw Inexpressible(frame);
        byte[] path = [.. Encoding.Latin1.GetBytes(directory), .. directory.Length > 0 ? "/"u8 : default, .. name];
        return path.Length <= Famfs2Layout.MaxPathBytes ? path : throw Inexpressible(frame);
    }

    private Famfs2Finding Find(string code, string cause, bool ignored)
    {
        Famfs2Finding finding = new(NextIndex, code, cause, ignored);
        if (ignored ? IgnoredCount++ < MaxFindings : RemarkCount++ < MaxFindings)
            _findings.Add(finding);
        return finding;
    }

    private Refusal? TranslateDirectory(Famfs2Directory directory, RecordBatch batch)
    {
        if (ResolvePath(directory.Path.Span, out InodeNumber parent, out ReadOnlySpan<byte> name) is { } refusal)
            return refusal;
        InodeNumber inode = Famfs2Layout.InodeOf(NextIndex);
        DirectoryMadeRecord record = new()
        {
            Inode = inode,
            Parent = parent,
            Name = name,
            Mode = PermissionsOf(directory.Mode),
            Uid = directory.Uid,
            Gid = directory.Gid,
        };
        batch.Commit(record.Write(batch.Reserve(record.GetByteCount())), RecordType.DirectoryMade);
        string path = Key(directory.Path.Span);
        _nodes.Add(path, new(inode, true));
        _directories.Add(inode, path);
        return null;
    }

    private Refusal? TranslateFile(Famfs2File file, RecordBatch batch)
    {
        if ((ResolvePath(file.Path.Span, out InodeNumber parent, out ReadOnlySpan<byte> name) ?? ResolveMap(file)) is { } refusal)
            return refusal;
        InodeNumber inode = Famfs2Layout.InodeOf(NextIndex);
        FileCreatedRecord record = new()
        {
            Inode = inode,
            Parent = parent,
            Name = name,
            Mode = PermissionsOf(file.Mode),
            Uid = file.Uid,
            Gid = file.Gid,
            SizeBytes = file.SizeBytes,
            HasMap = true,
            ChunkBytes = file.ChunkBytes,
            Extents = CollectionsMarshal.AsSpan(_extents),
        };
        batch.Commit(record.Write(batch.Reserve(record.GetByteCount())), RecordType.FileCreated);
        _nodes.Add(Key(file.Path.Span), new(inode, false));
        return null;
    }

    private Refusal? TranslateDevice(Famfs2Device device, RecordBatch batch)
    {
        if (_devices.Add(device) is (string code, string cause))
            return new(code, cause);
        DeviceIndex index = new((ushort)device.Index);
        long length = _devices.LengthOf(index.Value);
        _space.AddDevice(index, length);
        _space.Reserve(new(index, 0, MediaLayout.UnitBytes));
        batch.Add(RecordType.DeviceAdded, RecordOf(_pool, index, device.Device, length));
        return null;
    }

    /// <summary>Type bits say nothing that the entry's type does not.</summary>
    private uint PermissionsOf(uint mode)
    {
        if ((mode & ~PermissionBits) != 0)
            Find("mode", $"mode 0{Convert.ToString(mode, 8)} has bits besides the permission bits; they are ignored", ignored: false);
        return mode & PermissionBits;
    }

    private Refusal? ResolvePath(ReadOnlySpan<byte> path, out InodeNumber parent, out ReadOnlySpan<byte> name)
    {
        parent = InodeNumber.Root;
        name = path;
        if (path.Length > Famfs2Layout.MaxPathBytes)
            return new("path-unterminated", "path of 80 bytes without a NUL");
        if (path.IsEmpty)
            return new("path-empty", "path is empty");
        if (path[0] == (byte)'/')
            return new("path-absolute", $"path \"{Show(path)}\" is absolute");
        int start = 0;
        while (start <= path.Length)
        {
            int length = path[start..].IndexOf((byte)'/');
            ReadOnlySpan<byte> component = length < 0 ? path[start..] : path.Slice(start, length);
            if (component.IsEmpty || component.SequenceEqual("."u8) || component.SequenceEqual(".."u8))
                return new("path-component", $"path \"{Show(path)}\" has a component \"{Show(component)}\"");
            if (start == 0 && (component.SequenceEqual(".meta"u8) || component.SequenceEqual(".staged"u8)))
                return new("path-reserved", $"path \"{Show(path)}\" begins with a name that belongs to the file system");
            name = component;
            start += component.Length + 1;
        }
        if (path.Length > name.Length)
        {
            ReadOnlySpan<byte> directory = path[..(path.Length - name.Length - 1)];
            if (!_nodes.TryGetValue(Key(directory), out Node node))
                return new("parent-missing", $"\"{Show(path)}\": its directory was never made");
            if (!node.IsDirectory)
                return new("parent-not-directory", $"\"{Show(path)}\": its parent is a file");
            parent = node.Inode;
        }
        return _nodes.TryGetValue(Key(path), out Node taken)
            ? new("path-taken", $"\"{Show(path)}\" was made before, by entry {taken.Inode.Value - Famfs2Layout.FirstInode}")
            : null;
    }

    /// <summary>Checks a map and takes its space.</summary>
    private Refusal? ResolveMap(Famfs2File file)
    {
        bool interleaved = file.ExtentType == Famfs2File.Interleaved;
        if (file.SizeBytes is 0 or > long.MaxValue)
            return new("size", $"file of {file.SizeBytes} bytes");
        if (file.ExtentType > Famfs2File.Interleaved)
            return new("extent-type", $"extent type {file.ExtentType}");
        if (file.Count == 0 || file.Count > (interleaved ? 1UL : Famfs2Layout.MaxExtents))
            return new("extent-count", $"{file.Count} extents of type {file.ExtentType}");
        if (interleaved && file.StripCount is 0 or > Famfs2Layout.MaxExtents)
            return new("strips", $"{file.StripCount} strips");
        if (interleaved && (file.ChunkBytes > ExtentAllocator.MaxChunkBytes || file.ChunkBytes < MediaLayout.SmallUnitBytes || !ulong.IsPow2(file.ChunkBytes)))
            return new("chunk", $"chunk of {file.ChunkBytes} bytes is not a power of two from {MediaLayout.SmallUnitBytes} to {ExtentAllocator.MaxChunkBytes}");
        _extents.Clear();
        foreach (Famfs2Extent extent in file.Extents)
        {
            if (JudgeExtent(extent) is { } refusal)
                return refusal;
            _extents.Add(new(new((ushort)extent.Device), (long)extent.OffsetBytes, (long)extent.LengthBytes));
        }
        if (!Holds(file))
            return new("extent-short", $"extents hold less than the file's {file.SizeBytes} bytes");
        for (int i = 0; i < _extents.Count; i++)
        {
            if (_space.TryReserve(_extents[i]))
                continue;
            MapExtent taken = _extents[i];
            while (--i >= 0)
                _space.Free(_extents[i]);
            return new("extent-overlap", $"extent {taken.OffsetBytes}+{taken.LengthBytes} of device {taken.Device} is in use already");
        }
        return null;
    }

    private Refusal? JudgeExtent(Famfs2Extent extent)
    {
        string what = $"extent {extent.OffsetBytes}+{extent.LengthBytes} of device {extent.Device}";
        ulong unit = (ulong)_superblock.UnitBytes;
        if (extent.Device >= (ulong)_devices.Count)
            return new("extent-device", $"{what}: there are {_devices.Count} devices");
        if (extent.LengthBytes == 0)
            return new("extent-empty", $"{what} is empty");
        if (extent.OffsetBytes % unit != 0 || extent.LengthBytes % unit != 0)
            return new("extent-unaligned", $"{what} is not whole units of {unit} bytes");
        ulong device = (ulong)_devices.LengthOf((int)extent.Device);
        if (extent.OffsetBytes > device || extent.LengthBytes > device - extent.OffsetBytes)
            return new("extent-range", $"{what} is outside the device's {device} bytes");
        return null;
    }

    /// <summary>The units that a file names, as far as the pool has them: to existing tools they are that file's, whatever
    /// else is wrong with it.</summary>
    private IEnumerable<Extent> FindExcluded(Famfs2File file)
    {
        ulong unit = (ulong)_superblock.UnitBytes;
        foreach (Famfs2Extent extent in file.Extents)
        {
            ulong device = extent.Device < (ulong)_devices.Count ? (ulong)_devices.LengthOf((int)extent.Device) : 0;
            if (extent.OffsetBytes >= device || extent.LengthBytes == 0)
                continue;
            ulong start = extent.OffsetBytes / unit * unit;
            ulong rest = device - extent.OffsetBytes;
            ulong end = extent.LengthBytes >= rest ? device : (extent.OffsetBytes + extent.LengthBytes + unit - 1) / unit * unit;
            yield return new() { Device = (uint)extent.Device, OffsetBytes = start, LengthBytes = end - start };
        }
    }

    /// <summary>The extents, all inside their devices, have room for every byte of the file.</summary>
    private bool Holds(Famfs2File file)
    {
        if (file.ExtentType == Famfs2File.Simple)
            return _extents.Sum(e => e.LengthBytes) >= (long)file.SizeBytes;
        ulong chunk = file.ChunkBytes;
        ulong strips = file.StripCount;
        ulong whole = file.SizeBytes / chunk;
        ulong rest = file.SizeBytes % chunk;
        for (ulong strip = 0; strip < strips; strip++)
        {
            // Chunks whole of this strip, and what of the last one falls to it.
            UInt128 bytes = ((UInt128)(whole / strips) + (whole % strips > strip ? 1u : 0u)) * chunk;
            if (rest > 0 && whole % strips == strip)
                bytes += rest;
            if (bytes > (ulong)_extents[(int)strip].LengthBytes)
                return false;
        }
        return true;
    }

    /// <summary>A path in one line, whatever its bytes.</summary>
    private static string Show(ReadOnlySpan<byte> path)
    {
        StringBuilder text = new();
        foreach (char c in Encoding.UTF8.GetString(path))
            text.Append(char.IsControl(c) ? $"\\x{(int)c:x2}" : c);
        return text.ToString();
    }

    private readonly record struct Node(InodeNumber Inode, bool IsDirectory);

    private readonly record struct Refusal(string Code, string Cause);
}
