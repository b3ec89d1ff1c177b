using System.Text;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.TestSupport;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Core.Tests.Check;

public sealed class LogImportTests : IDisposable
{
    private const long DeviceBytes = 64L << 20;
    private static readonly Guid Host = Guid.NewGuid();

    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-import-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void Everything_that_is_published_comes_through_and_what_does_not_is_counted()
    {
        using DaxDevice lost = NewDevice("lost");
        NativeSuperblock superblock = NativeFormatter.Format([lost], new() { Host = Host, Clock = TimeProvider.System, Label = "kept" });
        using ReplayState before = Read(lost);
        long unit = MediaLayout.UnitBytes;
        Guid[] hosts = [Guid.NewGuid(), Guid.NewGuid()];
        long free = superblock.FirstSegmentOffset + superblock.FirstSegmentLengthBytes;
        MapExtent Extent(int i) => new(new(0), free + (i * unit), unit);
        ulong inode = before.NextInode.Value;
        Append(before, superblock,
            (RecordType.HostRegistered, new HostRegistered { HostId = hosts[0].ToByteString(), HostSlot = 0, Name = "a" }),
            (RecordType.HostRegistered, new HostRegistered { HostId = hosts[1].ToByteString(), HostSlot = 1, Name = "b" }),
            (RecordType.DirectoryMade, new DirectoryMade { TimeNs = 100, Inode = inode, Parent = 1, Name = ByteString.CopyFromUtf8("d"), Mode = 0x1C0, Uid = 5, Gid = 6 }),
            (RecordType.FileCreated, File(200, inode + 1, inode, "f", Extent(0))),
            (RecordType.SymlinkMade, new SymlinkMade { TimeNs = 300, Inode = inode + 2, Parent = inode, Name = ByteString.CopyFromUtf8("l"), Target = ByteString.CopyFromUtf8("f"), Uid = 7, Gid = 8 }),
            (RecordType.FileCreated, File(400, inode + 3, 1, "gone", Extent(1))),
            (RecordType.AttributesSet, Attributes(500, inode + 1, ("user.one", "1"), ("user.two", new string('x', 40_000)))),
            (RecordType.AttributesSet, Attributes(600, inode, ("user.directory", "d"))),
            (RecordType.AttributesSet, Attributes(650, 1, ("user.root", ""))),
            (RecordType.AttributesSet, new AttributesSet { TimeNs = 700, Inode = inode + 1, AccessTimeNs = 1, ModifyTimeNs = 2, Mode = 0x100 }),
            (RecordType.PolicySet, new PolicySet { TimeNs = 800, DialectFloor = 3 }),
            (RecordType.Deleted, new Deleted { TimeNs = 900, Inode = inode + 3, Parent = 1, Name = ByteString.CopyFromUtf8("gone") }));

        using DaxDevice blank = NewDevice("blank");
        LogImport.Result result = LogImport.Run([blank], before, new() { Host = Host, Clock = TimeProvider.System });
        Assert.Equal((1, 1, 1, 4, 1, 2, 0), (result.Files, result.Directories, result.Symlinks, result.Attributes, result.LeftOut, result.Hosts, result.MasterSlots));
        using ReplayState after = Read(blank);
        Assert.Equal(Describe(before), Describe(after));
        Assert.Equal((3U, "kept"), (after.Policy.DialectFloor, after.FileSystem!.Label));
        Assert.Empty(FileSystemCheck.Run([blank], TestFormats.All, new HastyClock()).Findings);
    }

    [Fact]
    public void A_file_older_than_a_further_device_gets_a_number_beside_that_devices_superblock()
    {
        using DaxDevice lost = NewDevice("lost");
        NativeSuperblock superblock = NativeFormatter.Format([lost], new() { Host = Host, Clock = TimeProvider.System });
        using ReplayState before = Read(lost);
        ulong inode = before.NextInode.Value;
        Guid second = Guid.NewGuid();
        Append(before, superblock,
            (RecordType.FileCreated, File(100, inode, 1, "f", new(new(0), 40L << 20, 2L << 20))),
            (RecordType.DeviceAdded, new DeviceAdded { Index = 1, DeviceUuid = second.ToByteString(), LengthBytes = (ulong)DeviceBytes, SuperblockInode = inode + 1 }));
        using DaxDevice first = NewDevice("first");
        using DaxDevice further = NewDevice("further");
        LogImport.Result result = LogImport.Run([first, further], before, new() { Host = Host, Clock = TimeProvider.System });
        Assert.Equal((1, superblock.Generation + 1), (result.Files, result.Superblock.Generation));
        CheckResult check = FileSystemCheck.Run([first, further], TestFormats.All, new HastyClock());
        Assert.Empty(check.Findings);
        Assert.Equal(1, check.Files);
    }

    [Theory]
    [InlineData("overlap")]
    [InlineData("superblock")]
    [InlineData("number")]
    [InlineData("larger")]
    public void A_log_that_contradicts_itself_is_refused_and_the_device_stays_as_it_is(string what)
    {
        using DaxDevice lost = NewDevice("lost");
        NativeSuperblock superblock = NativeFormatter.Format([lost], new() { Host = Host, Clock = TimeProvider.System });
        using ReplayState before = Read(lost);
        ulong inode = before.NextInode.Value;
        MapExtent extent = new(new(0), 40L << 20, 2L << 20);
        (RecordType, IMessage) hostile = what switch
        {
            "overlap" => (RecordType.FileCreated, File(100, inode + 1, 1, "g", extent)),
            "superblock" => (RecordType.FileCreated, File(100, inode + 1, 1, "g", new(new(0), 0, 2L << 20))),
            "number" => (RecordType.FileCreated, File(100, MediaLayout.FirstFreeInode - 1, 1, "g", new(new(0), 44L << 20, 2L << 20))),
            _ => (RecordType.DeviceAdded, new DeviceAdded { Index = 1, DeviceUuid = Guid.NewGuid().ToByteString(), LengthBytes = 1UL << 62, SuperblockInode = inode + 1 }),
        };
        Append(before, superblock, (RecordType.FileCreated, File(100, inode, 1, "f", extent)), hostile);
        using DaxDevice blank = NewDevice("blank");
        using DaxDevice further = NewDevice("further");
        DaxDevice[] devices = what == "larger" ? [blank, further] : [blank];
        Assert.Throws<FamfsException>(() => LogImport.Run(devices, before, new() { Host = Host, Clock = TimeProvider.System, Force = true }));
        Assert.False(System.IO.File.ReadAllBytes(Path.Combine(_directory, "blank")).AsSpan().ContainsAnyExcept((byte)0));
    }

    [Fact]
    public void Nothing_of_the_new_file_system_lies_where_existing_tools_had_a_file()
    {
        using DaxDevice lost = NewDevice("lost");
        NativeSuperblock superblock = NativeFormatter.Format([lost], new() { Host = Host, Clock = TimeProvider.System });
        using ReplayState before = Read(lost);
        ulong unit = MediaLayout.UnitBytes;
        Append(before, superblock,
            (RecordType.FileCreated, File(100, before.NextInode.Value, 1, "f", new(new(0), 2L << 20, 2L << 20))),
            (RecordType.EntryIgnored, new EntryIgnored { Extents = { new Extent { OffsetBytes = unit, LengthBytes = 3 * unit }, new Extent { OffsetBytes = 5 * unit, LengthBytes = 20 * unit } } }));
        using DaxDevice blank = NewDevice("blank");
        byte[] theirs = new byte[24 * unit];
        theirs.AsSpan().Fill(0x5A);
        blank.Write((long)unit, theirs);
        LogImport.Result result = LogImport.Run([blank], before, new() { Host = Host, Clock = TimeProvider.System, Force = true });
        Assert.Equal(1, result.Ignored);
        byte[] kept = new byte[24 * unit];
        blank.Read((long)unit, kept);
        Assert.False(kept.AsSpan(0, (int)(3 * unit)).ContainsAnyExcept((byte)0x5A));
        Assert.False(kept.AsSpan((int)(4 * unit)).ContainsAnyExcept((byte)0x5A));
    }

    [Fact]
    public void A_device_that_a_pool_of_this_host_uses_is_not_imported_onto()
    {
        using DaxDevice made = NewDevice("made");
        NativeFormatter.Format([made], new() { Host = Host, Clock = TimeProvider.System });
        using ReplayState before = Read(made);
        using DevicePool user = TestFormats.All.Open([DaxDevice.Open(made.Path)]);
        using DaxDevice again = DaxDevice.Open(made.Path);
        FamfsException error = Assert.Throws<FamfsException>(() => LogImport.Run([again], before, new() { Host = Host, Clock = TimeProvider.System, Force = true }));
        Assert.Equal(ErrorReason.Exists, error.Reason);
        Assert.Contains("in use", error.Message, StringComparison.Ordinal);
    }

    private static FileCreated File(long timeNs, ulong inode, ulong parent, string name, MapExtent extent) => new()
    {
        TimeNs = timeNs,
        Inode = inode,
        Parent = parent,
        Name = ByteString.CopyFromUtf8(name),
        Mode = 0x1A4,
        SizeBytes = 12345,
        Map = new() { Extents = { new Extent { Device = extent.Device.Value, OffsetBytes = (ulong)extent.OffsetBytes, LengthBytes = (ulong)extent.LengthBytes } } },
    };

    private static AttributesSet Attributes(long timeNs, ulong inode, params (string Name, string Value)[] attributes)
    {
        AttributesSet set = new() { TimeNs = timeNs, Inode = inode };
        foreach ((string name, string value) in attributes)
            set.Attributes.Add(new ExtendedAttribute { Name = ByteString.CopyFromUtf8(name), Value = ByteString.CopyFromUtf8(value) });
        return set;
    }

    private static void Append(ReplayState state, NativeSuperblock superblock, params (RecordType Type, IMessage Payload)[] records)
    {
        RecordBatch batch = new();
        batch.Start(state.Position.Sequence, state.Position.Term, Crc32C.Seed(superblock.FileSystem, state.Position.Generation, 0));
        foreach ((RecordType type, IMessage payload) in records)
            state.Apply(RecordFrame.ReadVerified(batch.Add(type, payload)));
    }

    private static ReplayState Read(DaxDevice device)
    {
        DevicePool pool = TestFormats.All.Open([device]); // the device is the caller's
        ILogReader reader = pool.Format.OpenReader(pool, new HastyClock());
        ReplayState state = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), default);
        while (reader.Poll(out LogBlock block) == PollVerdict.Records)
            state.ApplyFrames(block.Frames.Span);
        return state;
    }

    /// <summary>Everything about what has a name, in one text.</summary>
    private static string Describe(ReplayState state)
    {
        StringBuilder text = new();
        using TreeReader reader = state.Tree.RegisterReader();
        using TreeScope scope = reader.Enter();
        scope.TryGet(InodeNumber.Root, out InodeAttributes root);
        DescribeOne(scope, root, "", text);
        return text.ToString();
    }

    private static void DescribeOne(in TreeScope scope, in InodeAttributes a, string name, StringBuilder text)
    {
        text.Append($"{name} {a.Inode} {a.Kind} {a.Mode} {a.Uid} {a.Gid} {a.SizeBytes} {a.AccessTimeNs} {a.ModifyTimeNs} {a.ChangeTimeNs}");
        if (a.Kind == InodeKind.File && scope.TryGetMap(a.Inode, out MapView map))
            text.Append($" {map.ChunkBytes} {map[0]}");
        if (scope.TryGetSymlinkTarget(a.Inode, out ReadOnlySpan<byte> target))
            text.Append($" {Encoding.UTF8.GetString(target)}");
        foreach (ExtendedAttributes each in scope.ListExtendedAttributes(a.Inode))
            text.Append($" {Encoding.UTF8.GetString(each.Name)}={Encoding.UTF8.GetString(each.Value)}");
        text.Append('\n');
        DirectoryEntries entries = scope.List(a.Inode, 0);
        while (entries.MoveNext())
            DescribeOne(scope, entries.Attributes, $"{name}/{Encoding.UTF8.GetString(entries.Name)}", text);
    }

    private DaxDevice NewDevice(string name)
    {
        string path = Path.Combine(_directory, name);
        using (FileStream file = new(path, FileMode.CreateNew))
            file.SetLength(DeviceBytes);
        return DaxDevice.Open(path);
    }
}
