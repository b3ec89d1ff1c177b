using System.Buffers;
using System.IO.Pipelines;
using Grpc.Core;
using Grpc.Wire;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Primitives;

namespace Grpc.AspNetCore.Server;

/// <summary>One method of one service: turns HTTP requests into calls of its handler.</summary>
internal abstract partial class ServerMethod(IMethod description, GrpcServiceOptions options, ILogger logger, TimeProvider clock)
{
    private static readonly StringValues GrpcContentType = GrpcHeaders.ContentType;

    public IMethod Description { get; } = description;

    public GrpcServiceOptions Options { get; } = options;

    // Only the requests of a stream can be slower or longer than what Kestrel expects of a request.
    protected bool StreamsRequests => Description.Type is MethodType.ClientStreaming or MethodType.DuplexStreaming;

    /// <summary>The endpoint's delegate.</summary>
    public Task InvokeAsync(HttpContext http)
    {
        if (!HttpReply.TryAccept(http))
        {
            return Task.CompletedTask;
        }

        http.Response.Headers.ContentType = GrpcContentType;
        IHeaderDictionary headers = http.Request.Headers;
        if (headers.TryGetValue(GrpcHeaders.Encoding, out StringValues encoding) && encoding != GrpcHeaders.Identity && !StringValues.IsNullOrEmpty(encoding))
        {
            http.Response.Headers[GrpcHeaders.AcceptEncoding] = GrpcHeaders.Identity;
            HttpReply.SetStatus(http.Response.Headers, StatusCode.Unimplemented, $"Message encoding '{encoding}' is not supported.");
            return Task.CompletedTask;
        }

        TimeSpan? timeout = null;
        if (headers.TryGetValue(GrpcHeaders.Timeout, out StringValues text))
        {
            if (!GrpcTimeout.TryDecode(text.ToString(), out TimeSpan value))
            {
                HttpReply.SetStatus(http.Response.Headers, StatusCode.Internal, "The grpc-timeout header is malformed.");
                return Task.CompletedTask;
            }

            timeout = value;
        }

        if (http.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } size)
        {
            size.MaxRequestBodySize = null;
        }

        if (StreamsRequests && http.Features.Get<IHttpMinRequestBodyDataRateFeature>() is { } rate)
        {
            rate.MinDataRate = null;
        }

        ServerCall call = new(http, this);
        if (timeout is { } allowed)
        {
            call.StartDeadline(allowed, clock);
        }

        return RunAsync(call);
    }

    protected abstract Task HandleAsync(ServerCall call);

    /// <summary>Reads the one request of a call and the end of the stream behind it.</summary>
    protected static async ValueTask<T> ReadSingleAsync<T>(ServerCall call, Marshaller<T> marshaller)
        where T : class
    {
        PipeReader body = call.RequestBody;
        T? request = null;
        while (true)
        {
            ReadResult result = await body.ReadAsync();
            ReadOnlySequence<byte> buffer = result.Buffer;
            if (request is null && MessageReader.TryRead(ref buffer, call.MaxReceiveMessageSize, out ReadOnlySequence<byte> message))
            {
                request = new SequenceDeserializationContext().Deserialize(marshaller, message);
            }

            if (request is not null && !buffer.IsEmpty)
            {
                throw new RpcException(new Status(StatusCode.Internal, "More than one message was sent to a method that takes one."));
            }

            if (result.IsCompleted)
            {
                bool cut = !buffer.IsEmpty;
                body.AdvanceTo(buffer.End);
                return request ?? throw (cut
                    ? MessageReader.Truncated()
                    : new RpcException(new Status(StatusCode.Internal, "No message was sent to a method that takes one.")));
            }

            body.AdvanceTo(buffer.Start, buffer.End);
        }
    }

    private async Task RunAsync(ServerCall call)
    {
        try
        {
            await HandleAsync(call);
            call.End(call.Status, null);
        }
        catch (Exception e)
        {
            call.End(StatusOf(e, call, out Metadata? trailers), trailers);
        }
        finally
        {
            await call.ReleaseAsync();
        }
    }

    // The one place where what a handler throws becomes a status.
    private Status StatusOf(Exception exception, ServerCall call, out Metadata? trailers)
    {
        trailers = null;
        if (exception is RpcException rpc)
        {
            trailers = rpc.Trailers;
            LogStatus(logger, Description.FullName, rpc.StatusCode, rpc.Status.Detail);
            return rpc.Status;
        }

        if (call.DeadlinePassed || call.HttpContext.RequestAborted.IsCancellationRequested)
        {
            // Nobody receives this status; what the handler throws on its way out is a consequence, not a failure.
            LogCancelled(logger, Description.FullName, exception.Message);
            return Status.DefaultCancelled;
        }

        if (exception is OperationCanceledException)
        {
            LogCancelled(logger, Description.FullName, exception.Message);
            return new Status(StatusCode.Cancelled, "The handler was cancelled.");
        }

        LogFailure(logger, exception, Description.FullName);
        return new Status(
            StatusCode.Unknown,
            Options.EnableDetailedErrors == true
                ? $"Exception was thrown by handler. {exception.GetType().Name}: {exception.Message}"
                : "Exception was thrown by handler.",
            exception);
    }

    [LoggerMessage(1, LogLevel.Debug, "{Method} ended with {StatusCode}: {Detail}")]
    private static partial void LogStatus(ILogger logger, string method, StatusCode statusCode, string detail);

    [LoggerMessage(2, LogLevel.Debug, "{Method} was cancelled: {Reason}")]
    private static partial void LogCancelled(ILogger logger, string method, string reason);

    [LoggerMessage(3, LogLevel.Error, "{Method} failed")]
    private static partial void LogFailure(ILogger logger, Exception exception, string method);
}

/// <summary>Replies that need no call: wrong protocol, wrong content type, unknown method.</summary>
internal static class HttpReply
{
    /// <summary>Whether a request can be a gRPC call; if not, the reply is complete.</summary>
    public static bool TryAccept(HttpContext http)
    {
        HttpRequest request = http.Request;
        if (!HttpProtocol.IsHttp2(request.Protocol) && !HttpProtocol.IsHttp3(request.Protocol))
        {
            http.Response.StatusCode = StatusCodes.Status426UpgradeRequired;
            http.Response.Headers.Upgrade = "HTTP/2";
            SetStatus(http.Response.Headers, StatusCode.Internal, $"{request.Protocol} carries no gRPC calls; HTTP/2 does.");
            return false;
        }

        if (request.ContentType is not { } contentType || !GrpcHeaders.IsGrpcContentType(contentType))
        {
            http.Response.StatusCode = StatusCodes.Status415UnsupportedMediaType;
            SetStatus(http.Response.Headers, StatusCode.Internal, $"Content-Type '{request.ContentType}' is not gRPC.");
            return false;
        }

        return true;
    }

    public static void SetStatus(IHeaderDictionary headers, StatusCode code, string detail)
    {
        headers[GrpcHeaders.Status] = GrpcHeaders.StatusText((int)code);
        headers[GrpcHeaders.Message] = PercentEncoding.Encode(detail);
    }

    public static Task Unimplemented(HttpContext http, string detail)
    {
        if (TryAccept(http))
        {
            http.Response.Headers.ContentType = GrpcHeaders.ContentType;
            SetStatus(http.Response.Headers, StatusCode.Unimplemented, detail);
        }

        return Task.CompletedTask;
    }
}
