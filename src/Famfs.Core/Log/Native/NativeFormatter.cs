using System.Text;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Core.Log.Native;

/// <summary>What mkfs is asked for.</summary>
public sealed record FormatOptions
{
    public required Guid Host { get; init; }
    public required TimeProvider Clock { get; init; }
    public Guid FileSystem { get; init; } = Guid.NewGuid();
    public string Label { get; init; } = "";

    /// <summary>Hosts that the host table has room for; 1 to 65,536.</summary>
    public int MaxHosts { get; init; } = 512;
    public uint RootMode { get; init; } = 0b111_101_101;
    public uint RootUid { get; init; }
    public uint RootGid { get; init; }

    /// <summary>Overwrites what is on the devices.</summary>
    public bool Force { get; init; }

    /// <summary>Writes zeros over all space that files will get (SAFETY S17, for memory whose content is unknown).</summary>
    public bool Zero { get; init; }
}

/// <summary>
/// mkfs for the native format. Nothing is written before every device is found usable; the first thing
/// written wipes the old superblocks and the last one is the new superblock of device 0, so that a crash in
/// between leaves devices that are recognised as unformatted.
/// </summary>
public static class NativeFormatter
{
    private const int MaxHostsLimit = 65536;

    /// <summary>Formats <paramref name="devices"/>: the first becomes device 0. Throws before any change when
    /// one cannot be used.</summary>
    public static NativeSuperblock Format(IReadOnlyList<DaxDevice> devices, FormatOptions options)
    {
        RequireUsable(devices, options);
        long hostTableBytes = RoundUp((long)options.MaxHosts * MediaLayout.EntriesPerHost * MediaLayout.HostEntryBytes);
        long createdNs = NowNs(options.Clock);
        List<NativeSuperblock> superblocks = [];
        for (int i = 0; i < devices.Count; i++)
        {
            bool primary = i == 0;
            superblocks.Add(new()
            {
                FileSystem = options.FileSystem,
                Device = Guid.NewGuid(),
                MkfsHost = options.Host,
                Index = new((ushort)i),
                DeviceLengthBytes = devices[i].LengthBytes / MediaLayout.UnitBytes * MediaLayout.UnitBytes,
                Coherent = devices[i].Coherent,
                DeviceName = Path.GetFileName(devices[i].Path),
                Label = options.Label,
                CreatedNs = createdNs,
                HostTableLengthBytes = primary ? hostTableBytes : 0,
                FirstSegmentOffset = primary ? MediaLayout.HostTableOffset + hostTableBytes : 0,
                FirstSegmentLengthBytes = primary ? MediaLayout.UnitBytes : 0,
            });
        }

        foreach (DaxDevice device in devices)
        {
            device.Zero(0, MediaLayout.UnitBytes);
            device.Fence();
        }
        devices[0].Zero(MediaLayout.HostTableOffset, hostTableBytes + MediaLayout.UnitBytes);
        if (options.Zero)
        {
            foreach ((DaxDevice device, NativeSuperblock superblock) in devices.Zip(superblocks))
            {
                long start = superblock.IsPrimary ? superblock.FirstSegmentOffset + superblock.FirstSegmentLengthBytes : MediaLayout.UnitBytes;
                device.Zero(start, superblock.DeviceLengthBytes - start);
            }
        }
        for (int i = devices.Count - 1; i >= 1; i--)
            WriteSuperblock(devices[i], superblocks[i]);
        WriteFirstTerm(devices, superblocks, options, createdNs);
        WriteSuperblock(devices[0], superblocks[0]);
        return superblocks[0];
    }

    /// <summary>Prepares one further device for AddDevice; the record that makes it part of the pool is the
    /// master's to write.</summary>
    public static NativeSuperblock FormatFurther(DaxDevice device, NativeSuperblock primary, DeviceIndex index, bool force, TimeProvider clock)
    {
        RequireUsable(device, MediaLayout.MinSecondaryBytes, force);
        NativeSuperblock superblock = new()
        {
            FileSystem = primary.FileSystem,
            Device = Guid.NewGuid(),
            MkfsHost = primary.MkfsHost,
            Index = index,
            DeviceLengthBytes = device.LengthBytes / MediaLayout.UnitBytes * MediaLayout.UnitBytes,
            Coherent = device.Coherent,
            DeviceName = Path.GetFileName(device.Path),
            Label = primary.Label,
            CreatedNs = NowNs(clock),
        };
        device.Zero(0, MediaLayout.UnitBytes);
        WriteSuperblock(device, superblock);
        return superblock;
    }

    /// <summary>Throws, before anything is changed, when the devices cannot be formatted as <paramref name="options"/> say,
    /// whose host is not looked at.</summary>
    public static void RequireUsable(IReadOnlyList<DaxDevice> devices, FormatOptions options)
    {
        if (devices.Count is 0 or > MediaLayout.MaxDevices)
            throw new FamfsException(ErrorReason.BadRequest, $"mkfs takes 1 to {MediaLayout.MaxDevices} devices, not {devices.Count}") { Limit = MediaLayout.MaxDevices };
        if (options.MaxHosts is < 1 or > MaxHostsLimit)
            throw new FamfsException(ErrorReason.BadRequest, $"the number of hosts must be 1 to {MaxHostsLimit}, not {options.MaxHosts}") { Limit = MaxHostsLimit };
        if (Encoding.UTF8.GetByteCount(options.Label) > NativeSuperblock.MaxTextBytes || options.Label.Contains('\0', StringComparison.Ordinal))
            throw new FamfsException(ErrorReason.BadRequest, $"the label must be at most {NativeSuperblock.MaxTextBytes} bytes of UTF-8 without NUL") { Limit = NativeSuperblock.MaxTextBytes };
        MediaFormat.RequireDistinct(devices);
        long hostTable = RoundUp((long)options.MaxHosts * MediaLayout.EntriesPerHost * MediaLayout.HostEntryBytes);
        RequireUsable(devices[0], MediaLayout.HostTableOffset + hostTable + (2L * MediaLayout.UnitBytes), options.Force);
        foreach (DaxDevice device in devices.Skip(1))
            RequireUsable(device, MediaLayout.MinSecondaryBytes, options.Force);
    }

    /// <summary>Checks that a device may be overwritten, and keeps it for this process alone while it is open: no force
    /// takes the memory of a pool that is in use on this host, of which this device may be a further one.</summary>
    public static void RequireUsable(DaxDevice device, long minBytes, bool force)
    {
        if (device.LengthBytes < minBytes)
            throw new FamfsException(ErrorReason.BadSize, $"{device.Path}: has {device.LengthBytes} bytes, at least {minBytes} are needed") { Path = device.Path, Limit = (ulong)minBytes };
        SuperblockVerdict verdict = NativeMedia.ReadSuperblock(device, out NativeSuperblock? found, out string cause);
        if (verdict == SuperblockVerdict.Blank || force)
        {
            RequireAlone(device);
            return;
        }
        string what = found is null ? cause : $"holds file system {found.FileSystem}, device {found.Index}";
        throw new FamfsException(ErrorReason.Exists, $"{device.Path}: not blank ({what}); use --force to overwrite it") { Path = device.Path };
    }

    /// <summary>Keeps a device for this process alone while it is open. Throws EXISTS when another of this host has it.</summary>
    public static void RequireAlone(DaxDevice device)
    {
        if (!device.TryUse(alone: true))
            throw new FamfsException(ErrorReason.Exists, $"{device.Path}: is in use by a master, a mount or a tool of this host") { Path = device.Path };
    }

    /// <summary>Writes the first term of a new file system, on zeroed anchors: the records that every log begins with, then
    /// <paramref name="more"/>.</summary>
    public static void WriteFirstTerm(IReadOnlyList<DaxDevice> devices, IReadOnlyList<NativeSuperblock> superblocks, FormatOptions options, long createdNs, IReadOnlyList<(RecordType Type, byte[] Payload)>? more = null)
    {
        // The pool would read the superblock that is written last, so this one exists in memory only.
        DevicePool pool = DevicePool.OfFormatted(NativeFormat.Instance, devices, superblocks, MediaLayout.UnitBytes);
        LogWriter writer = Mastership.Create(pool, options.Host, Guid.NewGuid());
        RecordBatch batch = new();
        batch.Start(default, writer.Term, writer.Seed);
        AddFirstRecords(batch, superblocks, options, createdNs);
        foreach ((RecordType type, byte[] payload) in more ?? [])
        {
            if (batch.LengthBytes > MediaLayout.MaxBatchBytes - MediaLayout.MaxRecordBytes)
            {
                writer.Publish(batch);
                batch.Start(writer.Position.Sequence, writer.Term, writer.Seed);
            }
            payload.CopyTo(batch.Reserve(payload.Length));
            batch.Commit(payload.Length, type);
        }
        batch.Add(RecordType.TermEnded, new TermEnded { TimeNs = createdNs });
        writer.Publish(batch);
    }

    private static void AddFirstRecords(RecordBatch batch, IReadOnlyList<NativeSuperblock> superblocks, FormatOptions options, long createdNs)
    {
        NativeSuperblock primary = superblocks[0];
        batch.Add(RecordType.FileSystemCreated, new FileSystemCreated
        {
            TimeNs = createdNs,
            FileSystemUuid = primary.FileSystem.ToByteString(),
            Generation = primary.Generation,
            UnitBytes = MediaLayout.UnitBytes,
            RootInode = MediaLayout.RootInode,
            RootMode = options.RootMode,
            RootUid = options.RootUid,
            RootGid = options.RootGid,
            HostId = options.Host.ToByteString(),
            SuperblockInode = MediaLayout.SuperblockInode,
            HostTableInode = MediaLayout.HostTableInode,
            HostTable = new() { Device = 0, OffsetBytes = (ulong)primary.HostTableOffset, LengthBytes = (ulong)primary.HostTableLengthBytes },
            Label = primary.Label,
        });
        for (int i = 0; i < superblocks.Count; i++)
        {
            batch.Add(RecordType.DeviceAdded, new DeviceAdded
            {
                TimeNs = createdNs,
                Index = (uint)i,
                DeviceUuid = superblocks[i].Device.ToByteString(),
                LengthBytes = (ulong)superblocks[i].DeviceLengthBytes,
                Coherent = superblocks[i].Coherent,
                SuperblockInode = i == 0 ? MediaLayout.SuperblockInode : MediaLayout.FirstFreeInode + (ulong)i - 1,
                Name = superblocks[i].DeviceName,
            });
        }
        batch.Add(RecordType.MasterSlotGranted, new MasterSlotGranted
        {
            TimeNs = createdNs,
            Slot = 0,
            HostId = options.Host.ToByteString(),
            SegmentInode = MediaLayout.FirstSegmentInode,
            Segment = new() { Device = 0, OffsetBytes = (ulong)primary.FirstSegmentOffset, LengthBytes = (ulong)primary.FirstSegmentLengthBytes },
        });
    }

    /// <summary>Writes both copies, the second one first.</summary>
    internal static void WriteSuperblock(DaxDevice device, NativeSuperblock superblock)
    {
        byte[] block = new byte[MediaLayout.SuperblockBytes];
        superblock.Format(block);
        foreach (long offset in (ReadOnlySpan<long>)[MediaLayout.SuperblockCopyOffset, 0])
        {
            device.Write(offset, block);
            device.WriteBack(offset, block.Length);
            device.Fence();
        }
    }

    private static long RoundUp(long bytes) => (bytes + MediaLayout.UnitBytes - 1) / MediaLayout.UnitBytes * MediaLayout.UnitBytes;

    private static long NowNs(TimeProvider clock) => (clock.GetUtcNow().UtcTicks - DateTime.UnixEpoch.Ticks) * 100;
}
