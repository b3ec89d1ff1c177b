using Grpc.AspNetCore.Server;
using Grpc.Core;
using Microsoft.AspNetCore.Http;

namespace Grpc.AspNetCore.Server
{
    /// <summary>Tells which gRPC method an endpoint serves.</summary>
    public sealed class GrpcMethodMetadata
    {
        /// <summary>Describes an endpoint.</summary>
        public GrpcMethodMetadata(Type serviceType, IMethod method)
        {
            ArgumentNullException.ThrowIfNull(serviceType);
            ArgumentNullException.ThrowIfNull(method);
            ServiceType = serviceType;
            Method = method;
        }

        /// <summary>The implementing type.</summary>
        public Type ServiceType { get; }

        /// <summary>The method.</summary>
        public IMethod Method { get; }
    }
}

namespace Grpc.Core
{
    /// <summary>What a call is on ASP.NET Core.</summary>
    public static class ServerCallContextExtensions
    {
        /// <summary>The HTTP request that carries a call.</summary>
        /// <exception cref="InvalidOperationException">The call did not come over ASP.NET Core.</exception>
        public static HttpContext GetHttpContext(this ServerCallContext serverCallContext) =>
            (serverCallContext as ServerCall)?.HttpContext
            ?? throw new InvalidOperationException("The call has no HTTP context.");
    }
}
