using Famfs.CommandLine;
using Famfs.Core;
using Famfs.Core.Log;

namespace Famfs.Master;

/// <summary>What the times of a fence command may be, in seconds.</summary>
internal static class FenceTimes
{
    /// <summary>How long a host is silent before it is fenced (chosen: a daemon that is started again, or a host that is moved while it
    /// runs, is back by then).</summary>
    public const int After = 60;

    /// <summary>The same: the least (a mount is called silent then) and the most.</summary>
    public const int LeastAfter = 5;

    /// <inheritdoc cref="LeastAfter"/>
    public const int MostAfter = 86_400;

    /// <summary>How long a command may take (chosen: switching a machine off through its controller takes some ten seconds).</summary>
    public const int Timeout = 60;

    /// <summary>The same: the least and the most.</summary>
    public const int LeastTimeout = 1;

    /// <inheritdoc cref="LeastTimeout"/>
    public const int MostTimeout = 3600;
}

/// <summary>What a master is started with.</summary>
internal sealed record MasterOptions
{
    /// <summary>What <see cref="CompactsByItself"/> is as users say it: true.</summary>
    public const string AutomaticCompaction = "auto";

    /// <summary>The same: false.</summary>
    public const string ManualCompaction = "manual";

    /// <summary>Where the devices are on this host (<see cref="DeviceSearch"/>); one is device 0.</summary>
    public required IReadOnlyList<string> Devices { get; init; }

    /// <summary>The file system that is meant; null: the only one there.</summary>
    public FileSystemName? FileSystem { get; init; }

    /// <summary>Where else callers may add devices from, beside <see cref="Devices"/>.</summary>
    public IReadOnlyList<string> AllowedDevices { get; init; } = [];

    /// <summary>Who started this process, and is told how it fares.</summary>
    public required ServiceNotifier Service { get; init; }

    /// <summary>Where it listens: "http://host:port", "https://host:port" or "unix:/path".</summary>
    public required IReadOnlyList<string> Listen { get; init; }

    /// <summary>The directory of its one unix socket is made when it is about to listen.</summary>
    public bool MakesSocketDirectory { get; init; }

    /// <summary>PEM files of what it shows at https addresses.</summary>
    public string? CertificateFile { get; init; }

    /// <inheritdoc cref="CertificateFile"/>
    public string? KeyFile { get; init; }

    /// <summary>PEM file of the authorities that callers' certificates must come from at https addresses; null: callers
    /// need none.</summary>
    public string? ClientCaFile { get; init; }

    /// <summary>How others call it; written into the log. Default: the first listen address that is no unix socket.</summary>
    public string? Advertise { get; init; }

    /// <summary>Directory of this host's identity.</summary>
    public string? HostState { get; init; }

    /// <summary>The directory that <see cref="HostState"/> or the environment names, or the default.</summary>
    public string StateDirectory => HostIdentity.StateDirectoryOf(HostState, Environment.GetEnvironmentVariable(HostIdentity.StateDirectoryVariable));

    /// <summary>The formats that it can be the master of.</summary>
    public required MediaFormats Formats { get; init; }

    /// <summary>File with this system's uuid, for a format that knows its writer by one.</summary>
    public required string SystemUuidFile { get; init; }

    /// <summary>It has the log compacted when it is due, and not only when it is asked.</summary>
    public bool CompactsByItself { get; init; } = true;

    /// <summary>MiB a second that removed files' space is zeroed at, at most; null: as fast as the memory is.</summary>
    public int? ZeroingRate { get; init; }

    /// <summary>The largest <see cref="ZeroingRate"/>: beyond any memory.</summary>
    public const int MostZeroingRate = 1 << 20;

    /// <summary>The program that cuts a silent host off from the memory; null: none.</summary>
    public string? FenceCommand { get; init; }

    /// <summary>How long a host is silent before <see cref="FenceCommand"/> is run.</summary>
    public TimeSpan FenceAfter { get; init; }

    /// <summary>How long <see cref="FenceCommand"/> may take.</summary>
    public TimeSpan FenceTimeout { get; init; }

    /// <summary>Replaces a master that lives, or adopts a file system of another system.</summary>
    public bool TakeOver { get; init; }

    /// <summary>Mounts, as uuids, whose records may be lost: a start goes on although their lines contradict the log.</summary>
    public IReadOnlyList<string> AcceptLoss { get; init; } = [];
}
