using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Famfs2.Codec;
using Famfs.V1;

namespace Famfs.Famfs2;

/// <summary>What mkfs is asked for when the format is famfs-2.</summary>
public sealed record Famfs2FormatOptions
{
    /// <summary>The system that may append.</summary>
    public required Guid System { get; init; }
    public Guid FileSystem { get; init; } = Guid.NewGuid();

    /// <summary>Bytes of the log: a power of two, at least 8 MiB.</summary>
    public long LogLengthBytes { get; init; } = Famfs2Layout.MinLogBytes;

    /// <summary>Overwrites what is on the devices.</summary>
    public bool Force { get; init; }

    /// <summary>Writes zeros over all space that files will get. New files are zeroed one by one in any case.</summary>
    public bool Zero { get; init; }
}

/// <summary>
/// mkfs for famfs-2. Nothing is written before every device is found usable; the old superblocks are wiped first
/// and the new one of device 0 comes last, so that a crash in between leaves devices that are recognised as
/// unformatted.
/// </summary>
public static class Famfs2Formatter
{
    /// <summary>Formats <paramref name="devices"/>; the first gets the log, the others join by entries in it.</summary>
    public static Famfs2Superblock Format(IReadOnlyList<DaxDevice> devices, Famfs2FormatOptions options)
    {
        RequireUsable(devices, options.LogLengthBytes, options.Force);
        List<Famfs2Superblock> superblocks = [];
        foreach (DaxDevice device in devices)
            superblocks.Add(SuperblockOf(device, options.FileSystem, options.System, options.LogLengthBytes, superblocks.Count > 0));
        foreach (DaxDevice device in devices)
        {
            device.Zero(0, MediaLayout.UnitBytes);
            device.Fence();
        }
        devices[0].Zero(Famfs2Layout.LogOffset, options.Zero ? devices[0].LengthBytes - Famfs2Layout.LogOffset : options.LogLengthBytes);
        for (int i = devices.Count - 1; i >= 1; i--)
            Prepare(devices[i], superblocks[i], options.Zero);
        byte[] entry = new byte[Famfs2Entry.Size];
        for (int i = 1; i < devices.Count; i++)
        {
            new Famfs2Device((ulong)superblocks[i].DeviceLengthBytes, superblocks[i].Device, (uint)i).Format(entry, (ulong)i - 1);
            Persist(devices[0], Famfs2Layout.EntryOffset((ulong)i - 1), entry);
        }
        byte[] header = new byte[Famfs2LogHeader.Size];
        new Famfs2LogHeader(options.LogLengthBytes, (ulong)devices.Count - 1, (ulong)devices.Count - 1).Format(header);
        Persist(devices[0], Famfs2Layout.LogOffset, header);
        WriteSuperblock(devices[0], superblocks[0]);
        return superblocks[0];
    }

    /// <summary>Throws, before anything is changed, when the devices cannot be formatted.</summary>
    public static void RequireUsable(IReadOnlyList<DaxDevice> devices, long logLengthBytes, bool force)
    {
        if (devices.Count is 0 or > MediaLayout.MaxDevices)
            throw new FamfsException(ErrorReason.BadRequest, $"mkfs takes 1 to {MediaLayout.MaxDevices} devices, not {devices.Count}") { Limit = MediaLayout.MaxDevices };
        if (!Famfs2Layout.IsLogLength(logLengthBytes))
            throw new FamfsException(ErrorReason.BadRequest, $"log length {logLengthBytes} is not a power of two from {Famfs2Layout.MinLogBytes} to {Famfs2Layout.MaxLogBytes} bytes") { Limit = (ulong)Famfs2Layout.MinLogBytes };
        MediaFormat.RequireDistinct(devices);
        NativeFormatter.RequireUsable(devices[0], Famfs2Layout.LogOffset + logLengthBytes + MediaLayout.UnitBytes, force);
        foreach (DaxDevice device in devices.Skip(1))
            NativeFormatter.RequireUsable(device, MediaLayout.MinSecondaryBytes, force);
    }

    /// <summary>Throws when a device cannot be a further one.</summary>
    public static void RequireJoinable(DaxDevice device, bool force) => NativeFormatter.RequireUsable(device, MediaLayout.MinSecondaryBytes, force);

    /// <summary>Prepares one further device; the entry that makes it part of the pool is the master's to write.</summary>
    public static Famfs2Superblock FormatFurther(DaxDevice device, Famfs2Superblock primary, bool force)
    {
        NativeFormatter.RequireUsable(device, MediaLayout.MinSecondaryBytes, force);
        Famfs2Superblock superblock = SuperblockOf(device, primary.FileSystem, primary.System, primary.LogLengthBytes, further: true) with { UnitBytes = primary.UnitBytes };
        device.Zero(0, MediaLayout.UnitBytes);
        device.Fence();
        Prepare(device, superblock, zero: false);
        return superblock;
    }

    /// <summary>Writes a superblock, flushed and fenced.</summary>
    internal static void WriteSuperblock(DaxDevice device, Famfs2Superblock superblock)
    {
        byte[] block = new byte[Famfs2Superblock.Size];
        superblock.Format(block);
        Persist(device, 0, block);
    }

    private static Famfs2Superblock SuperblockOf(DaxDevice device, Guid fileSystem, Guid system, long logLengthBytes, bool further)
    {
        Guid id = Guid.NewGuid();
        return new()
        {
            FileSystem = fileSystem,
            Device = id,
            System = system,
            LogLengthBytes = logLengthBytes,
            Flags = further ? Famfs2Superblock.SecondaryFlag : Famfs2Superblock.PrimaryFlag,
            DeviceLengthBytes = device.LengthBytes,
            DeviceCopy = id,
            RawName = Famfs2Superblock.StoredName(device.Path),
        };
    }

    /// <summary>A further device: no log header of an older file system may make it look like a first one.</summary>
    private static void Prepare(DaxDevice device, Famfs2Superblock superblock, bool zero)
    {
        device.Zero(Famfs2Layout.LogOffset, zero ? device.LengthBytes - Famfs2Layout.LogOffset : MediaLayout.SuperblockBytes);
        device.Fence();
        WriteSuperblock(device, superblock);
    }

    private static void Persist(DaxDevice device, long offset, ReadOnlySpan<byte> bytes)
    {
        device.Write(offset, bytes);
        device.WriteBack(offset, bytes.Length);
        device.Fence();
    }
}
