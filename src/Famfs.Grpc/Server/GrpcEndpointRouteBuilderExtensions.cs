using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using Grpc.AspNetCore.Server;
using Grpc.Core;
using Grpc.Wire;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.Routing.Patterns;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Microsoft.AspNetCore.Builder;

/// <summary>Maps gRPC services to endpoints.</summary>
public static class GrpcEndpointRouteBuilderExtensions
{
    private const DynamicallyAccessedMemberTypes ServiceMembers =
        DynamicallyAccessedMemberTypes.PublicConstructors | DynamicallyAccessedMemberTypes.PublicMethods | DynamicallyAccessedMemberTypes.NonPublicMethods;

    /// <summary>Maps every method of a service that derives from a generated base.</summary>
    /// <exception cref="InvalidOperationException"><c>AddGrpc</c> was not called, or the type is no gRPC service.</exception>
    public static GrpcServiceEndpointConventionBuilder MapGrpcService<[DynamicallyAccessedMembers(ServiceMembers)] TService>(this IEndpointRouteBuilder builder)
        where TService : class
    {
        ArgumentNullException.ThrowIfNull(builder);
        IServiceProvider services = builder.ServiceProvider;
        ServiceRegistry registry = services.GetService<ServiceRegistry>()
            ?? throw new InvalidOperationException("gRPC is not registered: call services.AddGrpc().");

        GrpcServiceOptions options = services.GetServices<IConfigureOptions<GrpcServiceOptions<TService>>>().Any()
            ? services.GetRequiredService<IOptions<GrpcServiceOptions<TService>>>().Value
            : services.GetRequiredService<IOptions<GrpcServiceOptions>>().Value;
        EndpointBinder<TService> binder = new(
            options,
            services.GetRequiredService<ILoggerFactory>().CreateLogger(typeof(TService)),
            services.GetService<TimeProvider>() ?? TimeProvider.System,
            new RegisteredOrNew<TService>(services));
        BindServiceMethodAttribute binding = FindBinding(typeof(TService), out Type baseType);
        Bind(binding, baseType, binder);
        registry.AddDescriptor(binding.BindType);

        List<IEndpointConventionBuilder> endpoints = [];
        foreach (ServerMethod method in binder.Methods)
        {
            endpoints.Add(builder.MapPost(method.Description.FullName, method.InvokeAsync)
                .WithDisplayName($"gRPC - {method.Description.FullName}")
                .WithMetadata(new GrpcMethodMetadata(typeof(TService), method.Description)));
        }

        if (options.IgnoreUnknownServices != true)
        {
            MapUnimplemented(builder, registry, binder.Methods.Select(method => method.Description.ServiceName).Distinct());
        }

        return new GrpcServiceEndpointConventionBuilder(endpoints);
    }

    private static BindServiceMethodAttribute FindBinding(Type service, out Type baseType)
    {
        for (Type? type = service; type is not null; type = type.BaseType)
        {
            if (type.GetCustomAttribute<BindServiceMethodAttribute>(inherit: false) is { } binding)
            {
                baseType = type;
                return binding;
            }
        }

        throw new InvalidOperationException($"{service.Name} does not derive from a generated gRPC service base.");
    }

    // Generated code binds a null instance to learn the methods; the binder finds their implementations in the type.
    private static void Bind(BindServiceMethodAttribute binding, Type baseType, ServiceBinderBase binder)
    {
        MethodInfo bind = binding.BindType.GetMethod(
                binding.BindMethodName,
                BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Static,
                [typeof(ServiceBinderBase), baseType])
            ?? throw new InvalidOperationException($"{binding.BindType.Name} has no method {binding.BindMethodName} that binds {baseType.Name}.");
        bind.Invoke(null, BindingFlags.DoNotWrapExceptions, null, [binder, null], null);
    }

    private static void MapUnimplemented(IEndpointRouteBuilder builder, ServiceRegistry registry, IEnumerable<string> serviceNames)
    {
        GrpcContentTypeConstraint constraint = new();
        foreach (string name in serviceNames)
        {
            if (registry.TryAdd(name))
            {
                Map($"/{name}/{{unimplementedMethod}}", "unimplementedMethod", http => HttpReply.Unimplemented(http, $"The service has no method {http.Request.Path.Value}."));
            }
        }

        if (!registry.FallbackIsMapped)
        {
            registry.FallbackIsMapped = true;
            Map("{unimplementedService}/{unimplementedMethod}", "unimplementedService", http => HttpReply.Unimplemented(http, $"There is no service for {http.Request.Path.Value}."));
        }

        void Map(string pattern, string constrained, RequestDelegate reply) =>
            builder.Map(
                RoutePatternFactory.Parse(pattern, defaults: null, parameterPolicies: new RouteValueDictionary { [constrained] = constraint }),
                reply)
                .WithDisplayName($"gRPC - unimplemented {pattern}");
    }

    /// <summary>Leaves what is not gRPC to the other endpoints of the application.</summary>
    private sealed class GrpcContentTypeConstraint : IRouteConstraint
    {
        public bool Match(HttpContext? httpContext, IRouter? route, string routeKey, RouteValueDictionary values, RouteDirection routeDirection) =>
            httpContext is null ||
            (HttpMethods.IsPost(httpContext.Request.Method) && httpContext.Request.ContentType is { } type && GrpcHeaders.IsGrpcContentType(type));
    }

    private sealed class EndpointBinder<[DynamicallyAccessedMembers(ServiceMembers)] TService>(
        GrpcServiceOptions options, ILogger logger, TimeProvider clock, ServiceSource<TService> source) : ServiceBinderBase
        where TService : class
    {
        public List<ServerMethod> Methods { get; } = [];

        public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, UnaryServerMethod<TRequest, TResponse>? handler) =>
            Methods.Add(new UnaryServerMethod<TService, TRequest, TResponse>(
                method, options, logger, clock, source,
                Open<UnaryHandler<TService, TRequest, TResponse>>(method, typeof(TRequest), typeof(ServerCallContext))));

        public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, ClientStreamingServerMethod<TRequest, TResponse>? handler) =>
            Methods.Add(new ClientStreamingServerMethod<TService, TRequest, TResponse>(
                method, options, logger, clock, source,
                Open<ClientStreamingHandler<TService, TRequest, TResponse>>(method, typeof(IAsyncStreamReader<TRequest>), typeof(ServerCallContext))));

        public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, ServerStreamingServerMethod<TRequest, TResponse>? handler) =>
            Methods.Add(new ServerStreamingServerMethod<TService, TRequest, TResponse>(
                method, options, logger, clock, source,
                Open<ServerStreamingHandler<TService, TRequest, TResponse>>(method, typeof(TRequest), typeof(IServerStreamWriter<TResponse>), typeof(ServerCallContext))));

        public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, DuplexStreamingServerMethod<TRequest, TResponse>? handler) =>
            Methods.Add(new DuplexServerMethod<TService, TRequest, TResponse>(
                method, options, logger, clock, source,
                Open<DuplexHandler<TService, TRequest, TResponse>>(method, typeof(IAsyncStreamReader<TRequest>), typeof(IServerStreamWriter<TResponse>), typeof(ServerCallContext))));

        private static TDelegate Open<TDelegate>(IMethod method, params Type[] parameters)
            where TDelegate : Delegate
        {
            MethodInfo handler = typeof(TService).GetMethod(method.Name, BindingFlags.Public | BindingFlags.Instance, parameters)
                ?? throw new InvalidOperationException($"{typeof(TService).Name} has no handler for {method.FullName}.");
            return handler.CreateDelegate<TDelegate>();
        }
    }
}

/// <summary>Adds conventions to all endpoints of one gRPC service.</summary>
public sealed class GrpcServiceEndpointConventionBuilder : IEndpointConventionBuilder
{
    private readonly IReadOnlyList<IEndpointConventionBuilder> _endpoints;

    internal GrpcServiceEndpointConventionBuilder(IReadOnlyList<IEndpointConventionBuilder> endpoints)
    {
        _endpoints = endpoints;
    }

    /// <inheritdoc/>
    public void Add(Action<EndpointBuilder> convention)
    {
        foreach (IEndpointConventionBuilder endpoint in _endpoints)
        {
            endpoint.Add(convention);
        }
    }

    /// <inheritdoc/>
    public void Finally(Action<EndpointBuilder> finallyConvention)
    {
        foreach (IEndpointConventionBuilder endpoint in _endpoints)
        {
            endpoint.Finally(finallyConvention);
        }
    }
}
