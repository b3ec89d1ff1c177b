using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Famfs2;
using Famfs.Famfs2.Codec;
using Famfs.TestSupport;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Dax;

public sealed class Famfs2DeviceSearchTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-search-").FullName;
    private readonly StoppedClock _clock = new();
    private readonly Guid _fileSystem = Guid.NewGuid();

    public Famfs2DeviceSearchTests()
    {
        Make(_fileSystem, "dax0", "dax1");
        File.WriteAllBytes(PathOf("dax.foreign"), Enumerable.Repeat((byte)7, 4 << 20).ToArray());
        MakeBlank("dax.blank");
        File.WriteAllText(PathOf("dax.small"), "x");
        Directory.CreateDirectory(PathOf("dax.directory"));
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData("old*")]
    [InlineData("old0", "old*")]
    [InlineData("old1", "old*")]
    [InlineData("old0", "old1", "d*")]
    public void Devices_of_famfs_2_are_found_by_their_uuid_in_its_log(params string[] places)
    {
        Famfs2Superblock primary = MakeFamfs2("old0", "old1");
        MakeBlank("old2");
        using (DaxDevice stranger = DaxDevice.Open(PathOf("old2")))
            Famfs2Formatter.FormatFurther(stranger, primary, force: false); // its entry was never written
        using DevicePool pool = Search(places).Open();
        Assert.Equal(Famfs2Format.Instance, pool.Format);
        Assert.Equal([PathOf("old0"), PathOf("old1")], pool.Present.Select(i => pool.Require(i).Path));
    }

    [Fact]
    public void A_device_that_a_famfs_2_log_adds_later_is_found()
    {
        Famfs2Superblock primary = MakeFamfs2("old0", "old1");
        DeviceSearch search = Search("old0", "old*");
        using DevicePool pool = search.Open();
        MakeBlank("old2");
        Famfs2Superblock third;
        using (DaxDevice device = DaxDevice.Open(PathOf("old2")))
            third = Famfs2Formatter.FormatFurther(device, primary, force: false);
        byte[] entry = new byte[Famfs2Entry.Size];
        new Famfs2Device((ulong)third.DeviceLengthBytes, third.Device, 2).Format(entry, 1);
        pool.PrimaryDevice.Write(Famfs2Layout.EntryOffset(1), entry);
        byte[] header = new byte[Famfs2LogHeader.Size];
        new Famfs2LogHeader(primary.LogLengthBytes, 2, 2).Format(header);
        pool.PrimaryDevice.Write(Famfs2Layout.LogOffset, header);
        DeviceAdded added = new() { Index = 2, DeviceUuid = third.Device.ToByteString() };
        Assert.Equal([new(2)], search.Look(pool, [.. Known(pool), added]).Attached);
        Assert.Equal(PathOf("old2"), pool.Require(new(2)).Path);
    }

    /// <summary>A program may keep a copy of a log in a file, which on a further device may lie where the first one has its own.</summary>
    [Theory]
    [InlineData("old*")]
    [InlineData("old0", "old*")]
    [InlineData("old1", "old*")]
    public void A_log_in_a_file_of_a_further_device_makes_it_no_first_device(params string[] places)
    {
        MakeFamfs2("old0", "old1");
        byte[] log = new byte[Famfs2Layout.HeaderBytes + Famfs2Layout.EntryBytes];
        using (DaxDevice first = DaxDevice.Open(PathOf("old0")))
            first.Read(Famfs2Layout.LogOffset, log);
        foreach (bool own in new[] { true, false })
        {
            using (DaxDevice further = DaxDevice.Open(PathOf("old1")))
            {
                if (!own)
                    new Famfs2Directory { Path = "of another file system"u8.ToArray() }.Format(log.AsSpan(Famfs2Layout.HeaderBytes), 0);
                further.Write(Famfs2Layout.LogOffset, log);
            }
            using DevicePool pool = Search(places).Open();
            Assert.Equal([PathOf("old0"), PathOf("old1")], pool.Present.Select(i => pool.Require(i).Path));
        }
        using (DaxDevice first = DaxDevice.Open(PathOf("old0")))
            first.Write(Famfs2Layout.LogOffset, "nonsense"u8);
        FamfsException error = Assert.Throws<FamfsException>(() => Search(places).Open());
        Assert.Contains($"{PathOf("old0")}: log header magic is wrong", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_pattern_over_a_famfs_2_log_that_is_damaged_says_what_is_wrong()
    {
        MakeFamfs2("old0", "old1");
        using (DaxDevice device = DaxDevice.Open(PathOf("old0")))
            device.Write(Famfs2Layout.LogOffset, "nonsense"u8);
        FamfsException error = Assert.Throws<FamfsException>(() => Search("old*").Open());
        Assert.Equal(ErrorReason.MediaCorrupt, error.Reason);
        Assert.Contains("log header magic is wrong", error.Message, StringComparison.Ordinal);
        // Beside a native file system it is one of two, and nothing says which is meant.
        MakeFamfs2("dax5");
        Assert.Equal(ErrorReason.WrongFilesystem, Refused("dax*"));
    }

    private Famfs2Superblock MakeFamfs2(params string[] names)
    {
        List<DaxDevice> devices = [];
        foreach (string name in names)
        {
            MakeBlank(name);
            devices.Add(DaxDevice.Open(PathOf(name)));
        }
        Famfs2Superblock made = Famfs2Formatter.Format(devices, new() { System = Guid.NewGuid() });
        devices.ForEach(d => d.Dispose());
        return made;
    }

    private DeviceSearch Search(params string[] places) => new([.. places.Select(PathOf)], TestFormats.All, _clock);

    private ErrorReason Refused(params string[] places) => Assert.Throws<FamfsException>(() => Search(places).Open().Dispose()).Reason;

    private string PathOf(string name) => name.Length == 0 ? _directory : Path.Combine(_directory, name);

    private static List<DeviceAdded> Known(DevicePool pool) =>
        [.. pool.Present.Select(i => new DeviceAdded { Index = i.Value, DeviceUuid = pool.FindUuid(i)!.Value.ToByteString() })];

    private void Make(Guid fileSystem, params string[] names)
    {
        List<DaxDevice> devices = [];
        foreach (string name in names)
        {
            MakeBlank(name);
            devices.Add(DaxDevice.Open(PathOf(name)));
        }
        NativeFormatter.Format(devices, new() { Host = Guid.NewGuid(), Clock = TimeProvider.System, FileSystem = fileSystem, MaxHosts = 1 });
        devices.ForEach(d => d.Dispose());
    }

    private void MakeBlank(string name)
    {
        using FileStream file = File.Create(PathOf(name));
        file.SetLength(16L << 20);
    }

    private sealed class StoppedClock : TimeProvider
    {
        private long _now;

        public override long GetTimestamp() => _now;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public void Advance(TimeSpan time) => _now += time.Ticks;
    }
}
