using Microsoft.Extensions.DependencyInjection;

namespace Grpc.AspNetCore.Server;

/// <summary>Limits and behaviour of gRPC services.</summary>
public class GrpcServiceOptions
{
    internal const int DefaultMaxReceiveMessageSize = 4 * 1024 * 1024;

    /// <summary>Largest message a handler may send, in bytes; null (the default) for no limit.</summary>
    public int? MaxSendMessageSize { get; set; }

    /// <summary>Largest message accepted, in bytes; null for no limit. 4 MiB unless set, as every gRPC implementation has it.</summary>
    public int? MaxReceiveMessageSize { get; set; } = DefaultMaxReceiveMessageSize;

    /// <summary>Whether clients are told the type and message of exceptions that are not <see cref="Core.RpcException"/>.</summary>
    public bool? EnableDetailedErrors { get; set; }

    /// <summary>Whether calls to unknown services and methods are left to other middleware instead of answered UNIMPLEMENTED.</summary>
    public bool? IgnoreUnknownServices { get; set; }

    internal void CopyTo(GrpcServiceOptions other)
    {
        other.MaxSendMessageSize = MaxSendMessageSize;
        other.MaxReceiveMessageSize = MaxReceiveMessageSize;
        other.EnableDetailedErrors = EnableDetailedErrors;
        other.IgnoreUnknownServices = IgnoreUnknownServices;
    }
}

/// <summary>Options of one service; they start as a copy of those of all services.</summary>
/// <typeparam name="TService">The service.</typeparam>
public class GrpcServiceOptions<TService> : GrpcServiceOptions
    where TService : class
{
}

/// <summary>Goes on configuring gRPC after <c>AddGrpc</c>.</summary>
public interface IGrpcServerBuilder
{
    /// <summary>The collection under configuration.</summary>
    IServiceCollection Services { get; }
}
