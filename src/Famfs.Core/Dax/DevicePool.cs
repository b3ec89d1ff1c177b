using Famfs.Core.Format;
using Famfs.Core.Format.Famfs2;
using Famfs.V1;

namespace Famfs.Core.Dax;

/// <summary>Format of the media.</summary>
public enum FileSystemFormat
{
    /// <summary>Major 3, the format of this project.</summary>
    Native,

    /// <summary>Major 2, the format of the existing C tools.</summary>
    Famfs2,
}

/// <summary>
/// The devices of one file system on this host, by index. A device is found by reading its superblock, so
/// that index → uuid → path is resolved anew on every host. Reading is lock-free; attaching is serialised.
/// </summary>
public sealed class DevicePool : IDisposable
{
    private readonly Lock _attaching = new();

    // Guard: written under _attaching, published whole; readers take the reference once.
    private volatile DaxDevice?[] _devices = [];
    private volatile Superblock?[] _superblocks = [];

    private DevicePool(Superblock primary, Famfs2Superblock? famfs2 = null)
    {
        Primary = primary;
        Famfs2 = famfs2;
    }

    /// <summary>Superblock of device 0. Of a famfs-2 file system: what both formats have, in the terms of this one;
    /// generation 0, no host table.</summary>
    public Superblock Primary { get; }

    /// <summary>famfs-2: the superblock of device 0 as it was read; null in the native format.</summary>
    public Famfs2Superblock? Famfs2 { get; }

    /// <summary>Format of the media.</summary>
    public FileSystemFormat Format => Famfs2 is null ? FileSystemFormat.Native : FileSystemFormat.Famfs2;

    /// <summary>Inode numbers of what the file system uses itself.</summary>
    public SystemInodes SystemInodes => Famfs2 is null ? SystemInodes.Native : SystemInodes.Famfs2;

    /// <summary>Bytes of the allocation unit.</summary>
    public long UnitBytes => Famfs2?.UnitBytes ?? MediaLayout.UnitBytes;

    /// <summary>Device 0.</summary>
    public DaxDevice PrimaryDevice => _devices[0]!;

    /// <summary>Indices of the devices that this host has.</summary>
    public IEnumerable<DeviceIndex> Present
    {
        get
        {
            DaxDevice?[] devices = _devices;
            for (int i = 0; i < devices.Length; i++)
            {
                if (devices[i] is not null)
                    yield return new((ushort)i);
            }
        }
    }

    /// <summary>The same pool with its devices reached in another way, made by <paramref name="open"/>; owns those. This
    /// pool stays the caller's.</summary>
    public DevicePool Reopen(Func<DeviceIndex, Superblock, DaxDevice> open)
    {
        DaxDevice?[] devices = new DaxDevice?[_devices.Length];
        for (int i = 0; i < devices.Length; i++)
            devices[i] = _superblocks[i] is { } superblock ? open(superblock.Index, superblock) : null;
        return new(Primary, Famfs2) { _devices = devices, _superblocks = [.. _superblocks] };
    }

    /// <summary>Makes a pool of open devices, which it owns from then on. One of them must be device 0 of a
    /// file system of either format; the others must belong to it. Otherwise throws and leaves them to the
    /// caller.</summary>
    public static DevicePool Open(IReadOnlyList<DaxDevice> devices)
    {
        bool isNative = devices.Any(d => ReadSuperblock(d, out Superblock? superblock, out _) == SuperblockVerdict.Native && superblock!.IsPrimary);
        if (!isNative && devices.Any(d => ReadSuperblock(d, out _, out _) == SuperblockVerdict.Famfs2))
            return OpenFamfs2(devices);
        Superblock? primary = null;
        DaxDevice? primaryDevice = null;
        foreach (DaxDevice device in devices)
        {
            if (FindUnfinished(device) is not null)
                continue;
            Superblock superblock = RequireSuperblock(device);
            if (!superblock.IsPrimary)
                continue;
            if (primary is not null)
                throw new FamfsException(ErrorReason.WrongFilesystem, $"{device.Path}: both it and {primaryDevice!.Path} are first devices of a file system") { Path = device.Path };
            primary = superblock;
            primaryDevice = device;
        }
        if (primary is null)
            throw new FamfsException(ErrorReason.DeviceMissing, $"{string.Join(", ", devices.Select(d => d.Path))}: none is the first device (index 0) of a file system");
        DevicePool pool = new(primary);
        foreach (DaxDevice device in devices)
            pool.Attach(device);
        return pool;
    }

    private static DevicePool OpenFamfs2(IReadOnlyList<DaxDevice> devices)
    {
        List<(DaxDevice Device, Famfs2Superblock Superblock)> found = [.. devices.Select(d => (d, RequireFamfs2(d)))];
        foreach ((DaxDevice device, Famfs2Superblock superblock) in found)
        {
            if (superblock.FileSystem != found[0].Superblock.FileSystem)
                throw new FamfsException(ErrorReason.WrongFilesystem, $"{device.Path}: belongs to file system {superblock.FileSystem}, {found[0].Device.Path} to {found[0].Superblock.FileSystem}") { Path = device.Path };
        }
        List<Famfs2Claim> claims = [.. found.Select(f => Famfs2Media.ReadClaim(f.Device, f.Superblock))];
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
        RequireShared(primaryDevice);
        DevicePool pool = new(DescribeFamfs2(primary, primaryDevice), primary) { _devices = [primaryDevice], _superblocks = [null] };
        pool._superblocks[0] = pool.Primary;
        foreach ((DaxDevice device, _) in found)
        {
            if (device != primaryDevice)
                pool.Attach(device);
        }
        return pool;
    }

    /// <summary>Those famfs-2 devices that are the first of their file system, as <see cref="Famfs2Claim.FindFirst"/> judges
    /// them, of each file system that is there.</summary>
    internal static IReadOnlyList<DaxDevice> FindFamfs2First(IReadOnlyList<DaxDevice> devices)
    {
        List<(DaxDevice Device, Famfs2Claim Claim)> found = [];
        foreach (DaxDevice device in devices)
        {
            if (Famfs2Media.ReadSuperblock(device, out Famfs2Superblock? superblock, out _) == SuperblockVerdict.Famfs2)
                found.Add((device, Famfs2Media.ReadClaim(device, superblock!)));
        }
        return [.. found.GroupBy(f => f.Claim.Superblock.FileSystem).SelectMany(g => Famfs2Claim.FindFirst([.. g.Select(f => f.Claim)]).Select(i => g.ElementAt(i).Device))];
    }

    /// <summary>Of open devices those of one file system: of the one that the first <paramref name="required"/> belong to, or else of
    /// the only one of which a first device is here. Empty when there is none; throws WRONG_FILESYSTEM for several first
    /// devices. Others, and devices that a famfs-2 log does not name, are left out unless required.</summary>
    public static IReadOnlyList<DaxDevice> SelectOwn(IReadOnlyList<DaxDevice> devices, int required)
    {
        List<(DaxDevice Device, Guid? FileSystem, bool IsFirst, Famfs2Claim? Claim)> read = [];
        IReadOnlyList<DaxDevice> famfs2First = FindFamfs2First(devices);
        foreach (DaxDevice device in devices)
        {
            Famfs2Claim? claim = Famfs2Media.ReadSuperblock(device, out Famfs2Superblock? famfs2, out _) == SuperblockVerdict.Famfs2 ? Famfs2Media.ReadClaim(device, famfs2!) : null;
            if (claim is not null)
                read.Add((device, famfs2!.FileSystem, claim.HasLog && famfs2First.Contains(device), claim));
            else if (ReadSuperblock(device, out Superblock? native, out _) == SuperblockVerdict.Native)
                read.Add((device, native!.FileSystem, native.IsPrimary, null));
            else
                read.Add((device, null, false, null));
        }
        Guid? wanted = read.Take(required).Select(r => r.FileSystem).FirstOrDefault(f => f is not null);
        List<(DaxDevice Device, Guid? FileSystem, bool IsFirst, Famfs2Claim? Claim)> first = read.FindAll(r => r.IsFirst && (wanted is null || r.FileSystem == wanted));
        if (wanted is null && first.Count > 1)
            throw new FamfsException(ErrorReason.WrongFilesystem, $"{first[1].Device.Path}: both it and {first[0].Device.Path} are first devices of a file system; name the one that is meant") { Path = first[1].Device.Path };
        // Without a sound log none of them is the first; opening them says what is wrong with it.
        if (first.Count == 0)
            return [.. read.Where((r, i) => i < required || (r.Claim is not null && (wanted is null || r.FileSystem == wanted))).Select(r => r.Device)];
        return
        [
            .. read.Where((r, i) => i < required || (r.FileSystem == first[0].FileSystem && r.Claim is null == first[0].Claim is null
                && (r.Claim is null || r.IsFirst || first[0].Claim!.Names(r.Claim))))
                .Select(r => r.Device),
        ];
    }

    /// <summary>What the two formats have in common.</summary>
    private static Superblock DescribeFamfs2(Famfs2Superblock superblock, DaxDevice device, DeviceIndex index = default) => new()
    {
        FileSystem = superblock.FileSystem,
        Device = superblock.Device,
        MkfsHost = Guid.Empty,
        Index = index,
        DeviceLengthBytes = superblock.DeviceLengthBytes / superblock.UnitBytes * superblock.UnitBytes,
        Coherent = device.Coherent,
        DeviceName = superblock.DeviceName,
        Generation = 0,
    };

    private static Famfs2Superblock RequireFamfs2(DaxDevice device) =>
        Famfs2Media.ReadSuperblock(device, out Famfs2Superblock? superblock, out string cause) switch
        {
            SuperblockVerdict.Famfs2 => superblock!,
            SuperblockVerdict.Damaged => throw Famfs2Media.Corrupt(device, cause),
            SuperblockVerdict.Unsupported => throw Superblock.ErrorOf(SuperblockVerdict.Unsupported, device.Path, cause),
            _ => throw new FamfsException(ErrorReason.WrongFilesystem, $"{device.Path}: {cause}; other devices given are of a famfs-2 file system") { Path = device.Path },
        };

    /// <summary>A pool of devices whose superblocks are about to be written. Does not own the devices.</summary>
    internal static DevicePool OfFormatted(IReadOnlyList<DaxDevice> devices, IReadOnlyList<Superblock> superblocks) =>
        new(superblocks[0]) { _devices = [.. devices], _superblocks = [.. superblocks] };

    /// <summary>Reads a device's superblock, from the second copy when the first is damaged. Throws the error
    /// to show when the device is not one of a native file system.</summary>
    public static Superblock RequireSuperblock(DaxDevice device) => RequireSuperblock(device, wholeDevice: true);

    /// <summary>The same; of a part of a device that holds its superblocks when not <paramref name="wholeDevice"/>.</summary>
    internal static Superblock RequireSuperblock(DaxDevice device, bool wholeDevice)
    {
        SuperblockVerdict verdict = ReadSuperblock(device, out Superblock? superblock, out string cause);
        if (verdict != SuperblockVerdict.Native)
            throw Superblock.ErrorOf(verdict, device.Path, cause);
        if (wholeDevice && superblock!.DeviceLengthBytes > device.LengthBytes)
            throw new FamfsException(ErrorReason.MediaCorrupt, $"{device.Path}: has {device.LengthBytes} bytes, its superblock says {superblock.DeviceLengthBytes}: truncated") { Path = device.Path, Limit = (ulong)superblock.DeviceLengthBytes };
        return superblock!;
    }

    /// <summary>The native superblock of a further device whose file system became native while its own first copy is
    /// still that of famfs-2: a migration was interrupted between the two. Null: it is not one.</summary>
    public static Superblock? FindUnfinished(DaxDevice device)
    {
        if (ReadSuperblock(device, out _, out _) != SuperblockVerdict.Famfs2)
            return null;
        byte[] block = new byte[MediaLayout.SuperblockBytes];
        device.Invalidate(MediaLayout.SuperblockCopyOffset, block.Length);
        device.Read(MediaLayout.SuperblockCopyOffset, block);
        return Superblock.Parse(block, out Superblock? copy, out _) == SuperblockVerdict.Native && !copy!.IsPrimary
            && Famfs2Media.ReadSuperblock(device, out Famfs2Superblock? first, out _) == SuperblockVerdict.Famfs2
            && first!.FileSystem == copy.FileSystem && first.Device == copy.Device
            ? copy
            : null;
    }

    /// <summary>Judges what is on a device.</summary>
    public static SuperblockVerdict ReadSuperblock(DaxDevice device, out Superblock? superblock, out string cause)
    {
        byte[] block = new byte[MediaLayout.SuperblockBytes];
        superblock = null;
        cause = "shorter than one allocation unit";
        if (device.LengthBytes < MediaLayout.UnitBytes)
            return SuperblockVerdict.Foreign;
        device.Invalidate(0, block.Length);
        device.Read(0, block);
        SuperblockVerdict first = Superblock.Parse(block, out superblock, out cause);
        // A second copy under a famfs-2 superblock is of a file system that was there before.
        if (first is not (SuperblockVerdict.Damaged or SuperblockVerdict.Blank or SuperblockVerdict.Foreign) || Superblock.LooksLikeFamfs2(block))
            return first;
        byte[] other = new byte[MediaLayout.SuperblockBytes];
        device.Invalidate(MediaLayout.SuperblockCopyOffset, other.Length);
        device.Read(MediaLayout.SuperblockCopyOffset, other);
        SuperblockVerdict second = Superblock.Parse(other, out Superblock? copy, out _);
        // A wiped or overwritten first copy is a decision of somebody; only damage falls back.
        if (first == SuperblockVerdict.Damaged && second == SuperblockVerdict.Native && Superblock.IsCopyOf(copy!, block))
        {
            superblock = copy;
            cause = "";
            return second;
        }
        return first;
    }

    /// <summary>Adds a further device of this file system. <paramref name="index"/>: of a famfs-2 device that the log
    /// is about to name.</summary>
    public DeviceIndex Attach(DaxDevice device, DeviceIndex? index = null)
    {
        if (Famfs2 is not null)
            return AttachFamfs2(device, index);
        return Attach(device, FindUnfinished(device) ?? RequireSuperblock(device));
    }

    private DeviceIndex AttachFamfs2(DaxDevice device, DeviceIndex? given)
    {
        Famfs2Superblock superblock = RequireFamfs2(device);
        if (given is { } index)
            return Attach(device, DescribeFamfs2(superblock, device, index));
        Famfs2Media.ReadHeader(PrimaryDevice, Famfs2!, out Famfs2LogHeader header, out _);
        Famfs2DeviceTable table = Famfs2Media.ReadDeviceTable(PrimaryDevice, Famfs2!, header.Settled);
        if (table.Find(superblock.Device) is not { } known)
            throw new FamfsException(ErrorReason.WrongFilesystem, $"{device.Path}: device {superblock.Device} was never added to file system {Primary.FileSystem}") { Path = device.Path };
        if (device.LengthBytes < table.LengthOf(known.Value))
            throw new FamfsException(ErrorReason.MediaCorrupt, $"{device.Path}: has {device.LengthBytes} bytes, the log says {table.LengthOf(known.Value)}: truncated") { Path = device.Path };
        return Attach(device, DescribeFamfs2(superblock, device, known));
    }

    private DeviceIndex Attach(DaxDevice device, Superblock superblock)
    {
        if (superblock.FileSystem != Primary.FileSystem)
            throw new FamfsException(ErrorReason.WrongFilesystem, $"{device.Path}: belongs to file system {superblock.FileSystem}, not {Primary.FileSystem}") { Path = device.Path };
        lock (_attaching)
        {
            int index = superblock.Index.Value;
            if (index < _devices.Length && _devices[index] is { } other)
                throw new FamfsException(ErrorReason.WrongFilesystem, $"{device.Path}: device {index} is already here as {other.Path}") { Path = device.Path };
            RequireShared(device);
            DaxDevice?[] devices = new DaxDevice?[Math.Max(_devices.Length, index + 1)];
            Superblock?[] superblocks = new Superblock?[devices.Length];
            _devices.CopyTo(devices, 0);
            _superblocks.CopyTo(superblocks, 0);
            devices[index] = device;
            superblocks[index] = superblock;
            device.Coherent = superblock.Coherent;
            _superblocks = superblocks;
            _devices = devices;
            return superblock.Index;
        }
    }

    private static void RequireShared(DaxDevice device)
    {
        if (!device.TryUse(alone: false))
            throw new FamfsException(ErrorReason.Exists, $"{device.Path}: is being formatted by another process of this host") { Path = device.Path };
    }

    /// <summary>Lets go of devices that <paramref name="known"/> (the log's) does not have: an addition that
    /// stopped before its record leaves such a superblock. Only while nobody uses them, before serving begins.
    /// Gives their paths.</summary>
    public IReadOnlyList<string> KeepOnly(IReadOnlyList<DeviceAdded> known)
    {
        List<string> dropped = [];
        lock (_attaching)
        {
            DaxDevice?[] devices = [.. _devices];
            Superblock?[] superblocks = [.. _superblocks];
            for (int i = 1; i < devices.Length; i++)
            {
                if (devices[i] is not { } device || (i < known.Count && known[i].DeviceUuid.ToGuid("device_uuid") == superblocks[i]!.Device))
                    continue;
                dropped.Add(device.Path);
                devices[i] = null;
                superblocks[i] = null;
                device.Dispose();
            }
            _superblocks = superblocks;
            _devices = devices;
        }
        return dropped;
    }

    /// <summary>The device, or null when this host does not have it.</summary>
    public DaxDevice? Find(DeviceIndex index)
    {
        DaxDevice?[] devices = _devices;
        return index.Value < devices.Length ? devices[index.Value] : null;
    }

    /// <summary>The uuid of a present device, or null.</summary>
    public Guid? FindUuid(DeviceIndex index)
    {
        Superblock?[] superblocks = _superblocks;
        return index.Value < superblocks.Length ? superblocks[index.Value]?.Device : null;
    }

    /// <summary>The device; throws DEVICE_MISSING when this host does not have it.</summary>
    public DaxDevice Require(DeviceIndex index) =>
        Find(index) ?? throw new FamfsException(ErrorReason.DeviceMissing, $"device {index} of file system {Primary.FileSystem} is not among the devices given on this host");

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (DaxDevice? device in _devices)
            device?.Dispose();
    }
}

/// <summary>What a famfs-2 device says of its place in its file system.</summary>
/// <param name="Superblock">Its superblock.</param>
/// <param name="Log">The devices that the log on it names; null when it has no sound one.</param>
internal sealed record Famfs2Claim(Famfs2Superblock Superblock, Famfs2DeviceTable? Log)
{
    /// <summary>Has what looks like a log. A further device may: at the same place it has bytes of a file, which may be a copy
    /// of a log.</summary>
    public bool HasLog => Log is not null;

    /// <summary>1, 0 or −1: the flags say first device, nothing, or further one. No checksum covers them, they may be stale.</summary>
    private int Rank => Superblock.Flags switch { Famfs2Superblock.PrimaryFlag => 1, Famfs2Superblock.SecondaryFlag => -1, _ => 0 };

    /// <summary>Indices of those claims of one file system that are of its first device: one, unless nothing tells. A log
    /// makes a device the first, but not against one whose flags say more and that this log does not name (it is the first, its own
    /// log damaged); nor when another log names the device. Without any log: what does not say that it is a further
    /// device, or else all.</summary>
    public static IReadOnlyList<int> FindFirst(IReadOnlyList<Famfs2Claim> claims)
    {
        List<int> all = [.. Enumerable.Range(0, claims.Count)];
        List<int> first = all.FindAll(i => claims[i].HasLog && !claims.Any(d => d.Rank > claims[i].Rank && !claims[i].Names(d)));
        if (first.Count > 1 && first.FindAll(i => !first.Any(other => other != i && claims[other].Names(claims[i]))) is { Count: > 0 } unnamed)
            first = unnamed;
        if (first.Count > 1 && first.FindAll(i => claims[i].Rank >= 0) is { Count: > 0 } unmarked)
            first = unmarked;
        if (first.Count == 0)
            first = all.FindAll(i => !claims[i].HasLog && claims[i].Rank >= 0);
        return first.Count > 0 ? first : all;
    }

    /// <summary>The log on this device adds <paramref name="device"/> as a further one.</summary>
    public bool Names(Famfs2Claim device) => Log?.Find(device.Superblock.Device) is { Value: > 0 };
}
