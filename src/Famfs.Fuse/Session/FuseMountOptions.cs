using System.Globalization;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;

namespace Famfs.Fuse.Session;

/// <summary>How and where to mount.</summary>
/// <param name="MountPoint">An existing directory.</param>
public sealed record FuseMountOptions(string MountPoint)
{
    /// <summary>What /proc/self/mounts shows as the source.</summary>
    public string Source { get; init; } = "famfs";

    /// <summary>What the kernel caches.</summary>
    public CachePolicy Cache { get; init; } = new();

    /// <summary>Which dialects may be spoken; by default the stock one.</summary>
    public DialectWish Dialect { get; init; } = DialectWish.Stock;

    /// <summary>Number of the ioctl that pushes a device to a kernel of dialect D; null: unknown, and D is not tried.</summary>
    public uint? PushIoctl { get; init; }

    /// <summary>Worker threads; 0 is one per processor, at least 2.</summary>
    public int WorkerCount { get; init; }

    /// <summary>Other users than the mounting one may use the mount.</summary>
    public bool AllowOther { get; init; } = true;

    /// <summary>No writing through this mount.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>No program of this mount is executed.</summary>
    public bool NoExec { get; init; }

    /// <summary>Most pages of a request; 0 is what fs.fuse.max_pages_limit allows, at most
    /// <see cref="InitNegotiation.MaxPagesLimit"/>.</summary>
    public int MaxPages { get; init; }

    /// <summary>Bytes of notifications that may wait for the kernel. Chosen: some hundred thousand changes.</summary>
    public int NotificationLimitBytes { get; init; } = 32 * 1024 * 1024;

    // fs.fuse.max_pages_limit exists since 6.13; what is there may be raised by the operator.
    internal int RequireMaxPages()
    {
        const string LimitPath = "/proc/sys/fs/fuse/max_pages_limit";
        if (MaxPages != 0)
            return Math.Clamp(MaxPages, 1, InitNegotiation.MaxPagesLimit);
        return File.Exists(LimitPath) && int.TryParse(File.ReadAllText(LimitPath), CultureInfo.InvariantCulture, out int pages)
            ? Math.Clamp(pages, 1, InitNegotiation.MaxPagesLimit)
            : InitNegotiation.DefaultMaxPages;
    }

    internal int RequireWorkerCount()
    {
        ArgumentOutOfRangeException.ThrowIfNegative(WorkerCount);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(WorkerCount, 256);
        return WorkerCount == 0 ? Math.Max(2, Environment.ProcessorCount) : WorkerCount;
    }
}
