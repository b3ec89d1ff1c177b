using System.Numerics;
using System.Runtime.InteropServices;

namespace Famfs.Core.Allocation;

/// <summary>Which units of one device are free. A radix tree over the unit number: a leaf is a bitmap of 512
/// units (one cache line, a set bit is a free unit), an inner node has 16 children, and of every child its
/// parent knows the free run it starts with, the longest one in it and the one it ends with. So the lowest
/// run that is long enough is found by one walk down, and a range of any length is marked by two.
/// <para>A range that is wholly free or wholly used has no storage below its node: memory and cost follow
/// what is fragmented, at most 0.16 bytes per unit (5.3 MiB for 64 TiB of 2 MiB units), which stays in a
/// processor's cache where a tree of runs would not. Marking is O(log units) amortised: storage that a
/// long range gives back was made by earlier calls.</para>
/// <para>Single-threaded; owned by its <see cref="ExtentAllocator"/>.</para></summary>
internal sealed class FreeSpaceTree
{
    private const int Fanout = 16;
    private const int FanoutBits = 4;
    private const int LeafUnits = 512;
    private const int LeafBits = 9;
    private const int WordsPerLeaf = LeafUnits / 64;

    /// <summary>Nodes, in blocks of 16 children; entry 0 is the root, the rest of block 0 is unused.</summary>
    private Node[] _nodes = new Node[Fanout];

    /// <summary>Leaves, 8 words each.</summary>
    private ulong[] _words = [];

    // Blocks and leaves ever used end here; given-back ones are chained through their first entry, -1 ends.
    private int _blockCount = 1;
    private int _leafCount;
    private int _idleBlock = -1;
    private int _idleLeaf = -1;
    private readonly int _height;

    public FreeSpaceTree(uint units)
    {
        ArgumentOutOfRangeException.ThrowIfZero(units);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(units, MaxUnits);
        Units = units;
        FreeUnits = units;
        while (Span(_height) < units)
            _height++;
        SetUniform(0, units, free: true);
    }

    /// <summary>Most units of one device: 4 PiB of 2 MiB units. Chosen: sums stay in 32 bits.</summary>
    public const uint MaxUnits = 1u << 31;

    /// <summary>Units of the device.</summary>
    public uint Units { get; }

    /// <summary>Units that are free.</summary>
    public uint FreeUnits { get; private set; }

    /// <summary>Units of the longest free run.</summary>
    public uint LongestRun => _nodes[0].Longest;

    /// <summary>Bytes of memory the tree uses.</summary>
    public long MemoryBytes => (long)_nodes.Length * Marshal.SizeOf<Node>() + (long)_words.Length * sizeof(ulong);

    /// <summary>The lowest free run of at least <paramref name="count"/> units.</summary>
    public bool TryFind(uint count, out uint start)
    {
        start = 0;
        if (count == 0 || _nodes[0].Longest < count)
            return false;
        int slot = 0;
        uint size = Units;
        for (int height = _height; ; height--)
        {
            int storage = _nodes[slot].Storage;
            if (storage < 0)
                return true;
            if (height == 0)
            {
                start += FindInLeaf(storage, size, count);
                return true;
            }

            uint span = (uint)Span(height - 1);
            uint run = 0;
            uint at = 0;
            for (int child = storage * Fanout; ; child++)
            {
                ref readonly Node node = ref _nodes[child];
                if (run + node.Head >= count)
                {
                    start += at - run;
                    return true;
                }

                uint childSize = Math.Min(span, size - at);
                if (node.Longest >= count)
                {
                    start += at;
                    slot = child;
                    size = childSize;
                    break;
                }

                run = node.Tail == childSize ? run + childSize : node.Tail;
                at += childSize;
            }
        }
    }

    /// <summary>Marks [start, start + count) used or free. The caller has made sure that it is wholly the
    /// opposite.</summary>
    public void Mark(uint start, uint count, bool free)
    {
        // Two paths of the tree split at most: nothing moves while a node is being worked on.
        Reserve();
        Assign(0, _height, Units, start, start + count, free);
        FreeUnits = free ? FreeUnits + count : FreeUnits - count;
    }

    /// <summary>True when every unit of [start, start + count) is free.</summary>
    public bool IsFree(uint start, uint count) => Is(0, _height, Units, start, start + count, free: true);

    /// <summary>True when every unit of [start, start + count) is used.</summary>
    public bool IsUsed(uint start, uint count) => Is(0, _height, Units, start, start + count, free: false);

    /// <summary>The free runs in ascending order.</summary>
    public List<(uint Start, uint Count)> FreeRuns()
    {
        var runs = new List<(uint Start, uint Count)>();
        Collect(0, _height, Units, 0, runs);
        return runs;
    }

    private static long Span(int height) => 1L << (LeafBits + FanoutBits * height);

    private void SetUniform(int slot, uint size, bool free)
    {
        uint run = free ? size : 0;
        _nodes[slot] = new Node { Head = run, Longest = run, Tail = run, Storage = -1 };
    }

    /// <summary>Marks [from, to) of a node. False when what its parent knows of it stays the same, as is
    /// common low in a fragmented tree: then nothing above has to be worked out again.</summary>
    private bool Assign(int slot, int height, uint size, uint from, uint to, bool free)
    {
        Node before = _nodes[slot];
        if (from == 0 && to == size)
        {
            Release(slot, height, size);
            SetUniform(slot, size, free);
            return true;
        }

        if (height == 0)
        {
            AssignLeaf(slot, size, from, to, free);
            return Differs(before, _nodes[slot]);
        }

        if (_nodes[slot].Storage < 0)
            Split(slot, height, size);
        int children = _nodes[slot].Storage * Fanout;
        int shift = LeafBits + FanoutBits * (height - 1);
        int last = (int)((to - 1) >> shift);
        bool changed = false;
        for (int i = (int)(from >> shift); i <= last; i++)
        {
            uint start = (uint)i << shift;
            uint childSize = Math.Min(1u << shift, size - start);
            changed |= Assign(children + i, height - 1, childSize, Math.Max(from, start) - start, Math.Min(to, start + childSize) - start, free);
        }

        if (!changed)
            return false;
        Summarize(slot, height, size);
        return Differs(before, _nodes[slot]);
    }

    private static bool Differs(in Node left, in Node right) =>
        left.Head != right.Head || left.Longest != right.Longest || left.Tail != right.Tail;

    /// <summary>Gives a uniform inner node children like itself.</summary>
    private void Split(int slot, int height, uint size)
    {
        bool free = _nodes[slot].Longest > 0;
        int block = TakeBlock();
        uint span = (uint)Span(height - 1);
        int child = block * Fanout;
        for (uint at = 0; at < size; at += span, child++)
        {
            SetUniform(child, Math.Min(span, size - at), free);
            if (size - at <= span)
                break;
        }

        _nodes[slot].Storage = block;
    }

    private void Summarize(int slot, int height, uint size)
    {
        int block = _nodes[slot].Storage;
        uint span = (uint)Span(height - 1);
        uint head = 0;
        uint longest = 0;
        uint run = 0;
        bool open = true;
        uint at = 0;
        for (int child = block * Fanout; at < size; child++)
        {
            ref readonly Node node = ref _nodes[child];
            uint childSize = Math.Min(span, size - at);
            if (node.Tail == childSize)
            {
                run += childSize;
            }
            else
            {
                run += node.Head;
                if (open)
                    head = run;
                open = false;
                longest = Math.Max(longest, Math.Max(run, node.Longest));
                run = node.Tail;
            }

            at += childSize;
        }

        longest = Math.Max(longest, run);
        if (longest == 0 || longest == size)
        {
            GiveBlock(block);
            SetUniform(slot, size, longest > 0);
            return;
        }

        _nodes[slot] = new Node { Head = head, Longest = longest, Tail = run, Storage = block };
    }

    private void AssignLeaf(int slot, uint size, uint from, uint to, bool free)
    {
        int leaf = _nodes[slot].Storage;
        if (leaf < 0)
        {
            bool wasFree = _nodes[slot].Longest > 0;
            leaf = TakeLeaf();
            Span<ulong> fresh = Leaf(leaf);
            fresh.Clear();
            if (wasFree)
                SetBits(fresh, 0, size, true);
        }

        SetBits(Leaf(leaf), from, to, free);
        Node node = SummarizeLeaf(Leaf(leaf), size);
        if (node.Longest == 0 || node.Longest == size)
        {
            GiveLeaf(leaf);
            leaf = -1;
        }

        node.Storage = leaf;
        _nodes[slot] = node;
    }

    private static void SetBits(Span<ulong> words, uint from, uint to, bool value)
    {
        for (uint at = from; at < to;)
        {
            int bit = (int)(at % 64);
            int count = (int)Math.Min(64 - bit, to - at);
            ulong mask = (ulong.MaxValue >> (64 - count)) << bit;
            if (value)
                words[(int)(at / 64)] |= mask;
            else
                words[(int)(at / 64)] &= ~mask;
            at += (uint)count;
        }
    }

    private static Node SummarizeLeaf(ReadOnlySpan<ulong> words, uint size)
    {
        uint head = 0;
        uint longest = 0;
        uint run = 0;
        bool open = true;
        for (uint at = 0; at < size; at += 64)
        {
            ulong word = words[(int)(at / 64)];
            int bits = (int)Math.Min(64, size - at);
            if (word == ulong.MaxValue >> (64 - bits))
            {
                run += (uint)bits;
                continue;
            }

            run += (uint)BitOperations.TrailingZeroCount(~word);
            if (open)
                head = run;
            open = false;
            longest = LongestIn(word, Math.Max(longest, run));
            run = (uint)BitOperations.LeadingZeroCount(~(word << (64 - bits)));
        }

        return new Node { Head = open ? run : head, Longest = Math.Max(longest, run), Tail = run };
    }

    /// <summary>The longest run of ones of a word, or <paramref name="known"/> when that is as long.</summary>
    private static uint LongestIn(ulong word, uint known)
    {
        if (known >= 64)
            return known;
        ulong starts = RunStarts(word, known + 1);
        while (starts != 0)
        {
            known++;
            starts &= starts >> 1;
        }

        return known;
    }

    /// <summary>The bits at which <paramref name="count"/> (at most 64) ones in a row start.</summary>
    private static ulong RunStarts(ulong word, uint count)
    {
        for (uint have = 1; have < count && word != 0;)
        {
            uint more = Math.Min(have, count - have);
            word &= word >> (int)more;
            have += more;
        }

        return word;
    }

    private uint FindInLeaf(int leaf, uint size, uint count)
    {
        ReadOnlySpan<ulong> words = Leaf(leaf);
        uint run = 0;
        for (uint at = 0; at < size; at += 64)
        {
            ulong word = words[(int)(at / 64)];
            if (run + (uint)BitOperations.TrailingZeroCount(~word) >= count)
                return at - run;
            if (count <= 64 && RunStarts(word, count) is var starts and not 0)
                return at + (uint)BitOperations.TrailingZeroCount(starts);
            run = word == ulong.MaxValue ? run + 64 : (uint)BitOperations.LeadingZeroCount(~word);
        }

        throw new InvalidOperationException("a leaf has no run as long as its summary says");
    }

    private bool Is(int slot, int height, uint size, uint from, uint to, bool free)
    {
        ref readonly Node node = ref _nodes[slot];
        if (node.Storage < 0)
            return node.Longest > 0 == free;
        if (from == 0 && to == size)
            return false;
        if (height == 0)
        {
            ReadOnlySpan<ulong> words = Leaf(node.Storage);
            for (uint at = from; at < to;)
            {
                int bit = (int)(at % 64);
                int count = (int)Math.Min(64 - bit, to - at);
                ulong mask = (ulong.MaxValue >> (64 - count)) << bit;
                if ((words[(int)(at / 64)] & mask) != (free ? mask : 0))
                    return false;
                at += (uint)count;
            }

            return true;
        }

        int shift = LeafBits + FanoutBits * (height - 1);
        int last = (int)((to - 1) >> shift);
        for (int i = (int)(from >> shift); i <= last; i++)
        {
            uint start = (uint)i << shift;
            uint childSize = Math.Min(1u << shift, size - start);
            if (!Is(node.Storage * Fanout + i, height - 1, childSize, Math.Max(from, start) - start, Math.Min(to, start + childSize) - start, free))
                return false;
        }

        return true;
    }

    private void Collect(int slot, int height, uint size, uint origin, List<(uint Start, uint Count)> runs)
    {
        Node node = _nodes[slot];
        if (node.Longest == 0)
            return;
        if (node.Storage < 0)
        {
            Append(runs, origin, size);
            return;
        }

        if (height == 0)
        {
            ReadOnlySpan<ulong> words = Leaf(node.Storage);
            for (uint at = 0; at < size; at++)
            {
                if ((words[(int)(at / 64)] >> (int)(at % 64) & 1) != 0)
                    Append(runs, origin + at, 1);
            }

            return;
        }

        uint span = (uint)Span(height - 1);
        int child = node.Storage * Fanout;
        for (uint at = 0; at < size; child++)
        {
            uint childSize = Math.Min(span, size - at);
            Collect(child, height - 1, childSize, origin + at, runs);
            at += childSize;
        }
    }

    private static void Append(List<(uint Start, uint Count)> runs, uint start, uint count)
    {
        if (runs.Count > 0 && runs[^1].Start + runs[^1].Count == start)
            runs[^1] = (runs[^1].Start, runs[^1].Count + count);
        else
            runs.Add((start, count));
    }

    /// <summary>Gives back what is stored below a node.</summary>
    private void Release(int slot, int height, uint size)
    {
        int storage = _nodes[slot].Storage;
        if (storage < 0)
            return;
        if (height == 0)
        {
            GiveLeaf(storage);
            return;
        }

        uint span = (uint)Span(height - 1);
        int child = storage * Fanout;
        for (uint at = 0; at < size; child++)
        {
            uint childSize = Math.Min(span, size - at);
            Release(child, height - 1, childSize);
            at += childSize;
        }

        GiveBlock(storage);
    }

    private Span<ulong> Leaf(int leaf) => _words.AsSpan(leaf * WordsPerLeaf, WordsPerLeaf);

    private void Reserve()
    {
        int blocks = _blockCount + 2 * _height + 2;
        if (blocks * Fanout > _nodes.Length)
            Array.Resize(ref _nodes, Math.Max(blocks * Fanout, _nodes.Length * 2));
        int leaves = _leafCount + 2;
        if (leaves * WordsPerLeaf > _words.Length)
            Array.Resize(ref _words, Math.Max(leaves * WordsPerLeaf, _words.Length * 2));
    }

    private int TakeBlock()
    {
        if (_idleBlock < 0)
            return _blockCount++;
        int block = _idleBlock;
        _idleBlock = _nodes[block * Fanout].Storage;
        return block;
    }

    private void GiveBlock(int block)
    {
        _nodes[block * Fanout].Storage = _idleBlock;
        _idleBlock = block;
    }

    private int TakeLeaf()
    {
        if (_idleLeaf < 0)
            return _leafCount++;
        int leaf = _idleLeaf;
        _idleLeaf = (int)(long)_words[leaf * WordsPerLeaf];
        return leaf;
    }

    private void GiveLeaf(int leaf)
    {
        _words[leaf * WordsPerLeaf] = (ulong)(long)_idleLeaf;
        _idleLeaf = leaf;
    }

    /// <summary>What a parent knows of a child, in units.</summary>
    private struct Node
    {
        /// <summary>Free units it starts with.</summary>
        public uint Head;

        /// <summary>Its longest free run.</summary>
        public uint Longest;

        /// <summary>Free units it ends with; its size when it is wholly free.</summary>
        public uint Tail;

        /// <summary>Block of its children, or its leaf; -1 when it is wholly free or wholly used.</summary>
        public int Storage;
    }
}
