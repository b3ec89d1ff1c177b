using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.DependencyInjection;

namespace Grpc.AspNetCore.Server;

/// <summary>Where the instance that handles a call comes from.</summary>
internal abstract class ServiceSource<TService>
    where TService : class
{
    /// <summary>The one instance of a singleton, else null.</summary>
    public abstract TService? Singleton { get; }

    /// <summary>An instance for one call, and whether the caller must dispose it.</summary>
    public abstract TService Get(IServiceProvider scope, out bool owned);
}

/// <summary>
/// The singleton if the service is registered as one, what the call's own scope gives if it is registered otherwise,
/// else a new object per call, disposed after it.
/// </summary>
internal sealed class RegisteredOrNew<[DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicConstructors)] TService> : ServiceSource<TService>
    where TService : class
{
    private readonly Lazy<TService>? _singleton;
    private readonly Lazy<ObjectFactory<TService>> _factory =
        new(static () => ActivatorUtilities.CreateFactory<TService>(Type.EmptyTypes));

    public RegisteredOrNew(IServiceProvider root)
    {
        // A singleton needs no scope, so a call to it makes none.
        if (root.GetService<ServiceLifetimes>() is { } lifetimes && lifetimes.IsSingleton(typeof(TService)))
        {
            _singleton = new Lazy<TService>(root.GetRequiredService<TService>);
        }
    }

    public override TService? Singleton => _singleton?.Value;

    public override TService Get(IServiceProvider scope, out bool owned)
    {
        TService? registered = scope.GetService<TService>();
        owned = registered is null;
        return registered ?? _factory.Value(scope, []);
    }
}
