using System.Globalization;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Dax;

/// <summary>A plain directory that stands for <c>.meta</c>: files, and the map of each beside them.</summary>
internal sealed class PieceDirectory : IDevicePieces, IDisposable
{
    private readonly string _path = Directory.CreateDirectory(Path.Combine(
        Directory.Exists("/dev/shm") ? "/dev/shm" : Path.GetTempPath(), $"famfs-pieces-{Guid.NewGuid():N}", ".meta")).FullName;

    private readonly List<(DeviceIndex Device, DevicePiece Piece)> _pieces = [];

    public string Directory_ => _path;

    public int Searches { get; private set; }

    /// <summary>A file over a range of a device.</summary>
    public string Add(string name, int device, long offset, long length)
    {
        string file = Path.Combine(_path, name);
        using (FileStream stream = new(file, FileMode.OpenOrCreate))
            stream.SetLength(length);
        _pieces.Add((new((ushort)device), new(offset, length, file)));
        return file;
    }

    /// <summary>What the mount's root says.</summary>
    public Dictionary<string, string> RootAttributes { get; } = [];

    /// <summary>An attribute of the root, or the map of a file.</summary>
    public string? ReadAttribute(string path, string name)
    {
        if (path == Path.GetDirectoryName(_path))
            return RootAttributes.GetValueOrDefault(name);
        foreach ((DeviceIndex device, DevicePiece piece) in _pieces)
        {
            if (piece.Path == path)
                return string.Create(CultureInfo.InvariantCulture, $"size {piece.LengthBytes} chunk 0\n{device} {piece.OffsetBytes} {piece.LengthBytes}\n");
        }
        return null;
    }

    public bool TryFind(DeviceIndex device, long offset, out DevicePiece piece)
    {
        Searches++;
        int found = _pieces.FindIndex(p => p.Device == device && offset >= p.Piece.OffsetBytes && offset < p.Piece.OffsetBytes + p.Piece.LengthBytes);
        piece = found < 0 ? default : _pieces[found].Piece;
        return found >= 0;
    }

    public string DescribeAbsence(DeviceIndex device, long offset) => $"no piece has {offset} of device {device}";

    public string MountPoint => Path.GetDirectoryName(_path)!;

    public void Dispose() => Directory.Delete(MountPoint, recursive: true);
}

/// <summary>A device in four files of different lengths.</summary>
public sealed class MountedDeviceConformance : DaxDeviceConformance
{
    private readonly PieceDirectory _pieces = new();

    public MountedDeviceConformance()
    {
        const long Unit = MediaLayout.UnitBytes;
        _pieces.Add("superblock", 0, 0, Unit);
        _pieces.Add("hosts", 0, Unit, Unit);
        _pieces.Add("segment-5", 0, 2 * Unit, Length - (2 * Unit));
    }

    public override void Dispose()
    {
        base.Dispose();
        _pieces.Dispose();
    }

    protected override DaxDevice Open(string hostName) => new PiecewiseDaxDevice("mounted", new(0), Length, coherent: true, readOnly: false, _pieces);
}

public sealed class PiecewiseDaxDeviceTests : IDisposable
{
    private const long Unit = MediaLayout.UnitBytes;

    private readonly PieceDirectory _pieces = new();

    public void Dispose() => _pieces.Dispose();

    [Fact]
    public void A_piece_is_looked_for_at_its_first_use_and_once()
    {
        using PiecewiseDaxDevice device = new("m", new(1), 100 * Unit, coherent: true, readOnly: false, _pieces);
        _pieces.Add("later", 1, 7 * Unit, 2 * Unit);
        Assert.Equal(0, _pieces.Searches);

        device.Write((7 * Unit) + 5, [1, 2, 3]);
        device.Read((7 * Unit) + 5, new byte[3]);
        device.WriteWord(8 * Unit, 42);

        Assert.Equal(1, _pieces.Searches);
        Assert.Equal(3, File.ReadAllBytes(Path.Combine(_pieces.Directory_, "later"))[7]);
    }

    [Fact]
    public void A_piece_that_another_process_had_open_is_used_without_asking_for_it()
    {
        string file = _pieces.Add("segment", 1, 7 * Unit, 2 * Unit);
        using PiecewiseDaxDevice former = new("m", new(1), 100 * Unit, coherent: true, readOnly: false, _pieces);
        former.RequireOpen(7 * Unit);
        former.Write((7 * Unit) + 5, [1, 2, 3]);
        DevicePiece place = Assert.Single(former.OpenPieces).Place;
        Assert.Equal((7 * Unit, 2 * Unit), (place.OffsetBytes, place.LengthBytes));

        using PiecewiseDaxDevice device = new("m", new(1), 100 * Unit, coherent: true, readOnly: false, _pieces);
        int before = _pieces.Searches;
        device.Adopt(new(7 * Unit, 2 * Unit, "kept"), File.OpenHandle(file, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite));
        // One that does not fit is closed.
        Microsoft.Win32.SafeHandles.SafeFileHandle beyond = File.OpenHandle(file, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        device.Adopt(new(99 * Unit, 2 * Unit, "kept"), beyond);
        Assert.True(beyond.IsClosed);
        byte[] bytes = new byte[3];
        device.Read((7 * Unit) + 5, bytes);
        device.WriteWord(8 * Unit, 42);
        Assert.Equal([1, 2, 3], bytes);
        Assert.Equal(before, _pieces.Searches);
        Assert.Equal(42UL, former.ReadWord(8 * Unit));
        Assert.Single(device.OpenPieces);
    }

    [Fact]
    public void Pieces_that_are_let_go_of_are_closed_and_opened_anew_where_they_are_used()
    {
        _pieces.Add("superblock", 0, 0, Unit);
        string file = _pieces.Add("segment-5", 0, 2 * Unit, 2 * Unit);
        using PiecewiseDaxDevice device = new("m", new(0), 100 * Unit, coherent: true, readOnly: false, _pieces);
        device.Write(5, [1]);
        device.Write((2 * Unit) + 5, [2]);
        // Not a part of one.
        device.LetGo(Unit, 2 * Unit);
        Assert.Equal(2, device.OpenPieces.Count);
        System.Runtime.InteropServices.SafeHandle open = device.OpenPieces[1].File;
        device.LetGo(2 * Unit, 2 * Unit);
        Assert.True(open.IsClosed);
        Assert.DoesNotContain(file, File.ReadAllText("/proc/self/maps"), StringComparison.Ordinal);
        Assert.Equal(0L, Assert.Single(device.OpenPieces).Place.OffsetBytes);
        byte[] read = new byte[1];
        device.Read((2 * Unit) + 5, read);
        Assert.Equal([2], read);
        Assert.Equal(2, device.OpenPieces.Count);
    }

    [Fact]
    public void What_no_file_covers_is_missing_and_the_rest_goes_on()
    {
        using PiecewiseDaxDevice device = new("m", new(0), 100 * Unit, coherent: true, readOnly: false, _pieces);
        _pieces.Add("superblock", 0, 0, Unit);
        FamfsException error = Assert.Throws<FamfsException>(() => device.Read(Unit - 1, new byte[2]));
        Assert.Equal(ErrorReason.DeviceMissing, error.Reason);
        Assert.Contains("m: no piece has 2097152 of device 0", error.Message, StringComparison.Ordinal);

        device.Read(Unit - 1, new byte[1]);
        Assert.Throws<ArgumentOutOfRangeException>(() => device.Read(100 * Unit, new byte[1]));
    }

    [Fact]
    public void A_file_of_another_length_than_its_map_is_refused()
    {
        string file = _pieces.Add("superblock", 0, 0, Unit);
        using (FileStream stream = File.OpenWrite(file))
            stream.SetLength(2 * Unit);
        using PiecewiseDaxDevice device = new("m", new(0), 100 * Unit, coherent: true, readOnly: false, _pieces);
        Assert.Equal(ErrorReason.WrongFilesystem, Assert.Throws<FamfsException>(() => device.Read(0, new byte[1])).Reason);
    }

    [Fact]
    public void A_lock_is_the_superblock_files_so_that_two_devices_over_one_mount_exclude_each_other()
    {
        _pieces.Add("superblock", 0, 0, Unit);
        using PiecewiseDaxDevice one = new("m", new(0), 100 * Unit, coherent: true, readOnly: false, _pieces);
        using PiecewiseDaxDevice other = new("m", new(0), 100 * Unit, coherent: true, readOnly: false, _pieces);
        Assert.True(one.TryLockByte(3, out IDisposable? held));
        Assert.False(other.TryLockByte(3, out _));
        held.Dispose();
        Assert.True(other.TryLockByte(3, out held));
        held.Dispose();
    }

    [Fact]
    public void A_pool_opens_from_the_files_of_a_mount_and_its_log_is_read_through_them()
    {
        // The same bytes once as devices and once cut into the files that a mount would show.
        using DeviceFile first = new(16 * Unit);
        using DeviceFile second = new(8 * Unit);
        Guid fileSystem;
        Guid[] uuids;
        using (DaxDevice a = DaxDevice.Open(first.Path))
        using (DaxDevice b = DaxDevice.Open(second.Path))
        {
            fileSystem = NativeFormatter.Format([a, b], new FormatOptions { Host = Guid.NewGuid(), Clock = TimeProvider.System }).FileSystem;
            using DevicePool pool = TestFormats.All.Open([a, b]);
            uuids = [pool.FindUuid(new(0))!.Value, pool.FindUuid(new(1))!.Value];
        }
        Cut(first.Path, "superblock", 0, 0, Unit);
        Cut(first.Path, "hosts", 0, Unit, Unit);
        Cut(first.Path, "segment-5", 0, 2 * Unit, Unit);
        Cut(second.Path, "superblock-1", 1, 0, Unit);
        _pieces.RootAttributes["user.famfs.uuid"] = fileSystem.ToString();
        _pieces.RootAttributes["user.famfs.dialect"] = "B";
        _pieces.RootAttributes["user.famfs.devices"] = $"0 {uuids[0]} /dev/dax0.0\n1 {uuids[1]} /dev/dax1.0\n";
        MetaDirectory meta = new(_pieces.MountPoint, readOnly: false, TestFormats.All, _pieces.ReadAttribute, TimeProvider.System);

        using (DevicePool through = TestFormats.All.Open(meta.OpenDevices()))
        {
            Assert.Equal(fileSystem, through.Primary.FileSystem);
            Assert.Equal(16 * Unit, through.Require(new(0)).LengthBytes);
            LogReader reader = new(through, TimeProvider.System);
            Assert.Equal(PollVerdict.Records, reader.Poll(out LogBlock block));
            Assert.Equal(5, block.Count);
            Assert.Empty(new MountLineTable(through).ReadInUse());
        }

        Assert.Equal(uuids[1], NativeMedia.RequireSuperblock(Assert.Single(meta.OpenDevices([uuids[1]]))).Device);

        _pieces.RootAttributes["user.famfs.devices"] = $"0 {uuids[0]} /dev/dax0.0\n1 {uuids[0]} /dev/dax1.0\n";
        FamfsException wrong = Assert.Throws<FamfsException>(() => meta.OpenDevices());
        Assert.Equal(ErrorReason.WrongFilesystem, wrong.Reason);
        Assert.Contains("superblock-1", wrong.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void On_a_stock_kernel_a_mount_point_stands_for_the_devices_it_names()
    {
        using DeviceFile file = new(16 * Unit);
        Guid fileSystem;
        Guid uuid;
        using (DaxDevice made = DaxDevice.Open(file.Path))
        {
            fileSystem = NativeFormatter.Format([made], new FormatOptions { Host = Guid.NewGuid(), Clock = TimeProvider.System }).FileSystem;
            uuid = NativeMedia.RequireSuperblock(made).Device;
        }
        _pieces.RootAttributes["user.famfs.dialect"] = "stock";
        _pieces.RootAttributes["user.famfs.uuid"] = fileSystem.ToString();
        _pieces.RootAttributes["user.famfs.devices"] = $"0 {uuid} {file.Path}\n";
        MetaDirectory meta = new(_pieces.MountPoint, readOnly: true, TestFormats.All, _pieces.ReadAttribute, TimeProvider.System);
        using (DaxDevice device = Assert.Single(meta.OpenDevices()))
        {
            Assert.IsType<MappedDaxDevice>(device);
            Assert.Equal((file.Path, true), (device.Path, device.ReadOnly));
        }

        // The path leads elsewhere by now: to a device of another number, or of another file system.
        _pieces.RootAttributes["user.famfs.devices"] = $"0 {Guid.NewGuid()} {file.Path}\n";
        Assert.Equal(ErrorReason.WrongFilesystem, Assert.Throws<FamfsException>(() => meta.OpenDevices()).Reason);
        _pieces.RootAttributes["user.famfs.devices"] = $"0 {uuid} {file.Path}\n";
        _pieces.RootAttributes["user.famfs.uuid"] = Guid.NewGuid().ToString();
        Assert.Equal(ErrorReason.WrongFilesystem, Assert.Throws<FamfsException>(() => meta.OpenDevices()).Reason);
        _pieces.RootAttributes.Remove("user.famfs.uuid");
        Assert.Equal(ErrorReason.WrongFilesystem, Assert.Throws<FamfsException>(() => meta.OpenDevices()).Reason);
    }

    [Fact]
    public void Space_that_the_mount_does_not_learn_of_in_time_is_an_error_that_names_it()
    {
        ManualClock clock = new();
        MetaDirectory meta = new(_pieces.MountPoint, readOnly: true, TestFormats.All, _pieces.ReadAttribute, clock);
        Assert.False(meta.TryFind(new(0), 5 * Unit, out _));
        Assert.Contains(_pieces.MountPoint, meta.DescribeAbsence(new(0), 5 * Unit), StringComparison.Ordinal);

        _pieces.Add("segment-9", 0, 5 * Unit, Unit);
        Assert.True(meta.TryFind(new(0), (6 * Unit) - 1, out DevicePiece piece));
        Assert.Equal((5 * Unit, Unit), (piece.OffsetBytes, piece.LengthBytes));
    }

    [Fact]
    public void Windows_are_found_while_they_are_there_and_only_as_they_are_then()
    {
        MetaDirectory meta = new(_pieces.MountPoint, readOnly: false, TestFormats.All, _pieces.ReadAttribute, new ManualClock());
        string windows = Directory.CreateDirectory(Path.Combine(_pieces.MountPoint, ".meta", "window")).FullName;
        void Show(string name) => File.WriteAllText(Path.Combine(windows, name), "");
        Show($"0-{4 * Unit}-{4 * Unit}");
        Show($"1-{4 * Unit}-{2 * Unit}");
        Show("flush-7");
        Assert.True(meta.TryFind(new(0), (8 * Unit) - 1, out DevicePiece piece));
        Assert.Equal(new DevicePiece(4 * Unit, 4 * Unit, Path.Combine(windows, $"0-{4 * Unit}-{4 * Unit}")), piece);
        Assert.True(meta.TryFind(new(1), 4 * Unit, out piece));
        Assert.Equal(2 * Unit, piece.LengthBytes);
        Assert.False(meta.TryFind(new(1), 6 * Unit, out _));
        Assert.False(meta.TryFind(new(2), 4 * Unit, out _));
        File.Delete(Path.Combine(windows, $"0-{4 * Unit}-{4 * Unit}"));
        Show($"0-{6 * Unit}-{Unit}");
        Assert.True(meta.TryFind(new(0), 6 * Unit, out piece));
        Assert.Equal(Unit, piece.LengthBytes);
        Assert.False(meta.TryFind(new(0), 4 * Unit, out _));
    }

    /// <summary>A clock on which every look takes a second.</summary>
    private sealed class ManualClock : TimeProvider
    {
        private long _now;

        public override long TimestampFrequency => 1;

        public override long GetTimestamp() => _now++;
    }

    private void Cut(string device, string name, int index, long offset, long length)
    {
        string file = _pieces.Add(name, index, offset, length);
        byte[] bytes = new byte[length];
        using (FileStream from = File.OpenRead(device))
        {
            from.Position = offset;
            from.ReadExactly(bytes);
        }
        File.WriteAllBytes(file, bytes);
    }
}

/// <summary>A regular file in which the device starts 2 MiB behind the file's start.</summary>
public sealed class OffsetFileDeviceConformance : DaxDeviceConformance
{
    private readonly DeviceFile _file = new(Length + (2 << 20));

    public override void Dispose()
    {
        base.Dispose();
        _file.Dispose();
    }

    protected override DaxDevice Open(string hostName) => DaxDevice.Open(_file.Path + ":offset=2M");
}

public sealed class DeviceArgumentTests
{
    [Theory]
    [InlineData("/dev/shm/x", "/dev/shm/x", 0)]
    [InlineData("/dev/shm/x:offset=2M", "/dev/shm/x", 2 << 20)]
    [InlineData("/dev/shm/x:offset=4096", "/dev/shm/x", 4096)]
    [InlineData("x:offset=1g", "x", 1 << 30)]
    [InlineData("x:offset=2M:offset=0", "x:offset=2M", 0)]
    [InlineData(":offset=2M", ":offset=2M", 0)]
    public void An_argument_is_a_path_and_where_the_device_starts(string text, string path, long offset) =>
        Assert.Equal(new DeviceArgument(path, offset), DeviceArgument.Parse(text));

    [Theory]
    [InlineData("x:offset=")]
    [InlineData("x:offset=M")]
    [InlineData("x:offset=-4096")]
    [InlineData("x:offset=1")]
    [InlineData("x:offset=2MM")]
    [InlineData("x:offset=9223372036854775807K")]
    public void An_offset_that_is_no_multiple_of_a_page_is_refused(string text) =>
        Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => DeviceArgument.Parse(text)).Reason);

    [Fact]
    public void Bytes_of_the_device_are_bytes_of_the_file_behind_the_offset()
    {
        using DeviceFile file = new(6 << 20);
        using (DaxDevice device = DaxDevice.Open(file.Path + ":offset=2M"))
        {
            Assert.Equal(4 << 20, device.LengthBytes);
            Assert.EndsWith(":offset=2M", device.Path, StringComparison.Ordinal);
            device.Write(10, [7]);
            device.Zero(4096, 1 << 20);
        }
        Assert.Equal(7, File.ReadAllBytes(file.Path)[(2 << 20) + 10]);
        Assert.Contains("nothing lies at offset", Assert.Throws<FamfsException>(() => DaxDevice.Open(file.Path + ":offset=6M")).Message, StringComparison.Ordinal);
    }
}
