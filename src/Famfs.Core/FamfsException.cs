using Famfs.V1;

namespace Famfs.Core;

/// <summary>An error of the domain: the reason that every layer understands, with the thing and the
/// limit it is about. Translated to a gRPC status in Famfs.Master/StatusMap and to an exit code in
/// Famfs.Cli/ExitCode, nowhere else.</summary>
public sealed class FamfsException : Exception
{
    /// <summary>Makes an error whose <see cref="Exception.Message"/> is one line.</summary>
    public FamfsException(ErrorReason reason, string message, Exception? inner = null)
        : base(message, inner) => Reason = reason;

    /// <summary>True for what this process is short of: memory, readers, its own time. It says nothing about the thing that was worked
    /// on, so it is never a finding or damage, and the same may succeed later.</summary>
    public static bool IsShortage(Exception error) => error is OutOfMemoryException or FamfsException { Reason: ErrorReason.Overloaded };

    /// <summary>Why.</summary>
    public ErrorReason Reason { get; }

    /// <summary>Path the error is about, empty when none.</summary>
    public string Path { get; init; } = "";

    /// <summary>The limit that was exceeded, 0 when none.</summary>
    public ulong Limit { get; init; }

    /// <summary>The kernel's error number (linux/errno.h) that made it, 0 when none did or it does not matter.</summary>
    public int ErrorNumber { get; init; }

    /// <summary>For NOT_MASTER: where the master is, when known.</summary>
    public string MasterAddress { get; init; } = "";

    /// <summary>For TIMEOUT of a wait: mounts that have not acknowledged, the first of them when there are many.</summary>
    public IReadOnlyList<HostStatus> Lagging { get; init; } = [];

    /// <summary>For TIMEOUT of a wait: how many mounts have not acknowledged.</summary>
    public int LaggingCount { get; init; }

    /// <summary>For NO_SPACE: bytes of removed files that are not free yet.</summary>
    public ulong PendingBytes { get; init; }

    /// <summary>For a change refused for the time in its request id, of which nothing was done: the master's clock, milliseconds
    /// since 1970; else 0.</summary>
    public ulong MasterTimeMs { get; init; }
}
