using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Client.Tests;

public sealed class MappedRangeTests : IDisposable
{
    private const int Unit = 2 << 20;
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-map-test-").FullName;
    private readonly Dictionary<uint, string> _devices = [];

    [Fact]
    public void Extents_of_several_devices_are_one_range_with_the_devices_content()
    {
        MakeDevice(0, 8);
        MakeDevice(1, 8);
        FileMap map = new() { Extents = { Extent(1, 3, 2), Extent(0, 1, 1), Extent(1, 6, 1) } };
        const ulong size = 4 * Unit - 100;

        using MappedRange range = Map(map, size, writable: false);

        Assert.Equal((long)size, range.LengthBytes);
        Assert.Equal(3, range.PieceCount);
        Assert.Equal(0, range.Address % Unit);
        Assert.True(range.Span(0, 2 * Unit).SequenceEqual(Content(1, 3, 2)));
        Assert.True(range.Span(2 * Unit, Unit).SequenceEqual(Content(0, 1, 1)));
        Assert.True(range.Span(3 * Unit, Unit - 100).SequenceEqual(Content(1, 6, 1).AsSpan(0, Unit - 100)));
    }

    [Fact]
    public void Stores_into_an_interleaved_file_land_in_its_strips()
    {
        MakeDevice(0, 8);
        MakeDevice(1, 8);
        FileMap map = new() { ChunkBytes = Unit, Extents = { Extent(0, 2, 2), Extent(1, 4, 2) } };
        byte[] expected = new byte[4 * Unit];
        new Random(5).NextBytes(expected);

        using (MappedRange range = Map(map, 4 * Unit, writable: true))
        {
            Assert.Equal(4, range.PieceCount);
            expected.CopyTo(range.Span(0, 4 * Unit));
        }

        Assert.Equal(expected[..Unit], ReadDevice(0, 2));
        Assert.Equal(expected[Unit..(2 * Unit)], ReadDevice(1, 4));
        Assert.Equal(expected[(2 * Unit)..(3 * Unit)], ReadDevice(0, 3));
        Assert.Equal(expected[(3 * Unit)..], ReadDevice(1, 5));
    }

    [Fact]
    public void The_pin_lives_as_long_as_the_range_and_no_longer()
    {
        MakeDevice(0, 4);
        string pinPath = Path.Combine(_directory, "pinned");
        File.WriteAllBytes(pinPath, new byte[100]);
        FileMap map = new() { Extents = { Extent(0, 1, 1) } };
        MappedRange range;
        using (MountedFile pin = MountedFile.Open(pinPath, writable: false))
            range = Map(map, Unit, writable: false, pin);

        string line = Assert.Single(File.ReadLines("/proc/self/maps"), l => l.EndsWith(pinPath, StringComparison.Ordinal));
        Assert.Contains(" ---p ", line, StringComparison.Ordinal);
        Assert.StartsWith($"{range.Address + Unit:x}-", line.TrimStart('0'), StringComparison.Ordinal);
        range.Dispose();

        Assert.DoesNotContain(File.ReadLines("/proc/self/maps"), l => l.EndsWith(pinPath, StringComparison.Ordinal) || l.EndsWith(_devices[0], StringComparison.Ordinal));
    }

    [Fact]
    public void Raw_pieces_are_not_given_to_children()
    {
        MakeDevice(0, 4);
        using MappedRange range = Map(new() { Extents = { Extent(0, 1, 1) } }, Unit, writable: false);

        string[] smaps = File.ReadAllLines("/proc/self/smaps");
        int at = Array.FindIndex(smaps, l => l.EndsWith(_devices[0], StringComparison.Ordinal));
        string flags = smaps.Skip(at).First(l => l.StartsWith("VmFlags:", StringComparison.Ordinal));
        Assert.Contains(" dc", flags, StringComparison.Ordinal);
    }

    [Fact]
    public void A_device_that_is_shorter_than_the_map_is_refused_instead_of_mapped()
    {
        MakeDevice(0, 3);

        FamfsException e = Assert.Throws<FamfsException>(() => Map(new() { Extents = { Extent(0, 1, 1), Extent(0, 3, 1) } }, 2 * Unit, writable: false));
        Assert.Equal(ErrorReason.MediaCorrupt, e.Reason);
        Assert.DoesNotContain(File.ReadLines("/proc/self/maps"), l => l.EndsWith(_devices[0], StringComparison.Ordinal));
    }

    [Fact]
    public void A_device_that_this_host_does_not_have_is_named()
    {
        MakeDevice(0, 3);

        FamfsException e = Assert.Throws<FamfsException>(() => Map(new() { Extents = { Extent(0, 1, 1), Extent(4, 1, 1) } }, 2 * Unit, writable: false));
        Assert.Equal(ErrorReason.DeviceMissing, e.Reason);
        Assert.Contains("device 4", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Nothing_outside_the_file_is_handed_out()
    {
        MakeDevice(0, 3);
        MappedRange range = Map(new() { Extents = { Extent(0, 1, 1) } }, 1000, writable: false);

        Assert.Throws<ArgumentOutOfRangeException>(() => range.Span(0, 1001).Length);
        Assert.Throws<ArgumentOutOfRangeException>(() => range.Span(-1, 1).Length);
        Assert.Throws<ArgumentOutOfRangeException>(() => range.Span(1001, 0).Length);
        Assert.Throws<ArgumentOutOfRangeException>(() => range.Memory(999, 2).Length);
        Memory<byte> memory = range.Memory(10, 990);
        Assert.True(memory.Span.SequenceEqual(Content(0, 1, 1).AsSpan(10, 990)));
        range.Dispose();
        Assert.Throws<ObjectDisposedException>(() => range.Span(0, 1).Length);
        Assert.Throws<ObjectDisposedException>(() => memory.Span.Length);
    }

    [Fact]
    public void Pinned_memory_outlives_a_dispose_until_it_is_unpinned()
    {
        MakeDevice(0, 3);
        MappedRange range = Map(new() { Extents = { Extent(0, 1, 1) } }, Unit, writable: false);
        using (range.Memory(0, 16).Pin())
        {
            range.Dispose();
            Assert.Contains(File.ReadLines("/proc/self/maps"), l => l.EndsWith(_devices[0], StringComparison.Ordinal));
        }
        Assert.DoesNotContain(File.ReadLines("/proc/self/maps"), l => l.EndsWith(_devices[0], StringComparison.Ordinal));
    }

    [Fact]
    public void Without_a_mount_the_memory_of_a_file_is_refused()
    {
        string path = Path.Combine(_directory, "plain");
        File.WriteAllText(path, "x");

        FamfsException e = Assert.Throws<FamfsException>(() => FamfsFile.Map(path));
        Assert.Equal(ErrorReason.BadRequest, e.Reason);
        Assert.Contains("not on a famfs mount", e.Message, StringComparison.Ordinal);
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private static Extent Extent(uint device, ulong unit, ulong units) => new() { Device = device, OffsetBytes = unit * Unit, LengthBytes = units * Unit };

    private MappedRange Map(FileMap map, ulong size, bool writable, MountedFile? pin = null)
    {
        Dictionary<uint, MappedDaxDevice> devices = _devices.ToDictionary(d => d.Key, d => MappedDaxDevice.Open(d.Value, readOnly: !writable));
        try
        {
            return MappedRange.MapDevices(MapPieces.Of(map, size, Environment.SystemPageSize), (long)size, devices.ToDictionary(d => d.Key, d => d.Value.Source), writable, pin);
        }
        finally
        {
            foreach (MappedDaxDevice device in devices.Values)
                device.Dispose();
        }
    }

    private void MakeDevice(uint index, int units)
    {
        string path = Path.Combine(_directory, $"device{index}");
        using FileStream file = File.Create(path);
        for (int unit = 0; unit < units; unit++)
            file.Write(Content(index, (uint)unit, 1));
        _devices[index] = path;
    }

    private static byte[] Content(uint device, uint unit, int units)
    {
        byte[] bytes = new byte[units * Unit];
        for (int i = 0; i < units; i++)
            new Random((int)(device * 1000 + unit + i)).NextBytes(bytes.AsSpan(i * Unit, Unit));
        return bytes;
    }

    private byte[] ReadDevice(uint index, int unit)
    {
        using FileStream file = File.OpenRead(_devices[index]);
        file.Seek((long)unit * Unit, SeekOrigin.Begin);
        byte[] bytes = new byte[Unit];
        file.ReadExactly(bytes);
        return bytes;
    }
}
