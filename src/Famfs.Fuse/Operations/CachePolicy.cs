namespace Famfs.Fuse.Operations;

/// <summary>How the kernel may cache file data on a kernel without famfs (docs: PLATFORM, coherence table).</summary>
public enum CacheMode
{
    /// <summary>Every read(2) and write(2) reaches the memory itself: open files see other hosts' writes.</summary>
    Direct = 0,

    /// <summary>Reads go through the page cache, which an open empties: a new open sees other hosts' writes.</summary>
    CloseToOpen,
}

/// <summary>What the kernel may cache, and for how long.</summary>
/// <param name="Mode">File data.</param>
/// <param name="EntryValidSeconds">Names, negative ones included.</param>
/// <param name="AttributesValidSeconds">Attributes.</param>
/// <param name="CacheListings">Listings of directories.</param>
public sealed record CachePolicy(
    CacheMode Mode = CacheMode.Direct,
    ulong EntryValidSeconds = CachePolicy.Unlimited,
    ulong AttributesValidSeconds = CachePolicy.Unlimited,
    bool CacheListings = true)
{
    /// <summary>136 years. Not the largest number: the kernel adds it to a clock of its own.</summary>
    public const ulong Unlimited = uint.MaxValue;

    /// <summary>Nothing but what an open file needs is cached: every call of a program is a request. For
    /// tests and measurements; no mount option chooses it.</summary>
    public static CachePolicy Uncached => new(CacheMode.Direct, 0, 0, CacheListings: false);
}
