using System.Runtime.CompilerServices;
using System.Threading.Channels;
using Famfs.Core;
using Famfs.V1;
using Grpc.Core;

namespace Famfs.Client;

/// <summary>How files are created in bulk.</summary>
public sealed record CreateFilesOptions
{
    /// <summary>Requests in one message; 1 to 4,096. Chosen: a message of about 32 KiB.</summary>
    public int BatchSize { get; init; } = 256;

    /// <summary>Requests sent and not answered; at least <see cref="BatchSize"/>. Chosen.</summary>
    public int MaxInFlight { get; init; } = 8192;

    /// <summary>The results carry no map.</summary>
    public bool OmitMaps { get; init; }

    /// <summary>Longest time without any answer while requests wait for one; null: the client's time-out.</summary>
    public TimeSpan? StallTimeout { get; init; }
}

/// <summary>
/// One bulk creation: a writer that sends batches, a reader that hands out results in order, and a memory of
/// what is not answered, from which a broken stream goes on.
/// </summary>
internal sealed class FileCreationStream
{
    /// <summary>Begins the text of an error that does not tell whether the change was made.</summary>
    public const string PerhapsMade = "perhaps made: an earlier attempt was not answered, and now: ";

    private const int MaxBatch = 4096;

    private readonly FamfsClient _client;
    private readonly CreateFilesOptions _options;
    private readonly IAsyncEnumerable<CreateFileRequest> _files;
    private readonly TimeSpan _stall;
    private readonly SemaphoreSlim _window;
    private readonly CallProgress _progress;

    private readonly Lock _guard = new();

    // Guarded by _guard: in the order of the files; the head is what the next result answers.
    private readonly Queue<CreateFileRequest> _unanswered = [];
    private CancellationTokenSource? _stalled;

    // Owned by the writer of the attempt that runs. A question to the source survives the attempt that asked.
    private IAsyncEnumerator<CreateFileRequest>? _source;
    private Task<bool>? _asked;
    private bool _sourceEnded;
    private bool _begun;

    // The first file goes alone: while nothing else is on its way, an id that is ahead of the master's clock can be replaced.
    private readonly TaskCompletionSource _firstAnswered = new(TaskCreationOptions.RunContinuationsAsynchronously);

    // Guarded by _guard: that file, when its id was made here, until its first attempt is over.
    private CreateFileRequest? _replaceable;

    // Guarded by _guard: of _unanswered, how many from the head were sent by an attempt before.
    private int _sentBefore;

    public FileCreationStream(FamfsClient client, IAsyncEnumerable<CreateFileRequest> files, CreateFilesOptions options)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.BatchSize, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.BatchSize, MaxBatch, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxInFlight, options.BatchSize, nameof(options));
        _client = client;
        _files = files;
        _options = options;
        _stall = options.StallTimeout ?? client.Options.Timeout;
        _window = new(options.MaxInFlight, options.MaxInFlight);
        _progress = new(client.Options.Clock.GetTimestamp(), _stall);
    }

    public async IAsyncEnumerable<CreateFileResult> RunAsync([EnumeratorCancellation] CancellationToken cancel)
    {
        Channel<CreateFileResult> results = Channel.CreateBounded<CreateFileResult>(new BoundedChannelOptions(_options.MaxInFlight) { SingleReader = true, SingleWriter = true });
        using CancellationTokenSource ended = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        Task running = PumpAsync(results.Writer, ended.Token);
        try
        {
            await foreach (CreateFileResult result in results.Reader.ReadAllAsync(cancel).ConfigureAwait(false))
                yield return result;
        }
        finally
        {
            // A consumer that stops early stops the stream too.
            await ended.CancelAsync().ConfigureAwait(false);
            await running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            _window.Dispose();
        }
    }

    private async Task PumpAsync(ChannelWriter<CreateFileResult> results, CancellationToken cancel)
    {
        Exception? error = null;
        try
        {
            _source = _files.GetAsyncEnumerator(cancel);
            while (!await AttemptAsync(results, cancel).ConfigureAwait(false))
            {
                // The last failure has been judged; the pause was taken.
            }
        }
        catch (Exception e)
        {
            // Completing with it hands it to whoever reads the results.
            error = e;
        }
        try
        {
            if (_asked is not null)
                await ((Task)_asked).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (_source is not null)
                await _source.DisposeAsync().ConfigureAwait(false);
        }
        catch (Exception e)
        {
            error ??= e;
        }
        results.Complete(error);
    }

    /// <summary>One stream. True when everything is answered; false when it broke and may be made anew.</summary>
    private async Task<bool> AttemptAsync(ChannelWriter<CreateFileResult> results, CancellationToken cancel)
    {
        MasterEndpoint endpoint = _client.Connections.Current;
        if (!endpoint.IsRight)
        {
            try
            {
                await _client.Retries.RequireRightAsync(endpoint, new(deadline: _client.Retries.DeadlineOf(Remaining()), cancellationToken: cancel)).ConfigureAwait(false);
            }
            catch (Exception e) when (e is RpcException or RepeatableException)
            {
                cancel.ThrowIfCancellationRequested();
                await PauseAsync(Judge(e, endpoint, stalled: false), cancel).ConfigureAwait(false);
                return false;
            }
        }
        using CancellationTokenSource attempt = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        using CancellationTokenSource stalled = new(Timeout.InfiniteTimeSpan, _client.Options.Clock);
        await using CancellationTokenRegistration link = stalled.Token.Register(static a => ((CancellationTokenSource)a!).Cancel(), attempt);
        using AsyncDuplexStreamingCall<CreateFilesRequest, CreateFilesReply> call = endpoint.Master.CreateFiles(new CallOptions(cancellationToken: attempt.Token));
        CreateFileRequest[] resend;
        lock (_guard)
        {
            resend = [.. _unanswered];
            _sentBefore = resend.Length;
            _stalled = stalled;
            if (resend.Length > 0)
                stalled.CancelAfter(Remaining());
        }
        Task writing = WriteUntilSourceFailsAsync(call.RequestStream, resend, attempt);
        Exception? broken = null;
        try
        {
            await ReadAsync(call.ResponseStream, endpoint, results, attempt.Token).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            broken = e;
        }
        if (broken is not null)
            await attempt.CancelAsync().ConfigureAwait(false);
        await writing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        lock (_guard)
        {
            _stalled = null;
            // From here on its id may be in a log.
            _replaceable = null;
        }
        cancel.ThrowIfCancellationRequested();
        // The source's own error ends everything; a write that failed with the stream says nothing of its own.
        if (writing.Exception?.InnerException is SourceFailedException source)
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(source.InnerException!);
        if (broken is null)
        {
            if (writing.IsCompletedSuccessfully && IsAnswered())
                return true;
            broken = new RpcException(new Status(StatusCode.Unavailable, "the stream ended before all was answered"));
        }
        await PauseAsync(Judge(broken, endpoint, stalled.IsCancellationRequested), cancel).ConfigureAwait(false);
        return false;
    }

    private async Task PauseAsync(RepeatableException failure, CancellationToken cancel)
    {
        _progress.Last = failure;
        TimeSpan remaining = Remaining();
        if (remaining <= TimeSpan.Zero)
            throw Stalled(failure.Error);
        TimeSpan delay = _client.Retries.NextDelay(_progress, failure);
        await Task.Delay(delay < remaining ? delay : remaining, _client.Options.Clock, cancel).ConfigureAwait(false);
    }

    private RepeatableException Judge(Exception broken, MasterEndpoint endpoint, bool stalled)
    {
        if (broken is RepeatableException repeatable)
            return repeatable;
        if (stalled)
            throw Stalled(_progress.Last?.Error ?? new FamfsException(ErrorReason.Timeout, $"{endpoint.Address} did not answer in time"));
        if (broken is not RpcException rpc)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(broken);
            throw broken;
        }
        CallFailure failure = RpcErrors.Judge(rpc, endpoint.Address);
        return failure.Repeatable ? _client.Retries.Note(failure, endpoint) : throw failure.Error;
    }

    private FamfsException Stalled(FamfsException last) => last.Reason == ErrorReason.NotMaster
        ? RpcErrors.NotReached(_client.Connections.Describe(), _stall, last)
        : last;

    private TimeSpan Remaining()
    {
        TimeSpan remaining = _stall - _client.Options.Clock.GetElapsedTime(_progress.Start);
        return remaining > TimeSpan.Zero ? remaining : TimeSpan.Zero;
    }

    private bool IsAnswered()
    {
        lock (_guard)
            return _unanswered.Count == 0 && _sourceEnded;
    }

    private async Task WriteUntilSourceFailsAsync(IClientStreamWriter<CreateFilesRequest> stream, CreateFileRequest[] resend, CancellationTokenSource attempt)
    {
        try
        {
            await WriteAsync(stream, resend, attempt.Token).ConfigureAwait(false);
        }
        catch (SourceFailedException)
        {
            // The reader would wait for answers to what was sent so far; any other failure it learns by itself.
            await attempt.CancelAsync().ConfigureAwait(false);
            throw;
        }
    }

    private async Task WriteAsync(IClientStreamWriter<CreateFilesRequest> stream, CreateFileRequest[] resend, CancellationToken cancel)
    {
        CreateFilesRequest batch = new() { OmitMaps = _options.OmitMaps };
        foreach (CreateFileRequest request in resend)
        {
            batch.Files.Add(request);
            if (batch.Files.Count == _options.BatchSize)
                batch = await SendAsync(stream, batch, cancel).ConfigureAwait(false);
        }
        while (!_sourceEnded)
        {
            if (_begun && !_firstAnswered.Task.IsCompleted)
            {
                batch = await SendAsync(stream, batch, cancel).ConfigureAwait(false);
                await _firstAnswered.Task.WaitAsync(cancel).ConfigureAwait(false);
            }
            // What has gathered does not wait for a slow source, nor for room in the window.
            if (!TryAsk())
            {
                batch = await SendAsync(stream, batch, cancel).ConfigureAwait(false);
                await ((Task)_asked!).WaitAsync(cancel).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                cancel.ThrowIfCancellationRequested();
            }
            if (!_window.Wait(0, CancellationToken.None))
            {
                batch = await SendAsync(stream, batch, cancel).ConfigureAwait(false);
                await _window.WaitAsync(cancel).ConfigureAwait(false);
            }
            if (!await AnswerOfSourceAsync().ConfigureAwait(false))
            {
                _window.Release();
                lock (_guard)
                    _sourceEnded = true;
                break;
            }
            CreateFileRequest given = _source!.Current;
            CreateFileRequest request = _client.WithId(given);
            lock (_guard)
            {
                if (!_begun && given.RequestId.IsEmpty)
                    _replaceable = request;
                _unanswered.Enqueue(request);
                if (_unanswered.Count == 1)
                    RestartClock();
            }
            batch.Files.Add(request);
            _begun = true;
            if (batch.Files.Count == _options.BatchSize)
                batch = await SendAsync(stream, batch, cancel).ConfigureAwait(false);
        }
        await SendAsync(stream, batch, cancel).ConfigureAwait(false);
        await stream.CompleteAsync().ConfigureAwait(false);
    }

    private bool TryAsk()
    {
        if (_asked is null)
        {
            try
            {
                _asked = _source!.MoveNextAsync().AsTask();
            }
            catch (Exception e)
            {
                throw new SourceFailedException(e);
            }
        }
        return _asked.IsCompleted;
    }

    private async Task<bool> AnswerOfSourceAsync()
    {
        try
        {
            bool more = await _asked!.ConfigureAwait(false);
            _asked = null;
            return more;
        }
        catch (Exception e)
        {
            throw new SourceFailedException(e);
        }
    }

    private async Task<CreateFilesRequest> SendAsync(IClientStreamWriter<CreateFilesRequest> stream, CreateFilesRequest batch, CancellationToken cancel)
    {
        if (batch.Files.Count == 0)
            return batch;
        await stream.WriteAsync(batch, cancel).ConfigureAwait(false);
        return new() { OmitMaps = _options.OmitMaps };
    }

    private async Task ReadAsync(IAsyncStreamReader<CreateFilesReply> stream, MasterEndpoint endpoint, ChannelWriter<CreateFileResult> results, CancellationToken cancel)
    {
        while (await stream.MoveNext(cancel).ConfigureAwait(false))
        {
            foreach (CreateFileResult answer in stream.Current.Results)
            {
                CreateFileResult result = answer;
                // Deposed in the middle: this one and all behind it go to the next master.
                if (result.Error is { Reason: ErrorReason.NotMaster } moved)
                    throw _client.Retries.Note(new(RpcErrors.ToException(moved), true, false, moved.RetryAfterMs), endpoint);
                if (result.Error is { MasterTimeMs: > 0 } untimely)
                {
                    _client.Learn(untimely.MasterTimeMs);
                    if (TryReplaceFirst())
                        throw new RepeatableException(new(RpcErrors.ToException(untimely), true, false, 0), redirected: true);
                }
                lock (_guard)
                {
                    bool again = _sentBefore > 0;
                    _sentBefore -= again ? 1 : 0;
                    if (again && result.Error is { MasterTimeMs: > 0 } late)
                        result = new() { Error = new(late) { Reason = ErrorReason.Unspecified, Message = PerhapsMade + late.Message } };
                    if (!_unanswered.TryDequeue(out _))
                        throw new FamfsException(ErrorReason.Unspecified, "the master answered more requests than were sent");
                }
                _firstAnswered.TrySetResult();
                _window.Release();
                if (results.TryWrite(result))
                    continue;
                // A consumer who takes his time is no stall of the master.
                lock (_guard)
                    _stalled?.CancelAfter(Timeout.InfiniteTimeSpan);
                await results.WriteAsync(result, cancel).ConfigureAwait(false);
            }
            _progress.Failures = 0;
            _progress.RedirectsInARow = 0;
            _progress.Last = null;
            lock (_guard)
                RestartClock();
        }
    }

    /// <summary>Gives the first file another id, if it was refused for the one that it was first sent with.</summary>
    private bool TryReplaceFirst()
    {
        lock (_guard)
        {
            if (_replaceable is null || _unanswered.Count != 1 || !ReferenceEquals(_unanswered.Peek(), _replaceable))
                return false;
            CreateFileRequest refused = _unanswered.Dequeue();
            _unanswered.Enqueue(_client.WithId(new(refused) { RequestId = Google.Protobuf.ByteString.Empty }));
            return true;
        }
    }

    /// <summary>The clock runs from the last progress while anything is unanswered. Under _guard.</summary>
    private void RestartClock()
    {
        _progress.Start = _client.Options.Clock.GetTimestamp();
        _stalled?.CancelAfter(_unanswered.Count > 0 ? _stall : Timeout.InfiniteTimeSpan);
    }

    /// <summary>The source threw: not the stream's failure.</summary>
    private sealed class SourceFailedException(Exception inner) : Exception(inner.Message, inner);
}
