using System.Diagnostics.CodeAnalysis;
using Famfs.Core.Dax;
using Famfs.Core.Format;

namespace Famfs.Core.Log.Native;

/// <summary>
/// The host table on device 0 (SAFETY S11): reads every entry, writes the own one. In a format without one it has no entries.
/// Not thread safe.
/// </summary>
/// <param name="pool">The devices.</param>
/// <param name="locks">The locks of this host, for those who take entries; none for readers.</param>
public sealed class MountLineTable(DevicePool pool, HostLocks? locks = null)
{
    private const int ReadChunkBytes = 256 * 1024;

    private readonly DaxDevice _device = pool.PrimaryDevice;
    private readonly Guid _fileSystem = pool.Primary.FileSystem;
    private readonly long _start = (pool.Primary as NativeSuperblock)?.HostTableOffset ?? 0;
    private readonly byte[] _chunk = GC.AllocateUninitializedArray<byte>(ReadChunkBytes);

    /// <summary>Number of entries.</summary>
    public int EntryCount { get; } = (pool.Primary as NativeSuperblock)?.HostEntryCount ?? 0;

    /// <summary>Number of hosts that the table has room for.</summary>
    public int HostCapacity => EntryCount / MediaLayout.EntriesPerHost;

    /// <summary>Invalidates and reads the entries in use.</summary>
    public List<HostEntry> ReadInUse() => ReadRange(0, EntryCount);

    /// <summary>Invalidates and reads the entries in use of the first <paramref name="hostSlots"/> hosts' blocks: of a
    /// large table only what the log has granted.</summary>
    public List<HostEntry> ReadInUse(int hostSlots) => ReadRange(0, (int)Math.Min(EntryCount, (long)hostSlots * MediaLayout.EntriesPerHost));

    /// <summary>Invalidates and reads the entries in use of one host's block. Throws when the table, whose size mkfs chose,
    /// has no such block, whoever named it.</summary>
    public List<HostEntry> ReadBlock(int hostSlot) => (uint)hostSlot < (uint)HostCapacity
        ? ReadRange(hostSlot * MediaLayout.EntriesPerHost, MediaLayout.EntriesPerHost)
        : throw new FamfsException(V1.ErrorReason.MediaCorrupt, $"host slot {(uint)hostSlot} is beyond the host table, which has {HostCapacity}");

    /// <summary>Takes an entry among the processes of this host, for as long as <paramref name="held"/> lives: two
    /// mounts of one host that start at the same time must not find the same entry free. False while another
    /// has it.</summary>
    public bool TryLock(int entry, [NotNullWhen(true)] out IDisposable? held) =>
        DeviceLock.TryTake(_device, locks ?? HostLocks.None, _fileSystem, Term.SlotCount + entry, out held);

    /// <summary>Writes a mount's own line: stored, written back, fenced, before it returns.</summary>
    public void Write(int entry, MountLine line)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)entry, (uint)EntryCount, nameof(entry));
        Span<byte> copy = stackalloc byte[MountLine.Size];
        line.Format(copy, _fileSystem, entry);
        long offset = PlaceOf(entry, line);
        _device.Write(offset, copy);
        _device.WriteBack(offset, copy.Length);
        _device.Fence();
    }

    /// <summary>Whether a line that was written is in memory, as everybody reads it: dropped from the caches of this host, and read.</summary>
    public bool IsInMemory(int entry, MountLine line)
    {
        Span<byte> expected = stackalloc byte[MountLine.Size];
        Span<byte> found = stackalloc byte[MountLine.Size];
        line.Format(expected, _fileSystem, entry);
        _device.Invalidate(PlaceOf(entry, line), found.Length);
        _device.Read(PlaceOf(entry, line), found);
        return found.SequenceEqual(expected);
    }

    // Of the copy whose turn it is.
    private long PlaceOf(int entry, MountLine line) => OffsetOf(entry) + (line.Counter % 2 == 1 ? 0 : MountLine.Size);

    private long OffsetOf(int entry) => _start + (long)entry * MediaLayout.HostEntryBytes;

    private List<HostEntry> ReadRange(int first, int count)
    {
        List<HostEntry> entries = [];
        while (count > 0)
        {
            int now = Math.Min(count, ReadChunkBytes / MediaLayout.HostEntryBytes);
            Span<byte> bytes = _chunk.AsSpan(0, now * MediaLayout.HostEntryBytes);
            _device.Invalidate(OffsetOf(first), bytes.Length);
            _device.Read(OffsetOf(first), bytes);
            if (bytes.ContainsAnyExcept((byte)0))
            {
                for (int i = 0; i < now; i++)
                {
                    ReadOnlySpan<byte> entry = bytes.Slice(i * MediaLayout.HostEntryBytes, MediaLayout.HostEntryBytes);
                    if (Judge(entry, first + i) is { } used)
                        entries.Add(used);
                }
            }
            first += now;
            count -= now;
        }
        return entries;
    }

    private HostEntry? Judge(ReadOnlySpan<byte> bytes, int entry)
    {
        if (!bytes.ContainsAnyExcept((byte)0))
            return null;
        uint digest = Crc32C.Append(0, bytes);
        MountLine? newest = null;
        int damaged = 0;
        int copies = 0;
        for (int copy = 0; copy < 2; copy++)
        {
            ReadOnlySpan<byte> block = bytes.Slice(copy * MountLine.Size, MountLine.Size);
            if (!MountLine.TryParse(block, _fileSystem, entry, out MountLine? line))
            {
                damaged += block.ContainsAnyExcept((byte)0) ? 1 : 0;
                continue;
            }
            copies++;
            if (newest is null || line!.Counter > newest.Counter)
                newest = line;
        }
        // Beside the end of a former mount, damage may hide the mount that has the entry now.
        if (damaged > 0 && newest is null or { State: MountState.Ended })
            return new(entry, null, Unreadable: true) { Digest = digest, IsUnfinished = damaged == 1, FormerCounter = newest?.Counter ?? 0 };
        return new(entry, newest, Unreadable: false) { Digest = digest, HasLostCopy = damaged > 0 || (copies == 1 && newest!.Counter > 1) };
    }
}
