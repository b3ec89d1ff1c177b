using Famfs.Core;

namespace Famfs.Master;

/// <summary>What a master is started with.</summary>
internal sealed record MasterOptions
{
    /// <summary>Where the devices are on this host (<see cref="Core.Dax.DeviceSearch"/>); one is device 0.</summary>
    public required IReadOnlyList<string> Devices { get; init; }

    /// <summary>Where it listens: "http://host:port" or "unix:/path".</summary>
    public required IReadOnlyList<string> Listen { get; init; }

    /// <summary>How others call it; written into the log. Default: the first listen address.</summary>
    public string? Advertise { get; init; }

    /// <summary>Directory of this host's identity.</summary>
    public string? HostState { get; init; }

    /// <summary>The directory that <see cref="HostState"/> or the environment names, or the default.</summary>
    public string StateDirectory => HostIdentity.StateDirectoryOf(HostState, Environment.GetEnvironmentVariable(HostIdentity.StateDirectoryVariable));

    /// <summary>Replaces a master that lives.</summary>
    public bool TakeOver { get; init; }
}
