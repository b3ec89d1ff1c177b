using Famfs.Client;
using Famfs.Core;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Famfs.Fuse.Session;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Fuse.Replication;

/// <summary>Asks the master for one change under a request id; gives the position of its record, and the inode that it made.</summary>
internal delegate Task<(Position Position, ulong Made)> MasterCall(FamfsClient client, ByteString requestId, TimeSpan timeout);

/// <summary>One change that a program of this mount waits for. Guard of what changes: the owner's.</summary>
internal sealed class MountChange(MountChanges owner, MasterCall? call) : IMutation
{
    private readonly List<(InodeNumber Parent, byte[] Name)> _names = [];
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private PendingReply? _reply;

    /// <summary>Ends when nobody waits any more, whatever came of it.</summary>
    public Task Ended => _ended.Task;

    /// <summary>Under which it is in the log.</summary>
    public Guid RequestId { get; set; }

    /// <summary>The master has answered: it is made when this is applied here. 0: it has not.</summary>
    public LogSequence Until { get; set; }

    /// <summary>What it made, as the master says.</summary>
    public InodeNumber Made { get; set; }

    /// <summary>What a missing name means to the program that asked.</summary>
    public Errno NotFound { get; init; } = Errno.ENOENT;

    /// <summary>Unique of the request that asks for it.</summary>
    public ulong Unique => _reply!.Unique;

    /// <summary>The time that is now for it, nanoseconds since 1970: the same whenever it is asked for again.</summary>
    public long NowNs { get; set; }

    /// <summary>It changes a name, which the kernel has right by itself when the program is answered.</summary>
    public MountChange About(InodeNumber parent, ReadOnlySpan<byte> name)
    {
        _names.Add((parent, name.ToArray()));
        return this;
    }

    /// <summary>Whether its program's kernel holds the lock of this directory meanwhile.</summary>
    public bool Locks(InodeNumber directory) => _names.Exists(n => n.Parent == directory);

    /// <summary>Calls the master.</summary>
    public Task<(Position Position, ulong Made)> CallAsync(FamfsClient client, ByteString requestId, TimeSpan timeout) => call!(client, requestId, timeout);

    /// <inheritdoc/>
    public void Begin(PendingReply reply)
    {
        _reply = reply;
        if (call is null)
            reply.Complete();
        else
            owner.Start(this);
    }

    // It is on its way.
    /// <inheritdoc/>
    public bool TryWithdraw() => false;

    /// <inheritdoc/>
    public void Abandon() => End();

    /// <summary>It is applied. False: nobody waits any more.</summary>
    public bool Complete(InodeNumber made)
    {
        End();
        bool answered = _reply!.Complete(made);
        owner.Answered(this);
        return answered;
    }

    /// <summary>It was not made, or nobody knows.</summary>
    public void Fail(Errno errno)
    {
        End();
        _reply!.Fail(errno);
        owner.Answered(this);
    }

    private void End()
    {
        owner.Forget(this);
        _ended.TrySetResult();
    }

    /// <summary>Tells the kernel what it could not see for itself.</summary>
    public void Tell(KernelNotifier notifier)
    {
        foreach ((InodeNumber parent, byte[] name) in _names)
            notifier.EntryChanged(parent, name);
    }
}
