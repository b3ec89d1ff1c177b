using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Session;
using Famfs.V1;
using Microsoft.Extensions.Logging;

namespace Famfs.Fuse.Memory;

/// <summary>
/// Flushes files where the kernel holds the devices: it maps a file of the daemon's own mount, under the file's own inode
/// (<see cref="FlushDoor"/>), also one that was deleted. What programs have stored stays: a flush writes it back.
/// <para>Any thread but one that answers the mount or applies records; several at a time.</para>
/// </summary>
/// <param name="findRoot">A path of the mount's root for this process; null while or when there is none.</param>
/// <param name="directory">The directory <c>.meta</c>.</param>
/// <param name="log">Is told why a file cannot be flushed, once for each reason.</param>
internal sealed class FileFlusher(Func<string?> findRoot, InodeNumber directory, ILogger log)
{
    // Chosen: some tens of milliseconds, after which whoever ends the mount is heard.
    private const long PartBytes = 64L << 20;

    // The kernel closes a file after close(2) has returned. Chosen: far above the microseconds that it takes.
    private static readonly TimeSpan ClosePatience = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan ClosePause = TimeSpan.FromMilliseconds(1);

    private volatile KernelNotifier? _notifier; // null: not served yet
    private volatile bool _stopping;
    private volatile string _told = "";

    /// <summary>By which workers know its threads.</summary>
    public FlushDoor Door { get; } = new();

    /// <summary>The mount is served from now on.</summary>
    public void Begin(KernelNotifier notifier) => _notifier = notifier;

    /// <summary>Nothing is begun any more, and what is under way ends with its part.</summary>
    public void Stop() => _stopping = true;

    /// <summary>Does <paramref name="use"/> with a file's memory, part by part, by whole pages. False when the mount is not served yet or
    /// is ending. Throws <see cref="FamfsException"/> where the file cannot be mapped, <see cref="DeviceFaultException"/> where its
    /// memory faults.</summary>
    /// <param name="inode">The file, which is not empty.</param>
    /// <param name="use">Is given the memory, and a part of it as offset and bytes.</param>
    public bool TryFlush(InodeNumber inode, Action<DaxDevice, long, long> use)
    {
        if (_stopping || _notifier is not { } notifier || findRoot() is not { } root)
            return false;
        using FlushDoor.Visit visit = Door.Open(inode);
        try
        {
            using MappedDaxDevice memory = Open(root, visit);
            for (long done = 0; done < memory.LengthBytes; done += PartBytes)
            {
                // Nobody can unmount what is mapped, and whoever ends the mount is not to wait.
                if (_stopping || findRoot() is null)
                    return false;
                use(memory, done, Math.Min(PartBytes, memory.LengthBytes - done));
            }
            return true;
        }
        catch (Exception error) when (error is FamfsException or DeviceFaultException)
        {
            if (!_stopping && _told != error.Message)
                FlushLog.NotFlushed(log, inode, _told = error.Message);
            throw;
        }
        finally
        {
            notifier.DropEntry(directory, visit.NameBytes);
        }
    }

    private static MappedDaxDevice Open(string root, FlushDoor.Visit visit)
    {
        try
        {
            return MappedDaxDevice.OpenToFlush(Path.Combine(root, MetaNames.Directory, visit.Name), $"inode {visit.Inode}");
        }
        catch (FamfsException) when (visit.IsUnknownHere)
        {
            throw new FamfsException(ErrorReason.HostGone, "the mount was made in another process name space (of a container), in which this process is not seen; unmount and mount again, and run its daemons in the host's");
        }
    }

    /// <summary>Whether the kernel has let go of a deleted file that was flushed.</summary>
    public bool AwaitGone(InodeNumber inode, KernelNotifier notifier)
    {
        long start = Environment.TickCount64;
        while (notifier.Release(inode) != InodePresence.Absent)
        {
            if (_stopping || Environment.TickCount64 - start > ClosePatience.TotalMilliseconds)
                return false;
            Thread.Sleep(ClosePause);
        }
        return true;
    }
}

/// <summary>What flushing tells the operator.</summary>
internal static partial class FlushLog
{
    [LoggerMessage(Level = LogLevel.Warning, Message = "inode {Inode} cannot be flushed from this host's caches: {Cause}")]
    public static partial void NotFlushed(ILogger logger, InodeNumber inode, string cause);
}
