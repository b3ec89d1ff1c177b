using System.Runtime.InteropServices;
using System.Text;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Famfs.TestSupport.Dax;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Fuse.Tests.Operations;

/// <summary>The hidden directory, over a state that records made.</summary>
public sealed class MetaTests : IDisposable
{
    private const long Unit = TestFileSystem.Unit;
    private static readonly InodeNumber Root = InodeNumber.Root;
    private static readonly InodeNumber Meta = new(MediaLayout.MetaInode);
    private static readonly InodeNumber WindowDirectory = new(WindowTable.DirectoryNode);
    private static readonly Guid Here = Guid.NewGuid();
    private static readonly Guid Elsewhere = Guid.NewGuid();

    private readonly ReplayState _state = new(new(Guid.NewGuid(), 1, default, default), default);
    private readonly FakeSharedMemory _memory = new(16 * Unit, seed: 1, coherent: true);
    private readonly TestFileSystem _system;
    private readonly RequestDriver _driver;

    public MetaTests()
    {
        Apply(64, RecordType.FileSystemCreated, new FileSystemCreated
        {
            FileSystemUuid = _state.Position.FileSystem.ToByteString(),
            UnitBytes = MediaLayout.UnitBytes,
            RootInode = 1,
            Generation = 1,
            RootMode = 0x1ED,
            HostTableInode = 4,
            HostTable = new() { OffsetBytes = (ulong)Unit, LengthBytes = (ulong)Unit },
        });
        Apply(64, RecordType.DeviceAdded, new DeviceAdded { Index = 0, LengthBytes = (ulong)(16 * Unit), SuperblockInode = 3 });
        Apply(64, RecordType.DeviceAdded, new DeviceAdded { Index = 1, LengthBytes = (ulong)(4 * Unit), SuperblockInode = 16 });
        Apply(64, RecordType.MasterSlotGranted, new MasterSlotGranted { Slot = 0, HostId = Here.ToByteString(), SegmentInode = 5, Segment = new() { OffsetBytes = (ulong)(2 * Unit), LengthBytes = (ulong)Unit } });
        Apply(64, RecordType.MasterSlotGranted, new MasterSlotGranted { Slot = 1, HostId = Elsewhere.ToByteString(), SegmentInode = 17, Segment = new() { Device = 1, OffsetBytes = (ulong)Unit, LengthBytes = (ulong)Unit } });
        _system = new(_state) { Verdict = OpenVerdict.HostDown };
        _system.AddDevice(0, _memory.Attach("here"));
        _driver = new(_system);
    }

    public void Dispose()
    {
        _driver.Dispose();
        _system.Dispose();
        _state.Dispose();
    }

    [Fact]
    public void The_directory_is_found_by_name_is_roots_alone_and_is_listed_nowhere()
    {
        (Errno errno, EntryOut entry) = _driver.Lookup(Root, ".meta");
        Assert.Equal((Errno.None, Meta.Value, 0UL), (errno, entry.NodeId, entry.EntryValidSeconds));
        Assert.Equal((FuseConstants.S_IFDIR | 0x1C0, 0u, 0u), (entry.Attributes.Mode, entry.Attributes.Uid, entry.Attributes.Gid));
        Assert.Equal([".", ".."], List(Root));
        Assert.Equal(entry.Attributes, _driver.Require<GetAttrIn, AttrOut>(FuseOpcode.FUSE_GETATTR, Meta, default).Attributes);
    }

    [Fact]
    public void Every_unit_of_the_file_systems_own_has_one_name_and_its_inode_number()
    {
        Assert.Equal([".", "..", "window", "superblock", "hosts", "segment-5", "superblock-1", "segment-17"], List(Meta));
        foreach ((string name, ulong inode) in ((string, ulong)[])[("superblock", 3), ("hosts", 4), ("segment-5", 5), ("superblock-1", 16), ("segment-17", 17)])
        {
            (Errno errno, EntryOut entry) = _driver.Lookup(Meta, name);
            Assert.Equal((Errno.None, inode, 0UL), (errno, entry.NodeId, entry.EntryValidSeconds));
            Assert.Equal((FuseConstants.S_IFREG | 0x180, (ulong)Unit, 0u), (entry.Attributes.Mode, entry.Attributes.SizeBytes, entry.Attributes.Uid));
        }
        foreach (string other in (string[])["superblock-0", "superblock-01", "superblock-2", "segment-3", "segment-05", "segment-", "x", "hosts-0", "window-1"])
            Assert.Equal(Errno.ENOENT, _driver.Lookup(Meta, other).Errno);
    }

    [Fact]
    public void A_listing_goes_on_where_it_stopped()
    {
        List<string> seen = [];
        ulong offset = 0;
        while (true)
        {
            (Errno errno, byte[] body) = _driver.Ask(FuseOpcode.FUSE_READDIR, Meta, new ReadIn { Offset = offset, SizeBytes = 72 });
            Assert.Equal(Errno.None, errno);
            if (body.Length == 0)
                break;
            seen.AddRange(NamesOf(body, out offset));
            Assert.True(seen.Count < 100, "the listing goes round in circles");
        }
        Assert.Equal(List(Meta), seen);
    }

    [Fact]
    public void A_listing_of_windows_goes_on_where_it_stopped()
    {
        Apply(128, RecordType.TermStarted, new TermStarted());
        for (ulong i = 0; i < 3; i++)
        {
            MakeFileAndDeleteIt(20 + i, (8 + (long)i) * Unit, term: 128);
            Apply(128, RecordType.ZeroingStarted, new ZeroingStarted { Inode = 20 + i });
        }
        Update();
        List<string> seen = [];
        ulong offset = 0;
        while (seen.Count < 100)
        {
            (Errno errno, byte[] body) = _driver.Ask(FuseOpcode.FUSE_READDIR, WindowDirectory, new ReadIn { Offset = offset, SizeBytes = 72 });
            Assert.Equal(Errno.None, errno);
            if (body.Length == 0)
                break;
            seen.AddRange(NamesOf(body, out offset));
        }
        Assert.Equal([".", "..", $"0-{8 * Unit}-{Unit}", $"0-{9 * Unit}-{Unit}", $"0-{10 * Unit}-{Unit}"], seen);
    }

    [Fact]
    public void A_segment_appears_with_its_record()
    {
        Assert.Equal(Errno.ENOENT, _driver.Lookup(Meta, "segment-18").Errno);
        Apply(64, RecordType.SegmentReserved, new SegmentReserved { Inode = 18, Extent = new() { OffsetBytes = (ulong)(3 * Unit), LengthBytes = (ulong)(2 * Unit) } });
        Assert.Equal((18UL, (ulong)(2 * Unit)), (_driver.Lookup(Meta, "segment-18").Entry.NodeId, _driver.Lookup(Meta, "segment-18").Entry.Attributes.SizeBytes));
    }

    [Fact]
    public void What_is_the_file_systems_own_is_opened_read_and_written_before_the_gate_opens()
    {
        Apply(64, RecordType.FileCreated, new FileCreated { Inode = 20, Parent = 1, Name = ByteString.CopyFromUtf8("f"), SizeBytes = 5, Map = new() { Extents = { new Extent { OffsetBytes = (ulong)(8 * Unit), LengthBytes = (ulong)Unit } } } });
        Assert.Equal(Errno.EHOSTDOWN, _driver.Ask(FuseOpcode.FUSE_OPEN, new(20), new OpenIn()).Errno);

        Assert.Equal(Errno.None, _driver.Ask(FuseOpcode.FUSE_OPEN, new(5), new OpenIn { Flags = 2 }).Errno);
        Assert.Equal((Errno.None, 3), _driver.Write(new(5), 10, [1, 2, 3]));
        Assert.Equal([1, 2, 3], _driver.Read(new(5), 10, 3).Data);
        byte[] there = new byte[3];
        _memory.Attach("other").Read((2 * Unit) + 10, there);
        Assert.Equal([1, 2, 3], there);
        Assert.Equal(Errno.EPERM, _driver.Ask(FuseOpcode.FUSE_SETATTR, new(5), new SetAttrIn { Valid = FuseConstants.FATTR_SIZE, SizeBytes = (ulong)Unit }).Errno);
        Assert.Equal(Errno.EISDIR, _driver.Ask(FuseOpcode.FUSE_OPEN, Meta, new OpenIn()).Errno);
    }

    [Fact]
    public void Every_file_says_which_range_it_is()
    {
        (Errno errno, byte[] body) = _driver.Ask(FuseOpcode.FUSE_GETXATTR, new(17), new GetXattrIn { SizeBytes = 1000 }, RequestDriver.Terminated("user.famfs.map"));
        Assert.Equal((Errno.None, $"size {Unit} chunk 0\n1 {Unit} {Unit}\n"), (errno, Encoding.UTF8.GetString(body)));
    }

    [Fact]
    public void A_window_is_open_exactly_while_a_term_of_this_host_has_its_range_reserved()
    {
        MakeFileAndDeleteIt(20, 8 * Unit);
        Apply(128, RecordType.TermStarted, new TermStarted());
        Assert.Equal([".", ".."], List(WindowDirectory));

        Apply(128, RecordType.ZeroingStarted, new ZeroingStarted { Inode = 20 });
        Assert.Empty(Update());
        string name = $"0-{8 * Unit}-{Unit}";
        Assert.Equal([".", "..", name], List(WindowDirectory));
        (Errno errno, EntryOut entry) = _driver.Lookup(WindowDirectory, name);
        Assert.Equal((Errno.None, MediaLayout.FirstPrivateNode + 1, 0UL, (ulong)Unit), (errno, entry.NodeId, entry.EntryValidSeconds, entry.Attributes.SizeBytes));
        Assert.Equal((FuseConstants.S_IFREG | 0x180, 0u, 0u), (entry.Attributes.Mode, entry.Attributes.Uid, entry.Attributes.Gid));
        InodeNumber window = new(entry.NodeId);
        Assert.Equal(Errno.None, _driver.Ask(FuseOpcode.FUSE_OPEN, window, new OpenIn { Flags = 2 }).Errno);
        Assert.Equal((Errno.None, 1), _driver.Write(window, 0, [9]));
        byte[] there = new byte[1];
        _memory.Attach("other").Read(8 * Unit, there);
        Assert.Equal(9, there[0]);
        Assert.Equal(Errno.ENOENT, _driver.Lookup(WindowDirectory, $"0-{8 * Unit}-{2 * Unit}").Errno);

        Apply(128, RecordType.ExtentsReclaimed, new ExtentsReclaimed { Inode = 20 });
        Assert.Equal(name, Encoding.UTF8.GetString(Assert.Single(Update()).Name));
        Assert.Equal(Errno.ESTALE, _driver.Ask(FuseOpcode.FUSE_OPEN, window, new OpenIn()).Errno);
        Assert.Equal(Errno.ESTALE, _driver.Write(window, 0, [9]).Errno);
        Assert.Equal(Errno.ESTALE, _driver.Ask(FuseOpcode.FUSE_GETATTR, window, new GetAttrIn()).Errno);
        Assert.Equal(Errno.ENOENT, _driver.Lookup(WindowDirectory, name).Errno);
    }

    [Fact]
    public void A_later_term_closes_the_windows_for_good()
    {
        MakeFileAndDeleteIt(20, 8 * Unit);
        Apply(128, RecordType.TermStarted, new TermStarted());
        Apply(128, RecordType.ZeroingStarted, new ZeroingStarted { Inode = 20 });
        Update();
        string name = $"0-{8 * Unit}-{Unit}";
        InodeNumber first = new(_driver.Lookup(WindowDirectory, name).Entry.NodeId);

        // Slot 1 is another host's; then a term of this host again, to which nothing is reserved.
        Apply(193, RecordType.TermStarted, new TermStarted());
        Assert.Single(Update());
        Assert.Equal(Errno.ESTALE, _driver.Ask(FuseOpcode.FUSE_OPEN, first, new OpenIn()).Errno);
        Apply(256, RecordType.TermStarted, new TermStarted());
        Assert.Empty(Update());
        Assert.Equal(Errno.ENOENT, _driver.Lookup(WindowDirectory, name).Errno);

        MakeFileAndDeleteIt(21, 9 * Unit, term: 256);
        Apply(256, RecordType.ZeroingStarted, new ZeroingStarted { Inode = 21 });
        Update();
        EntryOut second = _driver.Lookup(WindowDirectory, $"0-{9 * Unit}-{Unit}").Entry;
        Assert.Equal(first.Value + 1, second.NodeId);
    }

    [Fact]
    public void A_range_that_a_later_term_reserved_within_one_block_has_another_window()
    {
        MakeFileAndDeleteIt(20, 8 * Unit);
        Apply(128, RecordType.TermStarted, new TermStarted());
        Apply(128, RecordType.ZeroingStarted, new ZeroingStarted { Inode = 20 });
        Update();
        string name = $"0-{8 * Unit}-{Unit}";
        InodeNumber first = new(_driver.Lookup(WindowDirectory, name).Entry.NodeId);

        // What comes now is looked at only when all of it is there.
        Apply(128, RecordType.ExtentsReclaimed, new ExtentsReclaimed { Inode = 20 });
        Apply(192, RecordType.TermStarted, new TermStarted());
        MakeFileAndDeleteIt(21, 8 * Unit, term: 192);
        Apply(192, RecordType.ZeroingStarted, new ZeroingStarted { Inode = 21 });
        Assert.Equal(first.Value, Assert.Single(Update()).Node);

        Assert.Equal(Errno.ESTALE, _driver.Ask(FuseOpcode.FUSE_OPEN, first, new OpenIn()).Errno);
        Assert.Equal(first.Value + 1, _driver.Lookup(WindowDirectory, name).Entry.NodeId);
    }

    [Fact]
    public void Space_that_another_hosts_term_zeroes_has_no_window_here()
    {
        MakeFileAndDeleteIt(20, 8 * Unit);
        Apply(129, RecordType.TermStarted, new TermStarted());
        Apply(129, RecordType.ZeroingStarted, new ZeroingStarted { Inode = 20 });
        Update();
        Assert.Equal([".", ".."], List(WindowDirectory));
    }

    [Fact]
    public void A_deleted_file_is_opened_by_the_thread_that_has_looked_up_its_secret_name()
    {
        const uint Mine = 7;
        InodeNumber file = new(20);
        MakeFileAndDeleteIt(file.Value, 8 * Unit);
        string name;
        using (FlushDoor.Visit visit = _system.FlushDoor.Open(file))
        {
            name = visit.Name;
            Assert.Equal(Errno.ESTALE, OpenAs(Mine, file));
            Assert.Equal(Errno.None, LookupAs(Mine, name));
            Assert.Equal(Errno.None, OpenAs(Mine, file));
            Assert.Equal(Errno.ESTALE, OpenAs(Mine + 1, file));
            Assert.Equal(Errno.ESTALE, OpenAs(Mine, new(21)));
            Assert.False(visit.IsUnknownHere);

            // Two at a time, each its own.
            MakeFileAndDeleteIt(21, 9 * Unit);
            using FlushDoor.Visit second = _system.FlushDoor.Open(new(21));
            Assert.NotEqual(name, second.Name);
            Assert.Equal(Errno.None, LookupAs(Mine + 1, second.Name));
            Assert.Equal((Errno.ESTALE, Errno.None), (OpenAs(Mine, new(21)), OpenAs(Mine + 1, new(21))));
            Assert.Equal(Errno.None, OpenAs(Mine, file));

            Assert.Equal(Errno.ENOENT, LookupAs(Mine, name[..^1] + (name[^1] == '0' ? '1' : '0')));
            Assert.DoesNotContain(name, List(Meta));
            Assert.Equal(0UL, _driver.Lookup(Root, name).Entry.NodeId);
        }
        Assert.Equal((Errno.ENOENT, Errno.ESTALE), (LookupAs(Mine, name), OpenAs(Mine, file)));
    }

    [Fact]
    public void A_mount_that_is_over_has_no_file_and_keeps_what_is_the_file_systems_own()
    {
        InodeNumber superblock = new(3);
        _system.Verdict = OpenVerdict.Open;
        Apply(64, RecordType.FileCreated, new FileCreated
        {
            Inode = 20, Parent = 1, Name = ByteString.CopyFromUtf8("g"), SizeBytes = (ulong)Unit, Map = new() { Extents = { new Extent { OffsetBytes = (ulong)(8 * Unit), LengthBytes = (ulong)Unit } } },
        });
        InodeNumber file = new(20);
        Assert.Equal(Errno.ENOENT, _driver.Lookup(Meta, MetaNames.OfRevoked(file)).Errno);
        Assert.Equal((Errno.None, Errno.None), (ReadOf(file), WriteTo(file)));

        _system.IsRevoked = true;
        Assert.Equal((Errno.ESTALE, Errno.ESTALE, Errno.ESTALE), (ReadOf(file), WriteTo(file), _driver.Ask(FuseOpcode.FUSE_OPEN, file, new OpenIn()).Errno));
        Assert.Equal((Errno.None, Errno.None), (ReadOf(superblock), _driver.Ask(FuseOpcode.FUSE_OPEN, superblock, new OpenIn()).Errno));
        // Also one that the log has no more.
        foreach (InodeNumber known in (InodeNumber[])[file, new(4711)])
        {
            (Errno errno, EntryOut entry) = _driver.Lookup(Meta, MetaNames.OfRevoked(known));
            Assert.Equal((Errno.None, known.Value, 0UL, FuseConstants.S_IFREG), (errno, entry.NodeId, entry.EntryValidSeconds, entry.Attributes.Mode & FuseConstants.S_IFMT));
        }
        foreach (string other in (string[])["revoke-", "revoke-020", "revoke-+20", "revoke-20x", "revoke-99999999999999999999", "Revoke-20"])
            Assert.Equal(Errno.ENOENT, _driver.Lookup(Meta, other).Errno);
        Assert.DoesNotContain(MetaNames.OfRevoked(file), List(Meta));
        Assert.Equal(Unit, (long)_driver.Lookup(Root, "g").Entry.Attributes.SizeBytes);
    }

    private Errno ReadOf(InodeNumber inode) => _driver.Ask(FuseOpcode.FUSE_READ, inode, new ReadIn { SizeBytes = 8 }).Errno;

    private Errno WriteTo(InodeNumber inode) => _driver.Ask(FuseOpcode.FUSE_WRITE, inode, new WriteIn { SizeBytes = 1 }, "x"u8).Errno;

    [Fact]
    public void A_thread_without_a_number_in_the_mounts_name_space_opens_nothing()
    {
        MakeFileAndDeleteIt(20, 8 * Unit);
        using FlushDoor.Visit visit = _system.FlushDoor.Open(new(20));
        Assert.Equal((Errno.ENOENT, Errno.ESTALE), (LookupAs(0, visit.Name), OpenAs(0, new(20))));
        Assert.True(visit.IsUnknownHere);
    }

    [Fact]
    public void A_window_that_was_closed_is_remembered_until_the_kernel_has_let_go_of_it()
    {
        _system.Windows.RemembersClosed = true;
        int closed = 0;
        _system.Windows.Closed += () => closed++;
        MakeFileAndDeleteIt(20, 8 * Unit);
        Apply(128, RecordType.TermStarted, new TermStarted());
        Apply(128, RecordType.ZeroingStarted, new ZeroingStarted { Inode = 20 });
        Update();
        MapExtent space = new(default, 8 * Unit, Unit);
        Assert.True(_system.Windows.IsCovered([space]));
        Assert.False(_system.Windows.IsCovered([space with { OffsetBytes = 9 * Unit }, space with { Device = new(1) }]));
        Assert.Equal(0, closed);
        Apply(128, RecordType.ExtentsReclaimed, new ExtentsReclaimed { Inode = 20 });
        Assert.True(_system.Windows.IsCovered([space])); // its record is there, and it is open yet
        Window gone = Assert.Single(Update());
        Assert.Equal(1, closed);
        Assert.True(_system.Windows.IsCovered([space with { OffsetBytes = 7 * Unit, LengthBytes = 3 * Unit }]));
        _system.Windows.Forget([gone]);
        Assert.False(_system.Windows.IsCovered([space]) || _system.Windows.HasAny);
    }

    private Errno OpenAs(uint thread, InodeNumber inode) => AskAs(thread, FuseOpcode.FUSE_OPEN, inode, new byte[8]);

    private Errno LookupAs(uint thread, string name) => AskAs(thread, FuseOpcode.FUSE_LOOKUP, Meta, [.. Encoding.UTF8.GetBytes(name), 0]);

    private Errno AskAs(uint thread, FuseOpcode opcode, InodeNumber node, byte[] body)
    {
        byte[] message = RequestDriver.Message(opcode, 1000, node.Value, body);
        BitConverter.TryWriteBytes(message.AsSpan(32), thread); // fuse_in_header.pid
        return (Errno)(-BitConverter.ToInt32(Assert.Single(_driver.Raw(message)), 4));
    }

    [Fact]
    public void Without_one_there_is_no_hidden_directory_and_its_nodes_are_unknown()
    {
        using TestFileSystem plain = new();
        using RequestDriver driver = new(plain);
        Assert.Equal(Errno.ENOENT, driver.Lookup(Root, ".meta").Errno);
        plain.Tree.MakeSystem(new(77), 0, 0, [new MapExtent(default, 3 * Unit, Unit)]);
        Assert.Equal(Errno.EINVAL, driver.Ask(FuseOpcode.FUSE_OPEN, new(77), new OpenIn()).Errno);
        Assert.Equal(Errno.ESTALE, driver.Ask(FuseOpcode.FUSE_GETATTR, Meta, new GetAttrIn()).Errno);
        Assert.Equal(Errno.ESTALE, driver.Ask(FuseOpcode.FUSE_OPEN, new(MediaLayout.FirstPrivateNode + 1), new OpenIn()).Errno);
    }

    private IReadOnlyList<Window> Update() => _system.Windows.Update(_state, Here);

    private void MakeFileAndDeleteIt(ulong inode, long offset, ulong term = 64)
    {
        ByteString name = ByteString.CopyFromUtf8($"f{inode}");
        Apply(term, RecordType.FileCreated, new FileCreated { Inode = inode, Parent = 1, Name = name, SizeBytes = 5, Map = new() { Extents = { new Extent { OffsetBytes = (ulong)offset, LengthBytes = (ulong)Unit } } } });
        Apply(term, RecordType.Deleted, new Deleted { Inode = inode, Parent = 1, Name = name });
    }

    private void Apply(ulong term, RecordType type, IMessage payload)
    {
        RecordBatch batch = new();
        batch.Start(_state.Position.Sequence, new(term), seed: 0);
        batch.Add(type, payload);
        _state.ApplyFrames(batch.Frames);
    }

    private string[] List(InodeNumber directory)
    {
        Assert.Equal(Errno.None, _driver.Ask(FuseOpcode.FUSE_OPENDIR, directory, new OpenIn()).Errno);
        (Errno errno, byte[] body) = _driver.Ask(FuseOpcode.FUSE_READDIR, directory, new ReadIn { SizeBytes = 4096 });
        Assert.Equal(Errno.None, errno);
        return NamesOf(body, out _);
    }

    private static string[] NamesOf(byte[] body, out ulong last)
    {
        List<string> names = [];
        last = 0;
        for (int at = 0; at < body.Length;)
        {
            DirentHead dirent = MemoryMarshal.Read<DirentHead>(body.AsSpan(at));
            names.Add(Encoding.UTF8.GetString(body, at + 24, (int)dirent.NameBytes));
            last = dirent.Offset;
            at = (at + 24 + (int)dirent.NameBytes + 7) & ~7;
        }
        return [.. names];
    }
}
