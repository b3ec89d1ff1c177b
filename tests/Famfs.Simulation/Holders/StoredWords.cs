namespace Famfs.Simulation.Holders;

/// <summary>What programs store: words that tell whose file they were stored to, and when. Zero was never stored.</summary>
/// <param name="ordersStores">WRITE is in memory when it is answered, and nobody stores by other ways: an older word is not read after
/// a newer one was answered.</param>
internal sealed class StoredWords(bool ordersStores)
{
    private const int TurnBits = 24;

    // Tells them from what else is in memory: 16 bits, then the inode's 24, then those of the turn.
    private const ulong Mark = 0xA5F1UL << 48;
    private const ulong MarkBits = 0xFFFFUL << 48;

    private readonly Dictionary<(ulong Inode, long Offset), Dictionary<ulong, (long Began, long Ended)>> _stores = [];

    /// <summary>Stores and their answers so far, as a clock.</summary>
    public long Now { get; private set; }

    /// <summary>A word of this file that was never stored.</summary>
    public ulong NextOf(ulong inode) => Mark | (inode << TurnBits) | ((ulong)++Now & ((1UL << TurnBits) - 1));

    /// <summary>A WRITE begins: its word.</summary>
    public ulong Begin(ulong inode, long offset)
    {
        ulong word = NextOf(inode);
        if (!_stores.TryGetValue((inode, offset), out Dictionary<ulong, (long, long)>? stores))
            _stores.Add((inode, offset), stores = []);
        stores[word] = (Now, long.MaxValue);
        return word;
    }

    /// <summary>A WRITE is answered.</summary>
    public void End(ulong inode, long offset, ulong word)
    {
        Dictionary<ulong, (long Began, long Ended)> stores = _stores[(inode, offset)];
        stores[word] = (stores[word].Began, ++Now);
    }

    /// <summary>Whose word it is, if it is one.</summary>
    public static bool TryGetInode(ulong word, out ulong inode)
    {
        inode = InodeOf(word);
        return (word & MarkBits) == Mark;
    }

    private static ulong InodeOf(ulong word) => (word & ~MarkBits) >> TurnBits;

    /// <summary>What was loaded from a file was stored to it, or is zero.</summary>
    public void RequireOwn(string who, ulong inode, ulong word)
    {
        if (word != 0 && (!TryGetInode(word, out ulong of) || of != inode))
            throw new InvalidOperationException($"P2 broken: {who} loads {word:x}, of inode {InodeOf(word)}, from inode {inode}");
    }

    /// <summary>What READ gives is as new as what was answered before it began.</summary>
    public void RequireRead(string who, ulong inode, long offset, ulong word, long began)
    {
        RequireOwn(who, inode, word);
        if (!ordersStores || !_stores.TryGetValue((inode, offset), out Dictionary<ulong, (long Began, long Ended)>? stores))
            return;
        long ended = word == 0 ? 0 : stores[word].Ended;
        foreach ((ulong newer, (long since, long answered)) in stores)
        {
            if (since > ended && answered <= began)
                throw new InvalidOperationException($"S18 broken: {who} reads {word:x} from inode {inode} at {offset}, and {newer:x} was stored there after it");
        }
    }
}
