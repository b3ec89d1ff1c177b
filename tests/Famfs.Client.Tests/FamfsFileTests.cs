using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Client.Tests;

/// <summary>Needs a mount that somebody has made: FAMFS_TEST_MOUNT names it, its master must be reachable.</summary>
public sealed class FamfsFileTests
{
    private const int Unit = 2 << 20;

    [Theory]
    [InlineData(0u, 5 * Unit + 123)]
    [InlineData(2u, 7 * Unit + 1)]
    public async Task A_mapped_file_and_its_mount_show_the_same_bytes(uint strips, int size)
    {
        string? mountPoint = Environment.GetEnvironmentVariable("FAMFS_TEST_MOUNT");
        Assert.SkipUnless(mountPoint is not null, "FAMFS_TEST_MOUNT does not name a famfs mount");
        FamfsMount mount = FamfsMount.Require(mountPoint!, out _);
        using FamfsClient client = new(mount.ReadMasterAddress()!);
        string name = $"map-test-{Guid.NewGuid():N}";
        await client.CreateFileAsync(new CreateFileRequest
        {
            Path = name,
            SizeBytes = (ulong)size,
            Layout = new() { Kind = strips == 0 ? LayoutKind.Contiguous : LayoutKind.Interleaved, Strips = strips, ChunkBytes = strips == 0 ? 0u : Unit },
            Wait = new() { Kind = WaitKind.Mount, MountId = Famfs.Core.Format.Uuids.ToByteString(mount.RequireMountId()) },
        }, cancel: TestContext.Current.CancellationToken);
        string path = Path.Combine(mountPoint!, name);
        byte[] first = new byte[size];
        byte[] second = new byte[size];
        new Random(1).NextBytes(first);
        new Random(2).NextBytes(second);

        using MappedRange range = FamfsFile.Map(path, writable: true);
        Assert.Equal(size, range.LengthBytes);
        first.CopyTo(range.Span(0, size));
        Assert.Equal(first, await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken));
        await using (FileStream file = new(path, FileMode.Open, FileAccess.Write))
            await file.WriteAsync(second, TestContext.Current.CancellationToken);
        Assert.True(second.AsSpan().SequenceEqual(range.Span(0, size)));
        using MappedRange readOnly = FamfsFile.Map(path);
        Assert.True(second.AsSpan().SequenceEqual(readOnly.Span(0, size)));
        if (mount.ReadDialect() == FamfsMount.StockDialect)
            Assert.Equal(2, File.ReadLines("/proc/self/maps").Count(l => l.EndsWith(path, StringComparison.Ordinal) && l.Contains(" ---p ", StringComparison.Ordinal)));
    }

    [Fact]
    public void A_file_that_is_not_there_is_not_found()
    {
        string? mountPoint = Environment.GetEnvironmentVariable("FAMFS_TEST_MOUNT");
        Assert.SkipUnless(mountPoint is not null, "FAMFS_TEST_MOUNT does not name a famfs mount");

        Assert.Equal(ErrorReason.NotFound, Assert.Throws<FamfsException>(() => FamfsFile.Map(Path.Combine(mountPoint!, "nobody made this"))).Reason);
        Assert.Equal(ErrorReason.IsADirectory, Assert.Throws<FamfsException>(() => FamfsFile.Map(mountPoint!)).Reason);
    }
}
