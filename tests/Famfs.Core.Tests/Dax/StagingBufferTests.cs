using Famfs.Core.Dax;
using Famfs.TestSupport.Dax;
using Xunit;

namespace Famfs.Core.Tests.Dax;

public sealed class StagingBufferTests : IDisposable
{
    private const long Unit = MappedDaxDevice.UnitBytes;

    // What StagingBuffer copies by other means begins here.
    private const int Border = (64 * 1024) + 4096;

    private readonly DeviceFile _file = new(2 * Unit);

    public void Dispose() => _file.Dispose();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Every_part_of_the_buffer_arrives_as_it_is(bool bounce)
    {
        using DaxDevice device = Open(bounce);
        using var staging = new StagingBuffer((1 << 20) + 4096);
        new Random(1).NextBytes(staging.Bytes);
        foreach ((int start, int length) in new[] { (0, 1), (80, 4096), (80, Border - 80), (80, Border - 79), (Border - 1, 1), (Border - 1, 2), (Border, 1), (80, 1 << 20), (0, staging.Bytes.Length), (staging.Bytes.Length - 1, 1) })
        {
            device.Write(12345, staging.Bytes.Slice(start, length), staging);
            byte[] stored = new byte[length];
            device.Read(12345, stored);
            Assert.True(staging.Bytes.Slice(start, length).SequenceEqual(stored), $"{length} bytes from {start}");
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_page_that_is_gone_ends_the_copy_with_an_exception_and_what_is_before_it_is_stored(bool bounce)
    {
        using DaxDevice device = Open(bounce);
        using var staging = new StagingBuffer((1 << 20) + 4096);
        staging.Bytes.Fill(7);
        _file.SetLength(Unit + 4096);
        foreach (int length in new[] { 4097, Border - 80, 1 << 20 })
        {
            foreach (long ahead in new[] { 4096L, 100_000L })
            {
                device.Zero(0, Unit);
                long offset = Unit + 4096 - Math.Min(ahead, length - 1);
                Assert.Throws<DeviceFaultException>(() => device.Write(offset, staging.Bytes.Slice(80, length), staging));
                byte[] stored = new byte[Unit + 4096 - offset];
                device.Read(offset, stored);
                Assert.DoesNotContain((byte)0, stored);
            }
        }

        Assert.Throws<DeviceFaultException>(() => device.Write(Unit + 8192, staging.Bytes[..1], staging));
    }

    [Fact]
    public void Bytes_that_are_not_all_in_the_buffer_are_copied_from_where_they_are()
    {
        using DaxDevice device = Open(bounce: false);
        using var staging = new StagingBuffer(100);
        staging.Bytes.Fill(1);
        device.Write(0, [2, 3, 4], staging);
        byte[] stored = new byte[4];
        device.Read(0, stored);
        Assert.Equal(new byte[] { 2, 3, 4, 0 }, stored);
    }

    [Fact]
    public void A_range_outside_the_device_and_a_read_only_device_are_refused()
    {
        using var staging = new StagingBuffer(100);
        using (DaxDevice device = Open(bounce: false))
        {
            Assert.Throws<ArgumentOutOfRangeException>(() => device.Write(-1, staging.Bytes, staging));
            Assert.Throws<ArgumentOutOfRangeException>(() => device.Write(2 * Unit - 99, staging.Bytes, staging));
        }

        using DaxDevice readOnly = DaxDevice.Open(_file.Path, readOnly: true);
        Assert.Throws<FamfsException>(() => readOnly.Write(0, staging.Bytes, staging));
    }

    private DaxDevice Open(bool bounce) => MappedDaxDevice.Open(_file.Path, false, null, bounce ? () => new BounceFileCopy() : FaultSafeCopy.Detect);
}
