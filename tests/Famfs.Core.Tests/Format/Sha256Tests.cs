using System.Security.Cryptography;
using System.Text;
using Famfs.Core.Format;
using Xunit;

namespace Famfs.Core.Tests.Format;

/// <summary>Our SHA-256 is the platform's, byte for byte: digests of it are in logs and state directories.</summary>
public sealed class Sha256Tests
{
    [Fact]
    public void Every_length_around_the_blocks_has_the_platforms_digest()
    {
        byte[] data = new byte[1 << 16];
        new Random(1).NextBytes(data);
        for (int length = 0; length <= 300; length++)
            Assert.Equal(SHA256.HashData(data.AsSpan(0, length)), Sha256.Hash(data.AsSpan(0, length)));
        foreach (int length in (int[])[1023, 1024, 4095, 65535, 65536])
            Assert.Equal(SHA256.HashData(data.AsSpan(0, length)), Sha256.Hash(data.AsSpan(0, length)));
    }

    [Fact]
    public void The_standards_example_has_the_standards_digest() =>
        Assert.Equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", Convert.ToHexStringLower(Sha256.Hash(Encoding.ASCII.GetBytes("abc"))));

    [Fact]
    public void A_target_that_is_too_short_is_refused() =>
        Assert.Throws<ArgumentOutOfRangeException>(() => Sha256.Hash([], new byte[Sha256.SizeInBytes - 1]));
}
