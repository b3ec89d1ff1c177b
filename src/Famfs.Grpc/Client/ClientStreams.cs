using Grpc.Core;
using Grpc.Wire;

namespace Grpc.Net.Client;

/// <summary>Responses of a streaming call. <see cref="MoveNext"/> completes synchronously while messages are buffered.</summary>
internal sealed class ClientStreamReader<TRequest, TResponse>(ClientCall<TRequest, TResponse> call, ClientStreamWriter<TRequest, TResponse>? writer)
    : IAsyncStreamReader<TResponse>
    where TRequest : class
    where TResponse : class
{
    private const int InitialBufferBytes = 16 * 1024;

    private ResponseBuffer? _buffer;
    private Stream? _body;
    private TResponse? _current;

    public TResponse Current => _current ?? throw new InvalidOperationException("There is no current message.");

    public Task<bool> MoveNext(CancellationToken cancellationToken)
    {
        try
        {
            if (!cancellationToken.IsCancellationRequested && !call.HasEnded && _buffer is not null && _buffer.TryTake(call.Method.ResponseMarshaller, out _current))
            {
                return Task.FromResult(true);
            }
        }
        catch (Exception e)
        {
            call.Fail(e);
        }

        return ReadAsync(cancellationToken);
    }

    private async Task<bool> ReadAsync(CancellationToken cancellationToken)
    {
        _current = null;
        using CancellationTokenRegistration registration = cancellationToken.CanBeCanceled
            ? cancellationToken.UnsafeRegister(static state => ((ClientCall)state!).Abort(new Status(StatusCode.Cancelled, "A read was cancelled by the client.")), call)
            : default;
        try
        {
            writer?.FlushBeforeWaiting();
            _body ??= await call.ResponseBody.ConfigureAwait(false);
            if (_body is not null && !call.HasEnded)
            {
                _buffer ??= new ResponseBuffer(InitialBufferBytes, call.Channel.MaxReceiveMessageSize);
                while (await _buffer.ReadAsync(_body, call.CancellationToken).ConfigureAwait(false))
                {
                    if (_buffer.TryTake(call.Method.ResponseMarshaller, out _current))
                    {
                        return true;
                    }
                }

                _buffer.RequireEmpty();
                call.EndWithTrailers();
            }
        }
        catch (Exception e)
        {
            call.Fail(e);
        }

        _buffer?.Release();
        return call.GetStatus().StatusCode == StatusCode.OK ? false : throw call.CreateException();
    }
}

/// <summary>
/// Requests of a streaming call. Messages gather in a buffer that goes to the handler in one write: at once, or with
/// <see cref="WriteFlags.BufferHint"/> when enough has gathered, a message without the hint comes, the responses are
/// awaited, or the stream is completed.
/// </summary>
internal sealed class ClientStreamWriter<TRequest, TResponse> : IClientStreamWriter<TRequest>
    where TRequest : class
    where TResponse : class
{
    // Chosen: two of the largest frames SocketsHttpHandler makes.
    private const int SendThresholdBytes = 32 * 1024;

    private readonly Lock _gate = new();
    private readonly ClientCall<TRequest, TResponse> _call;
    private readonly MessageWriter _writer;

    // Guarded by the gate. The state says whose the buffer is; every decision about a message is taken from one look
    // at it, under the gate. Whether _sending is completed decides nothing: a send can end between two looks.
    private State _state;
    private Task _sending = Task.CompletedTask;

    // Read and written by the owner the state names.
    private readonly RequestBuffer _buffer = new(256);

    private enum State : byte
    {
        /// <summary>Nobody sends: the buffer is the gate holder's, and may hold messages of writes that have returned.</summary>
        Open,

        /// <summary>The buffer is the send's that the reader started.</summary>
        Flushing,

        /// <summary>As above until <c>_sending</c> ends; then it is the write's that waits to append its message.</summary>
        FlushingBeforeWrite,

        /// <summary>The buffer is the send's that a write started.</summary>
        Writing,

        /// <summary>The buffer is CompleteAsync's, once a send that was under way has ended.</summary>
        Completed,

        /// <summary>A send failed: the buffer is nobody's, and <c>_sending</c> tells every later write why.</summary>
        Failed,
    }

    public ClientStreamWriter(ClientCall<TRequest, TResponse> call)
    {
        _call = call;
        _writer = new MessageWriter(call.Channel.MaxSendMessageSize);
        WriteOptions = call.WriteOptions;
        call.Ended = Content.Stop;
    }

    public StreamingContent Content { get; } = new();

    public WriteOptions? WriteOptions { get; set; }

    public Task WriteAsync(TRequest message) => WriteAsync(message, CancellationToken.None);

    public Task WriteAsync(TRequest message, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(message);
        if (cancellationToken.IsCancellationRequested)
        {
            return Task.FromCanceled(cancellationToken);
        }

        bool hold = WriteOptions is { } options && (options.Flags & WriteFlags.BufferHint) != 0;
        try
        {
            Task sending;
            bool isAppended = false;
            lock (_gate)
            {
                switch (_state)
                {
                    case State.Completed:
                        return Task.FromException(new InvalidOperationException("The message cannot be written, the request stream is complete."));
                    case State.Writing or State.FlushingBeforeWrite:
                        return Task.FromException(new InvalidOperationException("The message cannot be written, the previous write is in progress."));
                }

                if (_call.HasEnded)
                {
                    return Task.FromException(EndedException());
                }

                switch (_state)
                {
                    case State.Failed:
                        return _sending;
                    case State.Flushing:
                        _state = State.FlushingBeforeWrite;
                        sending = _sending;
                        break;
                    default:
                        isAppended = true;
                        Append(message);
                        if (hold && _buffer.Length < SendThresholdBytes)
                        {
                            return Task.CompletedTask;
                        }

                        sending = StartSending(State.Writing);
                        break;
                }
            }

            if (!isAppended)
            {
                sending = WriteAfterFlushAsync(sending, message, hold);
            }

            return cancellationToken.CanBeCanceled ? WatchAsync(sending, cancellationToken) : sending;
        }
        catch (Exception e)
        {
            return Task.FromException(e);
        }
    }

    public async Task CompleteAsync()
    {
        Task sending;
        lock (_gate)
        {
            switch (_state)
            {
                case State.Completed:
                    return;
                case State.FlushingBeforeWrite:
                    throw new InvalidOperationException("The request stream cannot be completed, a write is in progress.");
            }

            _state = State.Completed;
            sending = _sending;
        }

        await sending.ConfigureAwait(false);
        if (_buffer.Length != 0 && !_call.HasEnded)
        {
            await SendAsync(flush: false).ConfigureAwait(false);
        }

        Content.Complete();
    }

    /// <summary>Sends what writes have left in the buffer: called by the reader of responses before it waits.</summary>
    public void FlushBeforeWaiting()
    {
        lock (_gate)
        {
            if (_state == State.Open && _buffer.Length != 0)
            {
                // A failure ends the call, and so meets the reader that waits.
                _ = StartSending(State.Flushing);
            }
        }
    }

    // Called under the gate, by the owner of the buffer. A serializer that throws behind a prefix it has announced leaves
    // that prefix in the buffer, and the server would take the next messages for its rest.
    private void Append(TRequest message)
    {
        int before = _buffer.Length;
        try
        {
            _writer.Write(_buffer, _call.Method.RequestMarshaller, message);
        }
        catch
        {
            _buffer.Truncate(before);
            _writer.RemnantRemoved();
            throw;
        }
    }

    // Called under the gate, by the owner of the buffer. The state comes first: the send may end at once.
    private Task StartSending(State state)
    {
        _state = state;
        return _sending = SendAsync(flush: true);
    }

    private Exception EndedException() => _call.GetStatus().StatusCode == StatusCode.OK
        ? new InvalidOperationException("The message cannot be written, the call has ended.")
        : _call.CreateException();

    // The state is FlushingBeforeWrite, so nobody else starts a send, and the message is appended here and only here.
    private async Task WriteAfterFlushAsync(Task flush, TRequest message, bool hold)
    {
        await flush.ConfigureAwait(false);
        Task sending;
        lock (_gate)
        {
            _state = State.Open;
            Append(message);
            if (hold && _buffer.Length < SendThresholdBytes)
            {
                return;
            }

            sending = StartSending(State.Writing);
        }

        await sending.ConfigureAwait(false);
    }

    private async Task WatchAsync(Task write, CancellationToken cancellationToken)
    {
        using CancellationTokenRegistration registration = cancellationToken.UnsafeRegister(
            static state => ((ClientCall)state!).Abort(new Status(StatusCode.Cancelled, "A write was cancelled by the client.")), _call);
        await write.ConfigureAwait(false);
    }

    private async Task SendAsync(bool flush)
    {
        try
        {
            Stream stream = await Content.Stream.ConfigureAwait(false);
            await stream.WriteAsync(_buffer.Written, _call.CancellationToken).ConfigureAwait(false);
            if (flush)
            {
                await stream.FlushAsync(_call.CancellationToken).ConfigureAwait(false);
            }

            lock (_gate)
            {
                _buffer.Clear(keepBytes: 4 * SendThresholdBytes);
                if (_state is State.Flushing or State.Writing)
                {
                    _state = State.Open;
                }
            }
        }
        catch (Exception e)
        {
            Exception failure = await FailureAsync(e).ConfigureAwait(false);
            lock (_gate)
            {
                if (_state != State.Completed)
                {
                    _state = State.Failed;
                }
            }

            throw failure;
        }
    }

    // A server may end a call before it has read all requests. The handler then stops the request, and only the
    // responses tell why: a failed write does not end the call, it leaves that to whoever reads them.
    private async Task<Exception> FailureAsync(Exception exception)
    {
        if (_call.Response is { } response)
        {
            await ((Task)response).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
        else if (!_call.HasEnded && await _call.ResponseBody.ConfigureAwait(false) is not null)
        {
            return new RpcException(new Status(StatusCode.Cancelled, "The server takes no more requests; the status of the call comes with its responses.", exception));
        }

        return EndedException();
    }
}
