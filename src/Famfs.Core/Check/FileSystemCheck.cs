using Famfs.Core.Allocation;
using Famfs.Core.Dax;
using Famfs.Core.Famfs2;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Core.Check;

/// <summary>Something that a check found.</summary>
/// <param name="Code">Stable name of the kind of finding.</param>
/// <param name="Where">What it is about.</param>
/// <param name="What">One line for people.</param>
public readonly record struct Finding(string Code, string Where, string What);

/// <summary>What a check saw.</summary>
/// <param name="Position">Last record read.</param>
/// <param name="Files">Files in the namespace.</param>
/// <param name="Directories">Directories, the root included.</param>
/// <param name="UsedBytes">Bytes of all extents.</param>
/// <param name="Findings">What is wrong; empty when nothing is.</param>
public sealed record CheckResult(LogPosition Position, long Files, long Directories, long UsedBytes, IReadOnlyList<Finding> Findings);

/// <summary>
/// Reads a file system from its devices and checks what replay relies on: every record, every extent inside
/// its device and nobody else's. Changes nothing; may run beside a master, and then sees a prefix.
/// </summary>
public sealed class FileSystemCheck : IReplayObserver
{
    private readonly ExtentAllocator _space = new();
    private readonly List<Finding> _findings = [];

    private FileSystemCheck()
    {
    }

    /// <summary>Checks the file system of <paramref name="pool"/>.</summary>
    public static CheckResult Run(DevicePool pool)
    {
        FileSystemCheck check = new();
        using ReplayState state = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), default, check);
        try
        {
            check.Replay(FileSystemLog.OpenReader(pool), state);
        }
        catch (FamfsException error)
        {
            check._findings.Add(new("log", state.Position.ToString(), error.Message));
        }
        foreach (DeviceAdded device in state.Devices)
        {
            if (pool.Find(new((ushort)device.Index)) is null)
                check._findings.Add(new("device-missing", $"device {device.Index}", $"{device.Name} is not among the devices given"));
        }
        return new(state.Position, state.Tree.FileCount, state.Tree.DirectoryCount, state.UsedBytes, check._findings);
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
        {
            if (!_space.TryReserve(extent))
                _findings.Add(new("overlap", $"inode {inode}", $"extent {extent.OffsetBytes}+{extent.LengthBytes} of device {extent.Device} belongs to another inode too"));
        }
    }

    void IReplayObserver.ExtentsFreed(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
    {
        foreach (MapExtent extent in extents)
        {
            if (!_space.TryFree(extent))
                _findings.Add(new("double-free", $"inode {inode}", $"extent {extent.OffsetBytes}+{extent.LengthBytes} of device {extent.Device} was free already"));
        }
    }

    void IReplayObserver.DeviceAdded(DeviceAdded device) => _space.AddDevice(new((ushort)device.Index), (long)device.LengthBytes);

    void IReplayObserver.RequestSeen(in RequestTrace request)
    {
    }

    private void Replay(ILogReader reader, ReplayState state)
    {
        while (true)
        {
            switch (reader.Poll(out LogBlock block))
            {
                case PollVerdict.Records:
                    state.ApplyFrames(block.Frames.Span);
                    break;
                case PollVerdict.UpToDate:
                    return;
                default:
                    _findings.Add(new("unsettled", state.Position.ToString(), "a master has claimed a term that is not active: the log cannot be read to its end"));
                    return;
            }
        }
    }
}
