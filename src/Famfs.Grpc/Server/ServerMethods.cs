using Grpc.Core;
using Microsoft.Extensions.Logging;

namespace Grpc.AspNetCore.Server;

// Handlers as open delegates: the service instance is their first argument.
internal delegate Task<TResponse> UnaryHandler<TService, TRequest, TResponse>(TService service, TRequest request, ServerCallContext context);

internal delegate Task<TResponse> ClientStreamingHandler<TService, TRequest, TResponse>(TService service, IAsyncStreamReader<TRequest> requests, ServerCallContext context);

internal delegate Task ServerStreamingHandler<TService, TRequest, TResponse>(TService service, TRequest request, IServerStreamWriter<TResponse> responses, ServerCallContext context);

internal delegate Task DuplexHandler<TService, TRequest, TResponse>(TService service, IAsyncStreamReader<TRequest> requests, IServerStreamWriter<TResponse> responses, ServerCallContext context);

/// <summary>A method of a service that is made, or found, per call.</summary>
internal abstract class ServerMethod<TService>(IMethod description, GrpcServiceOptions options, ILogger logger, TimeProvider clock, ServiceSource<TService> services)
    : ServerMethod(description, options, logger, clock)
    where TService : class
{
    protected sealed override Task HandleAsync(ServerCall call)
    {
        if (services.Singleton is { } service)
        {
            return HandleAsync(service, call);
        }

        return HandleOnceAsync(call);
    }

    protected abstract Task HandleAsync(TService service, ServerCall call);

    protected static RpcException NoMessage() =>
        new(new Status(StatusCode.Cancelled, "The handler returned no message."));

    private async Task HandleOnceAsync(ServerCall call)
    {
        TService service = services.Get(call.HttpContext.RequestServices, out bool owned);
        try
        {
            await HandleAsync(service, call);
        }
        finally
        {
            if (owned)
            {
                if (service is IAsyncDisposable asyncDisposable)
                {
                    await asyncDisposable.DisposeAsync();
                }
                else
                {
                    (service as IDisposable)?.Dispose();
                }
            }
        }
    }
}

internal sealed class UnaryServerMethod<TService, TRequest, TResponse>(
    Method<TRequest, TResponse> method, GrpcServiceOptions options, ILogger logger, TimeProvider clock, ServiceSource<TService> services, UnaryHandler<TService, TRequest, TResponse> handler)
    : ServerMethod<TService>(method, options, logger, clock, services)
    where TService : class
    where TRequest : class
    where TResponse : class
{
    protected override async Task HandleAsync(TService service, ServerCall call)
    {
        TRequest request = await ReadSingleAsync(call, method.RequestMarshaller);
        TResponse response = await handler(service, request, call) ?? throw NoMessage();
        if (call.Status.StatusCode == StatusCode.OK)
        {
            call.AppendMessage(method.ResponseMarshaller, response);
        }
    }
}

internal sealed class ClientStreamingServerMethod<TService, TRequest, TResponse>(
    Method<TRequest, TResponse> method, GrpcServiceOptions options, ILogger logger, TimeProvider clock, ServiceSource<TService> services, ClientStreamingHandler<TService, TRequest, TResponse> handler)
    : ServerMethod<TService>(method, options, logger, clock, services)
    where TService : class
    where TRequest : class
    where TResponse : class
{
    protected override async Task HandleAsync(TService service, ServerCall call)
    {
        ServerStreamReader<TRequest> requests = new(call, method.RequestMarshaller);
        TResponse response = await handler(service, requests, call) ?? throw NoMessage();
        if (call.Status.StatusCode == StatusCode.OK)
        {
            call.AppendMessage(method.ResponseMarshaller, response);
        }
    }
}

internal sealed class ServerStreamingServerMethod<TService, TRequest, TResponse>(
    Method<TRequest, TResponse> method, GrpcServiceOptions options, ILogger logger, TimeProvider clock, ServiceSource<TService> services, ServerStreamingHandler<TService, TRequest, TResponse> handler)
    : ServerMethod<TService>(method, options, logger, clock, services)
    where TService : class
    where TRequest : class
    where TResponse : class
{
    protected override async Task HandleAsync(TService service, ServerCall call)
    {
        TRequest request = await ReadSingleAsync(call, method.RequestMarshaller);
        await handler(service, request, new ServerStreamWriter<TResponse>(call, method.ResponseMarshaller), call);
    }
}

internal sealed class DuplexServerMethod<TService, TRequest, TResponse>(
    Method<TRequest, TResponse> method, GrpcServiceOptions options, ILogger logger, TimeProvider clock, ServiceSource<TService> services, DuplexHandler<TService, TRequest, TResponse> handler)
    : ServerMethod<TService>(method, options, logger, clock, services)
    where TService : class
    where TRequest : class
    where TResponse : class
{
    protected override Task HandleAsync(TService service, ServerCall call) =>
        handler(service, new ServerStreamReader<TRequest>(call, method.RequestMarshaller), new ServerStreamWriter<TResponse>(call, method.ResponseMarshaller), call);
}
