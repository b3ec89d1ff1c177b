using System.Net;
using Grpc.Core;
using Grpc.Wire;

namespace Grpc.Net.Client;

/// <summary>The request of a call that sends one message. The message is serialized at once, by the caller.</summary>
internal sealed class SingleMessageContent<TRequest, TResponse> : HttpContent
    where TRequest : class
    where TResponse : class
{
    private readonly RequestBuffer _buffer = new(0);

    public SingleMessageContent(ClientCall<TRequest, TResponse> call, TRequest request)
    {
        new MessageWriter(call.Channel.MaxSendMessageSize).Write(_buffer, call.Method.RequestMarshaller, request);
    }

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) =>
        SerializeToStreamAsync(stream, context, CancellationToken.None);

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken) =>
        stream.WriteAsync(_buffer.Written, cancellationToken).AsTask();

    // gRPC requests carry no length.
    protected override bool TryComputeLength(out long length)
    {
        length = -1;
        return false;
    }
}

/// <summary>The request of a call that sends many: hands the handler's stream to the writer and lasts until it is done.</summary>
internal sealed class StreamingContent : HttpContent
{
    private readonly TaskCompletionSource<Stream> _stream = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _done = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Where requests go, once the connection is made. Cancelled if the call ends before.</summary>
    public Task<Stream> Stream => _stream.Task;

    /// <summary>Ends the stream of requests.</summary>
    public void Complete() => _done.TrySetResult();

    /// <summary>Stops whatever waits, because the call has ended.</summary>
    public void Stop()
    {
        _stream.TrySetCanceled();
        _done.TrySetResult();
    }

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) =>
        SerializeToStreamAsync(stream, context, CancellationToken.None);

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken) =>
        _stream.TrySetResult(stream)
            ? _done.Task.WaitAsync(cancellationToken)
            : Task.FromException(new IOException("A stream of requests cannot be sent twice."));

    protected override bool TryComputeLength(out long length)
    {
        length = -1;
        return false;
    }
}
