using System.Globalization;
using System.Runtime.CompilerServices;
using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Operations;

/// <summary>A map that was not given to the kernel.</summary>
/// <param name="Inode">Whose.</param>
/// <param name="Verdict">Why.</param>
/// <param name="Dialect">For which kernel.</param>
public sealed record RefusedFmap(InodeNumber Inode, FmapVerdict Verdict, Dialect Dialect)
{
    /// <summary>One line for the log.</summary>
    public override string ToString()
    {
        string what = Verdict switch
        {
            FmapVerdict.NoExtents => "it has none",
            FmapVerdict.Misaligned => "an extent is not of whole 2 MiB units",
            FmapVerdict.UnknownDevice => "it names a device that this host has not given to its kernel",
            FmapVerdict.PastDeviceEnd => "an extent reaches beyond the end of its device",
            FmapVerdict.TooShort => "its extents hold less than the file",
            FmapVerdict.BadChunk => "its chunk is not a power of two of 2 MiB to 2 GiB",
            FmapVerdict.TooManyExtents => string.Create(CultureInfo.InvariantCulture, $"it takes more than {Dialect.Fmaps!.MaxExtents} extents, the limit of dialect {Dialect.Name} ({Dialect.Fmaps.MaxMessageBytes} bytes of map)"),
            FmapVerdict.TooManyStrips => string.Create(CultureInfo.InvariantCulture, $"it has more than {Dialect.Fmaps!.MaxStrips} strips, the limit of dialect {Dialect.Name}"),
            FmapVerdict.DeviceOutOfReach => string.Create(CultureInfo.InvariantCulture, $"it names a device beyond the {Dialect.Fmaps!.MaxDevices} of dialect {Dialect.Name}"),
            _ => Verdict.ToString(),
        };
        return string.Create(CultureInfo.InvariantCulture, $"inode {Inode}: its map is not given to the kernel: {what}");
    }
}

// GET_FMAP and GET_DAXDEV of the famfs dialects. The kernel asks for the map after an OPEN, once for as long as it has
// the inode, and for each device it does not know; then it serves reads, writes and faults by itself. So what is wrong
// with a map is said at OPEN, which the program sees, and is checked again when the map is given.
public sealed partial class FuseOperations
{
    // As for getxattr(2): less than the smallest answer, a header.
    private static readonly uint MinHeaderRoom = (uint)Unsafe.SizeOf<FmapHeader>();

    /// <summary>The last map that was refused, at OPEN or at GET_FMAP; any thread.</summary>
    public RefusedFmap? LastRefusedFmap => _lastRefused;

    /// <summary>Whether this opcode is one of those by which a famfs kernel asks for maps and devices.</summary>
    public bool IsForMaps(uint opcode) => opcode == _dialect.FmapOpcode || opcode == _dialect.DaxDeviceOpcode;

    private FuseReply GetFmap(in FuseRequest request, WorkerState worker)
    {
        uint room = _dialect.Sizing switch
        {
            FmapSizing.RoomInRequest => request.Fixed<GetFmapIn>().RoomBytes,
            FmapSizing.HeaderFirst => request.Fixed<GetXattrIn>().SizeBytes,
            _ => FuseConstants.FirstFmapRoomBytes,
        };
        bool headerFirst = _dialect.Sizing == FmapSizing.HeaderFirst;
        if (headerFirst && room < MinHeaderRoom)
            return Errno.ERANGE;

        var inode = new InodeNumber(request.NodeId);
        using TreeScope scope = worker.Reader.Enter();
        if (!TryGetNode(request.NodeId, scope, out InodeAttributes attributes))
            return Errno.ENOENT;
        if (!HasContent(attributes))
            return Errno.EINVAL;
        // Of a deleted file the daemon alone has the OPEN that comes before this.
        bool isVisited = _flushDoor?.IsVisited(inode) == true;
        if (attributes.Status != InodeStatus.Published && !isVisited)
            return Errno.ESTALE;
        if (attributes.Kind == InodeKind.File && !isVisited && _gate.Admit(inode) != OpenVerdict.Open)
            return Errno.EHOSTDOWN;
        // KernelPresence: mark first, then look whether it may.
        if (attributes.Kind == InodeKind.File)
            Mapped.Mark(inode);
        if (IsTakenAway(request.NodeId, scope))
            return Errno.ESTALE;
        if (CheckFmap(inode, scope, worker, out MapView map, out int bytes) is { } refusal)
            return refusal == Errno.EOPNOTSUPP ? Errno.EIO : refusal;

        if (bytes > room && !headerFirst)
            return worker.Reply.Ok(new FmapSizeOut { MessageBytes = (uint)bytes });
        int written = FmapEncoder.Write(map, _dialect.Fmaps!, _kernelDevices, bytes, worker.Reply.RequireBody(bytes)[..(int)Math.Min((uint)bytes, room)]);
        if (written == bytes)
            worker.Counters.Fmaps++;
        return worker.Reply.Ok(written);
    }

    // Null when the map is sound; ESTALE when the file has gone meanwhile.
    private Errno? CheckFmap(InodeNumber inode, in TreeScope scope, WorkerState worker, out MapView map, out int messageBytes)
    {
        messageBytes = 0;
        if (!TryGetMap(inode.Value, scope, out map))
            return Errno.ESTALE;
        FmapVerdict verdict = FmapEncoder.Check(map, _dialect.Fmaps!, _kernelDevices, out messageBytes);
        if (verdict == FmapVerdict.Ok)
            return null;
        _lastRefused = new RefusedFmap(inode, verdict, _dialect);
        if (FmapEncoder.IsInexpressible(verdict))
        {
            worker.Counters.InexpressibleFmaps++;
            return Errno.EOPNOTSUPP;
        }
        for (int i = 0; verdict == FmapVerdict.UnknownDevice && i < map.ExtentCount; i++)
        {
            if (_kernelDevices.Find(map[i].Device) is null)
                MissedDevices.Mark(map[i].Device);
        }
        worker.Counters.RefusedFmaps++;
        return Errno.EIO;
    }

    private FuseReply GetDaxDevice(in FuseRequest request, WorkerState worker)
    {
        if (request.NodeId >= (ulong)_dialect.Fmaps!.MaxDevices || _kernelDevices.FindByKernelIndex(request.NodeId) is not { } device)
            return Errno.ENOENT;
        var reply = new DaxDeviceOut { Index = (ushort)device.Index };
        device.Name.CopyTo((Span<byte>)reply.Name);
        return worker.Reply.Ok(reply);
    }
}
