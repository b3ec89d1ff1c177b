using Famfs.Core;
using Famfs.Master.Changes;
using Famfs.Master.Queries;
using Famfs.V1;

namespace Famfs.Master.Engine;

/// <summary>
/// One entry of the engine's queue. It is run on the engine's thread; its outcome, errors included, is made known by
/// <see cref="Complete"/> only after everything it was decided on is published and checked, because an answer tells of the state
/// it was decided on.
/// </summary>
internal abstract class EngineOperation(Caller caller)
{
    private Exception? _error;

    /// <summary>Who asks.</summary>
    public Caller Caller { get; } = caller;

    /// <summary>Files that it makes, or 1: what it takes of a turn.</summary>
    public virtual int Files => 1;

    /// <summary>Decides. An operation that fails before it has appended anything fails alone, whatever the cause; an error after
    /// an append means that the state is not what the log says, and is thrown.</summary>
    public Verdict Run(ChangeContext context)
    {
        LogSequence before = context.Position.Sequence;
        try
        {
            return Decide(context);
        }
        catch (FamfsException error) when (error.Reason is not ErrorReason.MediaCorrupt && context.IsWhole)
        {
            _error = error;
        }
        catch (Exception error) when (error is not FamfsException && context.IsWhole && context.Position.Sequence == before)
        {
            _error = error;
        }
        return Verdict.Done;
    }

    /// <summary>Makes the outcome known. <paramref name="failure"/>: the batch did not pass, nothing of it may be shown. Any thread;
    /// the first call counts.</summary>
    public void Complete(Exception? failure) => Answer(failure ?? _error);

    /// <summary>No batch can have the room that it asked for.</summary>
    public abstract void GiveUp(ChangeContext context, FamfsException error);

    protected abstract Verdict Decide(ChangeContext context);

    /// <summary>Gives the result, or the error, to whoever waits. Must not run the waiter on this thread.</summary>
    protected abstract void Answer(Exception? error);
}

/// <summary>A change that a task waits for.</summary>
internal sealed class ChangeOperation<T>(Change<T> change, Caller caller) : EngineOperation(caller)
{
    private readonly TaskCompletionSource<T> _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>The change's reply.</summary>
    public Task<T> Task => _completion.Task;

    /// <inheritdoc/>
    public override int Files => change.Files;

    /// <inheritdoc/>
    public override void GiveUp(ChangeContext context, FamfsException error) => Complete(change.GiveUp(context, error) ? null : error);

    protected override Verdict Decide(ChangeContext context) => change.Decide(context);

    protected override void Answer(Exception? error)
    {
        if (error is null)
            _completion.TrySetResult(change.Reply);
        else
            _completion.TrySetException(error);
    }
}

/// <summary>A query that a task waits for.</summary>
internal sealed class QueryOperation<T>(Func<StateReader, T> query, Caller caller) : EngineOperation(caller)
{
    private readonly TaskCompletionSource<T> _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private T _result = default!;

    /// <summary>What the query gave.</summary>
    public Task<T> Task => _completion.Task;

    /// <inheritdoc/>
    public override void GiveUp(ChangeContext context, FamfsException error) => Complete(error);

    protected override Verdict Decide(ChangeContext context)
    {
        _result = query(context.Reader);
        return Verdict.Done;
    }

    protected override void Answer(Exception? error)
    {
        if (error is null)
            _completion.TrySetResult(_result);
        else
            _completion.TrySetException(error);
    }
}
