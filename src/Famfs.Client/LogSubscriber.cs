using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.V1;
using Grpc.Core;
using Polly;
using Polly.Retry;

namespace Famfs.Client;

/// <summary>Gets what a subscription brings. One call at a time, in the order of the stream, never after the
/// run that made it has returned. A call that takes long holds up the stream, and the master's bounded queue
/// for this host; an exception ends the stream and is thrown to the caller of the run.</summary>
public interface ISubscriptionHandler
{
    /// <summary>Says who this host is and what it has, for a stream that is about to start. Its position must
    /// name the file system; sequence 0 asks for everything.</summary>
    Hello CreateHello();

    /// <summary>The master took the stream.</summary>
    void OnWelcome(Welcome welcome);

    /// <summary>Verified records, without gap behind the last ones. The frames stay valid.</summary>
    void OnRecords(in LogBlock block, LogPosition position);

    /// <summary>A verified part of a snapshot that replaces everything this host has. With the last part,
    /// <paramref name="position"/> is what the snapshot stands for.</summary>
    void OnSnapshot(in LogBlock block, bool last, LogPosition position);

    /// <summary>The answer to <see cref="LogSubscriber.Register"/>.</summary>
    void OnRegistration(Registration registration)
    {
    }

    /// <summary>The answer to <see cref="LogSubscriber.Report(Written)"/>.</summary>
    void OnWrittenAnswer(WrittenAnswer answer)
    {
    }

    /// <summary>The master renews the host's lease (policy <c>lease</c>).</summary>
    void OnLease(TimeSpan timeToLive);

    /// <summary>The stream is over; from now on the log in memory is followed until the next
    /// <see cref="OnWelcome"/>. <paramref name="error"/>: null when the master said goodbye.</summary>
    void OnDisconnected(Exception? error);
}

/// <summary>
/// One host's subscription to its master: Hello, then records as they are published, acknowledgements back.
/// Frames are verified before the handler sees them; the first bad one ends the stream with
/// <see cref="SubscriptionBrokenException"/>. <see cref="Acknowledge"/> may be called from any thread.
/// </summary>
public sealed class LogSubscriber
{
    /// <summary>Least time between two acknowledgements while more of a batch is on its way (PROTOCOL).</summary>
    private static readonly TimeSpan s_ackInterval = TimeSpan.FromMilliseconds(10);

    private readonly FamfsClient _client;
    private readonly TimeProvider _clock;
    private readonly Lock _guard = new();

    // Guarded by _guard.
    private Acknowledgements? _acks;
    private CancellationTokenSource? _renewal;

    /// <summary>A subscription over <paramref name="client"/>, which it does not own.</summary>
    public LogSubscriber(FamfsClient client)
    {
        _client = client;
        _clock = client.Options.Clock;
    }

    /// <summary>True between Welcome and the end of a stream.</summary>
    public bool Connected { get; private set; }

    /// <summary>Where the stream comes from, or the next one will.</summary>
    public string MasterAddress => _client.CurrentAddress;

    /// <summary>Keeps a stream open until cancelled: tells the handler of each end, pauses (50 ms to 2 s, with
    /// jitter, from the start again after a stream that was welcomed) and makes the next one. Throws what the
    /// master refuses for good: HOST_GONE, HOST_CONFLICT, and WRONG_FILESYSTEM where there is no other place to look.</summary>
    public async Task RunAsync(ISubscriptionHandler handler, CancellationToken cancel)
    {
        while (true)
        {
            Stream last = new();
            ResiliencePipeline pipeline = CreatePipeline(last);
            // Ends without an exception only when a stream was welcomed: a new row of pauses begins.
            await pipeline.ExecuteAsync(
                static async (s, c) =>
                {
                    s.Last.Welcomed = false;
                    Exception? error = null;
                    try
                    {
                        await s.Self.RunOnceAsync(s.Handler, s.Last, c).ConfigureAwait(false);
                    }
                    catch (Exception e) when (e is not OperationCanceledException)
                    {
                        error = e;
                    }
                    c.ThrowIfCancellationRequested();
                    s.Handler.OnDisconnected(error);
                    if (error is not null && (s.Self.IsFinal(error) || !MayPass(error)))
                        System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(error);
                    // A master whose records are bad is not asked for them again at once.
                    if (error is SubscriptionBrokenException)
                        s.Last.Welcomed = false;
                    if (!s.Last.Welcomed)
                        throw error ?? new FamfsException(ErrorReason.NotMaster, "the stream ended before it was welcomed");
                },
                (Self: this, Handler: handler, Last: last), cancel).ConfigureAwait(false);
            await Task.Delay(_client.Options.RetryDelay, _clock, cancel).ConfigureAwait(false);
        }
    }

    /// <summary>Ends the stream that runs, when one does: the next one begins with a new Hello.</summary>
    public void Renew()
    {
        lock (_guard)
            _renewal?.Cancel();
    }

    /// <summary>Runs one stream to its end, and returns the master's goodbye (null: it just closed). Throws
    /// <see cref="SubscriptionBrokenException"/> for bad content, <see cref="FamfsException"/> for what the
    /// master or the network says; the next run then goes where the master is said to be.</summary>
    public Task<Goaway?> RunOnceAsync(ISubscriptionHandler handler, CancellationToken cancel) => RunOnceAsync(handler, new(), cancel);

    /// <summary>Tells the master what this host has replayed and its kernel was told of. What a missing stream cannot carry is in the
    /// next Hello.</summary>
    public void Acknowledge(LogPosition position)
    {
        lock (_guard)
            _acks?.Add(position);
    }

    /// <summary>Says which deleted files this mount still has; false without a stream that could carry it. Only to a master whose
    /// Welcome takes it. A statement that has not gone out is replaced by the next.</summary>
    public bool Report(Released released)
    {
        lock (_guard)
        {
            _acks?.Add(released);
            return _acks is not null;
        }
    }

    /// <summary>Tells the master which devices this host lacks, with a position as <see cref="Acknowledge"/> takes it. What a missing
    /// stream cannot carry is in the next Hello.</summary>
    public void ReportDevices(MissingDevices devices, LogPosition position)
    {
        lock (_guard)
            _acks?.AddDevices(devices, position);
    }

    /// <summary>Asks for a block of the host table for this host, once; false without a stream that could carry it. The answer comes
    /// to <see cref="ISubscriptionHandler.OnRegistration"/>.</summary>
    public bool Register()
    {
        lock (_guard)
        {
            _acks?.AddRegister();
            return _acks is not null;
        }
    }

    /// <summary>Says which files were written; false without a stream that could carry it. The next may be said when the answer has
    /// come to <see cref="ISubscriptionHandler.OnWrittenAnswer"/>, or the stream is over. Only to a master whose Welcome takes it.</summary>
    public bool Report(Written written)
    {
        lock (_guard)
        {
            _acks?.Add(written);
            return _acks is not null;
        }
    }

    // What the handler reads of its own host may fail for a time, too.
    private static bool MayPass(Exception error) => error is FamfsException or DeviceFaultException or SubscriptionBrokenException or IOException or UnauthorizedAccessException;

    private bool IsFinal(Exception? error) => error is FamfsException { Reason: ErrorReason.HostGone or ErrorReason.HostConflict }
        || (error is FamfsException { Reason: ErrorReason.WrongFilesystem } && !_client.Connections.HasOthers);

    private async Task<Goaway?> RunOnceAsync(ISubscriptionHandler handler, Stream state, CancellationToken cancel)
    {
        MasterEndpoint endpoint = _client.Connections.Current;
        Acknowledgements acks = new(_clock, s_ackInterval);
        // Before Hello is made: what is acknowledged from here on goes out behind it, if it is not in it.
        using CancellationTokenSource renewal = new();
        lock (_guard)
            (_acks, _renewal) = (acks, renewal);
        Hello hello = handler.CreateHello();
        LogPosition start = new(hello.Position.FileSystemUuid.ToGuid("position.file_system_uuid"), hello.Position.Generation, new(hello.Position.Sequence), new(hello.Position.Term));
        FrameVerifier verifier = new(start);
        using CancellationTokenSource ended = CancellationTokenSource.CreateLinkedTokenSource(cancel, renewal.Token);
        using AsyncDuplexStreamingCall<SubscribeRequest, SubscribeReply> call = endpoint.Master.Subscribe(new CallOptions(cancellationToken: ended.Token));
        Task acknowledging = Task.CompletedTask;
        try
        {
            await SayHelloAsync(call.RequestStream, hello, ended.Token).ConfigureAwait(false);
            acknowledging = acks.SendAsync(call.RequestStream, ended.Token);
            return await ReadAsync(call.ResponseStream, endpoint, handler, verifier, acks, state).ConfigureAwait(false);
        }
        catch (Exception e) when (e is RpcException or OperationCanceledException && renewal.IsCancellationRequested)
        {
            cancel.ThrowIfCancellationRequested();
            return null;
        }
        catch (RpcException e)
        {
            cancel.ThrowIfCancellationRequested();
            CallFailure failure = RpcErrors.Judge(e, endpoint.Address);
            if (failure.Repeatable)
                _client.Retries.Note(failure, endpoint);
            else if (failure.Error.Reason is ErrorReason.WrongFilesystem or ErrorReason.NotMaster or ErrorReason.ReadOnly or ErrorReason.NotPermitted)
                _client.Connections.Leave(endpoint); // somebody else is there, or nobody who may be called
            throw failure.Error;
        }
        finally
        {
            Connected = false;
            lock (_guard)
                (_acks, _renewal) = (null, null);
            await ended.CancelAsync().ConfigureAwait(false);
            // A write that failed with the stream says nothing that the reader has not heard.
            await acknowledging.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>A master may have ended the stream before it heard anything; what it said is still to be read.</summary>
    private static async Task SayHelloAsync(IClientStreamWriter<SubscribeRequest> stream, Hello hello, CancellationToken cancel)
    {
        try
        {
            await stream.WriteAsync(new() { Hello = hello }, cancel).ConfigureAwait(false);
        }
        catch (Exception e) when (e is RpcException or InvalidOperationException)
        {
            cancel.ThrowIfCancellationRequested();
        }
    }

    private async Task<Goaway?> ReadAsync(IAsyncStreamReader<SubscribeReply> replies, MasterEndpoint endpoint, ISubscriptionHandler handler, FrameVerifier verifier, Acknowledgements acks, Stream state)
    {
        // The call itself is bound to the token; a token per read would cost a registration per message.
        while (await replies.MoveNext(CancellationToken.None).ConfigureAwait(false))
        {
            SubscribeReply reply = replies.Current;
            if ((reply.MessageCase == SubscribeReply.MessageOneofCase.Welcome) == state.Welcomed && reply.MessageCase != SubscribeReply.MessageOneofCase.Goaway)
                throw new SubscriptionBrokenException(SubscriptionFault.OutOfPlace, verifier.Position, $"subscription at {verifier.Position}: {reply.MessageCase} {(state.Welcomed ? "came again" : "came before Welcome")}");
            switch (reply.MessageCase)
            {
                case SubscribeReply.MessageOneofCase.Welcome:
                    state.Welcomed = true;
                    Connected = true;
                    handler.OnWelcome(reply.Welcome);
                    break;
                case SubscribeReply.MessageOneofCase.Records:
                    LogBlock block = verifier.Verify(reply.Records);
                    acks.Received(verifier.Position.Sequence);
                    handler.OnRecords(block, verifier.Position);
                    break;
                case SubscribeReply.MessageOneofCase.Snapshot:
                    LogBlock part = verifier.Verify(reply.Snapshot);
                    if (reply.Snapshot.Last)
                        acks.Received(verifier.Position.Sequence);
                    handler.OnSnapshot(part, reply.Snapshot.Last, verifier.Position);
                    break;
                case SubscribeReply.MessageOneofCase.Lease:
                    handler.OnLease(TimeSpan.FromMilliseconds(reply.Lease.TtlMs));
                    break;
                case SubscribeReply.MessageOneofCase.Registration:
                    handler.OnRegistration(reply.Registration);
                    break;
                case SubscribeReply.MessageOneofCase.WrittenAnswer:
                    handler.OnWrittenAnswer(reply.WrittenAnswer);
                    break;
                case SubscribeReply.MessageOneofCase.Goaway:
                    if (reply.Goaway.MasterAddress.Length != 0)
                        _client.Connections.Follow(endpoint, reply.Goaway.MasterAddress);
                    else
                        _client.Connections.Leave(endpoint);
                    return reply.Goaway;
                default:
                    // A message of a newer master that this version does not need to know.
                    break;
            }
        }
        return null;
    }

    private ResiliencePipeline CreatePipeline(Stream last) => new ResiliencePipelineBuilder { TimeProvider = _clock }
        .AddRetry(new RetryStrategyOptions
        {
            MaxRetryAttempts = int.MaxValue,
            Delay = TimeSpan.FromMilliseconds(50),
            MaxDelay = TimeSpan.FromSeconds(2),
            BackoffType = DelayBackoffType.Exponential,
            UseJitter = true,
            Randomizer = _client.Options.Jitter,
            ShouldHandle = args => ValueTask.FromResult(!last.Welcomed && args.Outcome.Exception is { } error && MayPass(error) && !IsFinal(error)),
        })
        .Build();

    /// <summary>What is known of the stream that runs. Owned by the run.</summary>
    private sealed class Stream
    {
        public bool Welcomed { get; set; }
    }

    /// <summary>
    /// Gathers acknowledgements: one goes out at once when it covers all that was received (a creation may be
    /// waiting for it), otherwise at most one per interval. Never more than one write at a time.
    /// </summary>
    private sealed class Acknowledgements(TimeProvider clock, TimeSpan interval)
    {
        private readonly SemaphoreSlim _wake = new(0, 1);
        private readonly Lock _guard = new();

        // Guarded by _guard.
        private LogPosition _position;
        private LogSequence _received;
        private bool _pending;
        private bool _registers;
        private MissingDevices? _devices;
        private Written? _written;
        private Released? _released;

        public void Received(LogSequence sequence)
        {
            lock (_guard)
                _received = sequence;
        }

        public void Add(LogPosition position)
        {
            lock (_guard)
            {
                if (position.Sequence.Value >= _position.Sequence.Value || position.Generation != _position.Generation)
                    _position = position;
                _pending = true;
                if (_wake.CurrentCount == 0)
                    _wake.Release();
            }
        }

        public void AddDevices(MissingDevices devices, LogPosition position)
        {
            lock (_guard)
                _devices = devices;
            Add(position);
        }

        public void AddRegister()
        {
            lock (_guard)
            {
                _registers = true;
                if (_wake.CurrentCount == 0)
                    _wake.Release();
            }
        }

        public void Add(Written written)
        {
            lock (_guard)
            {
                _written = written;
                if (_wake.CurrentCount == 0)
                    _wake.Release();
            }
        }

        public void Add(Released released)
        {
            lock (_guard)
            {
                _released = released;
                if (_wake.CurrentCount == 0)
                    _wake.Release();
            }
        }

        public async Task SendAsync(IClientStreamWriter<SubscribeRequest> stream, CancellationToken cancel)
        {
            long sent = clock.GetTimestamp() - (long)(interval.TotalSeconds * clock.TimestampFrequency);
            while (true)
            {
                await _wake.WaitAsync(cancel).ConfigureAwait(false);
                TimeSpan early = interval - clock.GetElapsedTime(sent);
                // Woken again when the last of the batch is acknowledged meanwhile.
                if (early > TimeSpan.Zero && !IsCaughtUp())
                    await WaitUntilCaughtUpAsync(early, cancel).ConfigureAwait(false);
                if (TakeRegister())
                    await stream.WriteAsync(new() { Register = new() }, cancel).ConfigureAwait(false);
                if (TakeWritten() is { } written)
                    await stream.WriteAsync(new() { Written = written }, cancel).ConfigureAwait(false);
                if (TakeReleased() is { } released)
                    await stream.WriteAsync(new() { Released = released }, cancel).ConfigureAwait(false);
                if (Take() is { } ack)
                {
                    await stream.WriteAsync(new() { Ack = ack }, cancel).ConfigureAwait(false);
                    sent = clock.GetTimestamp();
                }
            }
        }

        private async Task WaitUntilCaughtUpAsync(TimeSpan time, CancellationToken cancel)
        {
            using CancellationTokenSource over = new(time, clock);
            using CancellationTokenSource either = CancellationTokenSource.CreateLinkedTokenSource(over.Token, cancel);
            do
            {
                await _wake.WaitAsync(either.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                cancel.ThrowIfCancellationRequested();
            }
            while (!over.IsCancellationRequested && !IsCaughtUp());
        }

        private bool IsCaughtUp()
        {
            lock (_guard)
                return _position.Sequence.Value >= _received.Value;
        }

        private bool TakeRegister()
        {
            lock (_guard)
            {
                bool registers = _registers;
                _registers = false;
                return registers;
            }
        }

        private Written? TakeWritten()
        {
            lock (_guard)
            {
                Written? written = _written;
                _written = null;
                return written;
            }
        }

        private Released? TakeReleased()
        {
            lock (_guard)
            {
                Released? released = _released;
                _released = null;
                return released;
            }
        }

        private Ack? Take()
        {
            lock (_guard)
            {
                if (!_pending)
                    return null;
                Ack ack = new() { Position = _position.ToMessage(), MissingDevices = _devices };
                _devices = null;
                _pending = false;
                return ack;
            }
        }
    }
}
