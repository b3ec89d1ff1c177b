using Famfs.Core;

namespace Famfs.Fuse.Operations;

/// <summary>
/// Remembers which nodes the kernel may have, so that a change to what it has never seen needs no
/// notification. A table of bits, one per hash of a node id, never cleared: a false "may have" costs one
/// system call that answers ENOENT, a false "has not" would leave a stale cache for ever, and there is none.
/// <para>Why not: a worker sets the bit with a full fence and <i>then</i> reads from the tree what it is going
/// to tell the kernel about the node; the thread that applies a change changes the tree, fences, and then
/// reads the bit. So either it sees the bit and notifies, or the worker sees the change. A name in a
/// directory is covered by the directory's bit, set before the kernel could ask for the name.</para>
/// </summary>
public sealed class KernelPresence
{
    // Chosen: 2^22 bits, 512 KiB; beyond some millions of nodes in the kernel, every change is notified.
    private const int HashBits = 22;
    private readonly ulong[] _words = new ulong[1 << (HashBits - 6)];

    /// <summary>Before what is told about the node is read from the tree. Any thread.</summary>
    public void Mark(InodeNumber inode)
    {
        uint bit = Hash(inode);
        ref ulong word = ref _words[bit >> 6];
        ulong mask = 1UL << (int)(bit & 63);
        if ((Volatile.Read(ref word) & mask) == 0)
            Interlocked.Or(ref word, mask);
    }

    /// <summary>The kernel may have anything: it was served by another daemon before. Before anything is told.</summary>
    public void MarkAll() => _words.AsSpan().Fill(ulong.MaxValue);

    /// <summary>After the tree was changed. Any thread.</summary>
    public bool MayHave(InodeNumber inode)
    {
        Interlocked.MemoryBarrier();
        uint bit = Hash(inode);
        return (Volatile.Read(ref _words[bit >> 6]) & (1UL << (int)(bit & 63))) != 0;
    }

    private static uint Hash(InodeNumber inode) => (uint)((inode.Value * 0x9E3779B97F4A7C15) >> (64 - HashBits));
}
