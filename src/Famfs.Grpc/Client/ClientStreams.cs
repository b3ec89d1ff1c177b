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

    // Guarded by the gate, and by _sending while it runs: then the buffer is the handler's.
    private readonly RequestBuffer _buffer = new(256);
    private Task _sending = Task.CompletedTask;
    private bool _sendingIsWrite;
    private bool _writing;
    private bool _completed;

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

        try
        {
            lock (_gate)
            {
                if (_completed)
                {
                    return Task.FromException(new InvalidOperationException("The message cannot be written, the request stream is complete."));
                }

                if (_writing || (_sendingIsWrite && !_sending.IsCompleted))
                {
                    return Task.FromException(new InvalidOperationException("The message cannot be written, the previous write is in progress."));
                }

                if (_call.HasEnded)
                {
                    return Task.FromException(EndedException());
                }

                if (_sending.IsCompletedSuccessfully)
                {
                    _writer.Write(_buffer, _call.Method.RequestMarshaller, message);
                    if (IsHeld)
                    {
                        return Task.CompletedTask;
                    }

                    if (!cancellationToken.CanBeCanceled)
                    {
                        return StartSending(isWrite: true);
                    }
                }

                _writing = true;
            }
        }
        catch (Exception e)
        {
            return Task.FromException(e);
        }

        return FinishWriteAsync(message, cancellationToken);
    }

    public async Task CompleteAsync()
    {
        Task sending;
        lock (_gate)
        {
            if (_completed)
            {
                return;
            }

            if (_writing)
            {
                throw new InvalidOperationException("The request stream cannot be completed, a write is in progress.");
            }

            _completed = true;
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
        if (_buffer.Length == 0)
        {
            return;
        }

        lock (_gate)
        {
            if (_buffer.Length != 0 && !_writing && !_completed && _sending.IsCompletedSuccessfully)
            {
                // A failure ends the call, and so meets the reader that waits.
                _ = StartSending(isWrite: false);
            }
        }
    }

    private bool IsHeld =>
        WriteOptions is { } options && (options.Flags & WriteFlags.BufferHint) != 0 && _buffer.Length < SendThresholdBytes;

    // Called under the gate.
    private Task StartSending(bool isWrite)
    {
        _sendingIsWrite = isWrite;
        return _sending = SendAsync(flush: true);
    }

    private Exception EndedException() => _call.GetStatus().StatusCode == StatusCode.OK
        ? new InvalidOperationException("The message cannot be written, the call has ended.")
        : _call.CreateException();

    // Writes that have to wait for a flush the reader started, or that watch a token.
    private async Task FinishWriteAsync(TRequest message, CancellationToken cancellationToken)
    {
        using CancellationTokenRegistration registration = cancellationToken.UnsafeRegister(
            static state => ((ClientCall)state!).Abort(new Status(StatusCode.Cancelled, "A write was cancelled by the client.")), _call);
        Task sending;
        lock (_gate)
        {
            sending = _sending;
        }

        try
        {
            if (!sending.IsCompletedSuccessfully)
            {
                await sending.ConfigureAwait(false);
                lock (_gate)
                {
                    _writer.Write(_buffer, _call.Method.RequestMarshaller, message);
                    if (IsHeld)
                    {
                        return;
                    }
                }
            }

            lock (_gate)
            {
                sending = StartSending(isWrite: true);
            }

            await sending.ConfigureAwait(false);
        }
        finally
        {
            lock (_gate)
            {
                _writing = false;
            }
        }
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

            _buffer.Clear(keepBytes: 4 * SendThresholdBytes);
        }
        catch (Exception e)
        {
            throw await FailureAsync(e).ConfigureAwait(false);
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
