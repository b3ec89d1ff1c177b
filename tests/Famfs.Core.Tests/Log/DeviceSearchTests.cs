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

public sealed class DeviceSearchTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-search-").FullName;
    private readonly StoppedClock _clock = new();
    private readonly Guid _fileSystem = Guid.NewGuid();
    private string _label = "";

    public DeviceSearchTests()
    {
        Make(_fileSystem, "dax0", "dax1");
        File.WriteAllBytes(PathOf("dax.foreign"), Enumerable.Repeat((byte)7, 4 << 20).ToArray());
        MakeBlank("dax.blank");
        File.WriteAllText(PathOf("dax.small"), "x");
        Directory.CreateDirectory(PathOf("dax.directory"));
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData("dax*")]
    [InlineData("dax?")]
    [InlineData("")]
    [InlineData("dax0", "dax*")]
    [InlineData("dax1", "dax0")]
    [InlineData("dax1", "")]
    [InlineData("dax0", "dax1", "nothing*", "dax*")]
    public void Paths_patterns_and_directories_name_the_devices_of_one_file_system(params string[] places)
    {
        using DevicePool pool = Search(places).Open();
        Assert.Equal([new(0), new(1)], pool.Present);
        Assert.Equal(_fileSystem, pool.Primary.FileSystem);
    }

    [Fact]
    public void A_path_must_be_a_device_of_the_file_system_and_what_a_pattern_finds_need_not()
    {
        Make(Guid.NewGuid(), "other0", "other1");
        using (DevicePool pool = Search("dax0", "").Open())
            Assert.Equal([new(0), new(1)], pool.Present);
        Assert.Equal(ErrorReason.WrongFilesystem, Refused("dax0", "dax.foreign"));
        Assert.Equal(ErrorReason.WrongFilesystem, Refused("dax0", "other1"));
        Assert.Equal(ErrorReason.WrongFilesystem, Refused("dax0", "other0"));
        Assert.Equal(ErrorReason.NotFound, Refused("dax0", "dax7"));
        // Two file systems, and nothing that says which of them.
        Assert.Equal(ErrorReason.WrongFilesystem, Refused(""));
        Assert.Equal(ErrorReason.DeviceMissing, Refused("dax1"));
        Assert.Equal(ErrorReason.DeviceMissing, Refused("nothing*"));
        Assert.Equal(ErrorReason.DeviceMissing, Refused("other1", "dax*"));
    }

    [Fact]
    public void One_device_by_several_names_is_one_device()
    {
        File.CreateSymbolicLink(PathOf("dax.alias"), PathOf("dax1"));
        using DevicePool pool = Search("dax0", "dax*").Open();
        Assert.Equal([new(0), new(1)], pool.Present);
        Assert.Equal(pool.Require(new(1)).MemoryIdentity, Identity("dax.alias"));
        Assert.NotEqual(pool.Require(new(0)).MemoryIdentity, Identity("dax.alias"));
    }

    [Fact]
    public void What_the_log_adds_is_found_by_its_uuid_and_by_nothing_else()
    {
        DeviceSearch search = Search("dax0", "dax1", "later*");
        using DevicePool pool = search.Open();
        DeviceAdded added = Further(pool, "later.real", index: 2);
        Further(pool, "later.also", index: 2); // whoever added it never wrote its record
        DeviceSearchResult result = search.Look(pool, [.. Known(pool), added]);
        Assert.Equal([new(2)], result.Attached);
        Assert.Empty(result.Missing);
        Assert.Equal(PathOf("later.real"), pool.Require(new(2)).Path);
        Assert.Same(DeviceSearchResult.Nothing, search.Look(pool, [.. Known(pool), added]));
    }

    [Fact]
    public void A_device_that_stays_away_is_named_once_and_looked_for_less_and_less_often()
    {
        WatchedPlaces places = new([PathOf("dax0"), PathOf("dax1"), PathOf("later*")]);
        DeviceSearch search = new(places, TestFormats.All, _clock);
        using DevicePool pool = search.Open();
        DeviceAdded added = Further(pool, "elsewhere", index: 2);
        DeviceAdded[] known = [.. Known(pool), added];
        (DeviceAdded missing, string cause) = Assert.Single(search.Look(pool, known).Missing);
        Assert.Equal(added, missing);
        Assert.Contains("later*", cause, StringComparison.Ordinal);

        File.Move(PathOf("elsewhere"), PathOf("later"));
        Assert.Empty(search.Look(pool, known).Attached); // within the pause
        _clock.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal([new(2)], search.Look(pool, known).Attached);

        pool.KeepOnly(known[..2]);
        File.Move(PathOf("later"), PathOf("elsewhere"));
        Assert.Single(search.Look(pool, known).Missing); // it was here in between, so this is news
        int last = 0;
        List<int> pauses = [];
        for (int second = 1; second <= 100; second++)
        {
            _clock.Advance(TimeSpan.FromSeconds(1));
            int before = places.Enumerations;
            Assert.Empty(search.Look(pool, known).Missing);
            if (places.Enumerations == before)
                continue;
            pauses.Add(second - last);
            last = second;
        }
        Assert.Equal([1, 2, 4, 8, 16, 30, 30], pauses);
    }

    [Fact]
    public void Where_devices_cannot_be_mapped_another_way_to_attach_them_is_asked_and_nothing_is_opened()
    {
        DeviceSearch search = Search("dax0", "dax*");
        using DevicePool pool = Search("dax0", "dax1").Open();
        DeviceAdded added = Further(pool, "dax2", index: 2);
        List<DeviceAdded> known = [.. Known(pool), added];
        IReadOnlyList<string> offered = [];
        IReadOnlyList<DeviceIndex> Refuse(DevicePool to, IReadOnlyList<DeviceAdded> wanted, IReadOnlyList<string> paths, Dictionary<Guid, string> causes)
        {
            Assert.Same(pool, to);
            Assert.Equal([added], wanted);
            offered = paths;
            causes[added.DeviceUuid.ToGuid("device_uuid")] = "held elsewhere";
            return [];
        }
        Assert.Equal("held elsewhere", Assert.Single(search.Look(pool, known, Refuse).Missing).Cause);
        Assert.Null(pool.Find(new(2)));
        Assert.Contains(PathOf("dax2"), offered);
        Assert.Contains(PathOf("dax.foreign"), offered);

        _clock.Advance(TimeSpan.FromSeconds(1));
        DeviceSearchResult result = search.Look(pool, known, (to, _, _, _) => [to.Attach(DaxDevice.Open(PathOf("dax2")))]);
        Assert.Equal([new(2)], result.Attached);
        Assert.Empty(result.Missing);
    }

    [Fact]
    public void Devices_that_the_log_does_not_have_are_let_go()
    {
        using DevicePool first = Search("dax0", "dax1").Open();
        Further(first, "dax2", index: 2);
        using DevicePool pool = Search("dax*").Open();
        Assert.Equal([new(0), new(1), new(2)], pool.Present);
        Assert.Equal([PathOf("dax2")], pool.KeepOnly(Known(first)));
        Assert.Equal([new(0), new(1)], pool.Present);
        // Another addition under the same index: now two claim it, and the log has the word.
        DeviceAdded real = Further(first, "dax3", index: 2);
        DeviceSearch search = Search("dax*");
        using DevicePool again = search.Open();
        Assert.Equal([new(0), new(1)], again.Present);
        Assert.Equal([new(2)], search.Look(again, [.. Known(first), real]).Attached);
        Assert.Equal(PathOf("dax3"), again.Require(new(2)).Path);
    }

    [Fact]
    public void Of_two_copies_of_a_device_none_is_taken_until_one_is_named()
    {
        DeviceAdded added;
        List<DeviceAdded> known;
        using (DevicePool first = Search("dax0", "dax1").Open())
        {
            added = Further(first, "later2", index: 2);
            known = [.. Known(first), added];
        }
        File.Copy(PathOf("dax1"), PathOf("dax1.copy"));
        File.Copy(PathOf("later2"), PathOf("later2.copy"));
        string one = $"{PathOf("dax1")} and {PathOf("dax1.copy")} are both device 1 ({known[1].DeviceUuid.ToGuid("uuid")}): one is a copy";
        string two = $"{PathOf("later2")} and {PathOf("later2.copy")} are both device 2 ({added.DeviceUuid.ToGuid("uuid")}): one is a copy";

        DeviceSearch search = Search("dax*", "later*");
        using (DevicePool pool = search.Open())
        {
            Assert.Equal([new(0)], pool.Present);
            Assert.Contains(one, Assert.Throws<FamfsException>(() => pool.Require(new(1))).Message, StringComparison.Ordinal);
            DeviceSearchResult result = search.Look(pool, known);
            Assert.Empty(result.Attached);
            Assert.Equal(2, result.Missing.Count);
            Assert.StartsWith(one, result.Missing[0].Cause, StringComparison.Ordinal);
            Assert.StartsWith(two, result.Missing[1].Cause, StringComparison.Ordinal);
            Assert.Contains(two, Assert.Throws<FamfsException>(() => pool.Require(new(2))).Message, StringComparison.Ordinal);

            // The second copy of one is gone, the other one is named.
            File.Delete(PathOf("later2.copy"));
            _clock.Advance(TimeSpan.FromSeconds(1));
            Assert.Equal([new(2)], search.Look(pool, known).Attached);
            Assert.Equal(new(1), search.Attach(pool, known, PathOf("dax1.copy")));
            Assert.Equal(PathOf("dax1.copy"), pool.Require(new(1)).Path);
            Assert.Null(pool.FindAbsence(new(1)));
        }
        // By its path from the start, or for a look.
        using (DevicePool pool = Search("dax*", "dax1.copy").Open())
            Assert.Equal(PathOf("dax1.copy"), pool.Require(new(1)).Path);
        File.Copy(PathOf("later2"), PathOf("later2.copy"));
        search = Search("dax0", "dax1", "later*", "later2.copy");
        using (DevicePool pool = Search("dax0", "dax1").Open())
        {
            Assert.Equal([new(2)], search.Look(pool, known).Attached);
            Assert.Equal(PathOf("later2.copy"), pool.Require(new(2)).Path);
        }
    }

    [Fact]
    public void A_copy_that_appears_later_is_news_and_is_told_once()
    {
        DeviceSearch search = Search("dax0", "dax1", "later*");
        using DevicePool pool = search.Open();
        DeviceAdded added = Further(pool, "elsewhere", index: 2);
        List<DeviceAdded> known = [.. Known(pool), added];
        Assert.Contains("not found at", Assert.Single(search.Look(pool, known).Missing).Cause, StringComparison.Ordinal);
        File.Copy(PathOf("elsewhere"), PathOf("later.1"));
        File.Copy(PathOf("elsewhere"), PathOf("later.2"));
        _clock.Advance(TimeSpan.FromSeconds(1));
        Assert.Contains("are both device 2", Assert.Single(search.Look(pool, known).Missing).Cause, StringComparison.Ordinal);
        _clock.Advance(TimeSpan.FromSeconds(30));
        Assert.Empty(search.Look(pool, known).Missing);
    }

    [Fact]
    public void A_device_that_somebody_names_is_attached_or_refused_with_its_cause()
    {
        DeviceSearch search = Search("dax0", "dax1");
        using DevicePool pool = search.Open();
        DeviceAdded added = Further(pool, "dax2", index: 2);
        Further(pool, "dax.unfinished", index: 3); // whoever added it never wrote its record
        Make(Guid.NewGuid(), "other0");
        File.Copy(PathOf("dax1"), PathOf("dax.copy"));
        File.CreateSymbolicLink(PathOf("dax.alias"), PathOf("dax1"));
        List<DeviceAdded> known = [.. Known(pool), added];
        Assert.Single(search.Look(pool, known).Missing);
        foreach ((string name, ErrorReason reason, string cause) in ((string, ErrorReason, string)[])
        [
            ("nowhere", ErrorReason.NotFound, "nowhere"),
            ("dax.directory", ErrorReason.BadRequest, "dax.directory"),
            ("dax.small", ErrorReason.BadRequest, "dax.small"),
            ("dax.blank", ErrorReason.WrongFilesystem, "dax.blank"),
            ("other0", ErrorReason.WrongFilesystem, "belongs to file system"),
            ("dax.unfinished", ErrorReason.BadRequest, "does not have; `famfs devices add` adds one"),
            ("dax1", ErrorReason.Exists, "dax1: is device 1 of this mount already"),
            ("dax.alias", ErrorReason.Exists, $"is device 1 of this mount already, as {PathOf("dax1")}"),
            ("dax.copy", ErrorReason.Exists, $"is a copy of device 1, which is here as {PathOf("dax1")}"),
        ])
        {
            FamfsException error = Assert.Throws<FamfsException>(() => search.Attach(pool, known, PathOf(name)));
            Assert.True(error.Reason == reason, $"{name}: {error.Reason}: {error.Message}");
            Assert.Contains(cause, error.Message, StringComparison.Ordinal);
            Assert.Equal([new(0), new(1)], pool.Present);
        }
        Assert.Equal(new(2), search.Attach(pool, known, PathOf("dax2")));
        Assert.Equal(PathOf("dax2"), pool.Require(new(2)).Path);
        Assert.Same(DeviceSearchResult.Nothing, search.Look(pool, known));
        Assert.Equal(ErrorReason.Exists, Assert.Throws<FamfsException>(() => search.Attach(pool, known, PathOf("dax2"))).Reason);
    }

    [Fact]
    public void A_name_chooses_among_several_file_systems()
    {
        Guid other = Guid.NewGuid();
        _label = "models";
        Make(other, "other0", "other1");
        foreach (string name in (string[])["models", "LABEL=models", other.ToString(), "UUID=" + other])
        {
            using DevicePool pool = Named(name, "").Open();
            Assert.Equal(other, pool.Primary.FileSystem);
            Assert.Equal([new(0), new(1)], pool.Present);
        }
        using (DevicePool pool = Named(_fileSystem.ToString(), "").Open())
            Assert.Equal(_fileSystem, pool.Primary.FileSystem);
        using (DevicePool pool = Named("models", "other0", "").Open())
            Assert.Equal([new(0), new(1)], pool.Present);
        FamfsException none = Assert.Throws<FamfsException>(() => Named("nothing", "").Open().Dispose());
        Assert.Equal(ErrorReason.DeviceMissing, none.Reason);
        Assert.Contains("that is called nothing", none.Message, StringComparison.Ordinal);
        // What is named by its path is that file system or refused.
        FamfsException wrong = Assert.Throws<FamfsException>(() => Named("models", "dax0", "").Open().Dispose());
        Assert.Equal(ErrorReason.WrongFilesystem, wrong.Reason);
        Assert.Contains($"is of file system {_fileSystem}, not models", wrong.Message, StringComparison.Ordinal);
        // Two with one label are as many as two without.
        Make(Guid.NewGuid(), "third0");
        Assert.Equal(ErrorReason.WrongFilesystem, Assert.Throws<FamfsException>(() => Named("models", "").Open().Dispose()).Reason);
    }

    [Theory]
    [InlineData("")]
    [InlineData("LABEL=")]
    [InlineData("UUID=models")]
    public void What_names_no_file_system_is_refused(string name) =>
        Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => FileSystemName.Parse(name)).Reason);

    private DeviceSearch Named(string name, params string[] places) => new([.. places.Select(PathOf)], TestFormats.All, _clock, FileSystemName.Parse(name));

    private DeviceSearch Search(params string[] places) => new([.. places.Select(PathOf)], TestFormats.All, _clock);

    private ErrorReason Refused(params string[] places) => Assert.Throws<FamfsException>(() => Search(places).Open().Dispose()).Reason;

    private string PathOf(string name) => name.Length == 0 ? _directory : Path.Combine(_directory, name);

    private string Identity(string name)
    {
        using DaxDevice device = DaxDevice.Open(PathOf(name), readOnly: true);
        return device.MemoryIdentity;
    }

    private static List<DeviceAdded> Known(DevicePool pool) =>
        [.. pool.Present.Select(i => new DeviceAdded { Index = i.Value, DeviceUuid = pool.FindUuid(i)!.Value.ToByteString() })];

    private DeviceAdded Further(DevicePool pool, string name, ushort index)
    {
        MakeBlank(name);
        using DaxDevice device = DaxDevice.Open(PathOf(name));
        NativeSuperblock made = NativeFormatter.FormatFurther(device, NativeFormat.SuperblockOf(pool), new(index), force: false, TimeProvider.System);
        return new() { Index = index, DeviceUuid = made.Device.ToByteString() };
    }

    private void Make(Guid fileSystem, params string[] names)
    {
        List<DaxDevice> devices = [];
        foreach (string name in names)
        {
            MakeBlank(name);
            devices.Add(DaxDevice.Open(PathOf(name)));
        }
        NativeFormatter.Format(devices, new() { Host = Guid.NewGuid(), Clock = TimeProvider.System, FileSystem = fileSystem, MaxHosts = 1, Label = _label });
        devices.ForEach(d => d.Dispose());
    }

    private void MakeBlank(string name)
    {
        using FileStream file = File.Create(PathOf(name));
        file.SetLength(16L << 20);
    }

    private sealed class WatchedPlaces(string[] places) : IReadOnlyList<string>
    {
        public int Enumerations { get; private set; }

        public int Count => places.Length;

        public string this[int index] => places[index];

        public IEnumerator<string> GetEnumerator()
        {
            Enumerations++;
            return places.AsEnumerable().GetEnumerator();
        }

        System.Collections.IEnumerator System.Collections.IEnumerable.GetEnumerator() => GetEnumerator();
    }

    private sealed class StoppedClock : TimeProvider
    {
        private long _now;

        public override long GetTimestamp() => _now;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public void Advance(TimeSpan time) => _now += time.Ticks;
    }
}
