using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Dialects;

/// <summary>What kernel and server agreed on at INIT.</summary>
/// <param name="Dialect">Generation of the interface.</param>
/// <param name="Minor">The smaller of both minor versions.</param>
/// <param name="Flags">Flags offered by the kernel and accepted.</param>
/// <param name="MaxWriteBytes">Most data of one WRITE.</param>
/// <param name="MaxPages">Most pages of one READ or WRITE.</param>
public sealed record Negotiated(Dialect Dialect, uint Minor, InitFlags Flags, int MaxWriteBytes, int MaxPages)
{
    /// <summary>Minor version that the kernel says it has.</summary>
    public uint KernelMinor { get; init; }

    /// <summary>Flags the kernel offers, FUSE_INIT_EXT's upper half included.</summary>
    public ulong Offered { get; init; }

    /// <summary>Optional devices that a kernel to which devices are pushed did not take, as errors; empty for any other.</summary>
    public IReadOnlyList<Core.FamfsException> DevicesLeftOut { get; init; } = [];

    /// <summary>The kernel can be told to look every name up again.</summary>
    public bool HasEpoch => Minor >= FuseConstants.MinorWithEpoch;

    /// <summary>The kernel sends a request again when it is asked to, so a daemon can take the connection over.</summary>
    public bool Resends => (Flags & InitFlags.FUSE_HAS_RESEND) != 0;

    /// <summary>The kernel can be told to drop an unused inode.</summary>
    public bool HasPrune => Minor >= FuseConstants.MinorWithPrune;
}

/// <summary>What the one who mounts wants of the kernel.</summary>
/// <param name="Forced">The only dialect to speak; null: whatever the kernel speaks.</param>
/// <param name="WantsFmaps">The kernel can take every device of this host, so it may be asked for a famfs dialect. A
/// forced one is asked for regardless.</param>
public readonly record struct DialectWish(Dialect? Forced, bool WantsFmaps)
{
    /// <summary>Locks of files (fcntl and flock) are asked of the daemon, which refuses them. Otherwise the kernel keeps them, and they
    /// exclude on this host only.</summary>
    public bool RefusesLocks { get; init; }

    /// <summary>The connection may outlive the daemon: requests that it had read are sent again to the next one, where the kernel
    /// can.</summary>
    public bool TakesResent { get; init; }

    /// <summary>Nothing but the stock protocol.</summary>
    public static DialectWish Stock => new(DialectTable.Stock, false);
}

/// <summary>Answers INIT: a pure function of what the kernel offers.</summary>
public static class InitNegotiation
{
    /// <summary>Size of a page that max_pages counts.</summary>
    public const int PageBytes = 4096;

    /// <summary>Pages of a request where the kernel sets no limit of its own (fs.fuse.max_pages_limit, before
    /// 6.13 a constant): 1 MiB.</summary>
    public const int DefaultMaxPages = 256;

    /// <summary>Most pages ever asked for; each worker has a buffer of that size. Chosen: 4 MiB.</summary>
    public const int MaxPagesLimit = 1024;

    /// <summary>
    /// Flags accepted when offered. Not among them: WRITEBACK_CACHE, ATOMIC_O_TRUNC and AUTO_INVAL_DATA, under
    /// which the kernel would decide sizes and times, which the log decides (a famfs kernel marks a file bad whose size
    /// changes); NO_OPEN_SUPPORT, because an OPEN
    /// must pass the gate (SAFETY S11); POSIX_LOCKS and FLOCK_LOCKS, so that locks are local unless they are to be refused.
    /// HANDLE_KILLPRIV_V2 because without it every write asks for security.capability first.
    /// EXPORT_SUPPORT because node ids are for ever, so a handle survives everything but its file.
    /// </summary>
    public const InitFlags Accepted =
        InitFlags.FUSE_ASYNC_READ | InitFlags.FUSE_EXPORT_SUPPORT | InitFlags.FUSE_BIG_WRITES
        | InitFlags.FUSE_DO_READDIRPLUS | InitFlags.FUSE_READDIRPLUS_AUTO | InitFlags.FUSE_ASYNC_DIO
        | InitFlags.FUSE_PARALLEL_DIROPS | InitFlags.FUSE_ABORT_ERROR | InitFlags.FUSE_MAX_PAGES
        | InitFlags.FUSE_CACHE_SYMLINKS | InitFlags.FUSE_HANDLE_KILLPRIV_V2 | InitFlags.FUSE_INIT_EXT
        | InitFlags.FUSE_DIRECT_IO_ALLOW_MMAP;

    private const InitFlags Locks = InitFlags.FUSE_POSIX_LOCKS | InitFlags.FUSE_FLOCK_LOCKS;

    // Chosen: the kernel's defaults are 12 and 9, one reader with read-ahead; this allows several.
    private const ushort MaxBackground = 64;
    private const ushort CongestionThreshold = 48;

    // The kernel takes the smaller of this and its own.
    private const uint MaxReadaheadBytes = 1024 * 1024;

    /// <summary>Works out the reply. False when the kernel is too old (its minor version is below
    /// <see cref="DialectTable.MinMinor"/>), speaks another major version, or does not offer the dialect that was asked
    /// for; <paramref name="cause"/> is then one line.</summary>
    public static bool TryNegotiate(
        in InitIn offer, int maxPages, DialectWish wish, out InitOut reply, [NotNullWhen(true)] out Negotiated? negotiated, [NotNullWhen(false)] out string? cause)
    {
        ulong offered = offer.Flags;
        if ((offered & (ulong)InitFlags.FUSE_INIT_EXT) != 0)
            offered |= (ulong)offer.Flags2 << 32;
        reply = default;
        negotiated = null;
        Dialect? found = DialectTable.Detect(offer.Minor, offered);
        if (offer.Major != FuseConstants.FUSE_KERNEL_VERSION || found is null)
        {
            cause = string.Create(CultureInfo.InvariantCulture, $"the kernel's FUSE interface is {offer.Major}.{offer.Minor}; 7.{DialectTable.MinMinor} or later is needed");
            return false;
        }
        if (wish.Forced is { } forced && !forced.Matches(offer.Minor, offered))
        {
            cause = string.Create(
                CultureInfo.InvariantCulture,
                $"dialect {forced.Name} is not offered by this kernel: its FUSE interface is {offer.Major}.{offer.Minor} and looks like {found.Name} (a famfs kernel offers its flag only to a process with CAP_SYS_RAWIO)");
            return false;
        }
        Dialect dialect = wish.Forced ?? (wish.WantsFmaps ? found : DialectTable.Stock);
        cause = null;

        InitFlags accepted = Accepted | (wish.RefusesLocks ? Locks : 0) | (wish.TakesResent ? InitFlags.FUSE_HAS_RESEND : 0);
        ulong flags = offered & ((ulong)accepted | dialect.FmapFlag);
        uint minor = Math.Min(offer.Minor, FuseConstants.FUSE_KERNEL_MINOR_VERSION);

        // 32 pages is what a kernel without MAX_PAGES uses.
        int pages = (flags & (ulong)InitFlags.FUSE_MAX_PAGES) != 0 ? Math.Clamp(maxPages, 1, MaxPagesLimit) : 32;
        reply = new InitOut
        {
            Major = FuseConstants.FUSE_KERNEL_VERSION,
            Minor = minor,
            MaxReadaheadBytes = Math.Min(offer.MaxReadaheadBytes, MaxReadaheadBytes),
            Flags = (uint)flags,
            MaxBackground = MaxBackground,
            CongestionThreshold = CongestionThreshold,
            MaxWriteBytes = (uint)(pages * PageBytes),
            TimeGranularityNs = 1,
            MaxPages = (ushort)pages,
            Flags2 = (flags & (ulong)InitFlags.FUSE_INIT_EXT) != 0 ? (uint)(flags >> 32) : 0,
        };
        negotiated = new Negotiated(dialect, minor, (InitFlags)flags, pages * PageBytes, pages) { KernelMinor = offer.Minor, Offered = offered };
        return true;
    }
}
