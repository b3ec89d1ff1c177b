using System.Buffers;
using System.IO.Pipelines;
using Grpc.Core;
using Grpc.Wire;

namespace Grpc.AspNetCore.Server;

/// <summary>
/// Requests of a streaming call. One read of the pipe yields as many messages as it holds: <see cref="MoveNext"/>
/// completes synchronously, with a shared task, until they are used up.
/// </summary>
internal sealed class ServerStreamReader<T>(ServerCall call, Marshaller<T> marshaller) : IAsyncStreamReader<T>
    where T : class
{
    private readonly SequenceDeserializationContext _context = new();
    private ReadOnlySequence<byte> _buffer;
    private bool _holdsBuffer;
    private bool _lastBuffer;
    private T? _current;

    public T Current => _current ?? throw new InvalidOperationException("There is no current message.");

    public Task<bool> MoveNext(CancellationToken cancellationToken)
    {
        try
        {
            if (TryTakeMessage())
            {
                return Task.FromResult(true);
            }

            if (_lastBuffer)
            {
                _current = null;
                return _buffer.IsEmpty ? Task.FromResult(false) : Task.FromException<bool>(MessageReader.Truncated());
            }
        }
        catch (RpcException e)
        {
            return Task.FromException<bool>(e);
        }

        return ReadAsync(cancellationToken);
    }

    private bool TryTakeMessage()
    {
        if (!_holdsBuffer || !MessageReader.TryRead(ref _buffer, call.MaxReceiveMessageSize, out ReadOnlySequence<byte> message))
        {
            return false;
        }

        _current = _context.Deserialize(marshaller, message);
        return true;
    }

    private async Task<bool> ReadAsync(CancellationToken cancellationToken)
    {
        PipeReader body = call.RequestBody;
        while (true)
        {
            if (_holdsBuffer)
            {
                // What is left is part of a message: keep it, and wake up only for more.
                _holdsBuffer = false;
                body.AdvanceTo(_buffer.Start, _buffer.End);
            }

            ValueTask<ReadResult> reading = body.ReadAsync(cancellationToken);
            if (!reading.IsCompleted)
            {
                call.FlushBeforeWaiting();
            }

            ReadResult result = await reading;
            if (result.IsCanceled)
            {
                throw new OperationCanceledException("The read was cancelled.");
            }

            _buffer = result.Buffer;
            _holdsBuffer = true;
            _lastBuffer = result.IsCompleted;
            if (TryTakeMessage())
            {
                return true;
            }

            if (_lastBuffer)
            {
                _current = null;
                return _buffer.IsEmpty ? false : throw MessageReader.Truncated();
            }
        }
    }
}

/// <summary>Responses of a streaming call.</summary>
internal sealed class ServerStreamWriter<T>(ServerCall call, Marshaller<T> marshaller) : IServerStreamWriter<T>
    where T : class
{
    private WriteOptions? _options;

    public WriteOptions? WriteOptions
    {
        get => _options ?? call.WriteOptions;
        set => _options = value;
    }

    public Task WriteAsync(T message) => WriteAsync(message, CancellationToken.None);

    public Task WriteAsync(T message, CancellationToken cancellationToken)
    {
        if (message is null)
        {
            return Task.FromException(new ArgumentNullException(nameof(message)));
        }

        if (cancellationToken.IsCancellationRequested)
        {
            return Task.FromCanceled(cancellationToken);
        }

        try
        {
            return call.WriteMessageAsync(marshaller, message, WriteOptions, cancellationToken);
        }
        catch (Exception e)
        {
            // A write reports its failure through its task, as an asynchronous method does.
            return Task.FromException(e);
        }
    }
}
