using Famfs.Core;
using Famfs.V1;

namespace Famfs.Master;

/// <summary>
/// One request in the engine's queue. <see cref="Decide"/> runs on the engine's thread and may append records;
/// its outcome, errors included, is made known by <see cref="Settle"/> only after everything it was decided
/// on is published and checked, because an answer tells of the state it was decided on.
/// </summary>
internal abstract class EngineOperation
{
    private Exception? _error;

    /// <summary>Space that was zeroed for this operation, or is being; what it does not use the engine takes back. Owner: the
    /// engine's thread, and the zeroing thread in between.</summary>
    public NewSpace? Space { get; set; }

    /// <summary>Decides on the engine's thread. An operation that fails before it has appended anything fails
    /// alone, whatever the cause; an error behind an append means that the state is not what the log says.</summary>
    public void Run(MasterEngine engine)
    {
        LogPosition before = engine.Position;
        try
        {
            Decide(engine);
        }
        catch (FamfsException error) when (error.Reason is not ErrorReason.MediaCorrupt)
        {
            _error = error;
        }
        catch (Exception error) when (error is not (FamfsException or NeedsNextBatchException or NeedsZeroingException) && engine.Position == before)
        {
            _error = error;
        }
    }

    /// <summary>Answers. <paramref name="failure"/>: the batch did not pass, nothing of it may be shown.</summary>
    public void Settle(Exception? failure) => Complete(failure ?? _error);

    /// <summary>Validates, allocates, appends. Throws <see cref="FamfsException"/> before any change.</summary>
    protected abstract void Decide(MasterEngine engine);

    /// <summary>Gives the result, or the error, to whoever waits. Must not run the waiter on this thread.</summary>
    protected abstract void Complete(Exception? error);
}

/// <summary>An operation with a result that a task waits for.</summary>
internal sealed class EngineOperation<T>(Func<MasterEngine, T> decide) : EngineOperation
{
    private readonly TaskCompletionSource<T> _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private T _result = default!;

    public Task<T> Task => _completion.Task;

    protected override void Decide(MasterEngine engine) => _result = decide(engine);

    protected override void Complete(Exception? error)
    {
        if (error is null)
            _completion.TrySetResult(_result);
        else
            _completion.TrySetException(error);
    }
}
