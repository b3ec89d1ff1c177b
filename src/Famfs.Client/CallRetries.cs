using Famfs.Core;
using Famfs.Core.Format;
using Famfs.V1;
using Grpc.Core;
using Polly;
using Polly.Retry;

namespace Famfs.Client;

/// <summary>
/// Repeats calls until they succeed, fail for good or their time is over. One pipeline serves all calls; what
/// one call knows travels in its <see cref="CallProgress"/>.
/// </summary>
internal sealed class CallRetries
{
    /// <summary>Redirections in a row that are followed at once; after that they are paced like failures, so
    /// that two standbys that name each other are not asked in a loop. Chosen.</summary>
    private const int MaxImmediateRedirects = 2;

    private static readonly ResiliencePropertyKey<CallProgress> s_progress = new("famfs.progress");

    private readonly FamfsClientOptions _options;
    private readonly MasterConnections _connections;
    private readonly ResiliencePipeline _pipeline;
    private int _saidUnreachable;

    public CallRetries(FamfsClientOptions options, MasterConnections connections)
    {
        _options = options;
        _connections = connections;
        _pipeline = new ResiliencePipelineBuilder { TimeProvider = options.Clock }
            .AddRetry(new RetryStrategyOptions
            {
                MaxRetryAttempts = int.MaxValue,
                ShouldHandle = args => ValueTask.FromResult(
                    args.Outcome.Exception is RepeatableException && RemainingOf(ProgressOf(args.Context)) > TimeSpan.Zero && args.AttemptNumber + 1 < options.MaxAttempts),
                DelayGenerator = args => ValueTask.FromResult<TimeSpan?>(NextDelay(ProgressOf(args.Context), (RepeatableException)args.Outcome.Exception!)),
            })
            .Build();
    }

    /// <summary>Runs <paramref name="attempt"/> until it succeeds. It gets the endpoint to use and throws
    /// <see cref="RpcException"/> when that did not work. <paramref name="grace"/>: how much longer the call itself may take than
    /// the time in which it is repeated.</summary>
    public async Task<T> RunAsync<TState, T>(Func<MasterEndpoint, TState, CallOptions, Task<T>> attempt, TState state, TimeSpan? timeout, CancellationToken cancel, TimeSpan grace = default)
    {
        TimeSpan allowed = timeout ?? _options.Timeout;
        if (allowed <= TimeSpan.Zero)
            throw new FamfsException(ErrorReason.Timeout, "the time-out of a call must be positive");
        CallProgress progress = new(_options.Clock.GetTimestamp(), allowed);
        CallOptions options = new(deadline: DeadlineOf(allowed + grace), cancellationToken: cancel);
        ResilienceContext context = ResilienceContextPool.Shared.Get(cancel);
        context.Properties.Set(s_progress, progress);
        try
        {
            return await _pipeline.ExecuteAsync(
                static async (_, s) => await s.Self.AttemptAsync(s.Attempt, s.State, s.Options, s.Progress).ConfigureAwait(false),
                context,
                (Self: this, Attempt: attempt, State: state, Options: options, Progress: progress)).ConfigureAwait(false);
        }
        catch (RepeatableException e)
        {
            // That somebody else is there says more than that nobody is elsewhere.
            if (progress.Wrong is { } wrong)
                throw wrong;
            // One whose attempts are counted has not tried for all of its time.
            throw e.Unreachable && _options.MaxAttempts == int.MaxValue
                ? RpcErrors.NotReached(_connections.Describe(), allowed, e.Error)
                : e.Error;
        }
        finally
        {
            ResilienceContextPool.Shared.Return(context);
        }
    }

    private async ValueTask<T> AttemptAsync<TState, T>(Func<MasterEndpoint, TState, CallOptions, Task<T>> attempt, TState state, CallOptions options, CallProgress progress)
    {
        MasterEndpoint endpoint = _connections.Current;
        try
        {
            if (!endpoint.IsRight)
                await RequireRightAsync(endpoint, options).ConfigureAwait(false);
            return await attempt(endpoint, state, options).ConfigureAwait(false);
        }
        catch (RepeatableException e) when (e.Error.Reason == ErrorReason.WrongFilesystem)
        {
            progress.Wrong = e.Error;
            throw;
        }
        catch (RpcException e)
        {
            // A caller who cancels is told so, not that a call failed.
            options.CancellationToken.ThrowIfCancellationRequested();
            CallFailure failure = RpcErrors.Judge(e, endpoint.Address);
            if (!failure.Repeatable)
            {
                // The time of a call that kept failing ran out: the last failure says more than "in time".
                if (failure.Error.Reason == ErrorReason.Timeout && progress.Last is { } last)
                    throw last;
                throw failure.Error;
            }
            if (failure.Unreachable && Interlocked.Exchange(ref _saidUnreachable, 1) == 0)
                _options.OnUnreachable?.Invoke(failure.Error);
            throw progress.Last = Note(failure, endpoint);
        }
    }

    /// <summary>An address from the log or from another may be that of somebody else by now: it counts when the file system
    /// is the right one. Throws a failure that leads to the next address.</summary>
    public async Task RequireRightAsync(MasterEndpoint endpoint, CallOptions options)
    {
        using AsyncUnaryCall<GetStatusReply> asking = endpoint.Master.GetStatusAsync(new GetStatusRequest(), options);
        GetStatusReply status = await asking.ResponseAsync.ConfigureAwait(false);
        Guid served = status.FileSystemUuid.ToGuid("file_system_uuid");
        if (served != _options.FileSystem)
            throw Note(new(new(ErrorReason.WrongFilesystem, $"the master at {endpoint.Address} is one of file system {served}, not {_options.FileSystem}"), true, false, 0), endpoint);
        endpoint.IsRight = true;
    }

    /// <summary>Draws the consequences of a failure that may pass: which address is next.</summary>
    public RepeatableException Note(CallFailure failure, MasterEndpoint endpoint)
    {
        bool redirected = false;
        if (failure.Error.Reason == ErrorReason.NotMaster)
        {
            if (failure.Error.MasterAddress.Length != 0)
                redirected = _connections.Follow(endpoint, failure.Error.MasterAddress);
            else
                _connections.Leave(endpoint);
        }
        else if (failure.Error.Reason == ErrorReason.WrongFilesystem)
            _connections.Leave(endpoint);
        return new(failure, redirected);
    }

    /// <summary>The pause before the next attempt.</summary>
    public TimeSpan NextDelay(CallProgress progress, RepeatableException failure)
    {
        if (failure.Redirected && progress.RedirectsInARow++ < MaxImmediateRedirects)
            return TimeSpan.Zero;
        if (!failure.Redirected)
            progress.RedirectsInARow = 0;
        double factor = Math.Pow(2, Math.Min(progress.Failures++, 20));
        double ms = Math.Min(_options.RetryDelay.TotalMilliseconds * factor, _options.MaxRetryDelay.TotalMilliseconds);
        // Between half and the whole, so that clients that failed together do not come back together.
        ms *= 0.5 + _options.Jitter() / 2;
        TimeSpan delay = TimeSpan.FromMilliseconds(Math.Max(ms, failure.RetryAfterMs));
        TimeSpan remaining = RemainingOf(progress);
        return delay < remaining ? delay : remaining > TimeSpan.Zero ? remaining : TimeSpan.Zero;
    }

    /// <summary>Deadline of a call as gRPC wants it.</summary>
    public DateTime DeadlineOf(TimeSpan allowed)
    {
        DateTime now = _options.Clock.GetUtcNow().UtcDateTime;
        return allowed < DateTime.MaxValue - now ? now + allowed : DateTime.MaxValue;
    }

    private static CallProgress ProgressOf(ResilienceContext context) => context.Properties.GetValue(s_progress, null!);

    private TimeSpan RemainingOf(CallProgress progress) => progress.Allowed - _options.Clock.GetElapsedTime(progress.Start);
}

/// <summary>What one logical call has gone through. Owned by that call.</summary>
internal sealed class CallProgress(long start, TimeSpan allowed)
{
    public long Start { get; set; } = start;

    public TimeSpan Allowed { get; } = allowed;

    public int Failures { get; set; }

    public int RedirectsInARow { get; set; }

    public RepeatableException? Last { get; set; }

    /// <summary>A master of another file system was met.</summary>
    public FamfsException? Wrong { get; set; }
}

/// <summary>A failure that the pipeline may repeat; never leaves the library.</summary>
internal sealed class RepeatableException(CallFailure failure, bool redirected) : Exception(failure.Error.Message, failure.Error)
{
    public FamfsException Error => failure.Error;

    public bool Unreachable => failure.Unreachable;

    public uint RetryAfterMs => failure.RetryAfterMs;

    public bool Redirected => redirected;
}
