using System.Diagnostics.CodeAnalysis;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using ServiceDescriptor = Google.Protobuf.Reflection.ServiceDescriptor;
using ServiceRegistration = Microsoft.Extensions.DependencyInjection.ServiceDescriptor;

namespace Grpc.AspNetCore.Server;

/// <summary>How services were registered; a provider tells only whether they are.</summary>
internal sealed class ServiceLifetimes(IServiceCollection services)
{
    public bool IsSingleton(Type type)
    {
        for (int i = services.Count - 1; i >= 0; i--)
        {
            ServiceRegistration descriptor = services[i];
            if (!descriptor.IsKeyedService && descriptor.ServiceType == type)
            {
                return descriptor.Lifetime == ServiceLifetime.Singleton;
            }
        }

        return false;
    }
}

/// <summary>The services mapped in one application, for reflection and for the answer to unknown methods.</summary>
/// <remarks>Filled while the application is set up, on one thread; read afterwards.</remarks>
internal sealed class ServiceRegistry
{
    private readonly List<ServiceDescriptor> _descriptors = [];
    private readonly HashSet<string> _names = [];

    /// <summary>Descriptors of the mapped services whose generated code has one.</summary>
    public IReadOnlyList<ServiceDescriptor> Descriptors => _descriptors;

    /// <summary>Whether the fallback for unknown services is mapped.</summary>
    public bool FallbackIsMapped { get; set; }

    /// <summary>Notes a service; false if one of that name is there already.</summary>
    public bool TryAdd(string serviceName) => _names.Add(serviceName);

    /// <summary>Notes the descriptor that the generated code of a service offers, if it does.</summary>
    public void AddDescriptor([DynamicallyAccessedMembers(BindServiceMethodAttribute.BoundMembers)] Type bindType)
    {
        if (bindType.GetProperty("Descriptor")?.GetValue(null) is ServiceDescriptor descriptor)
        {
            _descriptors.Add(descriptor);
        }
    }
}
