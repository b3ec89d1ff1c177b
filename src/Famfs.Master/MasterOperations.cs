using System.Text;
using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.V1;
using Google.Protobuf;
using FileInfo = Famfs.V1.FileInfo;

namespace Famfs.Master;

/// <summary>
/// What requests do to the file system: validate, allocate, append. Every method runs on the engine's thread
/// and throws before it changes anything.
/// </summary>
internal sealed class MasterOperations(MasterEngine engine)
{
    private const uint PermissionBits = 0xFFF;
    private const uint DefaultFileMode = 0x1A4;      // 0644
    private const uint DefaultDirectoryMode = 0x1ED; // 0755

    // A DirectoryMade record without its name takes less.
    private const int DirectoryRecordBytes = 128;

    // Any record but FileCreated and DirectoryMade takes less: texts are cut to 200 characters at most.
    private const int SmallRecordBytes = 1024;

    // A SHA-512. What hosts of this version send is a SHA-256.
    private const int MaxDigestBytes = 64;

    private readonly List<MapExtent> _extents = [];

    /// <summary>Creates a file, or finds the one that an equal request made.</summary>
    public CreateFileReply CreateFile(CreateFileRequest request, bool omitMap = false)
    {
        Guid id = request.RequestId.ToGuid("request_id");
        ulong digest = RequestDigest.Of(request);
        if (engine.Requests.TryFind(id, digest, out RequestTrace trace))
            return RepeatedCreate(trace, omitMap);
        engine.WaitForEqual(request, id);
        if (request.State == CreateState.Staged)
            engine.Format.Require("staged files");
        if (request.State == CreateState.Staged)
            throw new FamfsException(ErrorReason.NotImplemented, "staged creation is not served by this version");
        List<byte[]> components = FileSystemPath.Parse(request.Path, allowRoot: false);
        engine.Format.RequirePath(components, request.Path);
        if (request.SizeBytes is 0 or > long.MaxValue)
            throw new FamfsException(ErrorReason.BadSize, $"size {request.SizeBytes} is out of range: 1 to {long.MaxValue} bytes") { Path = FileSystemPath.Show(request.Path), Limit = long.MaxValue };
        uint mode = RequireMode(request.Mode, request.ModeSet, DefaultFileMode);
        AllocationRequest allocation = engine.Format.RequireLayout(RequireLayout(request), engine.Pool, engine.State);

        InodeNumber parent = RequireParent(components, request.Path);
        using (TreeScope scope = engine.Reader.Enter())
        {
            if (scope.TryLookup(parent, components[^1], out InodeAttributes existing))
                return OpenExisting(scope, existing, request, allocation, omitMap);
        }
        engine.RequireLogSpace(1, EstimateFileRecord(components[^1].Length));

        if (FmapLimits.OfFloor(engine.State.Policy.DialectFloor) is { } floor)
            allocation = floor.Constrain(allocation, engine.State.Devices.Length);

        _extents.Clear();
        long chunkBytes;
        try
        {
            chunkBytes = engine.Allocate(allocation, _extents, request, id);
        }
        catch (FamfsException error) when (error.Path.Length == 0)
        {
            // The allocator knows of no names; whoever makes many files must be told for which it was too much.
            string shown = FileSystemPath.Show(request.Path);
            throw new FamfsException(error.Reason, $"{shown}: {error.Message}", error) { Path = shown, Limit = error.Limit };
        }
        long timeNs = engine.NowNs;
        InodeNumber inode = engine.NextInode;
        Span<byte> payload = engine.ReservePayload(RecordFrame.MaxPayloadBytes);
        Span<byte> idBytes = stackalloc byte[16];
        id.TryWriteBytes(idBytes, bigEndian: true, out _);
        FileCreatedRecord record = new()
        {
            TimeNs = timeNs,
            RequestId = id == Guid.Empty ? default : idBytes,
            RequestDigest = id == Guid.Empty ? 0 : digest,
            Inode = inode,
            Parent = parent,
            Name = components[^1],
            Mode = mode,
            Uid = request.Uid,
            Gid = request.Gid,
            SizeBytes = request.SizeBytes,
            HasMap = true,
            ChunkBytes = (ulong)chunkBytes,
            Extents = System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_extents),
        };
        int written = record.Write(payload);
        engine.AppendReserved(written, RecordType.FileCreated);
        using TreeScope after = engine.Reader.Enter();
        after.TryGet(inode, out InodeAttributes attributes);
        return new() { File = Describe(after, attributes, request.Path, !omitMap), Position = MountTable.PositionOf(engine.Position) };
    }

    /// <summary>Makes a directory and, when asked, its missing parents.</summary>
    public MakeDirectoryReply MakeDirectory(MakeDirectoryRequest request)
    {
        Guid id = request.RequestId.ToGuid("request_id");
        ulong digest = RequestDigest.Of(request);
        if (engine.Requests.TryFind(id, digest, out RequestTrace trace))
            return RepeatedMakeDirectory(trace, request.Path);
        List<byte[]> components = FileSystemPath.Parse(request.Path, allowRoot: request.Parents);
        engine.Format.RequirePath(components, request.Path);
        uint mode = RequireMode(request.Mode, request.ModeSet, DefaultDirectoryMode);
        InodeNumber at = InodeNumber.Root;
        int found = 0;
        using (TreeScope scope = engine.Reader.Enter())
        {
            while (found < components.Count && scope.TryLookup(at, components[found], out InodeAttributes child))
            {
                if (child.Kind != InodeKind.Directory && (found < components.Count - 1 || request.Parents))
                    throw PathError(ErrorReason.NotADirectory, request.Path, components, found, "is not a directory");
                at = child.Inode;
                found++;
            }
            if (found == components.Count)
            {
                if (!request.Parents)
                    throw new FamfsException(ErrorReason.Exists, $"{FileSystemPath.Show(request.Path)}: exists") { Path = FileSystemPath.Show(request.Path) };
                scope.TryGet(at, out InodeAttributes same);
                return new() { Directory = Describe(scope, same, request.Path, false), Position = MountTable.PositionOf(engine.Position), Existed = true };
            }
        }
        int missing = components.Count - found;
        if (missing > 1 && !request.Parents)
            throw PathError(ErrorReason.NotFound, request.Path, components, found, "does not exist");
        engine.RequireLogSpace(missing, components.Skip(found).Sum(c => (long)DirectoryRecordBytes + c.Length));
        for (int i = found; i < components.Count; i++)
        {
            InodeNumber inode = engine.NextInode;
            bool last = i == components.Count - 1;
            DirectoryMade record = new()
            {
                TimeNs = engine.NowNs,
                Inode = inode.Value,
                Parent = at.Value,
                Name = ByteString.CopyFrom(components[i]),
                Mode = last ? mode : mode | 0xC0, // owner must be able to go on into what it made
                Uid = request.Uid,
                Gid = request.Gid,
            };
            // The id goes into the record that completes the request; all of them are published at once.
            if (last && id != Guid.Empty)
            {
                record.RequestId = request.RequestId;
                record.RequestDigest = digest;
            }
            engine.Append(RecordType.DirectoryMade, record);
            at = inode;
        }
        using TreeScope after = engine.Reader.Enter();
        after.TryGet(at, out InodeAttributes made);
        return new() { Directory = Describe(after, made, request.Path, false), Position = MountTable.PositionOf(engine.Position) };
    }

    /// <summary>Finds an inode by path or number.</summary>
    public InodeAttributes Find(string? path, ulong inode)
    {
        if (path is null)
        {
            using TreeScope scope = engine.Reader.Enter();
            return scope.TryGet(new(inode), out InodeAttributes found) && found.Kind is InodeKind.File or InodeKind.Directory or InodeKind.Symlink
                ? found
                : throw new FamfsException(ErrorReason.NotFound, $"inode {inode}: does not exist");
        }
        return Walk(path);
    }

    /// <summary>Describes an inode, as seen in the caller's scope.</summary>
    public FileInfo Describe(InodeAttributes attributes, string path, bool withMap)
    {
        using TreeScope scope = engine.Reader.Enter();
        return Describe(scope, attributes, path, withMap);
    }

    /// <summary>Lists up to <paramref name="limit"/> entries of a directory behind a cookie.</summary>
    public (List<FileInfo> Entries, ulong Cookie, InodeNumber Hint) ListSome(InodeNumber directory, ulong cookie, InodeNumber hint, int limit, bool withMaps)
    {
        List<FileInfo> entries = [];
        using TreeScope scope = engine.Reader.Enter();
        DirectoryEntries children = scope.List(directory, cookie, hint);
        while (entries.Count < limit && children.MoveNext())
        {
            cookie = children.Cookie;
            hint = children.Attributes.Inode;
            entries.Add(Describe(scope, children.Attributes, Encoding.UTF8.GetString(children.Name), withMaps));
        }
        return (entries, cookie, hint);
    }

    /// <summary>The map of a file.</summary>
    public GetMapReply GetMap(InodeAttributes attributes, string path, Func<uint, DeviceInfo> describeDevice)
    {
        if (attributes.Kind != InodeKind.File)
            throw new FamfsException(ErrorReason.IsADirectory, $"{FileSystemPath.Show(path)}: is not a regular file") { Path = FileSystemPath.Show(path) };
        FileInfo info = Describe(attributes, path, true);
        GetMapReply reply = new() { Inode = info.Inode, SizeBytes = info.SizeBytes, Map = info.Map, Position = MountTable.PositionOf(engine.Position) };
        foreach (uint device in info.Map.Extents.Select(e => e.Device).Distinct())
            reply.Devices.Add(describeDevice(device));
        return reply;
    }

    /// <summary>Gives a host its block of lines in the host table (SAFETY S11).</summary>
    public int RegisterHost(HostIdentityClaim claim, int capacity)
    {
        if (claim.MachineDigest.Length > MaxDigestBytes)
            throw new FamfsException(ErrorReason.BadRequest, $"machine_digest has {claim.MachineDigest.Length} bytes, the limit is {MaxDigestBytes}") { Limit = MaxDigestBytes };
        if (engine.State.Hosts.TryGetValue(claim.Host, out HostRecord? known))
        {
            if (known.MachineDigest != claim.MachineDigest && !known.MachineDigest.IsEmpty)
                throw new FamfsException(ErrorReason.HostConflict, $"host id {claim.Host} is bound to another machine (\"{known.Name}\"); its state directory was copied");
            return known.Slot;
        }
        HashSet<int> taken = [.. engine.State.Hosts.Values.Select(h => h.Slot)];
        int slot = Enumerable.Range(0, capacity).FirstOrDefault(s => !taken.Contains(s), -1);
        if (slot < 0)
            throw new FamfsException(ErrorReason.NoSpace, $"the host table has room for {capacity} hosts and all are registered") { Limit = (ulong)capacity };
        engine.RequireLogSpace(1, SmallRecordBytes);
        engine.Append(RecordType.HostRegistered, new HostRegistered
        {
            TimeNs = engine.NowNs,
            HostId = claim.Host.ToByteString(),
            HostSlot = (uint)slot,
            MachineDigest = claim.MachineDigest,
            Name = claim.Name.Length > 64 ? claim.Name[..64] : claim.Name,
        });
        return slot;
    }

    /// <summary>Records that a mount of a host can touch memory no more.</summary>
    public bool RecordGone(Guid host, Guid mount, GoneEvidence evidence, string detail)
    {
        if (!engine.Format.HasHostTable || engine.State.Gone.ContainsKey(mount))
            return false;
        engine.RequireLogSpace(1, SmallRecordBytes);
        engine.Append(RecordType.HostGone, new HostGone
        {
            TimeNs = engine.NowNs,
            HostId = host.ToByteString(),
            MountId = mount.ToByteString(),
            Evidence = evidence,
            Detail = detail.Length > 200 ? detail[..200] : detail,
        });
        return true;
    }

    /// <summary>Opens and checks a device that is to be zeroed before it is added, for its caller alone. Null when an equal
    /// request has added it already.</summary>
    public DaxDevice? OpenToZero(AddDeviceRequest request)
    {
        if (engine.Requests.TryFind(request.RequestId.ToGuid("request_id"), RequestDigest.Of(request), out _))
            return null;
        RequireDevicePath(request);
        DaxDevice device = DaxDevice.Open(request.Path);
        try
        {
            RequireNotInPool(device);
            FileSystemFormatter.RequireUsable(device, MediaLayout.MinSecondaryBytes, request.Force);
            return device;
        }
        catch
        {
            device.Dispose();
            throw;
        }
    }

    /// <summary>Formats a device and adds it to the pool, or finds the one that an equal request added; gives its index
    /// and the position of its record. <paramref name="zeroed"/>: of <see cref="OpenToZero"/>, zeroed meanwhile; the pool's
    /// when this has succeeded, else the caller's (<see cref="IsInPool"/>).</summary>
    public (uint Index, LogPosition Position) AddDevice(AddDeviceRequest request, TimeProvider clock, DaxDevice? zeroed = null)
    {
        Guid id = request.RequestId.ToGuid("request_id");
        ulong digest = RequestDigest.Of(request);
        if (engine.Requests.TryFind(id, digest, out RequestTrace trace))
            return (engine.State.Devices.First(d => d.RequestId == request.RequestId).Index, engine.Position with { Sequence = trace.Sequence, Term = trace.Term });
        RequireDevicePath(request);
        engine.RequireLogSpaceForGrowth(SmallRecordBytes);
        DaxDevice device = zeroed ?? DaxDevice.Open(request.Path);
        try
        {
            RequireNotInPool(device);
            if (request.HasCoherent)
                device.Coherent = request.Coherent;
            DeviceIndex index = new((ushort)engine.State.Devices.Length);
            // The device's own superblock is written before the record: a crash in between leaves a device that is
            // not in the pool and that --force formats again.
            (DeviceIdentity identity, DeviceAdded record) = engine.Pool.Format.PrepareDevice(engine.Pool, device, index, engine.NextInode, request.Force, clock);
            record.TimeNs = engine.NowNs;
            record.RequestId = request.RequestId;
            record.RequestDigest = id == Guid.Empty ? 0 : digest;
            engine.Pool.Attach(device, identity);
            engine.Append(RecordType.DeviceAdded, record);
            return (index.Value, engine.Position);
        }
        catch
        {
            if (zeroed is null && !IsInPool(device))
                device.Dispose();
            throw;
        }
    }

    /// <summary>Whether the pool has taken this very device. Any thread.</summary>
    public bool IsInPool(DaxDevice device) => engine.Pool.Present.Any(i => engine.Pool.Require(i) == device);

    private void RequireDevicePath(AddDeviceRequest request)
    {
        if (request.Path.Length == 0 || request.Path.Contains('\0', StringComparison.Ordinal))
            throw new FamfsException(ErrorReason.BadRequest, "path of the device is empty or has a NUL character");
        if (engine.State.Devices.Length >= MediaLayout.MaxDevices)
            throw new FamfsException(ErrorReason.BadRequest, $"the pool has {MediaLayout.MaxDevices} devices, which is the limit") { Limit = MediaLayout.MaxDevices };
    }

    /// <summary>Gives a host a master slot with its first segment (SAFETY S1).</summary>
    public int GrantMasterSlot(GrantMasterSlotRequest request)
    {
        engine.Format.Require("master slots");
        Guid host = request.HostId.ToGuid("host_id");
        if (host == Guid.Empty)
            throw new FamfsException(ErrorReason.BadRequest, "host_id is empty");
        request.RequestId.ToGuid("request_id");
        foreach ((int granted, Guid owner) in engine.State.MasterSlots)
        {
            if (owner == host)
                return granted;
        }
        int slot = Enumerable.Range(0, Term.SlotCount).FirstOrDefault(s => !engine.State.MasterSlots.ContainsKey(s), -1);
        if (slot < 0)
            throw new FamfsException(ErrorReason.NoSpace, $"all {Term.SlotCount} master slots are granted") { Limit = Term.SlotCount };
        engine.RequireLogSpace(1, SmallRecordBytes);
        if (!engine.TryAllocateRun(MediaLayout.UnitBytes, out MapExtent extent))
            throw new FamfsException(ErrorReason.NoSpace, "no space for the first segment of another master slot");
        engine.Append(RecordType.MasterSlotGranted, new MasterSlotGranted
        {
            TimeNs = engine.NowNs,
            RequestId = request.RequestId,
            RequestDigest = request.RequestId.IsEmpty ? 0 : RequestDigest.Of(request),
            Slot = (uint)slot,
            HostId = host.ToByteString(),
            SegmentInode = engine.State.NextInode.Value,
            Segment = new() { Device = extent.Device.Value, OffsetBytes = (ulong)extent.OffsetBytes, LengthBytes = (ulong)extent.LengthBytes },
        });
        return slot;
    }

    /// <summary>Changes a policy of the file system. What is not named stays.</summary>
    public SetPolicyReply SetPolicy(SetPolicyRequest request)
    {
        Guid id = request.RequestId.ToGuid("request_id");
        ulong digest = RequestDigest.Of(request);
        if (engine.Requests.TryFind(id, digest, out RequestTrace trace))
        {
            if (trace.Type != RecordType.PolicySet)
                throw new FamfsException(ErrorReason.BadRequest, $"request id {trace.RequestId} was used before by another kind of request");
            return new() { DialectFloor = FmapLimits.NameOfFloor(engine.State.Policy.DialectFloor), Position = PositionOf(trace) };
        }
        if (!request.HasDialectFloor)
            throw new FamfsException(ErrorReason.BadRequest, "the request names no policy");
        engine.Format.Require("a dialect floor");
        uint floor = FmapLimits.ParseFloor(request.DialectFloor);
        engine.RequireLogSpace(1, 512);
        engine.Append(RecordType.PolicySet, new PolicySet
        {
            TimeNs = engine.NowNs,
            RequestId = request.RequestId,
            RequestDigest = request.RequestId.IsEmpty ? 0 : digest,
            DialectFloor = floor,
        });
        return new() { DialectFloor = FmapLimits.NameOfFloor(floor), Position = MountTable.PositionOf(engine.Position) };
    }

    /// <summary>Whatever force says, memory that is in the pool is not given to it again: by another path, or as a
    /// device that is only missing on this host.</summary>
    private void RequireNotInPool(DaxDevice device)
    {
        bool here = engine.Pool.Present.Any(i => engine.Pool.Require(i).MemoryIdentity == device.MemoryIdentity);
        bool known = engine.Pool.Format.Recognize(device) is { } claim
            && engine.State.Devices.Any(d => d.DeviceUuid.ToGuid("device_uuid") == claim.Device);
        if (here || known)
            throw new FamfsException(ErrorReason.Exists, $"{device.Path}: is in the pool already") { Path = device.Path };
    }

    private static uint RequireMode(uint mode, bool set, uint byDefault)
    {
        if (!set && mode == 0)
            return byDefault;
        return mode <= PermissionBits
            ? mode
            : throw new FamfsException(ErrorReason.BadRequest, $"mode 0{Convert.ToString(mode, 8)} has bits besides the permission bits 07777") { Limit = PermissionBits };
    }

    private static int EstimateFileRecord(int nameBytes) => 256 + nameBytes + (AllocationRequest.KernelMaxExtents * 32);

    private static AllocationRequest RequireLayout(CreateFileRequest request)
    {
        LayoutWish wish = request.Layout ?? new();
        if (wish.ChunkBytes > long.MaxValue)
            throw new FamfsException(ErrorReason.BadLayout, $"chunk of {wish.ChunkBytes} bytes is too large") { Limit = long.MaxValue };
        return new()
        {
            SizeBytes = (long)request.SizeBytes,
            Kind = wish.Kind is LayoutKind.Auto or LayoutKind.Contiguous or LayoutKind.Interleaved
                ? wish.Kind
                : throw new FamfsException(ErrorReason.BadLayout, $"layout kind {(int)wish.Kind} is unknown"),
            Strips = (int)Math.Min(wish.Strips, int.MaxValue),
            ChunkBytes = (long)wish.ChunkBytes,
            Devices = [.. wish.Devices.Select(d => d <= ushort.MaxValue ? new DeviceIndex((ushort)d) : throw new FamfsException(ErrorReason.BadLayout, $"device {d} is not in the pool"))],
        };
    }

    private CreateFileReply RepeatedCreate(in RequestTrace trace, bool omitMap)
    {
        if (trace.Type != RecordType.FileCreated)
            throw new FamfsException(ErrorReason.BadRequest, $"request id {trace.RequestId} was used before by another kind of request");
        CreateFileReply reply = new() { Position = PositionOf(trace) };
        using TreeScope scope = engine.Reader.Enter();
        reply.File = scope.TryGet(trace.Inode, out InodeAttributes attributes)
            ? Describe(scope, attributes, PathOf(scope, trace.Inode), !omitMap)
            : new FileInfo { Inode = trace.Inode.Value, State = InodeState.Deleted };
        return reply;
    }

    private MakeDirectoryReply RepeatedMakeDirectory(in RequestTrace trace, string path)
    {
        if (trace.Type != RecordType.DirectoryMade)
            throw new FamfsException(ErrorReason.BadRequest, $"request id {trace.RequestId} was used before by another kind of request");
        MakeDirectoryReply reply = new() { Position = PositionOf(trace) };
        using TreeScope scope = engine.Reader.Enter();
        reply.Directory = scope.TryGet(trace.Inode, out InodeAttributes attributes)
            ? Describe(scope, attributes, path, false)
            : new FileInfo { Inode = trace.Inode.Value, State = InodeState.Deleted };
        return reply;
    }

    private Position PositionOf(in RequestTrace trace) =>
        MountTable.PositionOf(engine.Position with { Sequence = trace.Sequence, Term = trace.Term });

    private CreateFileReply OpenExisting(TreeScope scope, in InodeAttributes existing, CreateFileRequest request, AllocationRequest wish, bool omitMap)
    {
        string shown = FileSystemPath.Show(request.Path);
        if (request.IfExists != IfExists.OpenIfSame)
            throw new FamfsException(ErrorReason.Exists, $"{shown}: exists") { Path = shown };
        if (existing.Kind != InodeKind.File)
            throw new FamfsException(ErrorReason.ExistsDifferent, $"{shown}: exists and is not a regular file") { Path = shown };
        if (existing.SizeBytes != request.SizeBytes)
            throw new FamfsException(ErrorReason.ExistsDifferent, $"{shown}: exists with {existing.SizeBytes} bytes, not {request.SizeBytes}") { Path = shown, Limit = existing.SizeBytes };
        scope.TryGetMap(existing.Inode, out MapView map);
        bool sameLayout = wish.Kind switch
        {
            LayoutKind.Contiguous => map.ChunkBytes == 0,
            LayoutKind.Interleaved => map.ChunkBytes != 0
                && (wish.ChunkBytes == 0 || map.ChunkBytes == (ulong)wish.ChunkBytes)
                && (wish.Strips == 0 || map.ExtentCount == wish.Strips),
            _ => true,
        };
        if (!sameLayout)
            throw new FamfsException(ErrorReason.ExistsDifferent, $"{shown}: exists with another layout (chunk {map.ChunkBytes}, {map.ExtentCount} extents)") { Path = shown };
        return new() { File = Describe(scope, existing, request.Path, !omitMap), Position = MountTable.PositionOf(engine.Position), Existed = true };
    }

    private InodeNumber RequireParent(List<byte[]> components, string path)
    {
        InodeNumber at = InodeNumber.Root;
        using TreeScope scope = engine.Reader.Enter();
        for (int i = 0; i < components.Count - 1; i++)
        {
            if (!scope.TryLookup(at, components[i], out InodeAttributes child))
                throw PathError(ErrorReason.NotFound, path, components, i, "does not exist");
            if (child.Kind != InodeKind.Directory)
                throw PathError(ErrorReason.NotADirectory, path, components, i, "is not a directory");
            at = child.Inode;
        }
        return at;
    }

    private InodeAttributes Walk(string path)
    {
        List<byte[]> components = FileSystemPath.Parse(path, allowRoot: true);
        using TreeScope scope = engine.Reader.Enter();
        scope.TryGet(InodeNumber.Root, out InodeAttributes at);
        for (int i = 0; i < components.Count; i++)
        {
            if (at.Kind != InodeKind.Directory)
                throw PathError(ErrorReason.NotADirectory, path, components, i - 1, "is not a directory");
            if (!scope.TryLookup(at.Inode, components[i], out at))
                throw PathError(ErrorReason.NotFound, path, components, i, "does not exist");
        }
        return at;
    }

    private static FamfsException PathError(ErrorReason reason, string path, List<byte[]> components, int index, string what)
    {
        string part = FileSystemPath.Show(string.Join('/', components.Take(index + 1).Select(Encoding.UTF8.GetString)));
        return new(reason, $"{part}: {what}") { Path = FileSystemPath.Show(path) };
    }

    private static string PathOf(TreeScope scope, InodeNumber inode)
    {
        List<string> parts = [];
        while (inode != InodeNumber.Root && scope.TryGetName(inode, out InodeNumber parent, out ReadOnlySpan<byte> name) && parts.Count <= FileSystemPath.MaxPathBytes / 2)
        {
            parts.Add(Encoding.UTF8.GetString(name));
            inode = parent;
        }
        parts.Reverse();
        return string.Join('/', parts);
    }

    private static FileInfo Describe(TreeScope scope, in InodeAttributes attributes, string path, bool withMap)
    {
        FileInfo info = new()
        {
            Inode = attributes.Inode.Value,
            Path = path,
            Kind = attributes.Kind switch { InodeKind.File => FileKind.File, InodeKind.Directory => FileKind.Directory, _ => FileKind.Symlink },
            Mode = attributes.Mode,
            Uid = attributes.Uid,
            Gid = attributes.Gid,
            SizeBytes = attributes.SizeBytes,
            ModifyTimeNs = attributes.ModifyTimeNs,
            State = (InodeState)attributes.Status,
        };
        if (attributes.Kind == InodeKind.Symlink && scope.TryGetSymlinkTarget(attributes.Inode, out ReadOnlySpan<byte> target))
            info.SymlinkTarget = Encoding.UTF8.GetString(target);
        if (withMap && attributes.Kind == InodeKind.File && scope.TryGetMap(attributes.Inode, out MapView map))
        {
            FileMap described = new() { ChunkBytes = map.ChunkBytes };
            for (int i = 0; i < map.ExtentCount; i++)
                described.Extents.Add(new Extent { Device = map[i].Device.Value, OffsetBytes = (ulong)map[i].OffsetBytes, LengthBytes = (ulong)map[i].LengthBytes });
            info.Map = described;
        }
        return info;
    }
}

/// <summary>Who a host says it is.</summary>
internal readonly record struct HostIdentityClaim(Guid Host, ByteString MachineDigest, string Name);
