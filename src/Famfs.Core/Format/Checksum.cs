using System.Buffers.Binary;
using System.Numerics;

namespace Famfs.Core.Format;

/// <summary>CRC-32C (Castagnoli, reflected 0x82F63B78) by the processor's instruction, for the native
/// format. The value is the plain register: no initial or final inversion is applied by
/// <see cref="Append"/>, <see cref="Compute"/> applies both.</summary>
public static class Crc32C
{
    /// <summary>CRC-32C as usually stated: "123456789" gives 0xE3069283.</summary>
    public static uint Compute(ReadOnlySpan<byte> data) => ~Append(uint.MaxValue, data);

    /// <summary>Continues a register over more bytes.</summary>
    public static uint Append(uint register, ReadOnlySpan<byte> data)
    {
        while (data.Length >= 8)
        {
            register = BitOperations.Crc32C(register, BinaryPrimitives.ReadUInt64LittleEndian(data));
            data = data[8..];
        }
        foreach (byte b in data)
            register = BitOperations.Crc32C(register, b);
        return register;
    }

    /// <summary>The start register for data that belongs to one place of one file system, so that bytes of
    /// an older one never look valid (SAFETY S6).</summary>
    public static uint Seed(Guid fileSystem, ulong generation, ulong segmentId)
    {
        Span<byte> bytes = stackalloc byte[32];
        fileSystem.TryWriteBytes(bytes, bigEndian: true, out _);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[16..], generation);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[24..], segmentId);
        return Append(uint.MaxValue, bytes);
    }
}

/// <summary>CRC-32 as zlib computes it (reflected 0xEDB88320): "123456789" gives 0xCBF43926. The part
/// of the superblock that all majors share uses it, zero-extended to 64 bits.</summary>
public static class Crc32
{
    private static readonly uint[] s_table = BuildTable();

    /// <summary>CRC of <paramref name="data"/>.</summary>
    public static uint Compute(ReadOnlySpan<byte> data)
    {
        uint register = uint.MaxValue;
        foreach (byte b in data)
            register = s_table[(byte)(register ^ b)] ^ (register >> 8);
        return ~register;
    }

    private static uint[] BuildTable()
    {
        uint[] table = new uint[256];
        for (uint i = 0; i < 256; i++)
        {
            uint value = i;
            for (int bit = 0; bit < 8; bit++)
                value = (value & 1) != 0 ? 0xEDB88320u ^ (value >> 1) : value >> 1;
            table[i] = value;
        }
        return table;
    }
}
