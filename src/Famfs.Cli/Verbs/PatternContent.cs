using System.Buffers.Binary;
using Famfs.Core;
using Famfs.V1;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Cli.Verbs;

/// <summary>Content that depends on a seed and the place alone: any part can be written or checked by anybody.
/// Little-endian words, word i = mix(seed + i · golden ratio) (SplitMix64).</summary>
internal static class PatternContent
{
    private const int BlockBytes = 1 << 20;

    /// <summary>Fills with the content from <paramref name="offset"/>, a multiple of 8.</summary>
    public static void Fill(Span<byte> block, ulong seed, long offset)
    {
        ulong index = (ulong)offset / 8;
        Span<byte> last = stackalloc byte[8];
        for (int at = 0; at < block.Length; at += 8, index++)
        {
            ulong word = Mix(seed + index * 0x9E3779B97F4A7C15);
            if (block.Length - at >= 8)
                BinaryPrimitives.WriteUInt64LittleEndian(block[at..], word);
            else
            {
                BinaryPrimitives.WriteUInt64LittleEndian(last, word);
                last[..(block.Length - at)].CopyTo(block[at..]);
            }
        }
    }

    /// <summary>Writes a whole file.</summary>
    public static void Write(string path, long sizeBytes, ulong seed, CancellationToken cancel)
    {
        using SafeFileHandle file = File.OpenHandle(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        byte[] block = new byte[BlockBytes];
        for (long at = 0; at < sizeBytes; at += BlockBytes)
        {
            cancel.ThrowIfCancellationRequested();
            Span<byte> part = block.AsSpan(0, (int)Math.Min(BlockBytes, sizeBytes - at));
            Fill(part, seed, at);
            RandomAccess.Write(file, part, at);
        }
        RandomAccess.FlushToDisk(file);
    }

    /// <summary>Compares a whole file; gives its size, or throws with the first byte that differs.</summary>
    public static long Verify(string path, ulong seed, CancellationToken cancel)
    {
        using SafeFileHandle file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        long size = RandomAccess.GetLength(file);
        byte[] block = new byte[BlockBytes];
        byte[] expected = new byte[BlockBytes];
        for (long at = 0; at < size;)
        {
            cancel.ThrowIfCancellationRequested();
            int wanted = (int)Math.Min(BlockBytes, size - at);
            int filled = 0;
            while (filled < wanted)
            {
                int read = RandomAccess.Read(file, block.AsSpan(filled, wanted - filled), at + filled);
                if (read == 0)
                    throw new FamfsException(ErrorReason.Unspecified, $"{path}: ends at byte {at + filled}, its size is {size}") { Path = path };
                filled += read;
            }
            Fill(expected.AsSpan(0, wanted), seed, at);
            int same = block.AsSpan(0, wanted).CommonPrefixLength(expected.AsSpan(0, wanted));
            if (same < wanted)
                throw new FamfsException(ErrorReason.Unspecified, $"{path}: byte {at + same} is {block[same]:x2}, seed {seed} gives {expected[same]:x2}") { Path = path };
            at += wanted;
        }
        return size;
    }

    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
