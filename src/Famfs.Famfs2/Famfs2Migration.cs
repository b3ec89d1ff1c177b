using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Famfs2.Codec;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Famfs2;

/// <summary>
/// Makes a famfs-2 file system native where it is: the extents of files stay, names and maps get a native log
/// (docs/decisions/0016). A crash at any moment leaves either format whole:
/// <list type="number">
/// <item>Host table and first segment go into units that no file has, the anchors and second superblock copies into
/// parts of the first unit that famfs-2 does not use, the further bytes of the first superblock copies behind its 200
/// bytes. All of it flushed; the file system is famfs-2 still.</item>
/// <item>One store of eight bytes: the version word of device 0's superblock. From then on its checksum is wrong, it
/// does not look like famfs-2, and the second copy is good: native.</item>
/// <item>The first copies are completed, device by device. A further device whose first copy is of famfs-2 still is
/// accepted by its second copy (<see cref="NativeMedia.FindUnfinished"/>).</item>
/// </list>
/// What was the famfs-2 log becomes a log segment of slot 0, so its old bytes never are part of a file. The caller
/// holds a <see cref="MaintenanceLock"/>.
/// </summary>
public sealed class Famfs2Migration : IMigration
{
    /// <summary>Bytes at a superblock's start that famfs-2 uses, in whole cache lines.</summary>
    private const int SharedBytes = 256;

    private const int VersionOffset = 8;

    private static readonly MediaFormats s_formats = new([NativeFormat.Instance, Famfs2Format.Instance]);

    /// <inheritdoc/>
    public MigrationResult Run(IReadOnlyList<DaxDevice> devices, Func<Guid> host, TimeProvider clock)
    {
        DevicePool pool = s_formats.Open(devices);
        // A mount goes on with the inode numbers of famfs-2, and its files' memory may be given to others from now on.
        foreach (DaxDevice device in devices)
            NativeFormatter.RequireAlone(device);
        if (pool.Format == NativeFormat.Instance)
            return Complete(pool);
        if (pool.UnitBytes != MediaLayout.UnitBytes)
            throw new FamfsException(ErrorReason.NotSupportedByFormat, $"{pool.PrimaryDevice.Path}: has units of {pool.UnitBytes} bytes, the native format has {MediaLayout.UnitBytes}") { Path = pool.PrimaryDevice.Path };

        Source source = Source.Read(pool);
        long timeNs = (clock.GetUtcNow().UtcTicks - DateTime.UnixEpoch.Ticks) * 100;
        long segmentBytes = RoundUp(MediaLayout.SegmentHeaderBytes + source.EstimateLogBytes() + (2L * MediaLayout.MaxRecordBytes));
        MapExtent hostTable = source.Take(MediaLayout.UnitBytes);
        MapExtent segment = source.Take(segmentBytes);
        Guid mkfsHost = host();
        List<NativeSuperblock> superblocks = MakeSuperblocks(pool, source, mkfsHost, timeNs, hostTable, segment);
        List<DaxDevice> ordered = [.. superblocks.Select(s => pool.Require(s.Index))];

        DaxDevice first = ordered[0];
        first.Zero(MediaLayout.SuperblockBytes, MediaLayout.UnitBytes - MediaLayout.SuperblockBytes);
        first.Zero(hostTable.OffsetBytes, hostTable.LengthBytes);
        first.Zero(segment.OffsetBytes, segment.LengthBytes);
        NativeFormatter.WriteFirstTerm(ordered, superblocks, new() { Host = mkfsHost, Clock = clock }, timeNs, MakeRecords(source, timeNs));
        for (int i = 0; i < ordered.Count; i++)
        {
            byte[] block = Format(superblocks[i]);
            Persist(ordered[i], MediaLayout.SuperblockCopyOffset, block);
            Persist(ordered[i], SharedBytes, block.AsSpan(SharedBytes));
        }
        for (int i = 0; i < ordered.Count; i++)
            Flip(ordered[i], superblocks[i]);
        return new(superblocks[0].FileSystem, source.Files, source.Directories, Completed: false);
    }

    /// <summary>Makes one device native. Everything that the native superblock names is in memory.</summary>
    private static void Flip(DaxDevice device, NativeSuperblock superblock)
    {
        byte[] block = Format(superblock);
        device.WriteWord(VersionOffset, NativeSuperblock.NativeVersion);
        device.WriteBack(VersionOffset, sizeof(ulong));
        // Other lines of the block must not land before this one: they would damage what is famfs-2 still.
        device.Fence();
        Persist(device, 0, block.AsSpan(0, SharedBytes));
    }

    private static MigrationResult Complete(DevicePool pool)
    {
        bool changed = false;
        foreach (DeviceIndex index in pool.Present)
        {
            DaxDevice device = pool.Require(index);
            byte[] block = new byte[MediaLayout.SuperblockBytes];
            device.Invalidate(0, block.Length);
            device.Read(0, block);
            if (NativeSuperblock.Parse(block, out _, out _) == SuperblockVerdict.Good)
                continue;
            Flip(device, NativeMedia.FindUnfinished(device) ?? NativeMedia.RequireSuperblock(device));
            changed = true;
        }
        return changed
            ? new(pool.Primary.FileSystem, 0, 0, Completed: true)
            : throw new FamfsException(ErrorReason.Exists, $"{pool.PrimaryDevice.Path}: is a file system of the native format") { Path = pool.PrimaryDevice.Path };
    }

    private static List<NativeSuperblock> MakeSuperblocks(DevicePool pool, Source source, Guid host, long timeNs, MapExtent hostTable, MapExtent segment)
    {
        List<NativeSuperblock> superblocks = [];
        foreach (DeviceAdded device in source.Devices)
        {
            DeviceIndex index = new((ushort)device.Index);
            bool primary = index.Value == 0;
            superblocks.Add(new()
            {
                FileSystem = pool.Primary.FileSystem,
                Device = device.DeviceUuid.ToGuid("device uuid"),
                MkfsHost = host,
                Index = index,
                DeviceLengthBytes = (long)device.LengthBytes,
                Coherent = pool.Require(index).Coherent,
                DeviceName = Path.GetFileName(pool.Require(index).Path),
                CreatedNs = timeNs,
                HostTableOffset = primary ? hostTable.OffsetBytes : MediaLayout.HostTableOffset,
                HostTableLengthBytes = primary ? hostTable.LengthBytes : 0,
                FirstSegmentOffset = primary ? segment.OffsetBytes : 0,
                FirstSegmentLengthBytes = primary ? segment.LengthBytes : 0,
            });
        }
        return superblocks;
    }

    /// <summary>What follows the records that every native log begins with: the old log's place, then every directory and
    /// file in the order of the famfs-2 log.</summary>
    private static List<(RecordType Type, byte[] Payload)> MakeRecords(Source source, long timeNs)
    {
        ulong next = MediaLayout.FirstFreeInode + (ulong)source.Devices.Count - 1;
        SegmentReserved oldLog = new()
        {
            TimeNs = timeNs,
            Inode = next++,
            Extent = new() { Device = 0, OffsetBytes = (ulong)Famfs2Layout.LogOffset, LengthBytes = (ulong)source.LogLengthBytes },
        };
        List<(RecordType Type, byte[] Payload)> records = [(RecordType.SegmentReserved, oldLog.ToByteArray())];
        Dictionary<InodeNumber, InodeNumber> numbers = new() { [InodeNumber.Root] = InodeNumber.Root };
        MapExtent[] extents = new MapExtent[Famfs2Layout.MaxExtents];
        foreach ((RecordType type, byte[] payload) in source.Records)
        {
            InodeNumber inode = new(next++);
            byte[] bytes;
            if (type == RecordType.DirectoryMade)
            {
                DirectoryMadeRecord.TryRead(payload, out DirectoryMadeRecord record);
                numbers.Add(record.Inode, inode);
                record.TimeNs = timeNs;
                record.Inode = inode;
                record.Parent = numbers[record.Parent];
                bytes = new byte[record.GetByteCount()];
                record.Write(bytes);
            }
            else
            {
                FileCreatedRecord.TryRead(payload, extents, out FileCreatedRecord record);
                record.TimeNs = timeNs;
                record.Inode = inode;
                record.Parent = numbers[record.Parent];
                bytes = new byte[record.GetByteCount()];
                record.Write(bytes);
            }
            records.Add((type, bytes));
        }
        return records;
    }

    private static byte[] Format(NativeSuperblock superblock)
    {
        byte[] block = new byte[MediaLayout.SuperblockBytes];
        superblock.Format(block);
        return block;
    }

    private static void Persist(DaxDevice device, long offset, ReadOnlySpan<byte> bytes)
    {
        device.Write(offset, bytes);
        device.WriteBack(offset, bytes.Length);
        device.Fence();
    }

    private static long RoundUp(long bytes) => (bytes + MediaLayout.UnitBytes - 1) / MediaLayout.UnitBytes * MediaLayout.UnitBytes;

    /// <summary>What the famfs-2 log holds.</summary>
    private sealed class Source : IReplayObserver
    {
        /// <summary>Bytes by which a record may grow: a time, larger inode numbers.</summary>
        private const int GrowthBytes = 32;

        private readonly ExtentAllocator _space = new();

        public List<(RecordType Type, byte[] Payload)> Records { get; } = [];

        public List<DeviceAdded> Devices { get; } = [];

        public long LogLengthBytes { get; private init; }

        public long Files { get; private set; }

        public long Directories { get; private set; }

        /// <summary>Reads all of it; throws when anything of it is damaged, was ignored, or on a device that is not
        /// here: what cannot be carried over is not lost silently.</summary>
        public static Source Read(DevicePool pool)
        {
            Source source = new() { LogLengthBytes = Famfs2Format.SuperblockOf(pool).LogLengthBytes };
            Famfs2LogReader reader = new(pool);
            using ReplayState state = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), default, source);
            while (reader.Poll(out LogBlock block) == PollVerdict.Records)
            {
                state.ApplyFrames(block.Frames.Span);
                source.Keep(block);
            }
            if (Famfs2Media.ReadHeader(pool.PrimaryDevice, Famfs2Format.SuperblockOf(pool), out _, out string cause) != Famfs2HeaderVerdict.Good)
                throw Famfs2Media.Corrupt(pool.PrimaryDevice, cause);
            if (reader.Translator.Findings.FirstOrDefault(f => f.Ignored) is { Cause: not null } finding)
                throw new FamfsException(ErrorReason.MediaCorrupt, $"{pool.PrimaryDevice.Path}: entry {finding.Index} cannot be carried over: {finding.Cause}; see `famfs check`") { Path = pool.PrimaryDevice.Path };
            foreach (DeviceAdded device in source.Devices)
                pool.Require(new((ushort)device.Index));
            return source;
        }

        /// <summary>No less than the bytes of all frames of the native log.</summary>
        public long EstimateLogBytes() =>
            Records.Sum(r => (long)RecordBatch.FrameBytes(r.Payload.Length + GrowthBytes)) + ((Devices.Count + 8) * 1024L);

        /// <summary>Takes a run of the first device that no file has.</summary>
        public MapExtent Take(long lengthBytes)
        {
            List<MapExtent> extents = [];
            AllocationRequest request = new(lengthBytes) { Kind = LayoutKind.Contiguous, MaxExtents = 1, Devices = [new(0)] };
            _space.Allocate(request, new Random(0), extents);
            return extents[0];
        }

        void IReplayObserver.EntryChanged(InodeNumber parent, ReadOnlySpan<byte> name)
        {
        }

        void IReplayObserver.InodeChanged(InodeNumber inode)
        {
        }

        void IReplayObserver.FileDeleted(InodeNumber inode)
        {
        }

        void IReplayObserver.ExtentsTaken(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
        {
            foreach (MapExtent extent in extents)
                _space.Reserve(extent);
        }

        void IReplayObserver.ExtentsFreed(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
        {
        }

        void IReplayObserver.DeviceAdded(DeviceAdded device)
        {
            Devices.Add(device);
            _space.AddDevice(new((ushort)device.Index), (long)device.LengthBytes);
        }

        void IReplayObserver.RequestSeen(in RequestTrace request)
        {
        }

        private void Keep(in LogBlock block)
        {
            foreach (RecordFrame frame in block.Records)
            {
                if (frame.Type is RecordType.DirectoryMade or RecordType.FileCreated)
                    Records.Add((frame.Type, frame.Payload.ToArray()));
                Files += frame.Type == RecordType.FileCreated ? 1 : 0;
                Directories += frame.Type == RecordType.DirectoryMade ? 1 : 0;
            }
        }
    }
}
