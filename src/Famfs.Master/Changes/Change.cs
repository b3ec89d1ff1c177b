using Famfs.Core;

namespace Famfs.Master.Changes;

/// <summary>
/// One change that somebody asks for: it validates, allocates and appends its records. An instance is one request. It knows no
/// queue, no thread and no network.
/// </summary>
internal abstract class Change
{
    /// <summary>Files that it makes; 1 for a change of another kind.</summary>
    public virtual int Files => 1;

    /// <summary>Decides. It throws before it changes anything. An answer other than <see cref="VerdictKind.Done"/> asks for
    /// another turn; what it has appended by then is whole in itself.</summary>
    public abstract Verdict Decide(ChangeContext context);

    /// <summary>There will be no other turn, because no batch can have the room that it asked for. It gives back what it has taken.
    /// True: its reply says <paramref name="error"/>; false: the whole change has failed.</summary>
    public virtual bool GiveUp(ChangeContext context, FamfsException error) => false;
}

/// <summary>A change with a reply.</summary>
internal abstract class Change<T> : Change
{
    /// <summary>The reply, once it is decided. It may be shown when the batch is published and checked.</summary>
    public T Reply { get; protected set; } = default!;
}
