using System.Buffers.Binary;
using System.Diagnostics;
using Famfs.Core.Dax;
using Xunit;

namespace Famfs.TestSupport.Dax;

/// <summary>What every <see cref="DaxDevice"/> does. A class per implementation derives from it. Tests that
/// an environment cannot run are skipped by <see cref="Open"/>.</summary>
public abstract class DaxDeviceConformance : IDisposable
{
    /// <summary>Bytes of the device under test.</summary>
    protected const long Length = 8L << 20;

    private const int Line = DaxDevice.LineBytes;
    private readonly List<DaxDevice> _open = [];

    /// <summary>Opens the one device of this test as <paramref name="hostName"/> sees it; the same memory
    /// every time, zeroed at first.</summary>
    protected abstract DaxDevice Open(string hostName);

    /// <summary>Releases what the test used.</summary>
    public virtual void Dispose()
    {
        foreach (DaxDevice device in _open)
            device.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public void A_new_device_has_its_length_a_path_and_zeros()
    {
        DaxDevice device = On("a");
        Assert.True(device.LengthBytes >= Length);
        Assert.NotEmpty(device.Path);
        Assert.False(device.ReadOnly);
        byte[] bytes = new byte[10_000];
        bytes.AsSpan().Fill(1);
        device.Read(Length - bytes.Length, bytes);
        Assert.All(bytes, b => Assert.Equal(0, b));
    }

    [Fact]
    public void What_a_host_writes_it_reads_back()
    {
        DaxDevice device = On("a");
        var random = new Random(1);
        byte[] model = new byte[Length];
        byte[] seen = new byte[Length];
        for (int i = 0; i < 300; i++)
        {
            int length = random.Next(3) switch { 0 => random.Next(20), 1 => random.Next(5000), _ => random.Next(i % 50 == 0 ? 1 << 20 : 300) };
            int offset = random.Next((int)Length - length + 1);
            random.NextBytes(model.AsSpan(offset, length));
            device.Write(offset, model.AsSpan(offset, length));
            if (random.Next(3) == 0)
                device.WriteBack(offset, length);
            int at = random.Next((int)Length - 6000);
            device.Read(at, seen.AsSpan(at, 6000));
            Assert.True(model.AsSpan(at, 6000).SequenceEqual(seen.AsSpan(at, 6000)), $"write {i}");
        }

        device.Read(0, seen);
        Assert.True(model.AsSpan().SequenceEqual(seen));
    }

    [Fact]
    public void What_is_written_back_and_fenced_is_seen_by_a_host_that_invalidates()
    {
        DaxDevice writer = On("a");
        DaxDevice reader = On("b");
        var random = new Random(2);
        byte[] bytes = new byte[5000];
        byte[] seen = new byte[5000];
        for (int i = 0; i < 100; i++)
        {
            int length = random.Next(1, 5000);
            long offset = random.NextInt64(Length - length);
            reader.Read(offset, seen.AsSpan(0, length));
            random.NextBytes(bytes.AsSpan(0, length));

            // The writer's copies of the edge lines may be as old as its last look at them.
            writer.Invalidate(offset, length);
            writer.Write(offset, bytes.AsSpan(0, length));
            writer.WriteBack(offset, length);
            writer.Fence();
            reader.Invalidate(offset, length);
            reader.Read(offset, seen.AsSpan(0, length));
            Assert.True(bytes.AsSpan(0, length).SequenceEqual(seen.AsSpan(0, length)), $"round {i}: {offset}+{length}");
        }
    }

    [Fact]
    public void Words_are_little_endian_and_at_their_place()
    {
        DaxDevice device = On("a");
        device.Write(4096, new byte[] { 1, 2, 3, 4, 5, 6, 7, 8, 9 });
        Assert.Equal(0x0807060504030201UL, device.ReadWord(4096));
        device.WriteWord(4104, 0xF1F2F3F4F5F6F7F8);
        byte[] seen = new byte[17];
        device.Read(4096, seen);
        Assert.Equal(new byte[] { 1, 2, 3, 4, 5, 6, 7, 8, 0xF8, 0xF7, 0xF6, 0xF5, 0xF4, 0xF3, 0xF2, 0xF1, 0 }, seen);
        device.WriteWord(Length - 8, ulong.MaxValue);
        Assert.Equal(ulong.MaxValue, device.ReadWord(Length - 8));
    }

    [Fact]
    public void A_word_is_published_to_another_host()
    {
        DaxDevice writer = On("a");
        DaxDevice reader = On("b");
        for (ulong value = 1; value < 100; value++)
        {
            Assert.Equal(value - 1, reader.ReadWord(Line));
            writer.WriteWord(Line, value);
            writer.WriteBack(Line, 8);
            writer.Fence();
            reader.Invalidate(Line, 8);
            Assert.Equal(value, reader.ReadWord(Line));
        }
    }

    [Fact]
    public async Task A_word_is_never_seen_half_written()
    {
        DaxDevice device = On("a");
        using var stop = new CancellationTokenSource();
        // A thread of its own: the pool's may all be other tests'.
        var writer = Task.Factory.StartNew(
            () =>
            {
                for (ulong i = 0; !stop.IsCancellationRequested; i++)
                    device.WriteWord(64, (i & 1) == 0 ? 0 : ulong.MaxValue);
            },
            TestContext.Current.CancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        try
        {
            int changes = 0;
            ulong last = 0;
            long start = Stopwatch.GetTimestamp();
            for (int i = 0; i < 20_000 || changes < 10; i++)
            {
                if (i % 20_000 == 19_999)
                {
                    // Where there is one processor for both, the other one's turn.
                    Thread.Yield();
                    Assert.True(Stopwatch.GetElapsedTime(start) < TimeSpan.FromMinutes(3), "the writer never ran beside the reader");
                }
                ulong word = device.ReadWord(64);
                Assert.True(word is 0 or ulong.MaxValue, $"{word:x}");
                changes += word == last ? 0 : 1;
                last = word;
            }
        }
        finally
        {
            await stop.CancelAsync();
            await writer;
        }
    }

    [Fact]
    public void Pieces_arrive_in_the_order_asked_for()
    {
        DaxDevice device = On("a");
        byte[] all = new byte[1 << 20];
        new Random(3).NextBytes(all);
        device.Write(0, all);
        var random = new Random(4);
        foreach (var (count, bytes) in new[] { (0, 64), (1, 64), (64, 64), (1024, 8), (1025, 16), (3000, 100), (5, 0) })
        {
            long[] offsets = new long[count];
            for (int i = 0; i < count; i++)
                offsets[i] = random.Next(all.Length - bytes);
            byte[] seen = new byte[count * bytes + 3];
            device.ReadPieces(offsets, bytes, seen);
            for (int i = 0; i < count; i++)
                Assert.True(all.AsSpan((int)offsets[i], bytes).SequenceEqual(seen.AsSpan(i * bytes, bytes)), $"{count} x {bytes}: piece {i}");
            Assert.Equal(new byte[3], seen[^3..]);
        }
    }

    [Theory]
    [InlineData(0, 4096)]
    [InlineData(100, 1)]
    [InlineData(4000, 10_000)]
    [InlineData((2L << 20) - 100, 200)]
    [InlineData(0, 4L << 20)]
    [InlineData(1000, (4L << 20) + 77)]
    [InlineData(5, 0)]
    public void Zeroing_clears_its_range_and_nothing_else_for_every_host(long offset, long length)
    {
        DaxDevice device = On("a");
        DaxDevice other = On("b");
        byte[] all = new byte[Length];
        all.AsSpan().Fill(0xEE);
        device.Write(0, all);
        device.WriteBack(0, Length);
        device.Fence();
        device.Zero(offset, length);
        all.AsSpan((int)offset, (int)length).Clear();
        foreach (DaxDevice host in new[] { device, other })
        {
            byte[] seen = new byte[Length];
            host.Invalidate(0, Length);
            host.Read(0, seen);
            Assert.True(all.AsSpan().SequenceEqual(seen), host.Path);
        }
    }

    [Fact]
    public void Ranges_outside_the_device_are_refused_before_anything_happens()
    {
        DaxDevice device = On("a");
        byte[] two = new byte[2];
        long end = device.LengthBytes;
        foreach (long offset in new[] { -1, long.MinValue, end - 1, end, end + 1, long.MaxValue })
        {
            Assert.Throws<ArgumentOutOfRangeException>(() => device.Read(offset, two));
            Assert.Throws<ArgumentOutOfRangeException>(() => device.Write(offset, two));
            Assert.Throws<ArgumentOutOfRangeException>(() => device.Zero(offset, 2));
            Assert.Throws<ArgumentOutOfRangeException>(() => device.WriteBack(offset, 2));
            Assert.Throws<ArgumentOutOfRangeException>(() => device.Invalidate(offset, 2));
            Assert.Throws<ArgumentOutOfRangeException>(() => device.ReadPieces([0, offset], 2, new byte[4]));
            Assert.Throws<ArgumentOutOfRangeException>(() => device.ReadWord(offset));
            Assert.Throws<ArgumentOutOfRangeException>(() => device.WriteWord(offset, 1));
            Assert.Throws<ArgumentOutOfRangeException>(() => device.TryGetAddress(offset, 2, out _));
        }

        Assert.Throws<ArgumentOutOfRangeException>(() => device.Zero(0, -1));
        Assert.Throws<ArgumentOutOfRangeException>(() => device.Invalidate(8, long.MaxValue));
        Assert.Throws<ArgumentOutOfRangeException>(() => device.ReadWord(4));
        Assert.Throws<ArgumentOutOfRangeException>(() => device.WriteWord(4097, 1));
        Assert.ThrowsAny<ArgumentException>(() => device.ReadPieces([0, 8], 8, new byte[15]));
        byte[] last = [9];
        device.Read(end - 1, last);
        Assert.Equal(0, last[0]);
    }

    [Fact]
    public void Empty_ranges_do_nothing()
    {
        DaxDevice device = On("a");
        foreach (long offset in new[] { 0, 7, device.LengthBytes })
        {
            device.Read(offset, []);
            device.Write(offset, []);
            device.Zero(offset, 0);
            device.WriteBack(offset, 0);
            device.Invalidate(offset, 0);
        }

        device.Fence();
    }

    [Fact]
    public void A_lock_has_one_holder_on_a_host()
    {
        DaxDevice first = On("a");
        DaxDevice second = On("a");
        Assert.True(first.TryLockByte(3, out IDisposable? held));
        Assert.False(second.TryLockByte(3, out IDisposable? none));
        Assert.Null(none);
        Assert.False(first.TryLockByte(3, out _));
        Assert.True(second.TryLockByte(4, out IDisposable? other));
        held.Dispose();
        held.Dispose();
        Assert.True(second.TryLockByte(3, out held));
        Assert.False(first.TryLockByte(3, out _));
        held.Dispose();
        other.Dispose();
        Assert.Throws<ArgumentOutOfRangeException>(() => first.TryLockByte(-1, out _));
    }

    [Fact]
    public void A_disposed_device_says_so()
    {
        DaxDevice device = On("a");
        device.Dispose();
        device.Dispose();
        byte[] one = new byte[1];
        Assert.Throws<ObjectDisposedException>(() => device.Read(0, one));
        Assert.Throws<ObjectDisposedException>(() => device.Write(0, one));
        Assert.Throws<ObjectDisposedException>(() => device.ReadWord(0));
        Assert.Throws<ObjectDisposedException>(() => device.WriteWord(0, 1));
        Assert.Throws<ObjectDisposedException>(() => device.Zero(0, 1));
        Assert.Throws<ObjectDisposedException>(() => device.WriteBack(0, 1));
        Assert.Throws<ObjectDisposedException>(() => device.Invalidate(0, 1));
        Assert.Throws<ObjectDisposedException>(() => device.TryGetAddress(0, 1, out _));
        Assert.Throws<ObjectDisposedException>(() => device.TryLockByte(0, out _));
    }

    [Fact]
    public async Task Threads_work_side_by_side()
    {
        DaxDevice device = On("a");
        await Task.WhenAll(Enumerable.Range(0, 4).Select(t => Task.Run(
            () =>
            {
                byte[] mine = new byte[3000];
                byte[] seen = new byte[3000];
                for (int i = 0; i < 200; i++)
                {
                    long offset = t * (1L << 20) + i * 3008;
                    mine.AsSpan().Fill((byte)(i + t));
                    BinaryPrimitives.WriteInt64LittleEndian(mine, offset);
                    device.Write(offset, mine);
                    device.WriteBack(offset, mine.Length);
                    device.Fence();
                    device.Invalidate(offset, mine.Length);
                    device.Read(offset, seen);
                    Assert.True(mine.AsSpan().SequenceEqual(seen), $"thread {t} round {i}");
                }
            },
            TestContext.Current.CancellationToken)));
    }

    /// <summary>Opens and disposes at the end.</summary>
    protected DaxDevice On(string hostName)
    {
        DaxDevice device = Open(hostName);
        _open.Add(device);
        return device;
    }
}
