using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Session;
using Microsoft.Extensions.Logging;

namespace Famfs.Fuse.Memory;

/// <summary>
/// Takes the files of a mount that is over away from its kernel, and so from programs that have them open or mapped (SAFETY S16): the
/// log has that the mount is gone, or has another history than the mount. Calls fail from then on, and mappings fault. Workers
/// refuse by themselves; this is about what a kernel does without them.
/// <para>A famfs kernel gives up a file when it is told another size. So a thread looks up the file's name in <c>.meta</c>, which is
/// answered with that (<see cref="MetaNames.OfRevoked"/>), and has its content dropped. Elsewhere that is all: the next access
/// asks a worker.</para>
/// </summary>
/// <param name="findRoot">A path of the mount's root for this process; null where a famfs kernel has no part in it.</param>
/// <param name="directory">The directory <c>.meta</c>.</param>
/// <param name="mapped">Files of which the kernel may have the content.</param>
/// <param name="notifier">Tells it.</param>
/// <param name="log">Is told.</param>
internal sealed class Revocation(Func<string?>? findRoot, InodeNumber directory, KernelPresence mapped, KernelNotifier notifier, ILogger log)
{
    private readonly Lock _gate = new();
    private Thread? _thread; // guarded by _gate
    private volatile bool _stopping; // written under it

    /// <summary>Begins, the first time. Upkeep thread.</summary>
    /// <param name="end">The least number that no file of this mount has had. Those that are not in the log any more count: the kernel
    /// may have them yet.</param>
    public void Begin(InodeNumber end)
    {
        lock (_gate)
        {
            if (_thread is not null || _stopping)
                return;
            _thread = new(() => Run(end)) { IsBackground = true, Name = "revocation" };
            _thread.Start();
        }
    }

    /// <summary>Ends it, and waits; none begins any more. While workers answer, or when the connection is over. More than once.</summary>
    public void Stop()
    {
        lock (_gate)
            _stopping = true;
        _thread?.Join();
    }

    private void Run(InodeNumber end)
    {
        long files = 0;
        string? failure = null;
        for (InodeNumber inode = new(1); inode.Value < end.Value && !_stopping; inode = new(inode.Value + 1))
        {
            if (!mapped.MayHave(inode) || notifier.Probe(inode) == InodePresence.Absent)
                continue;
            if (findRoot is not null)
                failure = TellSize(inode) ?? failure;
            notifier.DropContent(inode);
            files++;
        }
        // With the connection everything is over.
        if (_stopping || notifier.Probe(InodeNumber.Root) == InodePresence.Unknown)
            return;
        if (failure is null)
            RevocationLog.Revoked(log, files);
        else
            RevocationLog.NotRevoked(log, failure);
    }

    // What kept the kernel from being told, or null.
    private string? TellSize(InodeNumber inode)
    {
        string name = MetaNames.OfRevoked(inode);
        try
        {
            if (findRoot!() is not { } root)
                return "the mount is not reached by its daemon";
            _ = new FileInfo(Path.Combine(root, MetaNames.Directory, name)).Length;
            return null;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return $"inode {inode}: {error.Message}";
        }
        finally
        {
            notifier.DropEntry(directory, System.Text.Encoding.UTF8.GetBytes(name));
        }
    }
}

/// <summary>What a revocation tells the operator.</summary>
internal static partial class RevocationLog
{
    [LoggerMessage(Level = LogLevel.Warning, Message = "this mount is over: programs have lost its files, of which its kernel may have had {Files}; calls on them fail and mappings fault until it is unmounted")]
    public static partial void Revoked(ILogger logger, long files);

    [LoggerMessage(Level = LogLevel.Error, Message = "this mount is over, and programs may still reach files of it: {Cause}; end them, and unmount it")]
    public static partial void NotRevoked(ILogger logger, string cause);
}
