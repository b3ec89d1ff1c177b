using Famfs.Core;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Operations;

/// <summary>What a pending reply has in its body when the change was made.</summary>
internal enum PendingBody : byte
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>The entry of what was made (EntryOut).</summary>
    Entry,

    /// <summary>The entry of what was made, and an open file (CreateOut).</summary>
    OpenEntry,

    /// <summary>An open file (OpenOut).</summary>
    Open,

    /// <summary>The attributes of the node that was asked about (AttrOut).</summary>
    Attributes,
}

/// <summary>
/// The answer to one request, owed by whoever holds this. It is given once: by one of the methods here, by an INTERRUPT
/// that the change agrees to, or by the end of the session; every later attempt is false and does nothing. One that
/// nobody holds any more answers EIO by itself. Any thread; no lock of the caller's is needed.
/// </summary>
public sealed class PendingReply
{
    private readonly PendingReplies _owner;

    internal PendingReply(PendingReplies owner, IReplySink sink, in InHeader request, PendingBody body, string name, IMutation mutation)
    {
        _owner = owner;
        Sink = sink;
        Unique = request.Unique;
        Node = new InodeNumber(request.NodeId);
        Body = body;
        Name = name;
        Mutation = mutation;
    }

    /// <summary>Nobody holds it: the program must not wait for ever.</summary>
    ~PendingReply() => _owner.Drop(this);

    /// <summary>Where the request came from: the kernel takes the answer there and nowhere else.</summary>
    internal IReplySink Sink { get; }

    internal ulong Unique { get; }

    internal InodeNumber Node { get; }

    internal PendingBody Body { get; }

    /// <summary>Of the kind of request.</summary>
    internal string Name { get; }

    internal IMutation Mutation { get; }

    /// <summary>Guard: the owner's gate. <see cref="IMutation.Begin"/> has returned.</summary>
    internal bool Begun { get; set; }

    /// <summary>Guard: the owner's gate. INTERRUPT came before <see cref="Begun"/>.</summary>
    internal bool InterruptedEarly { get; set; }

    /// <summary>Guard: the owner's gate. The session ended before <see cref="Begun"/>.</summary>
    internal bool AbandonedEarly { get; set; }

    /// <summary>The change is made, and applied to the tree. <paramref name="made"/> is what it made, where it made
    /// something. True when this was the answer.</summary>
    public bool Complete(InodeNumber made = default) => _owner.Answer(this, Errno.None, made);

    /// <summary>The change was not made. True when this was the answer.</summary>
    public bool Fail(Errno errno) => _owner.Answer(this, errno == Errno.None ? Errno.EIO : errno, default);
}

/// <summary>Where the answer of a pending reply goes: the transport that its request was read from. Called on any thread,
/// one at a time per session, until the session has ended.</summary>
public interface IReplySink
{
    /// <summary>Sends a whole message; a negative error number, or its length.</summary>
    int SendLate(ReadOnlySpan<byte> message);
}
