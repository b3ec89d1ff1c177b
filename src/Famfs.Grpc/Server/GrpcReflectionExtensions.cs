using Grpc.AspNetCore.Server;
using Grpc.Reflection;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;

namespace Microsoft.Extensions.DependencyInjection
{
    /// <summary>Registers server reflection.</summary>
    public static class GrpcReflectionServiceExtensions
    {
        /// <summary>Adds what <c>MapGrpcReflectionService</c> needs; it describes the services mapped in the application.</summary>
        public static IServiceCollection AddGrpcReflection(this IServiceCollection services)
        {
            ArgumentNullException.ThrowIfNull(services);
            services.AddGrpc();
            services.TryAddSingleton(static provider =>
                new ReflectionV1ServiceImpl(provider.GetRequiredService<ServiceRegistry>().Descriptors));
            services.TryAddSingleton(static provider =>
                new ReflectionServiceImpl(provider.GetRequiredService<ServiceRegistry>().Descriptors));
            return services;
        }
    }
}

namespace Microsoft.AspNetCore.Builder
{
    /// <summary>Maps server reflection.</summary>
    public static class GrpcReflectionEndpointRouteBuilderExtensions
    {
        /// <summary>Maps reflection, versions 1 and 1alpha.</summary>
        /// <exception cref="InvalidOperationException"><c>AddGrpcReflection</c> was not called.</exception>
        public static IEndpointConventionBuilder MapGrpcReflectionService(this IEndpointRouteBuilder builder)
        {
            ArgumentNullException.ThrowIfNull(builder);
            if (builder.ServiceProvider.GetService<ServiceLifetimes>() is not { } lifetimes || !lifetimes.IsSingleton(typeof(ReflectionServiceImpl)))
            {
                throw new InvalidOperationException("Reflection is not registered: call services.AddGrpcReflection().");
            }

            return new GrpcServiceEndpointConventionBuilder(
                [builder.MapGrpcService<ReflectionV1ServiceImpl>(), builder.MapGrpcService<ReflectionServiceImpl>()]);
        }
    }
}
