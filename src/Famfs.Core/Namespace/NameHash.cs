using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Famfs.Core.Namespace;

/// <summary>SipHash-1-3 of (parent, name) under a secret key: names come from whoever may create files, and
/// with a known hash they could all be made to meet in one place of the name table.</summary>
internal readonly struct NameHash(UInt128 key)
{
    private readonly ulong _k0 = (ulong)key;
    private readonly ulong _k1 = (ulong)(key >> 64);

    public ulong Compute(ulong parent, ReadOnlySpan<byte> name)
    {
        ulong v0 = _k0 ^ 0x736f6d6570736575;
        ulong v1 = _k1 ^ 0x646f72616e646f6d;
        ulong v2 = _k0 ^ 0x6c7967656e657261;
        ulong v3 = _k1 ^ 0x7465646279746573;
        ulong length = (ulong)(name.Length + sizeof(ulong));

        Absorb(ref v0, ref v1, ref v2, ref v3, parent);
        while (name.Length >= sizeof(ulong))
        {
            Absorb(ref v0, ref v1, ref v2, ref v3, MemoryMarshal.Read<ulong>(name));
            name = name[sizeof(ulong)..];
        }

        ulong last = length << 56;
        for (int i = 0; i < name.Length; i++)
            last |= (ulong)name[i] << (8 * i);
        Absorb(ref v0, ref v1, ref v2, ref v3, last);

        v2 ^= 0xff;
        Round(ref v0, ref v1, ref v2, ref v3);
        Round(ref v0, ref v1, ref v2, ref v3);
        Round(ref v0, ref v1, ref v2, ref v3);
        return v0 ^ v1 ^ v2 ^ v3;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Absorb(ref ulong v0, ref ulong v1, ref ulong v2, ref ulong v3, ulong word)
    {
        v3 ^= word;
        Round(ref v0, ref v1, ref v2, ref v3);
        v0 ^= word;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Round(ref ulong v0, ref ulong v1, ref ulong v2, ref ulong v3)
    {
        v0 += v1;
        v2 += v3;
        v1 = BitOperations.RotateLeft(v1, 13) ^ v0;
        v3 = BitOperations.RotateLeft(v3, 16) ^ v2;
        v0 = BitOperations.RotateLeft(v0, 32);
        v2 += v1;
        v0 += v3;
        v1 = BitOperations.RotateLeft(v1, 17) ^ v2;
        v3 = BitOperations.RotateLeft(v3, 21) ^ v0;
        v2 = BitOperations.RotateLeft(v2, 32);
    }
}
