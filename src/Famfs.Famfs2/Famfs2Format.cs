using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Famfs2.Codec;
using Famfs.V1;

namespace Famfs.Famfs2;

/// <summary>
/// Major 2, the format of the existing C tools: one log of fixed length, entries that name paths, one system that may
/// append. It is read and written as records of the native format (<see cref="Famfs2Translator"/>).
/// </summary>
public sealed class Famfs2Format : MediaFormat
{
    /// <summary>The format has no state, so one of it does.</summary>
    public static readonly Famfs2Format Instance = new();

    private Famfs2Format()
    {
    }

    /// <inheritdoc/>
    public override string Name => "famfs-2";

    /// <inheritdoc/>
    public override FormatLimits Limits { get; } = new()
    {
        ZeroesNewFiles = true,
        MaxPathBytes = Famfs2Layout.MaxPathBytes,
        MaxExtents = Famfs2Layout.MaxExtents,
        Warnings =
        [
            "famfs-2: one writer is the operator's discipline; two masters at once are noticed at best",
            "famfs-2: request ids are forgotten at a restart; repeat with OPEN_IF_SAME",
            "famfs-2: nothing is deleted, renamed, staged or compacted, and no time or attribute is kept",
            "famfs-2: no host table; a wait for all covers the mounts that are subscribed now",
        ],
    };

    // Seen with these tools as of 2026-06.
    private const string SeveralDevices = "famfs-2: several devices are of no use to the existing tools: their fsck reports allocation collisions, and files on other devices than the first cannot be opened";

    /// <inheritdoc/>
    public override IReadOnlyList<string> FindWarnings(int devices) => devices > 1 ? [.. Limits.Warnings, SeveralDevices] : Limits.Warnings;

    /// <inheritdoc/>
    public override SystemInodes SystemInodes => Famfs2Inodes.System;

    /// <inheritdoc/>
    public override MkfsChoices MkfsChoices => MkfsChoices.LogLength | MkfsChoices.SystemUuidFile;

    /// <inheritdoc/>
    public override string SystemUuidFile => Famfs2SystemUuid.DefaultPath;

    /// <inheritdoc/>
    public override IMigration Migration { get; } = new Famfs2Migration();

    /// <inheritdoc/>
    /// <remarks>Log offsets count entries, and each record is one of them, but for those of the superblock.</remarks>
    public override long OffsetBehind(LogSequence last, long endOffset, int bytesBehind) => (long)Famfs2Translator.EntriesUpTo(last) * Famfs2Layout.EntryBytes;

    /// <summary>The superblock of the first device of a famfs-2 pool, as it was when the pool was opened.</summary>
    public static Famfs2Superblock SuperblockOf(DevicePool pool) =>
        (pool.Primary as Famfs2Identity)?.Superblock ?? throw new ArgumentException($"file system {pool.Primary.FileSystem} is of format {pool.Format.Name}", nameof(pool));

    /// <inheritdoc/>
    public override (Guid FileSystem, Guid Device)? ReadUuids(DaxDevice device) =>
        Famfs2Media.ReadSuperblock(device, out Famfs2Superblock? superblock, out _) == SuperblockVerdict.Good ? (superblock!.FileSystem, superblock.Device) : null;

    /// <inheritdoc/>
    public override bool IsNamedBy(DaxDevice device)
    {
        if (device.LengthBytes < MediaLayout.UnitBytes)
            return false;
        byte[] block = new byte[SuperblockHead.Size];
        device.Invalidate(0, block.Length);
        device.Read(0, block);
        return SuperblockHead.TryParse(block, out SuperblockHead head) && head is { Version: Famfs2Layout.Version, Major: Famfs2Layout.Major };
    }

    /// <inheritdoc/>
    public override DeviceClaim? Recognize(DaxDevice device) =>
        Famfs2Media.ReadSuperblock(device, out Famfs2Superblock? superblock, out _) == SuperblockVerdict.Good ? ReadClaim(device, superblock!) : null;

    /// <inheritdoc/>
    public override FamfsException Explain(DaxDevice device) =>
        NativeSuperblock.ErrorOf(Famfs2Media.ReadSuperblock(device, out _, out string cause), device.Path, cause);

    /// <inheritdoc/>
    public override IReadOnlyList<int> FindFirst(IReadOnlyList<DeviceClaim> claims) => Famfs2Claim.FindFirst([.. claims.Cast<Famfs2Claim>()]);

    /// <inheritdoc/>
    public override DevicePool Open(IReadOnlyList<DaxDevice> devices)
    {
        List<(DaxDevice Device, Famfs2Superblock Superblock)> found = [.. devices.Select(d => (d, Require(d)))];
        foreach ((DaxDevice device, Famfs2Superblock superblock) in found)
        {
            if (superblock.FileSystem != found[0].Superblock.FileSystem)
                throw new FamfsException(ErrorReason.WrongFilesystem, $"{device.Path}: belongs to file system {superblock.FileSystem}, {found[0].Device.Path} to {found[0].Superblock.FileSystem}") { Path = device.Path };
        }
        List<Famfs2Claim> claims = [.. found.Select(f => ReadClaim(f.Device, f.Superblock))];
        IReadOnlyList<int> first = Famfs2Claim.FindFirst(claims);
        (DaxDevice primaryDevice, Famfs2Superblock primary) = found[first[0]];
        if (first.Count > 1 && claims[first[0]].HasLog)
            throw new FamfsException(ErrorReason.WrongFilesystem, $"{found[first[1]].Device.Path}: both it and {primaryDevice.Path} are first devices of a file system") { Path = found[first[1]].Device.Path };
        if (!claims[first[0]].HasLog)
        {
            if (primary.Flags == Famfs2Superblock.SecondaryFlag)
                throw new FamfsException(ErrorReason.DeviceMissing, $"{string.Join(", ", devices.Select(d => d.Path))}: none is the first device of a file system");
            string? cause = Famfs2Media.FindLengthError(primaryDevice, primary);
            if (cause is null)
                Famfs2Media.ReadHeader(primaryDevice, primary, out _, out cause);
            throw Famfs2Media.Corrupt(primaryDevice, cause);
        }
        Famfs2Identity identity = Famfs2Identity.Of(primary, primaryDevice, default);
        DevicePool pool = new(this, identity, primary.UnitBytes);
        pool.Attach(primaryDevice, identity);
        foreach ((DaxDevice device, _) in found)
        {
            if (device != primaryDevice)
                pool.Attach(device);
        }
        return pool;
    }

    /// <inheritdoc/>
    public override DeviceIdentity Identify(DevicePool pool, DaxDevice device)
    {
        Famfs2Superblock superblock = Require(device);
        Famfs2Superblock primary = SuperblockOf(pool);
        Famfs2Media.ReadHeader(pool.PrimaryDevice, primary, out Famfs2LogHeader header, out _);
        Famfs2DeviceTable table = Famfs2Media.ReadDeviceTable(pool.PrimaryDevice, primary, header.ConfirmedEntries);
        if (table.Find(superblock.Device) is not { } known)
            throw new FamfsException(ErrorReason.WrongFilesystem, $"{device.Path}: device {superblock.Device} was never added to file system {primary.FileSystem}") { Path = device.Path };
        if (device.LengthBytes < table.LengthOf(known.Value))
            throw new FamfsException(ErrorReason.MediaCorrupt, $"{device.Path}: has {device.LengthBytes} bytes, the log says {table.LengthOf(known.Value)}: truncated") { Path = device.Path };
        return Famfs2Identity.Of(superblock, device, known);
    }

    /// <inheritdoc/>
    public override void RequireJoinable(DaxDevice device, bool force) => Famfs2Formatter.RequireJoinable(device, force);

    /// <inheritdoc/>
    public override PreparedDevice PrepareDevice(DevicePool pool, DaxDevice device, DeviceIndex index, InodeNumber inode, bool force, TimeProvider clock)
    {
        if (device.Coherent != pool.PrimaryDevice.Coherent)
            throw new FamfsException(ErrorReason.NotSupportedByFormat, $"{device.Path}: coherent and other devices cannot be in one famfs-2 pool, which does not say which is which; the native format does") { Path = device.Path };
        Famfs2Superblock superblock = Famfs2Formatter.FormatFurther(device, SuperblockOf(pool), force);
        Famfs2Identity identity = Famfs2Identity.Of(superblock, device, index);
        return new(identity, Famfs2Translator.RecordOf(pool, index, superblock.Device, identity.DeviceLengthBytes));
    }

    /// <inheritdoc/>
    public override ILogReader OpenReader(DevicePool pool, TimeProvider clock, LogSequence? wholeAfter = null) => new Famfs2LogReader(pool);

    /// <inheritdoc/>
    public override InodeNumber NextInode(LogSequence last, InodeNumber next) => Famfs2Layout.InodeOf(Famfs2Translator.EntriesUpTo(last));

    /// <inheritdoc/>
    public override Task<MasterClaim> ClaimAsync(DevicePool pool, ClaimRequest request, CancellationToken cancel) =>
        Task.FromResult<MasterClaim>(Famfs2MasterClaim.Take(pool, request));

    /// <inheritdoc/>
    public override int CountMasterLocks(DaxDevice device) => Knows(device) ? 1 : 0;

    /// <inheritdoc/>
    public override Task RequireNoMasterAsync(DaxDevice device, bool isFirst, MaintenanceRequest request, CancellationToken cancel)
    {
        if (isFirst && Famfs2Media.ReadSuperblock(device, out Famfs2Superblock? superblock, out _) == SuperblockVerdict.Good
            && Famfs2SystemUuid.Read(request.SystemUuidFile) is var system && system != superblock!.System)
            throw new FamfsException(ErrorReason.ReadOnly, $"{device.Path}: the file system belongs to system {superblock.System}, {(system is null ? $"and {request.SystemUuidFile} is not there" : $"{request.SystemUuidFile} says {system}")}; say --system-uuid-file where its uuid is kept") { Path = device.Path };
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    /// <remarks>The format shows no life but the lock of a master on this very host.</remarks>
    public override Task RequireIdleAsync(DaxDevice device, TimeSpan watch, TimeProvider clock, CancellationToken cancel) => Task.CompletedTask;

    /// <inheritdoc/>
    public override bool CheckSuperblock(DaxDevice device, IReadOnlyList<DaxDevice> devices, CheckReport report) => Famfs2Check.CheckSuperblock(device, report);

    /// <inheritdoc/>
    public override void CheckUnopened(IReadOnlyList<DaxDevice> devices, CheckReport report)
    {
        // A damaged log header is the one thing that can be made good before the file system opens.
        foreach (DaxDevice device in new MediaFormats([this]).FindFirst(devices))
            Famfs2LogCheck.RunOnHeader(device, report.Findings, report.Repairs);
    }

    /// <inheritdoc/>
    public override LogCheck OpenCheck(DevicePool pool, TimeProvider clock) => new Famfs2Check(pool, new(pool));

    /// <inheritdoc/>
    public override MkfsResult Make(IReadOnlyList<DaxDevice> devices, MkfsRequest request)
    {
        long logBytes = request.LogLengthBytes ?? Famfs2Layout.MinLogBytes;
        // One that is refused makes no identity.
        Famfs2Formatter.RequireUsable(devices, logBytes, request.Force);
        Famfs2Superblock made = Famfs2Formatter.Format(devices, new()
        {
            System = Famfs2SystemUuid.ReadOrMake(request.SystemUuidFile),
            LogLengthBytes = logBytes,
            Force = request.Force,
            Zero = request.Zero,
        });
        return new(made.FileSystem, made.UnitBytes)
        {
            Facts = [("format", Name), ("system_uuid", made.System), ("log_length_bytes", made.LogLengthBytes)],
            Remark = $"log of {made.LogLengthBytes}",
            Warnings = devices.Count > 1 ? [SeveralDevices] : [],
        };
    }

    /// <summary>Reads what a device says of its place in its file system.</summary>
    private Famfs2Claim ReadClaim(DaxDevice device, Famfs2Superblock superblock)
    {
        bool hasLog = Famfs2Media.FindLengthError(device, superblock) is null;
        Famfs2LogHeader header = default;
        hasLog = hasLog && Famfs2Media.ReadHeader(device, superblock, out header, out _) != Famfs2HeaderVerdict.Damaged;
        return new()
        {
            Format = this,
            Path = device.Path,
            FileSystem = superblock.FileSystem,
            Device = superblock.Device,
            Superblock = superblock,
            Log = hasLog ? Famfs2Media.ReadDeviceTable(device, superblock, header.ConfirmedEntries) : null,
        };
    }

    private static Famfs2Superblock Require(DaxDevice device) =>
        Famfs2Media.ReadSuperblock(device, out Famfs2Superblock? superblock, out string cause) switch
        {
            SuperblockVerdict.Good => superblock!,
            SuperblockVerdict.Damaged => throw Famfs2Media.Corrupt(device, cause),
            SuperblockVerdict.Unsupported => throw NativeSuperblock.ErrorOf(SuperblockVerdict.Unsupported, device.Path, cause),
            _ => throw new FamfsException(ErrorReason.WrongFilesystem, $"{device.Path}: {cause}; other devices given are of a famfs-2 file system") { Path = device.Path },
        };
}
