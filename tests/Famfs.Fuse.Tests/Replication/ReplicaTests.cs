using System.Collections.Concurrent;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Interop;
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
using Xunit;

namespace Famfs.Fuse.Tests.Replication;

/// <summary>What a mount knows of the log, beside a master that appends to it.</summary>
public sealed class ReplicaTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-replica-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void What_follows_a_device_that_joined_is_acknowledged_when_the_device_was_looked_for()
    {
        var host = Guid.NewGuid();
        string path = Path.Combine(_directory, "0");
        using (FileStream file = File.Create(path))
            file.SetLength(64 << 20);
        using (DaxDevice device = DaxDevice.Open(path))
            NativeFormatter.Format([device], new() { Host = host, Clock = TimeProvider.System });
        using DevicePool pool = TestFormats.All.Open([DaxDevice.Open(path)]);
        using Replica replica = new(TestFormats.All.Open([DaxDevice.Open(path)]), host, default, TimeProvider.System);
        Assert.Null(replica.Bootstrap());
        using KernelNotifier notifier = new(new MemoryTransport(), new KernelPresence(), replica.Tree, new Negotiated(DialectTable.Stock, 45, InitFlags.None, 4096, 1), 1 << 20);
        Acknowledgements acknowledged = new();
        replica.Gate.SendTo(acknowledged);
        replica.Attach(notifier);
        var master = TestMaster.Start(pool, 0, host);

        ulong before = Apply(() => MakeDirectory(0, "d"));
        Await(() => acknowledged.Sequences.Contains(before));
        LogPosition early = replica.Position;
        Apply(() => Join(1));
        Apply(() => Join(2));
        ulong last = Apply(() => MakeDirectory(1, "e"));
        Await(() => replica.Gate.Notified.Sequence.Value == last);

        // The line in memory acknowledges too, and the same.
        MountRegistration registration = new(replica, new(host, Guid.NewGuid(), new byte[32], "test"), Guid.NewGuid(), TimeProvider.System) { GrantedSlot = 0 };
        registration.Advance();
        Assert.Equal(before, Assert.Single(new MountLineTable(replica.Pool).ReadBlock(0)).Line!.ReplayedSequence.Value);

        // A look that began before the devices had joined says nothing about them.
        replica.Gate.DevicesLookedFor(early);
        Assert.Equal((before, before), (acknowledged.Sequences.Last(), replica.Gate.Acknowledged.Sequence.Value));
        replica.Gate.DevicesLookedFor(replica.Position);
        Assert.Equal((last, last), (acknowledged.Sequences.Last(), replica.Gate.Acknowledged.Sequence.Value));

        // And later records go out by themselves again.
        last = Apply(() => MakeDirectory(2, "f"));
        Await(() => acknowledged.Sequences.Contains(last));

        void MakeDirectory(ulong inode, string name) =>
            master.Publish(RecordType.DirectoryMade, new DirectoryMade { Inode = 1000 + inode, Parent = InodeNumber.Root.Value, Name = Google.Protobuf.ByteString.CopyFromUtf8(name) });

        void Join(uint index) => master.Publish(RecordType.DeviceAdded, new DeviceAdded { Index = index, LengthBytes = 64 << 20, SuperblockInode = 16 + index, DeviceUuid = Google.Protobuf.ByteString.CopyFrom(Guid.NewGuid().ToByteArray()) });

        ulong Apply(Action publish)
        {
            publish();
            while (replica.PollMemory() == PollVerdict.Records)
            {
            }
            return replica.Position.Sequence.Value;
        }
    }

    /// <summary>While a file is there somebody may have its lines, and when its space was given back to others too.</summary>
    [Fact]
    public void What_this_hosts_caches_have_of_a_removed_file_is_dropped()
    {
        const long Unit = MediaLayout.UnitBytes;
        InodeNumber inode = new(1000);
        MapExtent extent = new(default, 30 * Unit, Unit);
        var host = Guid.NewGuid();
        FakeSharedMemory memory = new(64 * Unit, seed: 1) { AccidentOneIn = 0 };
        using (DaxDevice device = memory.Attach("master"))
            NativeFormatter.Format([device], new() { Host = host, Clock = TimeProvider.System });
        using DevicePool pool = TestFormats.All.Open([memory.Attach("master")]);
        using Replica replica = new(TestFormats.All.Open([memory.Attach("here")]), host, default, TimeProvider.System) { PurgeStepBytes = Unit / 4 };
        Assert.Null(replica.Bootstrap());
        var master = TestMaster.Start(pool, 0, host);
        Google.Protobuf.ByteString name = Google.Protobuf.ByteString.CopyFromUtf8("f");
        master.Publish(RecordType.FileCreated, new FileCreated { Inode = inode.Value, Parent = InodeNumber.Root.Value, Name = name, SizeBytes = 1, Map = new() { Extents = { new Extent { OffsetBytes = (ulong)extent.OffsetBytes, LengthBytes = (ulong)extent.LengthBytes } } } });
        Drain(replica);
        DaxDevice here = replica.Pool.Require(default);
        here.Write(extent.OffsetBytes, [5]);
        Assert.False(replica.TryPurge(inode, static _ => null));
        Assert.Equal(0, InMemory());
        Assert.True(replica.TryPurge(inode, replica.Pool.Find));
        Assert.Equal(5, InMemory());
        Assert.Equal(5, Here()); // a clean line
        Assert.True(replica.TryPurge(inode, replica.Pool.Find));
        memory.WriteMemory(extent.OffsetBytes, [6]);
        Assert.Equal(6, Here());

        // A daemon that starts finds it deleted.
        here.Write(extent.OffsetBytes, [7]);
        master.Publish(RecordType.Deleted, new Deleted { Inode = inode.Value, Parent = InodeNumber.Root.Value, Name = name });
        Drain(replica);
        Assert.Equal(6, InMemory());
        here.Write(extent.OffsetBytes + Unit - 1, [9]);
        // A large file is purged in parts, and the mount's line is renewed between them.
        List<(byte First, byte Last)> between = [];
        replica.BetweenPurges = () => between.Add((InMemory(), InMemory(Unit - 1)));
        Assert.Null(replica.PurgeDeleted());
        Assert.Equal([(7, 0), (7, 0), (7, 0), (7, 9), (7, 9)], between);
        Assert.Equal(7, InMemory());

        Assert.Equal(7, Here());
        master.Publish(RecordType.ZeroingStarted, new ZeroingStarted { Inode = inode.Value });
        master.Publish(RecordType.ExtentsReclaimed, new ExtentsReclaimed { Inode = inode.Value });
        Drain(replica);
        memory.WriteMemory(extent.OffsetBytes, [8]);
        Assert.Equal(7, Here());
        Assert.True(replica.Reused.TryRefresh(new MapView(extent), new Devices(replica.Pool)));
        Assert.Equal(8, Here());

        byte InMemory(long place = 0)
        {
            byte[] one = new byte[1];
            memory.ReadMemory(extent.OffsetBytes + place, one);
            return one[0];
        }

        byte Here()
        {
            byte[] one = new byte[1];
            here.Read(extent.OffsetBytes, one);
            return one[0];
        }
    }

    /// <summary>The kernel may have it: the line names it from the record on that removed it.</summary>
    [Fact]
    public void A_file_that_is_removed_is_held_with_its_record()
    {
        var host = Guid.NewGuid();
        using DevicePool pool = Format(host);
        using Replica replica = new(TestFormats.All.Open([DaxDevice.Open(Path.Combine(_directory, "0"))]), host, default, TimeProvider.System);
        Assert.Null(replica.Bootstrap());
        KernelPresence presence = new();
        presence.Mark(new(1000));
        using KernelNotifier notifier = new(new Attentive(), presence, replica.Tree, new Negotiated(DialectTable.Stock, 45, InitFlags.None, 4096, 1), 1 << 20);
        using HeldFiles held = new(replica.Gate, notifier, presence, static _ => true, static _ => false);
        replica.Attach(notifier, held: held);
        var master = TestMaster.Start(pool, 0, host);
        foreach (ulong inode in (ulong[])[1000, 1001])
        {
            Google.Protobuf.ByteString name = Google.Protobuf.ByteString.CopyFromUtf8($"{inode}");
            master.Publish(RecordType.FileCreated, new FileCreated { Inode = inode, Parent = InodeNumber.Root.Value, Name = name, SizeBytes = 1, Map = new() { Extents = { new Extent { OffsetBytes = (20 + (inode - 1000)) * MediaLayout.UnitBytes, LengthBytes = MediaLayout.UnitBytes } } } });
            master.Publish(RecordType.Deleted, new Deleted { Inode = inode, Parent = InodeNumber.Root.Value, Name = name });
            Drain(replica);
        }
        Await(() => replica.Gate.Acknowledged.Sequence == master.Writer.Position.Sequence);
        ReleaseStatement released = held.Describe();
        Assert.Equal((master.Writer.Position.Sequence, new InodeNumber(1000)), (released.Watermark, Assert.Single(released.Exceptions)));
    }

    [Theory]
    [InlineData(Shortage.InPoll, false)]
    [InlineData(Shortage.InPoll, true)]
    [InlineData(Shortage.InApply, false)]
    [InlineData(Shortage.InApply, true)]
    [InlineData(Shortage.InPush, false)]
    [InlineData(Shortage.InPush, true)]
    public void A_mount_that_was_short_of_something_goes_on_where_it_was_and_stays_writable(Shortage place, bool ofMemory)
    {
        var host = Guid.NewGuid();
        using DevicePool pool = Format(host);
        ShortReader? reader = null;
        using Replica replica = new(TestFormats.All.Open([DaxDevice.Open(Path.Combine(_directory, "0"))]), host, default, TimeProvider.System, inner => reader = new(inner));
        Assert.Null(replica.Bootstrap());
        Acknowledgements acknowledged = new();
        replica.Gate.SendTo(acknowledged);
        var master = TestMaster.Start(pool, 0, host);
        ILogReader other = pool.Format.OpenReader(pool, TimeProvider.System);
        other.Resume(replica.Position, reader!.Offset);
        master.Publish(RecordType.DirectoryMade, new DirectoryMade { Inode = 1000, Parent = InodeNumber.Root.Value, Name = Google.Protobuf.ByteString.CopyFromUtf8("d") });

        Exception shortage = ofMemory ? new OutOfMemoryException() : new FamfsException(ErrorReason.Overloaded, "no room");
        FamfsException told;
        if (place == Shortage.InPush)
        {
            Assert.Equal(PollVerdict.Records, other.PollSettled(out LogBlock block));
            LogBlock pushed = block with { Frames = new ShortMemory(block.Frames, shortage).Memory };
            told = Assert.Throws<FamfsException>(() => replica.ApplyPushed(pushed));
        }
        else
        {
            (reader.At, reader.Fails) = (place, shortage);
            told = Assert.Throws<FamfsException>(() => Drain(replica));
        }
        Assert.Equal(ErrorReason.Overloaded, told.Reason);
        Assert.Null(replica.Damage);
        Assert.False(replica.DamageIsFinal);

        Drain(replica);
        master.Publish(RecordType.DirectoryMade, new DirectoryMade { Inode = 1001, Parent = InodeNumber.Root.Value, Name = Google.Protobuf.ByteString.CopyFromUtf8("e") });
        Drain(replica);
        Assert.Null(replica.Damage);
        Assert.Equal(3, replica.Tree.DirectoryCount);
        Assert.Equal(master.Writer.Position, replica.Position);
        Assert.Equal(replica.Position.Sequence.Value, acknowledged.Sequences.Last());
    }

    [Fact]
    public void A_listener_that_was_short_of_something_hears_of_the_same_records_later()
    {
        var host = Guid.NewGuid();
        using DevicePool pool = Format(host);
        using Replica replica = new(TestFormats.All.Open([DaxDevice.Open(Path.Combine(_directory, "0"))]), host, default, TimeProvider.System);
        Assert.Null(replica.Bootstrap());
        Acknowledgements acknowledged = new();
        replica.Gate.SendTo(acknowledged);
        var master = TestMaster.Start(pool, 0, host);
        Drain(replica);
        master.Publish(RecordType.DirectoryMade, new DirectoryMade { Inode = 1000, Parent = InodeNumber.Root.Value, Name = Google.Protobuf.ByteString.CopyFromUtf8("d") });
        acknowledged.Fails = new OutOfMemoryException();
        Assert.Equal(ErrorReason.Overloaded, Assert.Throws<FamfsException>(() => Drain(replica)).Reason);
        Assert.DoesNotContain(replica.Position.Sequence.Value, acknowledged.Sequences);
        Drain(replica);
        Assert.Null(replica.Damage);
        Assert.Equal(master.Writer.Position, replica.Position);
        Assert.Equal(replica.Position.Sequence.Value, acknowledged.Sequences.Last());
    }

    /// <summary>A lost tail is a state that passes (SAFETY S25): said while it lasts, gone when a master stores its tail.</summary>
    [Fact]
    public void A_lost_tail_is_damage_until_a_master_stores_it_again()
    {
        var host = Guid.NewGuid();
        using DevicePool pool = Format(host);
        TestMaster master = TestMaster.Start(pool, 0, host);
        using Replica replica = new(TestFormats.All.Open([DaxDevice.Open(Path.Combine(_directory, "0"))]), host, default, new HastyClock());
        Assert.Null(replica.Bootstrap());
        ulong before = replica.Position.Sequence.Value;
        master.Publish(RecordType.DirectoryMade, new DirectoryMade { Inode = 1000, Parent = InodeNumber.Root.Value, Name = Google.Protobuf.ByteString.CopyFromUtf8("d") });
        DaxDevice device = pool.PrimaryDevice;
        long line = MediaLayout.AnchorOffset + 2 * DaxDevice.LineBytes;
        device.WriteWord(line, device.ReadWord(line) ^ (1ul << 63));
        device.WriteBack(line, DaxDevice.LineBytes);

        PollVerdict verdict;
        for (int i = 0; (verdict = replica.PollMemory()) != PollVerdict.TailLost; i++)
            Assert.True(verdict == PollVerdict.LookAgain && i < 1000, $"{verdict}");
        Assert.Contains("tail-lost", replica.Damage!.Message, StringComparison.Ordinal);
        Assert.False(replica.DamageIsFinal);

        master.Writer.Tick(1);
        Drain(replica);
        Assert.Null(replica.Damage);
        Assert.Equal(before + 1, replica.Position.Sequence.Value);
    }

    /// <summary>After a tail that is lost there may be the removal of any file, and its space may be another's (SAFETY S11).</summary>
    [Fact]
    public void A_mount_opens_nothing_while_the_tail_is_lost_that_it_starts_with()
    {
        var host = Guid.NewGuid();
        using DevicePool pool = Format(host);
        TestMaster master = TestMaster.Start(pool, 0, host);
        using Replica replica = new(TestFormats.All.Open([DaxDevice.Open(Path.Combine(_directory, "0"))]), host, default, new HastyClock());
        Assert.Null(replica.Bootstrap());
        MountRegistration registration = new(replica, new(host, Guid.NewGuid(), new byte[32], "test"), Guid.NewGuid(), TimeProvider.System) { GrantedSlot = 0 };
        master.Publish(RecordType.DirectoryMade, new DirectoryMade { Inode = 1000, Parent = InodeNumber.Root.Value, Name = Google.Protobuf.ByteString.CopyFromUtf8("d") });
        DaxDevice device = pool.PrimaryDevice;
        long line = MediaLayout.AnchorOffset + 2 * DaxDevice.LineBytes;
        device.WriteWord(line, device.ReadWord(line) ^ (1ul << 63));
        device.WriteBack(line, DaxDevice.LineBytes);
        while (replica.PollMemory() != PollVerdict.TailLost)
        {
        }
        registration.Advance();
        Assert.Equal((true, OpenVerdict.HostDown), (registration.HasLine, registration.Admit(InodeNumber.Root)));
        master.Writer.Tick(1);
        Drain(replica);
        registration.Advance();
        Assert.Equal(OpenVerdict.Open, registration.Admit(InodeNumber.Root));
    }

    /// <summary>Where the shortage is met.</summary>
    public enum Shortage
    {
        /// <summary>The reader has read a block and gone past it.</summary>
        InPoll,

        /// <summary>The block is given to replay.</summary>
        InApply,

        /// <summary>A block of the stream is given to replay.</summary>
        InPush,
    }

    private DevicePool Format(Guid host)
    {
        string path = Path.Combine(_directory, "0");
        using (FileStream file = File.Create(path))
            file.SetLength(64 << 20);
        using (DaxDevice device = DaxDevice.Open(path))
            NativeFormatter.Format([device], new() { Host = host, Clock = TimeProvider.System });
        return TestFormats.All.Open([DaxDevice.Open(path)]);
    }

    private static void Drain(Replica replica)
    {
        while (replica.PollMemory() != PollVerdict.UpToDate)
        {
        }
    }

    /// <summary>Falls short once, after it has gone past a block.</summary>
    private sealed class ShortReader(ILogReader inner) : ILogReader
    {
        public Shortage At { get; set; }

        public Exception? Fails { get; set; }

        public LogPosition Position => inner.Position;

        public long Offset => inner.Offset;

        public void Resume(LogPosition position, long offset) => inner.Resume(position, offset);

        public PollVerdict Poll(out LogBlock block)
        {
            PollVerdict verdict = inner.Poll(out block);
            if (verdict != PollVerdict.Records || Fails is not { } shortage)
                return verdict;
            Fails = null;
            if (At == Shortage.InPoll)
                throw shortage;
            block = block with { Frames = new ShortMemory(block.Frames, shortage).Memory };
            return verdict;
        }
    }

    /// <summary>Bytes that cannot be had at the first attempt.</summary>
    private sealed class ShortMemory(ReadOnlyMemory<byte> bytes, Exception shortage) : System.Buffers.MemoryManager<byte>
    {
        private readonly byte[] _bytes = bytes.ToArray();
        private bool _isShort = true;

        public override Memory<byte> Memory => CreateMemory(_bytes.Length);

        public override Span<byte> GetSpan()
        {
            if (!_isShort)
                return _bytes;
            _isShort = false;
            throw shortage;
        }

        public override System.Buffers.MemoryHandle Pin(int elementIndex = 0) => throw new NotSupportedException();

        public override void Unpin()
        {
        }

        protected override void Dispose(bool disposing)
        {
        }
    }

    private sealed class Acknowledgements : IAcknowledgements
    {
        public ConcurrentQueue<ulong> Sequences { get; } = [];

        public Exception? Fails { get; set; }

        public void Acknowledge(LogPosition position)
        {
            Exception? shortage = Fails;
            Fails = null;
            if (shortage is not null)
                throw shortage;
            Sequences.Enqueue(position.Sequence.Value);
        }
    }

    private static void Await(Func<bool> condition) => Assert.True(SpinWait.SpinUntil(condition, TimeSpan.FromSeconds(60)), "it does not happen");

    private sealed class Devices(DevicePool pool) : IDeviceResolver
    {
        public DaxDevice? Resolve(DeviceIndex index) => pool.Find(index);
    }

    /// <summary>A kernel that has every inode.</summary>
    private sealed class Attentive : IFuseTransport
    {
        public int Read(Span<byte> buffer) => throw new NotSupportedException();

        public int Write(ReadOnlySpan<byte> head, ReadOnlySpan<MemoryPiece> pieces) => head.Length;
    }
}
