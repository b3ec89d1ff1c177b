using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Master.State;

namespace Famfs.Master.Queries;

/// <summary>What a query reads: the state, and one thread's access to its tree. For the thread that owns the state.</summary>
internal sealed class StateReader(MasterState state) : IDisposable
{
    /// <summary>The state.</summary>
    public MasterState State { get; } = state;

    /// <summary>Access to the tree.</summary>
    public TreeReader Tree { get; } = state.Replay.Tree.RegisterReader();

    /// <summary>The last record that is in the state.</summary>
    public LogPosition Position => State.Replay.Position;

    /// <inheritdoc/>
    public void Dispose() => Tree.Dispose();
}
