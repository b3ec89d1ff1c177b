using Famfs.Core.Allocation;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Core.Check;

/// <summary>
/// Puts an exported log back onto devices as a new native file system: names, attributes, extended attributes, maps and
/// the policy as the log has them, the bytes of files where they are and untouched. For memory whose own log is lost. What
/// only the running file system had (hosts, master slots, request ids, deleted and staged files) is not carried over, and counted.
/// The new log is of the next generation: nothing that a mount or a segment of the lost one says fits it by accident.
/// Nothing is written before all is found possible; the superblock of device 0 comes last.
/// </summary>
public static class LogImport
{
    /// <summary>What came of it.</summary>
    /// <param name="Superblock">Of device 0.</param>
    /// <param name="Files">Files.</param>
    /// <param name="Directories">Directories, without the root.</param>
    /// <param name="Symlinks">Symbolic links.</param>
    /// <param name="Attributes">Extended attributes.</param>
    /// <param name="LeftOut">Inodes that were staged or deleted and are not carried over.</param>
    /// <param name="Hosts">Hosts that were registered, and are not: they register anew.</param>
    /// <param name="MasterSlots">Hosts besides that of mkfs that had a master slot, and have none.</param>
    public sealed record Result(NativeSuperblock Superblock, long Files, long Directories, long Symlinks, long Attributes, long LeftOut, long Hosts, long MasterSlots)
    {
        /// <summary>Entries of another format that had no effect.</summary>
        public long Ignored { get; init; }

        /// <summary>Devices that carried nothing of this file system before: what files have there is what the memory holds.</summary>
        public int FreshDevices { get; init; }
    }

    /// <summary>Imports <paramref name="state"/>, which an exported log was replayed to, onto <paramref name="devices"/>:
    /// all of its devices, in the order of their indices. <paramref name="options"/>: host, clock, force.</summary>
    public static Result Run(IReadOnlyList<DaxDevice> devices, ReplayState state, FormatOptions options)
    {
        RequireUsable(devices, state, options.Force);
        int fresh = devices.Count(d => NativeMedia.FindDeviceUuid(d) is not { } uuid || !state.Devices.Any(known => known.DeviceUuid.ToGuid("device uuid") == uuid));
        long timeNs = (options.Clock.GetUtcNow().UtcTicks - DateTime.UnixEpoch.Ticks) * 100;
        ExtentAllocator space = new();
        foreach (DeviceAdded device in state.Devices)
        {
            DeviceIndex index = new((ushort)device.Index);
            space.AddDevice(index, (long)device.LengthBytes);
            space.Reserve(new(index, 0, MediaLayout.UnitBytes));
        }
        List<(RecordType Type, byte[] Payload)> records = [];
        Result counted = Collect(state, space, (ulong)devices.Count - 1, records);
        long logBytes = MediaLayout.SegmentHeaderBytes + (2L * MediaLayout.MaxRecordBytes) + ((devices.Count + 8) * 1024L)
            + records.Sum(r => (long)RecordBatch.FrameBytes(r.Payload.Length));
        // Existing tools had files there, which somebody may still want to read; no place for this file system's own things.
        foreach (MapExtent extent in state.ExcludedExtents)
            space.ReserveRest(extent);
        MapExtent hostTable = Take(space, MediaLayout.UnitBytes);
        MapExtent segment = Take(space, (logBytes + MediaLayout.UnitBytes - 1) / MediaLayout.UnitBytes * MediaLayout.UnitBytes);

        List<NativeSuperblock> superblocks = [];
        foreach (DeviceAdded device in state.Devices)
        {
            bool primary = device.Index == 0;
            superblocks.Add(new()
            {
                FileSystem = state.Position.FileSystem,
                Device = device.DeviceUuid.ToGuid("device uuid"),
                MkfsHost = options.Host,
                Index = new((ushort)device.Index),
                DeviceLengthBytes = (long)device.LengthBytes,
                Coherent = devices[(int)device.Index].Coherent,
                DeviceName = Path.GetFileName(devices[(int)device.Index].Path),
                Label = state.FileSystem!.Label,
                Generation = state.Position.Generation + 1,
                CreatedNs = timeNs,
                HostTableOffset = primary ? hostTable.OffsetBytes : MediaLayout.HostTableOffset,
                HostTableLengthBytes = primary ? hostTable.LengthBytes : 0,
                FirstSegmentOffset = primary ? segment.OffsetBytes : 0,
                FirstSegmentLengthBytes = primary ? segment.LengthBytes : 0,
            });
        }
        foreach (DaxDevice device in devices)
        {
            device.Zero(0, MediaLayout.UnitBytes);
            device.Fence();
        }
        devices[0].Zero(hostTable.OffsetBytes, hostTable.LengthBytes);
        devices[0].Zero(segment.OffsetBytes, segment.LengthBytes);
        for (int i = devices.Count - 1; i >= 1; i--)
            NativeFormatter.WriteSuperblock(devices[i], superblocks[i]);
        NativeFormatter.WriteFirstTerm(devices, superblocks, options with { RootMode = state.FileSystem!.RootMode, RootUid = state.FileSystem.RootUid, RootGid = state.FileSystem.RootGid }, timeNs, records);
        NativeFormatter.WriteSuperblock(devices[0], superblocks[0]);
        return counted with { Superblock = superblocks[0], Ignored = state.IgnoredCount, FreshDevices = fresh };
    }

    private static void RequireUsable(IReadOnlyList<DaxDevice> devices, ReplayState state, bool force)
    {
        if (state.FileSystem is null)
            throw new FamfsException(ErrorReason.BadRequest, "the exported log has no records");
        if (state.UnitBytes != MediaLayout.UnitBytes)
            throw new FamfsException(ErrorReason.NotSupportedByFormat, $"the exported log has units of {state.UnitBytes} bytes, the native format has {MediaLayout.UnitBytes}");
        if (devices.Count != state.Devices.Length)
            throw new FamfsException(ErrorReason.DeviceMissing, $"the exported log has {state.Devices.Length} devices, {devices.Count} are given; give all of them, in the order of their indices");
        if (devices.DistinctBy(d => d.Path).Count() != devices.Count)
            throw new FamfsException(ErrorReason.BadRequest, "a device is given twice");
        for (int i = 0; i < devices.Count; i++)
        {
            if (devices[i].LengthBytes < (long)state.Devices[i].LengthBytes)
                throw new FamfsException(ErrorReason.BadSize, $"{devices[i].Path}: has {devices[i].LengthBytes} bytes, device {i} of the exported log {state.Devices[i].LengthBytes}") { Path = devices[i].Path, Limit = state.Devices[i].LengthBytes };
            // Force is for metadata that is lost; what is left of it says where the files' bytes are not.
            int own = NativeMedia.FindDeviceUuid(devices[i]) is { } uuid ? state.Devices.ToList().FindIndex(d => d.DeviceUuid.ToGuid("device uuid") == uuid) : -1;
            if (own >= 0 && own != i)
                throw new FamfsException(ErrorReason.BadRequest, $"{devices[i].Path}: is device {own} of the exported log, and given as device {i}; give all of them, in the order of their indices") { Path = devices[i].Path };
            NativeFormatter.RequireUsable(devices[i], MediaLayout.UnitBytes, force);
        }
    }

    /// <summary>Makes the records of what is published, parents first, and takes their extents.</summary>
    private static Result Collect(ReplayState state, ExtentAllocator space, ulong furtherDevices, List<(RecordType, byte[])> records)
    {
        long files = 0;
        long directories = 0;
        long symlinks = 0;
        long attributes = 0;
        List<(RecordType, byte[])> settings = [];
        using TreeReader reader = state.Tree.RegisterReader();
        using TreeScope scope = reader.Enter();
        ulong shift = FindShift(state, scope, furtherDevices);
        Queue<InodeNumber> waiting = new([InodeNumber.Root]);
        while (waiting.TryDequeue(out InodeNumber directory))
        {
            InodeNumber parent = directory == InodeNumber.Root ? directory : new(directory.Value + shift);
            scope.TryGet(directory, out InodeAttributes own);
            attributes += AddSettings(scope, own, parent.Value, settings);
            DirectoryEntries entries = scope.List(directory, 0);
            while (entries.MoveNext())
            {
                InodeAttributes inode = entries.Attributes;
                ulong number = inode.Inode.Value + shift;
                if (number < MediaLayout.FirstFreeInode + furtherDevices || number > InodeNumber.Max)
                    throw new FamfsException(ErrorReason.MediaCorrupt, $"inode {inode.Inode} has a number of the file system's own");
                switch (inode.Kind)
                {
                    case InodeKind.Directory:
                        DirectoryMadeRecord made = new() { TimeNs = inode.ModifyTimeNs, Inode = new(number), Parent = parent, Name = entries.Name, Mode = inode.Mode, Uid = inode.Uid, Gid = inode.Gid };
                        byte[] madeBytes = new byte[made.GetByteCount()];
                        made.Write(madeBytes);
                        records.Add((RecordType.DirectoryMade, madeBytes));
                        waiting.Enqueue(inode.Inode);
                        directories++;
                        break;
                    case InodeKind.File:
                        records.Add((RecordType.FileCreated, RecordOf(scope, inode, number, parent, entries.Name, space)));
                        attributes += AddSettings(scope, inode, number, settings);
                        files++;
                        break;
                    case InodeKind.Symlink:
                        scope.TryGetSymlinkTarget(inode.Inode, out ReadOnlySpan<byte> target);
                        SymlinkMade link = new()
                        {
                            TimeNs = inode.ModifyTimeNs,
                            Inode = number,
                            Parent = parent.Value,
                            Name = ByteString.CopyFrom(entries.Name),
                            Target = ByteString.CopyFrom(target),
                            Uid = inode.Uid,
                            Gid = inode.Gid,
                        };
                        records.Add((RecordType.SymlinkMade, link.ToByteArray()));
                        attributes += AddSettings(scope, inode, number, settings);
                        symlinks++;
                        break;
                }
            }
        }
        // Behind all creations, which change the times of directories.
        records.AddRange(settings);
        if (!state.Policy.Equals(new PolicySet()))
            records.Add((RecordType.PolicySet, new PolicySet(state.Policy) { RequestId = ByteString.Empty, RequestDigest = 0 }.ToByteArray()));
        long leftOut = 0;
        InodeNumber at = default;
        while (scope.TryGetNext(at, out InodeAttributes each))
        {
            at = each.Inode;
            leftOut += each.Kind != InodeKind.System && each.Status != InodeStatus.Published ? 1 : 0;
        }
        return new(null!, files, directories, symlinks, attributes, leftOut, state.Hosts.Count, state.MasterSlots.Keys.Count(slot => slot != 0));
    }

    /// <summary>What is added to inode numbers. Those of a native log are kept, unless a device joined after files were made: its
    /// superblock has one of the first numbers now, which a file may have. Those of another format begin where the native format
    /// has its own things.</summary>
    private static ulong FindShift(ReplayState state, in TreeScope scope, ulong furtherDevices)
    {
        if (state.Position.Generation == 0)
            return MediaLayout.FirstFreeInode + furtherDevices;
        InodeNumber at = default;
        while (scope.TryGetNext(at, out InodeAttributes inode))
        {
            at = inode.Inode;
            if (inode.Kind != InodeKind.System && inode.Status == InodeStatus.Published && at.Value >= MediaLayout.FirstFreeInode)
                return at.Value < MediaLayout.FirstFreeInode + furtherDevices ? furtherDevices : 0;
        }
        return 0;
    }

    /// <summary>Makes the records of what a creation does not say; gives the number of extended attributes. One record for each
    /// of those: it is not longer than the one that set it.</summary>
    private static long AddSettings(in TreeScope scope, in InodeAttributes inode, ulong number, List<(RecordType, byte[])> settings)
    {
        long count = 0;
        ExtendedAttributes each = scope.ListExtendedAttributes(inode.Inode);
        while (each.MoveNext())
        {
            AttributesSet one = new() { TimeNs = inode.ChangeTimeNs, Inode = number };
            one.Attributes.Add(new ExtendedAttribute { Name = ByteString.CopyFrom(each.Name), Value = ByteString.CopyFrom(each.Value) });
            settings.Add((RecordType.AttributesSet, one.ToByteArray()));
            count++;
        }
        // In a format without times they are all 0.
        if ((inode.Kind == InodeKind.Directory && inode.ModifyTimeNs != 0) || inode.AccessTimeNs != inode.ModifyTimeNs || inode.ChangeTimeNs != inode.ModifyTimeNs)
            settings.Add((RecordType.AttributesSet, new AttributesSet { TimeNs = inode.ChangeTimeNs, Inode = number, AccessTimeNs = inode.AccessTimeNs, ModifyTimeNs = inode.ModifyTimeNs }.ToByteArray()));
        return count;
    }

    private static byte[] RecordOf(in TreeScope scope, in InodeAttributes inode, ulong number, InodeNumber parent, ReadOnlySpan<byte> name, ExtentAllocator space)
    {
        if (!scope.TryGetMap(inode.Inode, out MapView map))
            throw new FamfsException(ErrorReason.MediaCorrupt, $"inode {inode.Inode} has no map");
        MapExtent[] extents = new MapExtent[map.ExtentCount];
        for (int i = 0; i < extents.Length; i++)
        {
            extents[i] = map[i];
            space.Reserve(extents[i]);
        }
        FileCreatedRecord record = new()
        {
            TimeNs = inode.ModifyTimeNs,
            Inode = new(number),
            Parent = parent,
            Name = name,
            Mode = inode.Mode,
            Uid = inode.Uid,
            Gid = inode.Gid,
            SizeBytes = inode.SizeBytes,
            HasMap = true,
            ChunkBytes = map.ChunkBytes,
            Extents = extents,
        };
        byte[] bytes = new byte[record.GetByteCount()];
        record.Write(bytes);
        return bytes;
    }

    private static MapExtent Take(ExtentAllocator space, long lengthBytes)
    {
        List<MapExtent> extents = [];
        space.Allocate(new AllocationRequest(lengthBytes) { Kind = LayoutKind.Contiguous, MaxExtents = 1, Devices = [new(0)] }, new Random(0), extents);
        return extents[0];
    }
}
