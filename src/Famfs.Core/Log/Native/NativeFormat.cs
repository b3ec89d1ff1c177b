using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log.Native;

/// <summary>Major 3, the format of this project: superblocks and anchors, a log of segments with terms, a host table.</summary>
public sealed class NativeFormat : MediaFormat
{
    /// <summary>The format has no state, so one of it does.</summary>
    public static readonly NativeFormat Instance = new(entersGenerations: true);

    /// <summary>As programs read it that do not know compacted logs, for tests of what they do.</summary>
    internal static readonly NativeFormat OfOneGeneration = new(entersGenerations: false);

    private NativeFormat(bool entersGenerations) => EntersGenerations = entersGenerations;

    /// <summary>Logs that were compacted are read (docs/decisions/0068-a-compacted-log-is-another-generation.md).</summary>
    public override bool EntersGenerations { get; }

    /// <inheritdoc/>
    public override string Name => "native";

    /// <inheritdoc/>
    public override FormatLimits Limits { get; } = new() { IsComplete = true, HasTimes = true, HasTerms = true, HasHostTable = true };

    /// <inheritdoc/>
    public override SystemInodes SystemInodes { get; } = new(new(MediaLayout.MetaInode), new(MediaLayout.StagedInode), new(MediaLayout.FirstSegmentInode));

    /// <inheritdoc/>
    public override MkfsChoices MkfsChoices => MkfsChoices.Label | MkfsChoices.MaxHosts | MkfsChoices.Host;

    /// <summary>The superblock of device 0 of a native pool.</summary>
    public static NativeSuperblock SuperblockOf(DevicePool pool) =>
        pool.Primary as NativeSuperblock ?? throw new ArgumentException($"file system {pool.Primary.FileSystem} is of format {pool.Format.Name}", nameof(pool));

    /// <inheritdoc/>
    public override (Guid FileSystem, Guid Device)? ReadUuids(DaxDevice device) =>
        NativeMedia.ReadSuperblock(device, out NativeSuperblock? superblock, out _) == SuperblockVerdict.Good ? (superblock!.FileSystem, superblock.Device) : null;

    /// <inheritdoc/>
    public override DeviceClaim? Recognize(DaxDevice device) =>
        NativeMedia.ReadSuperblock(device, out NativeSuperblock? superblock, out _) != SuperblockVerdict.Good ? null : new()
        {
            Format = this,
            Path = device.Path,
            FileSystem = superblock!.FileSystem,
            Device = superblock.Device,
            Identity = superblock,
            IsWhole = superblock.DeviceLengthBytes <= device.LengthBytes,
        };

    /// <inheritdoc/>
    public override FamfsException Explain(DaxDevice device) =>
        NativeSuperblock.ErrorOf(NativeMedia.ReadSuperblock(device, out _, out string cause), device.Path, cause);

    /// <inheritdoc/>
    public override IReadOnlyList<int> FindFirst(IReadOnlyList<DeviceClaim> claims) =>
        [.. Enumerable.Range(0, claims.Count).Where(i => claims[i].HasLog)];

    /// <inheritdoc/>
    public override DevicePool Open(IReadOnlyList<DaxDevice> devices)
    {
        NativeSuperblock? primary = null;
        DaxDevice? primaryDevice = null;
        foreach (DaxDevice device in devices)
        {
            if (NativeMedia.FindUnfinished(device) is not null)
                continue;
            NativeSuperblock superblock = NativeMedia.RequireSuperblock(device);
            if (!superblock.IsPrimary)
                continue;
            if (primary is not null)
                throw new FamfsException(ErrorReason.WrongFilesystem, $"{device.Path}: both it and {primaryDevice!.Path} are first devices of a file system") { Path = device.Path };
            primary = superblock;
            primaryDevice = device;
        }
        if (primary is null)
            throw new FamfsException(ErrorReason.DeviceMissing, $"{string.Join(", ", devices.Select(d => d.Path))}: none is the first device (index 0) of a file system");
        DevicePool pool = new(this, primary, MediaLayout.UnitBytes);
        foreach (DaxDevice device in devices)
            pool.Attach(device);
        return pool;
    }

    /// <inheritdoc/>
    public override DeviceIdentity Identify(DevicePool pool, DaxDevice device) => NativeMedia.FindUnfinished(device) ?? NativeMedia.RequireSuperblock(device);

    /// <inheritdoc/>
    public override void RequireJoinable(DaxDevice device, bool force) => NativeFormatter.RequireUsable(device, MediaLayout.MinSecondaryBytes, force);

    /// <inheritdoc/>
    public override PreparedDevice PrepareDevice(DevicePool pool, DaxDevice device, DeviceIndex index, InodeNumber inode, bool force, TimeProvider clock)
    {
        NativeSuperblock superblock = NativeFormatter.FormatFurther(device, SuperblockOf(pool), index, force, clock);
        return new(superblock, new()
        {
            Index = index.Value,
            DeviceUuid = superblock.Device.ToByteString(),
            LengthBytes = (ulong)superblock.DeviceLengthBytes,
            Coherent = superblock.Coherent,
            SuperblockInode = inode.Value,
            Name = superblock.DeviceName,
        });
    }

    /// <inheritdoc/>
    public override ILogReader OpenReader(DevicePool pool, TimeProvider clock, LogSequence? wholeAfter = null) =>
        new LogReader(pool, clock) { EntersGenerations = EntersGenerations, WholeAfter = wholeAfter };

    /// <inheritdoc/>
    public override IReadOnlyList<HostEntry> ReadMountLines(DevicePool pool) => new MountLineTable(pool).ReadInUse();

    /// <inheritdoc/>
    public override IReadOnlyList<HostEntry> ReadMountLines(DevicePool pool, int hostSlot) => new MountLineTable(pool).ReadBlock(hostSlot);

    /// <inheritdoc/>
    public override async Task<MasterClaim> ClaimAsync(DevicePool pool, ClaimRequest request, CancellationToken cancel) =>
        await NativeMasterClaim.TakeAsync(pool, request, cancel).ConfigureAwait(false);

    /// <inheritdoc/>
    public override int CountMasterLocks(DaxDevice device) => IsPrimary(device) ? Term.SlotCount : 0;

    /// <inheritdoc/>
    public override async Task RequireNoMasterAsync(DaxDevice device, bool isFirst, MaintenanceRequest request, CancellationToken cancel)
    {
        if (!IsPrimary(device))
            return;
        // The pool is not disposed: the device is the caller's.
        if (await Mastership.DetectLiveMasterAsync(Open([device]), -1, request.Watch, request.Clock, cancel).ConfigureAwait(false) is { } slot)
            throw new FamfsException(ErrorReason.Exists, $"{device.Path}: the master of slot {slot} is running") { Path = device.Path };
    }

    /// <inheritdoc/>
    public override async Task RequireIdleAsync(DaxDevice device, TimeSpan watch, TimeProvider clock, CancellationToken cancel)
    {
        if (!IsPrimary(device))
            return;
        // The pool is not disposed: the device is the caller's.
        DevicePool pool = Open([device]);
        MountLineTable table = new(pool);
        Dictionary<int, ulong> before = Counters(table);
        if (await Mastership.DetectLiveMasterAsync(pool, -1, watch, clock, cancel).ConfigureAwait(false) is { } slot)
            throw new FamfsException(ErrorReason.Exists, $"{device.Path}: the master of slot {slot} of its file system is running") { Path = device.Path };
        foreach ((int entry, ulong counter) in Counters(table))
        {
            // The daemon of a line may stand still, but on this host it holds the line's lock.
            bool free = table.TryLock(entry, out IDisposable? held);
            held?.Dispose();
            if (!free || !before.TryGetValue(entry, out ulong then) || then != counter)
                throw new FamfsException(ErrorReason.Exists, $"{device.Path}: a mount of its file system is alive (host table entry {entry})") { Path = device.Path };
        }
    }

    /// <inheritdoc/>
    public override bool CheckSuperblock(DaxDevice device, IReadOnlyList<DaxDevice> devices, CheckReport report) =>
        NativeLogCheck.CheckSuperblock(device, devices, report);

    /// <inheritdoc/>
    public override LogCheck OpenCheck(DevicePool pool, TimeProvider clock) => new NativeLogCheck(pool, clock);

    /// <inheritdoc/>
    public override MkfsResult Make(IReadOnlyList<DaxDevice> devices, MkfsRequest request)
    {
        FormatOptions options = new()
        {
            Host = default,
            Clock = request.Clock,
            Label = request.Label,
            MaxHosts = request.MaxHosts,
            RootUid = request.RootUid,
            RootGid = request.RootGid,
            Force = request.Force,
            Zero = request.Zero,
        };
        NativeFormatter.RequireUsable(devices, options);
        Guid host = request.Host();
        NativeSuperblock made = NativeFormatter.Format(devices, options with { Host = host });
        return new(made.FileSystem, MediaLayout.UnitBytes) { Facts = [("label", made.Label), ("host_id", host)] };
    }

    private static bool IsPrimary(DaxDevice device) =>
        NativeMedia.ReadSuperblock(device, out NativeSuperblock? superblock, out _) == SuperblockVerdict.Good && superblock!.IsPrimary;

    private static Dictionary<int, ulong> Counters(MountLineTable table) =>
        table.ReadInUse().Where(e => e.Line is not null).ToDictionary(e => e.Index, e => e.Line!.Counter);
}
