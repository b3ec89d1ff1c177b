using System.Buffers;
using System.Buffers.Binary;
using System.IO.Pipelines;
using Famfs.Core;
using Famfs.Master.Changes;
using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.AspNetCore.Http.Features;

namespace Famfs.Master.Rpc;

/// <summary>
/// The bytes that a call receives, charged to its connection from when they come. A message that is too large is refused when
/// its length is known, before it is there. For the one task that reads the call.
/// <para>The library reads a message at a time: what it gets begins with a message, which has five bytes before it, a flag and
/// its length (gRPC over HTTP/2, Length-Prefixed-Message).</para>
/// </summary>
internal sealed class MeteredBody : PipeReader, IRequestBodyPipeFeature, IDisposable
{
    private const int PrefixBytes = 5;

    private readonly PipeReader _inner;
    private readonly CallBudget.Connection _budget;
    private readonly string _method;
    private readonly int _limit;

    // Charge of a byte.
    private readonly int _perByte;
    private ReadOnlySequence<byte> _last;

    // Charged: what was received and not taken, and what was taken and not given to anybody.
    private long _received;
    private long _taken;

    // Charged besides, until the call ends.
    private long _held;

    /// <summary>Begins a call. <paramref name="headerBytes"/>: what its metadata take. Throws OVERLOADED.</summary>
    public MeteredBody(PipeReader inner, CallBudget.Connection budget, string method, int limit, int perByte = 1, int headerBytes = 0)
    {
        (_inner, _budget, _method, _limit, _perByte) = (inner, budget, method, limit, perByte);
        _budget.Take(CallLimits.CallBytes + headerBytes);
        _held = headerBytes;
    }

    /// <inheritdoc/>
    public PipeReader Reader => this;

    /// <summary>Counts what is refused here.</summary>
    public Refusals? Refusals { get; init; }

    /// <summary>What it is charged to.</summary>
    public CallBudget.Connection Budget => _budget;

    /// <summary>The charge of the messages that were read since this was asked last: whoever asks gives it back.</summary>
    public long TakeCharge()
    {
        long charge = _taken;
        _taken = 0;
        return charge;
    }

    /// <summary>Charges <paramref name="bytes"/> until the call is over; fewer than none give back. Throws OVERLOADED, and charges
    /// nothing.</summary>
    public void Hold(long bytes)
    {
        if (bytes > 0)
            _budget.Take(bytes);
        else
            _budget.Return(-bytes);
        _held += bytes;
    }

    /// <inheritdoc/>
    public override async ValueTask<ReadResult> ReadAsync(CancellationToken cancellationToken = default)
    {
        ReadResult result = await _inner.ReadAsync(cancellationToken).ConfigureAwait(false);
        Charge(result.Buffer);
        return result;
    }

    /// <inheritdoc/>
    public override bool TryRead(out ReadResult result)
    {
        if (!_inner.TryRead(out result))
            return false;
        Charge(result.Buffer);
        return true;
    }

    /// <inheritdoc/>
    public override void AdvanceTo(SequencePosition consumed) => AdvanceTo(consumed, consumed);

    /// <inheritdoc/>
    public override void AdvanceTo(SequencePosition consumed, SequencePosition examined)
    {
        long taken = _last.Slice(0, consumed).Length * _perByte;
        _last = default;
        _received -= taken;
        _taken += taken;
        _inner.AdvanceTo(consumed, examined);
    }

    /// <inheritdoc/>
    public override void CancelPendingRead() => _inner.CancelPendingRead();

    /// <inheritdoc/>
    public override void Complete(Exception? exception = null) => _inner.Complete(exception);

    /// <summary>The call is over.</summary>
    public void Dispose()
    {
        _budget.Return(CallLimits.CallBytes + _received + _taken + _held);
        (_received, _taken, _held) = (0, 0, 0);
    }

    private void Charge(in ReadOnlySequence<byte> buffer)
    {
        _last = buffer;
        RequireFits(buffer);
        long cost = buffer.Length * _perByte;
        if (cost <= _received)
            return;
        try
        {
            _budget.Take(cost - _received);
        }
        catch (FamfsException error)
        {
            Refusals?.Count(_method, error);
            throw StatusMap.ToRpc(error);
        }
        _received = cost;
    }

    private void RequireFits(in ReadOnlySequence<byte> buffer)
    {
        if (buffer.Length < PrefixBytes)
            return;
        Span<byte> prefix = stackalloc byte[PrefixBytes];
        buffer.Slice(0, PrefixBytes).CopyTo(prefix);
        // A few bytes would become a large message after its size was looked at.
        if (prefix[0] != 0)
            throw new RpcException(new(StatusCode.Unimplemented, $"a message of {_method} is compressed; messages are taken as they are"));
        uint bytes = BinaryPrimitives.ReadUInt32BigEndian(prefix[1..]);
        if (bytes <= _limit)
            return;
        // The status is gRPC's own for this. The reason says that repeating does not help.
        FamfsException error = new(ErrorReason.BadRequest, $"a message of {_method} has {bytes} bytes, the limit is {_limit}") { Limit = (ulong)_limit };
        Refusals?.Count(_method, error);
        throw new RpcException(new(StatusCode.ResourceExhausted, error.Message), new Metadata { { StatusMap.DetailTrailer, ErrorDetails.Of(error).ToByteArray() } });
    }
}
