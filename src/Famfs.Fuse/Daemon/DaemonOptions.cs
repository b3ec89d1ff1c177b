using Famfs.CommandLine;
using Famfs.Core;
using Famfs.Core.Log;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;

namespace Famfs.Fuse.Daemon;

/// <summary>What a daemon is started with.</summary>
internal sealed record DaemonOptions
{
    /// <summary>Where the devices are on this host (<see cref="Core.Log.DeviceSearch"/>); one is device 0.</summary>
    public required IReadOnlyList<string> Devices { get; init; }

    /// <summary>The file system that is meant; null: the only one there.</summary>
    public FileSystemName? FileSystem { get; init; }

    /// <summary>The formats that can be mounted.</summary>
    public required MediaFormats Formats { get; init; }

    /// <summary>Where to mount: an existing directory.</summary>
    public required string MountPoint { get; init; }

    /// <summary>The mount point is made if it is not there.</summary>
    public bool MakeMountPoint { get; init; }

    /// <summary>A mount whose daemon is gone is taken away from there first, if nobody uses it.</summary>
    public bool ReplaceDead { get; init; }

    /// <summary>Who started this process, and is told how it fares.</summary>
    public required ServiceNotifier Service { get; init; }

    /// <summary>Addresses of masters; empty: only the memory is followed, until the log names a master.</summary>
    public IReadOnlyList<string> Masters { get; init; } = [];

    /// <summary>PEM files of trust and identity at https addresses (<see cref="Client.ClientTls.Load"/>).</summary>
    public string? CaFile { get; init; }

    /// <inheritdoc cref="CaFile"/>
    public string? CertificateFile { get; init; }

    /// <inheritdoc cref="CaFile"/>
    public string? KeyFile { get; init; }

    /// <summary>Directory of this host's identity and mounts.</summary>
    public string? HostState { get; init; }

    /// <summary>The directory that <see cref="HostState"/> or the environment names, or the default.</summary>
    public string StateDirectory => HostIdentity.StateDirectoryOf(HostState, Environment.GetEnvironmentVariable(HostIdentity.StateDirectoryVariable));

    /// <summary>A keeper of this host, where there is one, keeps the mount beyond the death of this process.</summary>
    public bool UseKeeper { get; init; } = true;

    /// <summary>However it is told to end, a mount that is kept is left to the next daemon.</summary>
    public bool LeaveAtEnd { get; init; }

    /// <summary>Cancelled when this process is told to leave its mount to another.</summary>
    public CancellationToken Leave { get; init; }

    /// <summary>Worker threads; 0: one per processor, at least 2.</summary>
    public int Workers { get; init; }

    /// <summary>What the kernel may cache.</summary>
    public CachePolicy Cache { get; init; } = new();

    /// <summary>The only dialect to speak; null: what the kernel speaks, stock unless it can take the devices.</summary>
    public Dialect? ForcedDialect { get; init; }

    /// <summary>Number of the ioctl that pushes a device (dialect D); null: not known.</summary>
    public uint? PushIoctl { get; init; }

    /// <summary>No writing through this mount.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>fcntl and flock fail with ENOLCK; otherwise they exclude on this host only.</summary>
    public bool RefuseLocks { get; init; }

    /// <summary>Writing moves no times: nothing is shown beside the log, and nothing is recorded.</summary>
    public bool NoTimes { get; init; }

    /// <summary>Users other than the mounting one may use it.</summary>
    public bool AllowOther { get; init; } = true;

    /// <summary>No program of it is executed.</summary>
    public bool NoExec { get; init; }

    /// <summary>What somebody may expect of its options and does not get, for the log; null: nothing.</summary>
    public string? Remark { get; init; }
}
