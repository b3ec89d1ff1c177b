using System.Buffers;
using System.Buffers.Binary;
using Grpc.Core;

namespace Grpc.Wire;

/// <summary>
/// Puts length-prefixed messages into a buffer writer. A message whose length is announced and which fits one span is
/// written with its prefix into that span and committed at once, so a serializer that throws leaves nothing behind.
/// Not safe for concurrent use; one per stream.
/// </summary>
internal sealed class MessageWriter : SerializationContext, IBufferWriter<byte>
{
    // Chosen: pipes hand out blocks of 4 KiB, larger spans would be allocated anew.
    private const int OneSpanLimitBytes = 4096 - MessageReader.HeaderLengthBytes;

    private readonly int? _maxLengthBytes;
    private IBufferWriter<byte> _target = null!;
    private ArrayBufferWriter<byte>? _unknownLength;
    private Memory<byte> _span;
    private byte[]? _scratch;
    private int _announced;
    private int _written;
    private Mode _mode;

    public MessageWriter(int? maxLengthBytes)
    {
        _maxLengthBytes = maxLengthBytes;
    }

    private enum Mode : byte
    {
        Idle,
        Started,
        OneSpan,
        Direct,
        UnknownLength,
        Done,
    }

    /// <summary>Appends one message; returns the bytes added, prefix included.</summary>
    /// <exception cref="RpcException">RESOURCE_EXHAUSTED, before anything is written, if the message is too long.</exception>
    /// <exception cref="InvalidOperationException">The message before it was cut short, or the serializer is wrong.</exception>
    public int Write<T>(IBufferWriter<byte> target, Marshaller<T> marshaller, T message)
    {
        if (PrefixIsDangling)
        {
            throw new InvalidOperationException("The message cannot be written, the one before it was cut short.");
        }

        _target = target;
        _announced = -1;
        _written = 0;
        _mode = Mode.Started;
        try
        {
            marshaller.ContextualSerializer(message, this);
            if (_mode != Mode.Done)
            {
                throw new InvalidOperationException("The serializer did not complete the message.");
            }

            return MessageReader.HeaderLengthBytes + _written;
        }
        catch when (_mode == Mode.Direct)
        {
            PrefixIsDangling = true;
            throw;
        }
        finally
        {
            _mode = Mode.Idle;
            _span = default;
            _scratch = null;
            _target = null!;
        }
    }

    /// <summary>True after a serializer failed behind a prefix already committed: what follows would be read as the
    /// rest of that message, so the stream cannot go on.</summary>
    public bool PrefixIsDangling { get; private set; }

    /// <summary>Whoever owns the target has taken back what the failed write left in it; the stream can go on.</summary>
    public void RemnantRemoved() => PrefixIsDangling = false;

    public override void SetPayloadLength(int payloadLength)
    {
        RequireMode(Mode.Started);
        RequireAllowed(payloadLength);
        _announced = payloadLength;
    }

    public override IBufferWriter<byte> GetBufferWriter()
    {
        switch (_mode)
        {
            case Mode.OneSpan:
                return this;
            case Mode.Direct:
                return this;
            case Mode.UnknownLength:
                return _unknownLength!;
        }

        RequireMode(Mode.Started);
        if (_announced < 0)
        {
            _unknownLength ??= new ArrayBufferWriter<byte>(256);
            _unknownLength.ResetWrittenCount();
            _mode = Mode.UnknownLength;
            return _unknownLength;
        }

        if (_announced <= OneSpanLimitBytes)
        {
            _span = _target.GetMemory(MessageReader.HeaderLengthBytes + _announced);
            WritePrefix(_span.Span, _announced);
            _span = _span[MessageReader.HeaderLengthBytes..];
            _mode = Mode.OneSpan;
        }
        else
        {
            WritePrefix(_target.GetSpan(MessageReader.HeaderLengthBytes), _announced);
            _target.Advance(MessageReader.HeaderLengthBytes);
            _mode = Mode.Direct;
        }

        return this;
    }

    public override void Complete()
    {
        switch (_mode)
        {
            case Mode.OneSpan:
                RequireAnnounced();
                _target.Advance(MessageReader.HeaderLengthBytes + _written);
                break;
            case Mode.Direct:
                RequireAnnounced();
                break;
            case Mode.UnknownLength:
                WriteWhole(_unknownLength!.WrittenSpan);
                if (_unknownLength.Capacity > 64 * 1024)
                {
                    _unknownLength = null;
                }

                break;
            default:
                RequireMode(Mode.Started);
                WriteWhole([]);
                break;
        }

        _mode = Mode.Done;
    }

    public override void Complete(byte[] payload)
    {
        RequireMode(Mode.Started);
        WriteWhole(payload);
        _mode = Mode.Done;
    }

    void IBufferWriter<byte>.Advance(int count)
    {
        if (count < 0 || count > _announced - _written)
        {
            throw new InvalidOperationException("The serializer wrote more than the length it announced.");
        }

        _written += count;
        if (_mode == Mode.Direct)
        {
            _target.Advance(count);
        }
        else if (_scratch is { } scratch)
        {
            scratch.AsSpan(0, count).CopyTo(_span.Span[(_written - count)..]);
            _scratch = null;
        }
    }

    Memory<byte> IBufferWriter<byte>.GetMemory(int sizeHint) =>
        _mode == Mode.OneSpan ? Rest(sizeHint) : _target.GetMemory(sizeHint);

    Span<byte> IBufferWriter<byte>.GetSpan(int sizeHint) =>
        _mode == Mode.OneSpan ? Rest(sizeHint).Span : _target.GetSpan(sizeHint);

    private static void WritePrefix(Span<byte> span, int length)
    {
        span[0] = 0;
        BinaryPrimitives.WriteInt32BigEndian(span[1..], length);
    }

    // A serializer may ask for more room than it then uses; what does not fit behind the message goes through an array.
    private Memory<byte> Rest(int sizeHint)
    {
        Memory<byte> rest = _span[_written..];
        _scratch = rest.Length >= sizeHint && rest.Length > 0 ? null : new byte[Math.Max(sizeHint, 1)];
        return _scratch ?? rest;
    }

    private void WriteWhole(ReadOnlySpan<byte> payload)
    {
        RequireAllowed(payload.Length);
        Span<byte> header = stackalloc byte[MessageReader.HeaderLengthBytes];
        WritePrefix(header, payload.Length);
        _target.Write(header);
        _target.Write(payload);
        _written = payload.Length;
    }

    private void RequireAnnounced()
    {
        if (_written != _announced)
        {
            throw new InvalidOperationException($"The serializer announced {_announced} bytes and wrote {_written}.");
        }
    }

    private void RequireAllowed(int length)
    {
        if (length > (_maxLengthBytes ?? int.MaxValue))
        {
            throw new RpcException(new Status(
                StatusCode.ResourceExhausted,
                $"A message of {length} bytes exceeds the send limit of {_maxLengthBytes} bytes."));
        }
    }

    private void RequireMode(Mode mode)
    {
        if (_mode != mode)
        {
            throw new InvalidOperationException("The serializer used its context out of order.");
        }
    }
}
