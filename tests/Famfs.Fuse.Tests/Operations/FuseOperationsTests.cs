using System.Runtime.InteropServices;
using System.Text;
using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Famfs.TestSupport.Dax;
using Xunit;

namespace Famfs.Fuse.Tests.Operations;

/// <summary>Operations without a mount: request bytes in, reply bytes out.</summary>
public sealed class FuseOperationsTests : IDisposable
{
    private const long Unit = TestFileSystem.Unit;
    private static readonly InodeNumber Root = InodeNumber.Root;
    private readonly TestFileSystem _system = new();
    private readonly FakeSharedMemory _memory = new(8 * Unit, seed: 1, coherent: true);
    private readonly RequestDriver _driver;

    public FuseOperationsTests()
    {
        _system.AddDevice(0, _memory.Attach("here"));
        _driver = new RequestDriver(_system);
    }

    public void Dispose()
    {
        _driver.Dispose();
        _system.Dispose();
    }

    [Fact]
    public void Lookup_gives_node_attributes_and_unlimited_validity()
    {
        InodeNumber file = _system.AddFile(Root, "a", 5000);
        (Errno errno, EntryOut entry) = _driver.Lookup(Root, "a");
        Assert.Equal(Errno.None, errno);
        Assert.Equal((file.Value, 0UL, CachePolicy.Unlimited, CachePolicy.Unlimited), (entry.NodeId, entry.Generation, entry.EntryValidSeconds, entry.AttributesValidSeconds));
        NodeAttributes attributes = entry.Attributes;
        Assert.Equal((file.Value, 5000UL, (ulong)Unit / 512, 4096u, 1u), (attributes.Inode, attributes.SizeBytes, attributes.Blocks, attributes.BlockSizeBytes, attributes.LinkCount));
        Assert.Equal(FuseConstants.S_IFREG | 0x1A4, attributes.Mode);
        Assert.Equal((1_700_000_000UL, 123_456_789u), (attributes.ModifySeconds, attributes.ModifyNanoseconds));
    }

    [Fact]
    public void A_missing_name_is_a_negative_entry_that_stays_valid()
    {
        (Errno errno, EntryOut entry) = _driver.Lookup(Root, "missing");
        Assert.Equal((Errno.None, 0UL, CachePolicy.Unlimited), (errno, entry.NodeId, entry.EntryValidSeconds));
    }

    [Fact]
    public void Without_validity_a_missing_name_is_ENOENT()
    {
        using var driver = new RequestDriver(_system, CachePolicy.Uncached);
        Assert.Equal(Errno.ENOENT, driver.Lookup(Root, "missing").Errno);
    }

    [Fact]
    public void Lookup_in_what_is_no_directory_or_gone_has_its_own_error()
    {
        InodeNumber file = _system.AddFile(Root, "a", 1);
        Assert.Equal(Errno.ENOTDIR, _driver.Lookup(file, "x").Errno);
        Assert.Equal(Errno.ESTALE, _driver.Lookup(new InodeNumber(999), "x").Errno);
        Assert.Equal(Errno.ENAMETOOLONG, _driver.Lookup(Root, new string('n', 256)).Errno);
        Assert.Equal(0UL, _driver.Lookup(Root, new string('n', 255)).Entry.NodeId);
    }

    [Fact]
    public void The_hidden_directory_is_reserved_and_its_absence_is_not_cached()
    {
        Assert.Equal(Errno.ENOENT, _driver.Lookup(Root, ".meta").Errno);
    }

    [Fact]
    public void Dot_and_dot_dot_find_inode_and_parent_for_export_without_caching_attributes()
    {
        InodeNumber directory = _system.AddDirectory(Root, "d");
        InodeNumber inner = _system.AddDirectory(directory, "e");
        EntryOut self = _driver.Lookup(inner, ".").Entry;
        EntryOut parent = _driver.Lookup(inner, "..").Entry;
        Assert.Equal((inner.Value, 0UL), (self.NodeId, self.AttributesValidSeconds));
        Assert.Equal(directory.Value, parent.NodeId);
        Assert.Equal(Root.Value, _driver.Lookup(Root, "..").Entry.NodeId);
    }

    [Fact]
    public void Looked_up_nodes_are_remembered_as_present_and_others_are_not()
    {
        InodeNumber file = _system.AddFile(Root, "a", 1);
        InodeNumber other = _system.AddFile(Root, "b", 1, unit: 1);
        Assert.False(_driver.Presence.MayHave(file));
        _driver.Lookup(Root, "a");
        Assert.True(_driver.Presence.MayHave(file));
        Assert.False(_driver.Presence.MayHave(other));
        Assert.True(_driver.Presence.MayHave(Root));
    }

    [Fact]
    public void Getattr_and_statx_say_the_same()
    {
        InodeNumber file = _system.AddFile(Root, "a", (2 * Unit) + 1);
        _system.Tree.SetAttributes(file, 0xFFF & 0x1FF, 7, null, null, -1, 5);
        AttrOut attributes = _driver.Require<GetAttrIn, AttrOut>(FuseOpcode.FUSE_GETATTR, file, default);
        StatxOut statx = _driver.Require<StatxIn, StatxOut>(FuseOpcode.FUSE_STATX, file, default);
        Assert.Equal(((2UL * (ulong)Unit) + 1, 3UL * (ulong)Unit / 512, 7u), (attributes.Attributes.SizeBytes, attributes.Attributes.Blocks, attributes.Attributes.Uid));
        Assert.Equal((-1L, 999_999_999u), ((long)attributes.Attributes.ModifySeconds, attributes.Attributes.ModifyNanoseconds));
        Assert.Equal((0UL, 5u), (attributes.Attributes.ChangeSeconds, attributes.Attributes.ChangeNanoseconds));
        Assert.Equal(attributes.Attributes.SizeBytes, statx.Stat.SizeBytes);
        Assert.Equal(attributes.Attributes.Blocks, statx.Stat.Blocks);
        Assert.Equal(attributes.Attributes.Mode, statx.Stat.Mode);
        Assert.Equal((-1L, 999_999_999u), (statx.Stat.ModifyTime.Seconds, statx.Stat.ModifyTime.Nanoseconds));
        Assert.Equal(FuseConstants.STATX_BASIC_STATS, statx.Stat.Mask);
        Assert.Equal(Errno.ESTALE, _driver.Ask(FuseOpcode.FUSE_GETATTR, new InodeNumber(999), new GetAttrIn()).Errno);
    }

    [Fact]
    public void Setattr_accepts_the_size_a_file_has_and_nothing_else()
    {
        InodeNumber file = _system.AddFile(Root, "a", 4096);
        AttrOut same = _driver.Require<SetAttrIn, AttrOut>(FuseOpcode.FUSE_SETATTR, file, new SetAttrIn { Valid = FuseConstants.FATTR_SIZE | FuseConstants.FATTR_MTIME | FuseConstants.FATTR_MTIME_NOW, SizeBytes = 4096 });
        Assert.Equal(4096UL, same.Attributes.SizeBytes);
        foreach (ulong size in new ulong[] { 0, 4095, 4097, ulong.MaxValue })
            Assert.Equal(Errno.EPERM, _driver.Ask(FuseOpcode.FUSE_SETATTR, file, new SetAttrIn { Valid = FuseConstants.FATTR_SIZE, SizeBytes = size }).Errno);
        foreach (uint valid in new[] { FuseConstants.FATTR_MODE, FuseConstants.FATTR_UID, FuseConstants.FATTR_GID, FuseConstants.FATTR_ATIME, FuseConstants.FATTR_MTIME, FuseConstants.FATTR_SIZE | FuseConstants.FATTR_MODE })
            Assert.Equal(Errno.EPERM, _driver.Ask(FuseOpcode.FUSE_SETATTR, file, new SetAttrIn { Valid = valid, SizeBytes = 4096 }).Errno);
    }

    [Fact]
    public void With_other_attributes_only_a_size_that_stays_comes_to_the_port()
    {
        InodeNumber file = _system.AddFile(Root, "a", 4096);
        HeldMutations port = new() { OnBegin = change => change.Reply.Complete(file) };
        _system.Mutations = port;
        using RequestDriver driver = new(_system);
        const uint Valid = FuseConstants.FATTR_SIZE | FuseConstants.FATTR_MODE;
        Assert.Equal(Errno.EPERM, driver.Ask(FuseOpcode.FUSE_SETATTR, file, new SetAttrIn { Valid = Valid, SizeBytes = 4095, Mode = 0x1A4 }).Errno);
        Assert.Equal(Errno.EPERM, driver.Ask(FuseOpcode.FUSE_SETATTR, Root, new SetAttrIn { Valid = Valid, Mode = 0x1A4 }).Errno);
        Assert.Equal(Errno.ESTALE, driver.Ask(FuseOpcode.FUSE_SETATTR, new InodeNumber(999), new SetAttrIn { Valid = Valid, Mode = 0x1A4 }).Errno);
        Assert.Equal(0, port.Waiting);
        Assert.Equal(Errno.None, driver.Ask(FuseOpcode.FUSE_SETATTR, file, new SetAttrIn { Valid = Valid, SizeBytes = 4096, Mode = 0x1A4 }).Errno);
        Assert.Equal("SETATTR 644", port.Take().What);
    }

    [Fact]
    public void Access_checks_owner_group_and_others()
    {
        InodeNumber file = _system.AddFile(Root, "a", 1, 0x1A0, 0, new MapExtent(default, 0, Unit)); // 0640, 0:0
        _system.Tree.SetAttributes(file, null, 10, 20, null, null, 0);
        Assert.Equal(Errno.None, Ask(2, 10, 99));
        Assert.Equal(Errno.None, Ask(4, 11, 20));
        Assert.Equal(Errno.EACCES, Ask(2, 11, 20));
        Assert.Equal(Errno.EACCES, Ask(4, 11, 21));
        Assert.Equal(Errno.None, Ask(6, 0, 0));
        Assert.Equal(Errno.EACCES, Ask(1, 0, 0)); // not even root executes what nobody may

        Errno Ask(uint mask, uint uid, uint gid) =>
            _driver.Ask(FuseOpcode.FUSE_ACCESS, file, BitConverter.GetBytes((ulong)mask), uid, gid).Errno;
    }

    [Fact]
    public void Open_asks_the_gate_and_refuses_what_is_deleted()
    {
        InodeNumber file = _system.AddFile(Root, "a", 1);
        InodeNumber directory = _system.AddDirectory(Root, "d");
        OpenOut open = _driver.Require<OpenIn, OpenOut>(FuseOpcode.FUSE_OPEN, file, default);
        Assert.Equal(FuseConstants.FOPEN_DIRECT_IO | FuseConstants.FOPEN_PARALLEL_DIRECT_WRITES, open.OpenFlags);
        _system.Verdict = OpenVerdict.HostDown;
        Assert.Equal(Errno.EHOSTDOWN, _driver.Ask(FuseOpcode.FUSE_OPEN, file, new OpenIn()).Errno);
        Assert.Equal(Errno.None, _driver.Ask(FuseOpcode.FUSE_OPENDIR, directory, new OpenIn()).Errno); // names are served
        _system.Verdict = OpenVerdict.Open;
        Assert.Equal(Errno.EISDIR, _driver.Ask(FuseOpcode.FUSE_OPEN, directory, new OpenIn()).Errno);
        Assert.Equal(Errno.ENOTDIR, _driver.Ask(FuseOpcode.FUSE_OPENDIR, file, new OpenIn()).Errno);
        _system.Tree.Delete(file, 1, null);
        Assert.Equal(Errno.ESTALE, _driver.Ask(FuseOpcode.FUSE_OPEN, file, new OpenIn()).Errno);
        Assert.Equal(Errno.None, _driver.Read(file, 0, 1).Errno); // handles that exist go on
    }

    [Fact]
    public void Close_to_open_caching_opens_without_direct_io()
    {
        InodeNumber file = _system.AddFile(Root, "a", 1);
        using var driver = new RequestDriver(_system, new CachePolicy(CacheMode.CloseToOpen));
        Assert.Equal(0u, driver.Require<OpenIn, OpenOut>(FuseOpcode.FUSE_OPEN, file, default).OpenFlags);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Reads_and_writes_follow_an_interleaved_map_to_the_byte(bool mapped)
    {
        using TestFileSystem system = new();
        using SharedDevices devices = new(system, 3, mapped);
        const int Chunk = 4096;
        const int Size = (7 * Chunk) + 77;
        InodeNumber file = system.AddFile(Root, "a", Size, 0x1A4, Chunk, new MapExtent(new DeviceIndex(2), Unit, Unit), new MapExtent(new DeviceIndex(0), 0, Unit), new MapExtent(new DeviceIndex(1), 2 * Unit, Unit));
        using var driver = new RequestDriver(system);
        byte[] data = new byte[Size];
        new Random(3).NextBytes(data);
        Assert.Equal((Errno.None, Size), driver.Write(file, 0, data));
        Assert.Equal(data, driver.Read(file, 0, Size).Data);

        // Chunk 4 is in stripe 1, strip 1, which is device 0 at 0.
        Assert.Equal(data[(4 * Chunk)..(5 * Chunk)], devices.Read(0, Chunk, Chunk));
        foreach ((int offset, int size) in new[] { (0, 1), (Chunk - 1, 2), (Chunk, Chunk), (5, (3 * Chunk) + 1), (Size - 1, 1), (Size - 1, 100), (6 * Chunk, 1 << 20) })
            Assert.Equal(data[offset..Math.Min(Size, offset + size)], driver.Read(file, offset, size).Data);
        Assert.Empty(driver.Read(file, Size, 10).Data);
        Assert.Empty(driver.Read(file, long.MaxValue, 10).Data);
    }

    [Fact]
    public void A_write_is_cut_at_the_end_of_the_file_and_ENOSPC_beyond_it()
    {
        InodeNumber file = _system.AddFile(Root, "a", 100);
        Assert.Equal((Errno.None, 10), _driver.Write(file, 90, new byte[50]));
        Assert.Equal(Errno.ENOSPC, _driver.Write(file, 100, new byte[1]).Errno);
        Assert.Equal(Errno.ENOSPC, _driver.Write(file, long.MaxValue, new byte[1]).Errno);
        Assert.Equal((Errno.None, 0), _driver.Write(file, 100, []));
        Assert.Equal(Errno.EINVAL, _driver.Ask(FuseOpcode.FUSE_WRITE, file, new WriteIn { SizeBytes = 5 }, new byte[4]).Errno);
    }

    [Fact]
    public void A_write_that_would_have_to_clear_set_uid_bits_is_refused()
    {
        InodeNumber file = _system.AddFile(Root, "a", 100);
        Assert.Equal(Errno.None, _driver.Write(file, 0, [1], FuseConstants.FUSE_WRITE_KILL_SUIDGID).Errno);
        _system.Tree.SetAttributes(file, 0x9ED, null, null, null, null, 1); // 04755
        Assert.Equal(Errno.EPERM, _driver.Write(file, 0, [1], FuseConstants.FUSE_WRITE_KILL_SUIDGID).Errno);
        Assert.Equal(Errno.None, _driver.Write(file, 0, [1]).Errno);
        _system.Tree.SetAttributes(file, 0x5A4, null, null, null, null, 1); // 02644: mandatory locking, not set-gid
        Assert.Equal(Errno.None, _driver.Write(file, 0, [1], FuseConstants.FUSE_WRITE_KILL_SUIDGID).Errno);
    }

    [Fact]
    public void A_written_file_shows_its_time_at_once_wherever_attributes_are_told()
    {
        Written written = new();
        _system.Written = written;
        InodeNumber file = _system.AddFile(Root, "a", 100);
        using var driver = new RequestDriver(_system, CachePolicy.Uncached);
        Assert.Equal(TestFileSystem.StartTimeNs, Modified(driver.Lookup(Root, "a").Entry.Attributes));
        driver.Write(file, 0, [1]);
        Assert.Equal([(file, TestFileSystem.StartTimeNs)], written.Seen);
        long time = written.Times[file] = TestFileSystem.StartTimeNs + 5;
        Assert.Equal(time, Modified(driver.Lookup(Root, "a").Entry.Attributes));
        Assert.Equal(time, Changed(driver.Lookup(Root, "a").Entry.Attributes));
        Assert.Equal(time, Modified(MemoryMarshal.Read<AttrOut>(driver.Ask(FuseOpcode.FUSE_GETATTR, file, new GetAttrIn()).Body).Attributes));
        StatxTime statx = MemoryMarshal.Read<StatxOut>(driver.Ask(FuseOpcode.FUSE_STATX, file, new StatxIn()).Body).Stat.ModifyTime;
        Assert.Equal(time, (statx.Seconds * 1_000_000_000) + statx.Nanoseconds);
        Assert.Equal(time, Modified(List(driver, Root, 0, plus: true, size: 4096).Single(e => e.Name == "a").Plus.Attributes));
        // What the log has later is shown.
        _system.Tree.SetAttributes(file, null, null, null, null, time + 1, time + 2);
        NodeAttributes later = driver.Lookup(Root, "a").Entry.Attributes;
        Assert.Equal((time + 1, time + 2), (Modified(later), Changed(later)));
        driver.Ask(FuseOpcode.FUSE_RELEASE, file, new ReleaseIn());
        Assert.Equal([file], written.Closed);
        // Nothing was written.
        driver.Write(file, 0, []);
        driver.Write(file, 100, [1]);
        Assert.Single(written.Seen);
        // A part may have been.
        _memory.Poison(0, 64);
        Assert.Equal(Errno.EIO, driver.Write(file, 0, new byte[50]).Errno);
        Assert.Equal(2, written.Seen.Count);
    }

    [Fact]
    public void Where_the_kernel_writes_by_itself_no_time_is_shown_beside_the_log()
    {
        Written written = new();
        _system.Written = written;
        InodeNumber file = _system.AddFile(Root, "a", 100);
        written.Times[file] = TestFileSystem.StartTimeNs + 5;
        using var driver = new RequestDriver(_system, dialect: DialectTable.Find("B"));
        Assert.Equal(TestFileSystem.StartTimeNs, Modified(driver.Lookup(Root, "a").Entry.Attributes));
        driver.Ask(FuseOpcode.FUSE_RELEASE, file, new ReleaseIn());
        Assert.Empty(written.Closed);
    }

    [Fact]
    public void A_missing_device_costs_only_what_lies_on_it()
    {
        InodeNumber here = _system.AddFile(Root, "here", 10);
        InodeNumber gone = _system.AddFile(Root, "gone", Unit * 2, 0x1A4, 0, new MapExtent(new DeviceIndex(0), Unit, Unit), new MapExtent(new DeviceIndex(9), 0, Unit));
        Assert.Equal(Errno.None, _driver.Read(here, 0, 10).Errno);
        Assert.Equal(Errno.None, _driver.Read(gone, 0, 4096).Errno);
        Assert.Equal(Errno.EIO, _driver.Read(gone, Unit - 1, 2).Errno); // never short: that would mean end of file
        Assert.Equal(Errno.EIO, _driver.Write(gone, Unit, [1]).Errno);
        Assert.Equal(2, _driver.Counters.MissingDevice);
        Assert.Equal(Errno.None, _driver.Ask(FuseOpcode.FUSE_GETATTR, gone, new GetAttrIn()).Errno);
    }

    [Fact]
    public void A_file_says_which_device_of_its_map_is_missing_and_a_request_that_met_it_marks_it()
    {
        InodeNumber here = _system.AddFile(Root, "here", 10);
        InodeNumber gone = _system.AddFile(Root, "gone", Unit * 2, 0x1A4, 0, new MapExtent(new DeviceIndex(0), Unit, Unit), new MapExtent(new DeviceIndex(9), 0, Unit));
        const string Damage = "user.famfs.file-damage";
        Assert.Null(Get(here, Damage));
        Assert.Equal("device 9 of the pool is not on this host: what is on it answers EIO", Get(gone, Damage));
        Assert.False(_driver.Operations.MissedDevices.IsMarked(new(9)));
        Assert.Equal(Errno.None, _driver.Read(gone, 0, 10).Errno);
        Assert.False(_driver.Operations.MissedDevices.IsMarked(new(9)));
        Assert.Equal(Errno.EIO, _driver.Read(gone, Unit, 10).Errno);
        Assert.True(_driver.Operations.MissedDevices.IsMarked(new(9)));
        Assert.False(_driver.Operations.MissedDevices.IsMarked(new(0)));
        _system.AddDevice(9, _memory.Attach("later"));
        Assert.Null(Get(gone, Damage));
        Assert.DoesNotContain(Damage, Names(gone));
    }

    [Fact]
    public void A_map_that_leaves_its_device_is_EIO()
    {
        InodeNumber file = _system.AddFile(Root, "a", 2 * Unit, 0x1A4, 0, new MapExtent(new DeviceIndex(0), 7 * Unit, 2 * Unit));
        Assert.Equal(Errno.None, _driver.Read(file, Unit - 10, 10).Errno);
        Assert.Equal(Errno.EIO, _driver.Read(file, Unit - 10, 11).Errno);
        Assert.Equal(Errno.EIO, _driver.Write(file, Unit, [1]).Errno);
        Assert.Equal(2, _driver.Counters.Faults);
        Assert.Null(_driver.LastFailure);
    }

    [Fact]
    public void Poisoned_memory_is_EIO_and_counted()
    {
        InodeNumber file = _system.AddFile(Root, "a", 8192);
        _memory.Poison(4096, 64);
        Assert.Equal(Errno.None, _driver.Read(file, 0, 4096).Errno);
        Assert.Equal(Errno.EIO, _driver.Read(file, 0, 8192).Errno);
        Assert.Equal(1, _driver.Counters.Faults);
        Assert.Null(_driver.LastFailure);
    }

    [Fact]
    public void A_fault_while_the_kernel_copies_the_reply_answers_EIO()
    {
        InodeNumber file = _system.AddFile(Root, "a", 8192);
        _driver.Transport.FailNextWrite = Errno.EFAULT;
        Assert.Equal(Errno.EIO, _driver.Read(file, 0, 4096).Errno);
        Assert.Equal(1, _driver.Counters.Faults);
    }

    [Fact]
    public void On_non_coherent_memory_a_write_is_seen_by_the_next_read_of_another_host()
    {
        var memory = new FakeSharedMemory(Unit, seed: 7, coherent: false) { AccidentOneIn = int.MaxValue };
        using TestFileSystem one = new(), two = new();
        one.AddDevice(0, memory.Attach("one"));
        two.AddDevice(0, memory.Attach("two"));
        InodeNumber file = one.AddFile(Root, "a", 1000);
        Assert.Equal(file, two.AddFile(Root, "a", 1000));
        using RequestDriver writer = new(one), reader = new(two);
        for (byte i = 1; i < 50; i++)
        {
            byte[] data = [.. Enumerable.Repeat(i, 300)];
            Assert.Equal((Errno.None, 300), writer.Write(file, 77, data));
            Assert.Equal(data, reader.Read(file, 77, 300).Data);
        }
    }

    [Fact]
    public void On_non_coherent_memory_a_reply_that_points_into_it_is_invalidated_first_and_a_write_written_back()
    {
        using var memory = new Session.SharedMemory(2 * Unit);
        using var device = new RecordingDevice(memory.Open());
        using TestFileSystem system = new();
        system.AddDevice(0, device);
        InodeNumber file = system.AddFile(Root, "a", 100_000);
        using var driver = new RequestDriver(system);
        Assert.Equal(5000, driver.Read(file, 4097, 5000).Data.Length);
        Assert.Equal(["invalidate 4097+5000"], device.Calls);
        device.Calls.Clear();
        Assert.Equal((Errno.None, 10), driver.Write(file, 77, new byte[10]));
        Assert.Equal(["write 77+10", "write-back 77+10", "fence"], device.Calls);
    }

    [Fact]
    public void Fallocate_inside_the_size_is_there_already_and_outside_is_refused()
    {
        InodeNumber file = _system.AddFile(Root, "a", 1000);
        Assert.Equal(Errno.None, _driver.Ask(FuseOpcode.FUSE_FALLOCATE, file, new FallocateIn { Offset = 10, LengthBytes = 990 }).Errno);
        Assert.Equal(Errno.EPERM, _driver.Ask(FuseOpcode.FUSE_FALLOCATE, file, new FallocateIn { Offset = 10, LengthBytes = 991 }).Errno);
        Assert.Equal(Errno.EPERM, _driver.Ask(FuseOpcode.FUSE_FALLOCATE, file, new FallocateIn { Offset = ulong.MaxValue, LengthBytes = 2 }).Errno);
        Assert.Equal(Errno.EOPNOTSUPP, _driver.Ask(FuseOpcode.FUSE_FALLOCATE, file, new FallocateIn { LengthBytes = 10, Mode = 3 }).Errno); // punch hole
    }

    [Theory]
    [InlineData(false, 24)]
    [InlineData(false, 200)]
    [InlineData(false, 65536)]
    [InlineData(true, 160)]
    [InlineData(true, 1000)]
    [InlineData(true, 65536)]
    public void A_listing_in_pieces_of_any_size_has_every_name_once_in_order(bool plus, int size)
    {
        InodeNumber directory = _system.AddDirectory(Root, "d");
        string[] names = [.. Enumerable.Range(0, 300).Select(i => $"name-{i}")];
        for (int i = 0; i < names.Length; i++)
            _ = i % 3 == 0 ? _system.AddDirectory(directory, names[i]) : i % 3 == 1 ? _system.AddFile(directory, names[i], 10) : _system.AddSymlink(directory, names[i], "x");
        ulong handle = _driver.Require<OpenIn, OpenOut>(FuseOpcode.FUSE_OPENDIR, directory, default).Handle;
        Assert.NotEqual(0UL, handle);
        List<Entry> listed = List(_driver, directory, handle, plus, Math.Max(size, plus ? 176 : 40));
        Assert.Equal([".", "..", .. names], listed.Select(entry => entry.Name));
        Assert.Equal((directory.Value, 1UL), (listed[0].Dirent.Inode, listed[1].Dirent.Inode));
        Assert.Equal([4u, 4u, 4u, 8u, 10u], listed.Take(5).Select(entry => entry.Dirent.Type));
        if (plus)
        {
            Assert.Equal((0UL, 0UL), (listed[0].Plus.NodeId, listed[1].Plus.NodeId));
            Assert.All(listed.Skip(2), entry => Assert.Equal(entry.Dirent.Inode, entry.Plus.NodeId));
            Assert.Equal(10UL, listed[3].Plus.Attributes.SizeBytes);
            Assert.All(listed.Skip(2), entry => Assert.True(_driver.Presence.MayHave(new InodeNumber(entry.Plus.NodeId))));
        }
        Assert.Equal(Errno.None, _driver.Ask(FuseOpcode.FUSE_RELEASEDIR, directory, new ReleaseIn { Handle = handle }).Errno);
    }

    [Fact]
    public void A_listing_goes_on_where_it_stopped_though_the_directory_changes()
    {
        InodeNumber directory = _system.AddDirectory(Root, "d");
        InodeNumber[] files = [.. Enumerable.Range(0, 10).Select(i => _system.AddFile(directory, $"f{i}", 1))];
        List<Entry> first = One(_driver, directory, 0, 0, plus: false, size: 32 * 7);
        Assert.Equal([".", "..", "f0", "f1", "f2", "f3", "f4"], first.Select(entry => entry.Name));
        _system.Tree.Delete(files[4], 1, null); // where it stopped
        _system.Tree.Delete(files[1], 1, null);
        _system.Tree.Delete(files[6], 1, null);
        _system.AddFile(directory, "new", 1);
        List<Entry> rest = One(_driver, directory, 0, first[^1].Dirent.Offset, plus: false, size: 4096);
        Assert.Equal(["f5", "f7", "f8", "f9", "new"], rest.Select(entry => entry.Name));
    }

    [Fact]
    public void A_listing_of_what_is_no_directory_or_with_a_strange_handle_does_no_harm()
    {
        InodeNumber file = _system.AddFile(Root, "a", 1);
        Assert.Equal(Errno.ENOTDIR, _driver.Ask(FuseOpcode.FUSE_READDIR, file, new ReadIn { SizeBytes = 4096 }).Errno);
        Assert.Equal(Errno.ESTALE, _driver.Ask(FuseOpcode.FUSE_READDIR, new InodeNumber(99), new ReadIn { SizeBytes = 4096 }).Errno);
        Assert.Equal([".", "..", "a"], One(_driver, Root, 12345, 0, plus: true, size: 4096).Select(entry => entry.Name));
        Assert.Empty(One(_driver, Root, 1, ulong.MaxValue, plus: false, size: 4096));
        Assert.Empty(One(_driver, Root, 1, 0, plus: false, size: 8));
        Assert.Equal(Errno.None, _driver.Ask(FuseOpcode.FUSE_RELEASEDIR, Root, new ReleaseIn { Handle = ulong.MaxValue }).Errno);
    }

    [Fact]
    public void Statfs_gives_the_capacity_of_the_pool()
    {
        (Errno errno, byte[] body) = _driver.Ask(FuseOpcode.FUSE_STATFS, Root);
        Assert.Equal(Errno.None, errno);
        StatfsOut statfs = MemoryMarshal.Read<StatfsOut>(body);
        Assert.Equal((64UL << 20, 16UL << 20, 255u), (statfs.Blocks * statfs.FragmentSizeBytes, statfs.AvailableBlocks * statfs.FragmentSizeBytes, statfs.NameMaxBytes));
    }

    [Fact]
    public void Own_extended_attributes_describe_inode_map_layout_and_mount()
    {
        InodeNumber simple = _system.AddFile(Root, "s", 3 * Unit, 0x1A4, 0, new MapExtent(new DeviceIndex(0), Unit, Unit), new MapExtent(new DeviceIndex(3), 0, 2 * Unit));
        InodeNumber striped = _system.AddFile(Root, "i", 10, 0x1A4, (ulong)Unit, new MapExtent(new DeviceIndex(0), 0, Unit), new MapExtent(new DeviceIndex(1), 0, Unit));
        Assert.Equal(simple.ToString(), Get(simple, "user.famfs.ino"));
        Assert.Equal("size 6291456 chunk 0\n0 2097152 2097152\n3 0 4194304\n", Get(simple, "user.famfs.map"));
        Assert.Equal(2, Famfs.Core.Format.MapText.Parse(Get(striped, "user.famfs.map")!, out _).Extents.Count);
        Assert.Equal("contiguous extents=2", Get(simple, "user.famfs.layout"));
        Assert.Equal("interleaved strips=2 chunk=2097152", Get(striped, "user.famfs.layout"));
        Assert.Equal("11111111-2222-3333-4444-555555555555", Get(Root, "user.famfs.uuid"));
        Assert.Equal("0:42@64", Get(Root, "user.famfs.position"));
        Assert.Null(Get(Root, "user.famfs.master")); // not known
        // Everything says whose it is: the root may be out of sight.
        Assert.Equal("11111111-2222-3333-4444-555555555555", Get(simple, "user.famfs.uuid"));
        Assert.Null(Get(Root, "user.famfs.map"));
        Assert.Null(Get(simple, "security.capability"));
        Assert.Equal(["user.famfs.ino", "user.famfs.map", "user.famfs.layout", "user.famfs.file-damage"], Names(simple)); // device 3 is not there
        Assert.Equal(["user.famfs.ino", "user.famfs.uuid", "user.famfs.mount", "user.famfs.position"], Names(Root));
    }

    [Fact]
    public void Stored_extended_attributes_are_served_and_ours_cannot_be_forged()
    {
        InodeNumber file = _system.AddFile(Root, "a", 1);
        _system.Tree.SetExtendedAttribute(file, "user.note"u8, "hello"u8);
        _system.Tree.SetExtendedAttribute(file, "user.famfs.ino"u8, "0"u8);
        Assert.Equal("hello", Get(file, "user.note"));
        Assert.Equal(file.ToString(), Get(file, "user.famfs.ino"));
        Assert.Equal(["user.famfs.ino", "user.famfs.map", "user.famfs.layout", "user.note"], Names(file));
        (Errno errno, byte[] body) = _driver.Ask(FuseOpcode.FUSE_GETXATTR, file, new GetXattrIn(), "user.note\0"u8);
        Assert.Equal((Errno.None, 5u), (errno, MemoryMarshal.Read<GetXattrOut>(body).SizeBytes));
        Assert.Equal(Errno.ERANGE, _driver.Ask(FuseOpcode.FUSE_GETXATTR, file, new GetXattrIn { SizeBytes = 4 }, "user.note\0"u8).Errno);
        Assert.Equal(Errno.ERANGE, _driver.Ask(FuseOpcode.FUSE_LISTXATTR, file, new GetXattrIn { SizeBytes = 4 }).Errno);
    }

    [Fact]
    public void Readlink_gives_the_target_and_refuses_other_kinds()
    {
        InodeNumber link = _system.AddSymlink(Root, "l", "../some/where");
        Assert.Equal("../some/where"u8.ToArray(), _driver.Ask(FuseOpcode.FUSE_READLINK, link).Body);
        Assert.Equal(Errno.EINVAL, _driver.Ask(FuseOpcode.FUSE_READLINK, Root).Errno);
        Assert.Equal(Errno.ESTALE, _driver.Ask(FuseOpcode.FUSE_READLINK, new InodeNumber(99)).Errno);
    }

    [Fact]
    public void Every_refused_opcode_answers_its_errno()
    {
        foreach (RequestRow row in FuseOperations.StockRequests.Rows.Cast<RequestRow>().Where(row => row.Refusal != Errno.None))
            Assert.Equal(row.Refusal, _driver.Ask((FuseOpcode)row.Opcode, Root, new byte[Math.Max(row.InBytes, row.Payload == PayloadKind.None ? 0 : 16)]).Errno);
        Assert.Equal(Errno.ENOSYS, _driver.Ask((FuseOpcode)54, Root, new byte[16]).Errno);

        // What only the master may change: the port of today's daemon refuses all of it.
        Assert.Equal(Errno.EPERM, _driver.Ask(FuseOpcode.FUSE_MKDIR, Root, new MakeDirectoryIn(), "d\0"u8).Errno);
        Assert.Equal(Errno.EPERM, _driver.Ask(FuseOpcode.FUSE_CREATE, Root, new CreateIn(), "f\0"u8).Errno);
        Assert.Equal(Errno.EPERM, _driver.Ask(FuseOpcode.FUSE_SYMLINK, Root, "l\0target\0"u8).Errno);
        Assert.Equal(Errno.EPERM, _driver.Ask(FuseOpcode.FUSE_UNLINK, Root, "f\0"u8).Errno);
        Assert.Equal(Errno.EPERM, _driver.Ask(FuseOpcode.FUSE_RMDIR, Root, "d\0"u8).Errno);
        Assert.Equal(Errno.EPERM, _driver.Ask(FuseOpcode.FUSE_RENAME, Root, new RenameIn { NewParent = 1 }, "f\0g\0"u8).Errno);
        Assert.Equal(Errno.EPERM, _driver.Ask(FuseOpcode.FUSE_RENAME2, Root, new Rename2In { NewParent = 1, Flags = 1 }, "f\0g\0"u8).Errno);
        Assert.Equal(Errno.EPERM, _driver.Ask(FuseOpcode.FUSE_SETXATTR, Root, new SetXattrIn { SizeBytes = 1 }, "user.a\0v"u8).Errno);
        Assert.Equal(Errno.EPERM, _driver.Ask(FuseOpcode.FUSE_REMOVEXATTR, Root, "user.a\0"u8).Errno);
        Assert.Equal(Errno.EPERM, _driver.Ask(FuseOpcode.FUSE_SETATTR, Root, new SetAttrIn { Valid = FuseConstants.FATTR_MODE }).Errno);
    }

    [Theory]
    [InlineData(FuseOpcode.FUSE_SETLK)]
    [InlineData(FuseOpcode.FUSE_SETLKW)]
    public void Locks_that_the_kernel_asks_for_are_refused_and_can_be_given_back(FuseOpcode opcode)
    {
        foreach (uint type in (uint[])[0, 1])
            Assert.Equal(Errno.ENOLCK, _driver.Ask(opcode, Root, new LockIn { Type = type, End = long.MaxValue }).Errno);
        Assert.Equal(Errno.None, _driver.Ask(opcode, Root, new LockIn { Type = FuseConstants.F_UNLCK, End = long.MaxValue }).Errno);
    }

    [Fact]
    public void Forget_and_interrupt_are_taken_in_silence()
    {
        Assert.Empty(_driver.Raw(RequestDriver.Message(FuseOpcode.FUSE_FORGET, 2, 5, BitConverter.GetBytes(3UL))));
        byte[] batch = new byte[8 + 32];
        batch[0] = 2; // count
        batch[8 + 8] = 4; // nlookup of the first
        batch[8 + 24] = 5; // of the second
        Assert.Empty(_driver.Raw(RequestDriver.Message(FuseOpcode.FUSE_BATCH_FORGET, 4, 0, batch)));
        Assert.Equal(12, _driver.Counters.Forgotten);
        Assert.Empty(_driver.Raw(RequestDriver.Message(FuseOpcode.FUSE_INTERRUPT, 6, 0, new byte[8])));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Garbage_is_answered_exactly_once_and_never_fails_unexpectedly(int seed)
    {
        InodeNumber directory = _system.AddDirectory(Root, "d");
        _system.AddFile(directory, "f", 10_000);
        _system.AddSymlink(directory, "l", "x");
        var random = new Random(seed);
        OpcodeRow[] rows = [.. FuseOperations.StockRequests.Rows];
        for (int round = 0; round < 20_000; round++)
        {
            OpcodeRow row = rows[random.Next(rows.Length)];
            byte[] body = new byte[random.Next(3) == 0 ? random.Next(200) : row.InBytes + (row.Payload == PayloadKind.None ? 0 : random.Next(20))];
            random.NextBytes(body);
            if (random.Next(2) == 0)
            {
                for (int i = 0; i < body.Length; i++)
                    body[i] = random.Next(3) == 0 ? body[i] : (byte)0; // small numbers
            }
            if (body.Length > 0 && random.Next(4) != 0)
                body[^1] = 0;
            byte[] message = RequestDriver.Message((FuseOpcode)row.Opcode, (ulong)round, (ulong)random.Next(8), body, (uint)random.Next(2));
            if (random.Next(10) == 0)
                message[random.Next(40)] = (byte)random.Next(256);
            if (random.Next(20) == 0)
                message = message[..random.Next(message.Length + 1)];
            ParseVerdict verdict = FuseRequest.Parse(message, FuseOperations.StockRequests, out FuseRequest request);
            int expected = verdict == ParseVerdict.NoHeader || !request.Replies ? 0 : 1;
            List<byte[]> replies = _driver.Raw(message);
            Assert.True(replies.Count == expected, $"seed {seed}, round {round}, {row.Name}: {replies.Count} replies to {Convert.ToHexString(message)}");
            if (expected == 1)
            {
                Assert.Equal(replies[0].Length, BitConverter.ToInt32(replies[0]));
                Assert.Equal(BitConverter.ToUInt64(message, 8), BitConverter.ToUInt64(replies[0], 8));
                Assert.InRange(BitConverter.ToInt32(replies[0], 4), -200, 0);
            }
        }
        Assert.Null(_driver.LastFailure);
    }

    private static long Modified(in NodeAttributes of) => ((long)of.ModifySeconds * 1_000_000_000) + of.ModifyNanoseconds;

    private static long Changed(in NodeAttributes of) => ((long)of.ChangeSeconds * 1_000_000_000) + of.ChangeNanoseconds;

    private sealed class Written : IWrittenFiles
    {
        public List<(InodeNumber Inode, long ModifyTimeNs)> Seen { get; } = [];

        public List<InodeNumber> Closed { get; } = [];

        public Dictionary<InodeNumber, long> Times { get; } = [];

        public void OnWritten(InodeNumber inode, long modifyTimeNs) => Seen.Add((inode, modifyTimeNs));

        public void OnClosed(InodeNumber inode) => Closed.Add(inode);

        public bool TryGet(InodeNumber inode, out long timeNs) => Times.TryGetValue(inode, out timeNs);
    }

    private string? Get(InodeNumber inode, string name)
    {
        (Errno errno, byte[] body) = _driver.Ask(FuseOpcode.FUSE_GETXATTR, inode, new GetXattrIn { SizeBytes = 1000 }, RequestDriver.Terminated(name));
        Assert.True(errno is Errno.None or Errno.ENODATA, $"{name}: {errno}");
        return errno == Errno.None ? Encoding.UTF8.GetString(body) : null;
    }

    private string[] Names(InodeNumber inode)
    {
        (Errno errno, byte[] body) = _driver.Ask(FuseOpcode.FUSE_LISTXATTR, inode, new GetXattrIn { SizeBytes = 1000 });
        Assert.Equal(Errno.None, errno);
        return Encoding.UTF8.GetString(body).Split('\0', StringSplitOptions.RemoveEmptyEntries);
    }

    private sealed record Entry(string Name, DirentHead Dirent, EntryOut Plus);

    private static List<Entry> List(RequestDriver driver, InodeNumber directory, ulong handle, bool plus, int size)
    {
        var all = new List<Entry>();
        while (true)
        {
            List<Entry> some = One(driver, directory, handle, all.Count == 0 ? 0 : all[^1].Dirent.Offset, plus, size);
            if (some.Count == 0)
                return all;
            all.AddRange(some);
        }
    }

    private static List<Entry> One(RequestDriver driver, InodeNumber directory, ulong handle, ulong offset, bool plus, int size)
    {
        (Errno errno, byte[] body) = driver.Ask(plus ? FuseOpcode.FUSE_READDIRPLUS : FuseOpcode.FUSE_READDIR, directory, new ReadIn { Handle = handle, Offset = offset, SizeBytes = (uint)size });
        Assert.Equal(Errno.None, errno);
        Assert.InRange(body.Length, 0, size);
        var entries = new List<Entry>();
        for (int at = 0; at < body.Length;)
        {
            int head = at + (plus ? 128 : 0);
            DirentHead dirent = MemoryMarshal.Read<DirentHead>(body.AsSpan(head));
            entries.Add(new Entry(
                Encoding.UTF8.GetString(body, head + 24, (int)dirent.NameBytes), dirent, plus ? MemoryMarshal.Read<EntryOut>(body.AsSpan(at)) : default));
            at = (head + 24 + (int)dirent.NameBytes + 7) & ~7;
        }
        return entries;
    }

    /// <summary>A mapped device that calls itself non-coherent and remembers in which order it was used.</summary>
    private sealed class RecordingDevice(Famfs.Core.Dax.MappedDaxDevice inner) : Famfs.Core.Dax.DaxDevice
    {
        public List<string> Calls { get; } = [];

        public override string Path => inner.Path;

        public override long LengthBytes => inner.LengthBytes;

        public override bool Coherent { get; set; }

        public override void Read(long offset, Span<byte> destination) => inner.Read(offset, destination);

        public override void Write(long offset, ReadOnlySpan<byte> source)
        {
            Calls.Add($"write {offset}+{source.Length}");
            inner.Write(offset, source);
        }

        public override void Zero(long offset, long length) => inner.Zero(offset, length);

        public override ulong ReadWord(long offset) => inner.ReadWord(offset);

        public override void WriteWord(long offset, ulong value) => inner.WriteWord(offset, value);

        public override void WriteBack(long offset, long length) => Calls.Add($"write-back {offset}+{length}");

        public override void Invalidate(long offset, long length) => Calls.Add($"invalidate {offset}+{length}");

        public override void Fence() => Calls.Add("fence");

        public override bool TryGetAddress(long offset, long length, out nint address) => inner.TryGetAddress(offset, length, out address);

        protected override void Dispose(bool disposing) => inner.Dispose();
    }

    /// <summary>Several devices, really mapped from /dev/shm or fake ones without a mapping.</summary>
    private sealed class SharedDevices : IDisposable
    {
        private readonly List<Session.SharedMemory> _memories = [];
        private readonly List<Famfs.Core.Dax.DaxDevice> _devices = [];

        public SharedDevices(TestFileSystem system, int count, bool mapped)
        {
            for (int i = 0; i < count; i++)
            {
                if (mapped)
                {
                    _memories.Add(new Session.SharedMemory(4 * Unit));
                    _devices.Add(_memories[i].Open());
                }
                else
                {
                    _devices.Add(new FakeSharedMemory(4 * Unit, i, coherent: true).Attach("here"));
                }
                system.AddDevice(i, _devices[i]);
            }
        }

        public byte[] Read(int device, long offset, int length)
        {
            byte[] bytes = new byte[length];
            _devices[device].Read(offset, bytes);
            return bytes;
        }

        public void Dispose()
        {
            foreach (Session.SharedMemory memory in _memories)
                memory.Dispose();
        }
    }
}
