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
    private ReadOnlySequence<byte> _last;

    // Charged: what was received and not taken, and what was taken and not given to anybody.
    private long _received;
    private long _taken;

    public MeteredBody(PipeReader inner, CallBudget.Connection budget, string method, int limit)
    {
        (_inner, _budget, _method, _limit) = (inner, budget, method, limit);
        _budget.Take(CallLimits.CallBytes);
    }

    /// <inheritdoc/>
    public PipeReader Reader => this;

    /// <summary>What it is charged to.</summary>
    public CallBudget.Connection Budget => _budget;

    /// <summary>The charge of the messages that were read since this was asked last: whoever asks gives it back.</summary>
    public long TakeCharge()
    {
        long charge = _taken;
        _taken = 0;
        return charge;
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
        long taken = _last.Slice(0, consumed).Length;
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
        _budget.Return(CallLimits.CallBytes + _received + _taken);
        (_received, _taken) = (0, 0);
    }

    private void Charge(in ReadOnlySequence<byte> buffer)
    {
        _last = buffer;
        RequireFits(buffer);
        if (buffer.Length <= _received)
            return;
        try
        {
            _budget.Take(buffer.Length - _received);
        }
        catch (FamfsException error)
        {
            throw StatusMap.ToRpc(error);
        }
        _received = buffer.Length;
    }

    private void RequireFits(in ReadOnlySequence<byte> buffer)
    {
        if (buffer.Length < PrefixBytes)
            return;
        Span<byte> prefix = stackalloc byte[PrefixBytes];
        buffer.Slice(0, PrefixBytes).CopyTo(prefix);
        uint bytes = BinaryPrimitives.ReadUInt32BigEndian(prefix[1..]);
        if (bytes <= _limit)
            return;
        // The status is gRPC's own for this. The reason says that repeating does not help.
        FamfsException error = new(ErrorReason.BadRequest, $"a message of {_method} has {bytes} bytes, the limit is {_limit}") { Limit = (ulong)_limit };
        throw new RpcException(new(StatusCode.ResourceExhausted, error.Message), new Metadata { { StatusMap.DetailTrailer, ErrorDetails.Of(error).ToByteArray() } });
    }
}
