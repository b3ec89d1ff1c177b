using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Famfs.Fuse.Replication;
using Famfs.Fuse.Session;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Fuse.Tests.Replication;

/// <summary>A mount and a master that compacts the log: live, after absence, from the snapshot, and when it takes over a kept mount.</summary>
public sealed class CompactedLogTests : IDisposable
{
    private const long Unit = MediaLayout.UnitBytes;

    private readonly Guid _host = Guid.NewGuid();
    private readonly FakeSharedMemory _memory = new(64 * Unit, seed: 1) { AccidentOneIn = 0 };
    private readonly DevicePool _pool;
    private readonly TestMaster _master;
    private readonly List<Replica> _replicas = [];
    private ulong _nextInode = 1000;

    public CompactedLogTests()
    {
        using (DaxDevice device = _memory.Attach("master"))
            NativeFormatter.Format([device], new() { Host = _host, Clock = TimeProvider.System });
        _pool = Open("master");
        _master = TestMaster.Start(_pool, 0, _host);
    }

    public void Dispose()
    {
        foreach (Replica replica in _replicas)
            replica.Dispose();
        _pool.Dispose();
    }

    [Fact]
    public void Mounts_that_follow_that_are_late_and_that_start_come_to_the_same_names()
    {
        Replica live = Start("live");
        Replica late = Start("late");
        MakeDirectories(20);
        Drain(live);
        RemoveDirectory("d1003");
        Compact(() => MakeDirectories(5));
        MakeDirectories(3);
        Drain(live);
        Assert.Equal((2UL, _master.Writer.Position), (live.Position.Generation, live.Position));
        MakeDirectories(3);
        Compact(() => RemoveDirectory("d1004"));
        MakeDirectories(2);
        Replica fresh = Start("fresh");
        foreach (Replica replica in new[] { live, late, fresh })
        {
            Drain(replica);
            Assert.Null(replica.Damage);
            Assert.Equal(_master.Writer.Position, replica.Position);
            Assert.Equal(3UL, replica.Position.Generation);
            Assert.Equal(replica.Position, replica.Gate.Acknowledged);
            Assert.Equal(Enumerable.Range(1000, 33).Except([1003, 1004]).Select(i => $"d{i}").Order(), Names(replica));
        }
    }

    [Fact]
    public void A_daemon_that_takes_over_tells_its_kernel_each_record_that_a_snapshot_stands_for()
    {
        MakeDirectories(10);
        LogSequence told = _master.Writer.Position.Sequence;
        RemoveDirectory("d1002");
        Compact();
        MakeDirectories(2);
        using Replica replica = new(Open("kept"), _host, default, new HastyClock());
        Telling transport = new();
        LogSequence begun = default;
        KernelPresence presence = new();
        presence.Mark(InodeNumber.Root);
        presence.Mark(new(1002));
        using KernelNotifier notifier = new(transport, presence, replica.Tree, new Negotiated(DialectTable.Stock, 45, InitFlags.None, 4096, 1), 1 << 20);
        Assert.Null(replica.Bootstrap(told, () =>
        {
            begun = replica.Position.Sequence;
            replica.Attach(notifier);
        }));
        Assert.InRange(begun.Value, 0UL, told.Value);
        Assert.Equal(_master.Writer.Position, replica.Position);
        Assert.True(SpinWait.SpinUntil(() => replica.Gate.Notified == replica.Position, TimeSpan.FromSeconds(60)));
        Assert.Contains(transport.Told, message => message.AsSpan().IndexOf("d1002"u8) >= 0);
    }

    [Fact]
    public void A_damaged_snapshot_is_said_by_who_needs_it_and_no_part_of_it_is_served()
    {
        Replica live = Start("live");
        MakeDirectories(200);
        Compact();
        Drain(live);
        SegmentRef first = _master.Writer.Segment;
        _memory.Settle();
        long place = first.DeviceOffsetOf(8192);
        byte[] line = new byte[64];
        _memory.ReadMemory(place, line);
        _memory.WriteMemory(place, [.. line.Select(b => (byte)~b)]);

        using Replica fresh = new(Open("fresh"), _host, default, new HastyClock());
        FamfsException error = Assert.Throws<FamfsException>(() => fresh.Bootstrap());
        Assert.Equal(ErrorReason.MediaCorrupt, error.Reason);
        Assert.Contains("log segment", error.Message, StringComparison.Ordinal);
        Assert.False(fresh.DamageIsFinal);
        MakeDirectories(1);
        Drain(live);
        Assert.Null(live.Damage);

        _memory.Settle();
        _memory.WriteMemory(place, line);
        Assert.Null(fresh.Bootstrap());
        Assert.Equal(Names(live), Names(fresh));
    }

    [Fact]
    public void A_mount_whose_generation_is_gone_says_so_and_serves_no_file_any_more()
    {
        Replica late = Start("late");
        MakeDirectories(20);
        SegmentRef old = _master.Writer.Segment;
        Compact();
        _memory.Settle();
        _memory.WriteMemory(old.Offset, new byte[64 * 1024]);
        FamfsException error = Assert.Throws<FamfsException>(() => Drain(late));
        Assert.Equal(ErrorReason.StaleGeneration, error.Reason);
        Assert.Contains("generation 1 of the log", error.Message, StringComparison.Ordinal);
        Assert.True(late.IsOfOtherHistory);
        Assert.True(late.DamageIsFinal);
    }

    /// <summary>The stream may bring records of the generation before, which lie elsewhere there.</summary>
    [Fact]
    public void Records_of_the_former_generation_that_the_stream_brings_later_do_no_harm()
    {
        Replica replica = Start("here");
        MakeDirectories(3);
        ILogReader stream = _pool.Format.OpenReader(_pool, new HastyClock());
        while (stream.Poll(out _) == PollVerdict.Records)
        {
        }
        List<LogBlock> pushed = [];
        Compact(() =>
        {
            // More than a reader hands out at once.
            for (int i = 0; i < 40; i++)
                SetLargeAttribute(1000 + (ulong)(i % 3));
            while (stream.Poll(out LogBlock block) == PollVerdict.Records)
                pushed.Add(block with { Frames = block.Frames.ToArray() });
        });
        while (replica.Position.Generation == 1)
            Assert.Equal(PollVerdict.Records, replica.PollMemory());
        Assert.True(replica.Position.Sequence.Value < pushed[^1].FirstSequence.Value + (ulong)pushed[^1].Count - 1);
        foreach (LogBlock block in pushed)
            replica.ApplyPushed(block);
        Assert.Equal(pushed[^1].FirstSequence.Value + (ulong)pushed[^1].Count - 1, replica.Position.Sequence.Value);
        MakeDirectories(1);
        Drain(replica);
        Assert.Null(replica.Damage);
        Assert.Equal(_master.Writer.Position, replica.Position);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void A_shortage_within_a_snapshot_is_passed_or_ends_the_start(int block)
    {
        MakeDirectories(100);
        for (ulong i = 0; i < 40; i++)
            SetLargeAttribute(1000 + i);
        Compact();
        ShortReader? reader = null;
        using Replica passed = new(Open("passed"), _host, default, new HastyClock(), inner => reader = new(inner) { FailsBefore = block });
        Assert.Equal(ErrorReason.Overloaded, Assert.Throws<FamfsException>(() => passed.Bootstrap()).Reason);
        Assert.Null(passed.Bootstrap());
        Assert.Equal(_master.Writer.Position, passed.Position);
        Assert.Equal(100, Names(passed).Count);

        using Replica torn = new(Open("torn"), _host, default, new HastyClock(), inner => reader = new(inner) { CutsIn = block });
        Assert.Equal(ErrorReason.Overloaded, Assert.Throws<FamfsException>(() => torn.Bootstrap()).Reason);
        Assert.Equal(block > 1, torn.DamageIsFinal);
    }

    /// <summary>A snapshot does not say which space was given back before, of which this host's caches may have lines.</summary>
    [Fact]
    public void Space_of_files_of_a_snapshot_is_dropped_from_the_caches_before_it_is_used()
    {
        MapExtent extent = new(default, 40 * Unit, Unit);
        DevicePool pool = Open("here");
        DaxDevice here = pool.Require(default);
        byte[] one = new byte[1];
        here.Read(extent.OffsetBytes, one);
        CreateFile("a", extent);
        RemoveFile("a");
        _master.Publish(RecordType.ZeroingStarted, new ZeroingStarted { Inode = 2000 });
        _master.Publish(RecordType.ExtentsReclaimed, new ExtentsReclaimed { Inode = 2000 });
        CreateFile("b", extent);
        _memory.WriteMemory(extent.OffsetBytes, [9]);
        Compact();
        using Replica replica = new(pool, _host, default, new HastyClock());
        Assert.Null(replica.Bootstrap());
        here.Read(extent.OffsetBytes, one);
        Assert.Equal(0, one[0]);
        Assert.True(replica.Reused.TryRefresh(new MapView(extent), new Devices(pool)));
        here.Read(extent.OffsetBytes, one);
        Assert.Equal(9, one[0]);
    }

    /// <summary>What this process has open of its own mount keeps the kernel from letting go of it.</summary>
    [Fact]
    public void What_is_open_of_a_deleted_segment_is_closed_once()
    {
        Replica replica = Start("here");
        FakeDaxDevice device = (FakeDaxDevice)replica.Pool.Require(default);
        MakeDirectories(3);
        for (int i = 0; i < 2; i++)
        {
            _master.GoOn(2 * Unit);
            MakeDirectories(3);
        }
        Drain(replica);
        OwnedSegment over = replica.State.Segments[^1];
        OwnedSegment other = replica.State.Segments[^2];
        Compact();
        replica.LetGoOfFormerSegments();
        _master.Publish(RecordType.Deleted, new Deleted { Inode = over.Inode.Value });
        replica.LetGoOfFormerSegments();
        Assert.Empty(device.Left);
        Drain(replica);
        replica.LetGoOfFormerSegments();
        replica.LetGoOfFormerSegments();
        Assert.Equal([(over.Extent.OffsetBytes, over.Extent.LengthBytes)], device.Left);
        // Another one, while the first is still there.
        _master.Publish(RecordType.Deleted, new Deleted { Inode = other.Inode.Value });
        Drain(replica);
        replica.LetGoOfFormerSegments();
        Assert.Equal([(over.Extent.OffsetBytes, over.Extent.LengthBytes), (other.Extent.OffsetBytes, other.Extent.LengthBytes)], device.Left);
        // The first is reclaimed.
        _master.Publish(RecordType.ZeroingStarted, new ZeroingStarted { Inode = over.Inode.Value });
        _master.Publish(RecordType.ExtentsReclaimed, new ExtentsReclaimed { Inode = over.Inode.Value });
        MakeDirectories(3);
        Drain(replica);
        replica.LetGoOfFormerSegments();
        Assert.Equal(2, device.Left.Count);
    }

    private DevicePool Open(string cache) => TestFormats.All.Open([_memory.Attach(cache)]);

    private Replica Start(string cache)
    {
        Replica replica = new(Open(cache), _host, default, new HastyClock());
        _replicas.Add(replica);
        Assert.Null(replica.Bootstrap());
        return replica;
    }

    private void Compact(Action? meanwhile = null) => Assert.True(_master.TryCompact(Open("master"), new HastyClock(), static _ => 4 * Unit, meanwhile, RememberedRequests.None));

    private void MakeDirectories(int count)
    {
        for (int i = 0; i < count; i++)
        {
            ulong inode = _nextInode++;
            _master.Publish(RecordType.DirectoryMade, new DirectoryMade { Inode = inode, Parent = InodeNumber.Root.Value, Name = ByteString.CopyFromUtf8($"d{inode}") });
        }
    }

    private void RemoveDirectory(string name) =>
        _master.Publish(RecordType.Deleted, new Deleted { Inode = ulong.Parse(name.AsSpan(1), System.Globalization.CultureInfo.InvariantCulture), Parent = InodeNumber.Root.Value, Name = ByteString.CopyFromUtf8(name) });

    private void SetLargeAttribute(ulong inode)
    {
        if (_master.Writer.RemainingBytes < 200_000)
            _master.GoOn(2 * Unit);
        _master.Publish(RecordType.AttributesSet, new AttributesSet { Inode = inode, Attributes = { new ExtendedAttribute { Name = ByteString.CopyFromUtf8("user.large"), Value = ByteString.CopyFrom(new byte[60_000]) } } });
    }

    private void CreateFile(string name, MapExtent extent) => _master.Publish(RecordType.FileCreated, new FileCreated
    {
        Inode = name == "a" ? 2000UL : 2001, Parent = InodeNumber.Root.Value, Name = ByteString.CopyFromUtf8(name), SizeBytes = 1,
        Map = new() { Extents = { new Extent { OffsetBytes = (ulong)extent.OffsetBytes, LengthBytes = (ulong)extent.LengthBytes } } },
    });

    private void RemoveFile(string name) =>
        _master.Publish(RecordType.Deleted, new Deleted { Inode = 2000, Parent = InodeNumber.Root.Value, Name = ByteString.CopyFromUtf8(name) });

    private static void Drain(Replica replica)
    {
        while (replica.PollMemory() != PollVerdict.UpToDate)
        {
        }
    }

    private static List<string> Names(Replica replica)
    {
        List<string> names = [];
        using TreeReader reader = replica.Tree.RegisterReader();
        using TreeScope scope = reader.Enter();
        DirectoryEntries entries = scope.List(InodeNumber.Root, 0);
        while (entries.MoveNext())
            names.Add(System.Text.Encoding.UTF8.GetString(entries.Name));
        names.Sort(StringComparer.Ordinal);
        return names;
    }

    private sealed class Devices(DevicePool pool) : IDeviceResolver
    {
        public DaxDevice? Resolve(DeviceIndex index) => pool.Find(index);
    }

    /// <summary>Keeps what the kernel is told.</summary>
    private sealed class Telling : IFuseTransport
    {
        private readonly List<byte[]> _told = [];

        public IReadOnlyList<byte[]> Told
        {
            get
            {
                lock (_told)
                    return [.. _told];
            }
        }

        public int Read(Span<byte> buffer) => throw new NotSupportedException();

        public int Write(ReadOnlySpan<byte> head, ReadOnlySpan<MemoryPiece> pieces)
        {
            lock (_told)
                _told.Add(head.ToArray());
            return head.Length;
        }
    }

    /// <summary>Falls short once.</summary>
    private sealed class ShortReader(ILogReader inner) : ILogReader
    {
        private int _blocks;

        /// <summary>Before it reads this block, from 1.</summary>
        public int FailsBefore { get; set; }

        /// <summary>Replay falls short when it is given this block.</summary>
        public int CutsIn { get; set; }

        public LogPosition Position => inner.Position;

        public long Offset => inner.Offset;

        public string TailDamage => inner.TailDamage;

        public string Divergence => inner.Divergence;

        public void Resume(LogPosition position, long offset) => inner.Resume(position, offset);

        public PollVerdict Poll(out LogBlock block)
        {
            block = default;
            if (FailsBefore == _blocks + 1)
            {
                FailsBefore = 0;
                throw new OutOfMemoryException();
            }
            PollVerdict verdict = inner.Poll(out block);
            _blocks += verdict == PollVerdict.Records ? 1 : 0;
            if (verdict == PollVerdict.Records && CutsIn == _blocks)
            {
                CutsIn = 0;
                block = block with { Frames = new NoMemory(block.Frames.Length).Memory };
            }
            return verdict;
        }
    }

    /// <summary>Bytes that cannot be had.</summary>
    private sealed class NoMemory(int length) : System.Buffers.MemoryManager<byte>
    {
        public override Memory<byte> Memory => CreateMemory(length);

        public override Span<byte> GetSpan() => throw new OutOfMemoryException();

        public override System.Buffers.MemoryHandle Pin(int elementIndex = 0) => throw new NotSupportedException();

        public override void Unpin()
        {
        }

        protected override void Dispose(bool disposing)
        {
        }
    }
}
