using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
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
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Tests.Replication;

/// <summary>Lines of a file that a killed daemon of this host has left in its caches, on a device that is not coherent: they reach
/// the memory before the file's space can be another's, or they would reach it afterwards.</summary>
public sealed class OlderMountsLinesTests : IDisposable
{
    private const long Place = 20L * MediaLayout.UnitBytes;
    private const ulong File = 1000;

    private static readonly byte[] s_word = "old file"u8.ToArray();

    private readonly FakeSharedMemory _memory = new(40L * MediaLayout.UnitBytes, seed: 1) { AccidentOneIn = 0 };
    private readonly DevicePool _masterPool;
    private readonly TestMaster _master;
    private readonly Replica _replica;
    private readonly KernelNotifier _notifier;
    private readonly KernelPresence _presence = new();
    private readonly HeldFiles _held;
    private readonly FakeDaxDevice _killed;

    public OlderMountsLinesTests()
    {
        var id = Guid.NewGuid();
        using (DaxDevice device = _memory.Attach("master"))
            NativeFormatter.Format([device], new() { Host = id, Clock = TimeProvider.System, MaxHosts = 8 });
        _masterPool = TestFormats.All.Open([_memory.Attach("master")]);
        _master = TestMaster.Start(_masterPool, 0, id);
        _master.Publish(RecordType.FileCreated, new FileCreated { Inode = File, Parent = InodeNumber.Root.Value, Name = ByteString.CopyFromUtf8("f"), SizeBytes = 1, Map = new() { Extents = { new Extent { OffsetBytes = (ulong)Place, LengthBytes = MediaLayout.UnitBytes } } } });
        _replica = new(TestFormats.All.Open([_memory.Attach("host")]), Guid.NewGuid(), default, TimeProvider.System);
        Assert.Null(_replica.Bootstrap());
        _notifier = new(new EmptyKernel(), _presence, _replica.Tree, new Negotiated(DialectTable.Stock, 45, InitFlags.None, 4096, 1), 1 << 20, hasThread: false);
        _held = HeldFiles.Of(_replica, _notifier, _presence, _replica.Pool.Find, hasThread: false);
        _replica.Attach(_notifier, null, _held);
        _killed = _memory.Attach("host");
        _killed.Write(Place, s_word);
    }

    public void Dispose()
    {
        _held.Dispose();
        _notifier.Dispose();
        _replica.Dispose();
        _masterPool.Dispose();
        _killed.Dispose();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Are_in_memory_before_a_file_is_released_that_is_removed_later(bool takenOver)
    {
        if (takenOver)
            Assert.True(_replica.TryTakeOver(_held));
        Assert.False(IsInMemory());
        Remove();
        Assert.Equal(takenOver ? 1 : 0, _held.Count);
        _held.AskAll();
        Assert.Equal((0, takenOver), (_held.Count, IsInMemory()));
    }

    [Fact]
    public void Are_in_memory_before_it_is_said_that_the_killed_mount_has_ended()
    {
        Remove();
        Assert.Equal(0, _held.Count);
        Assert.False(IsInMemory());
        Assert.True(_replica.TryTakeOver(_held));
        Assert.True(IsInMemory());
    }

    /// <summary>The file before it in the list of removed ones is the one that a master most likely zeroes, and gives back.</summary>
    [Fact]
    public void Are_in_memory_also_when_space_comes_back_while_removed_files_are_looked_through()
    {
        const ulong Earlier = 1001;
        _master.Publish(RecordType.FileCreated, new FileCreated { Inode = Earlier, Parent = InodeNumber.Root.Value, Name = ByteString.CopyFromUtf8("g"), SizeBytes = 1, Map = new() { Extents = { new Extent { OffsetBytes = (ulong)Place + MediaLayout.UnitBytes, LengthBytes = MediaLayout.UnitBytes } } } });
        _master.Publish(RecordType.Deleted, new Deleted { Inode = Earlier, Parent = InodeNumber.Root.Value, Name = ByteString.CopyFromUtf8("g") });
        Remove();
        bool isGivenBack = false;
        _replica.BetweenPurges = () =>
        {
            if (isGivenBack)
                return;
            isGivenBack = true;
            _master.Publish(RecordType.ZeroingStarted, new ZeroingStarted { Inode = Earlier });
            _master.Publish(RecordType.ExtentsReclaimed, new ExtentsReclaimed { Inode = Earlier });
            Assert.Equal(PollVerdict.Records, _replica.PollMemory());
            Assert.Equal(PollVerdict.UpToDate, _replica.PollMemory());
        };
        Assert.False(IsInMemory());
        Assert.True(_replica.TryTakeOver(_held));
        Assert.True(isGivenBack);
        Assert.True(IsInMemory());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Are_in_memory_when_the_mount_ends_that_took_them_over(bool takenOver)
    {
        if (takenOver)
            Assert.True(_replica.TryTakeOver(_held));
        _replica.PurgeAtEnd(_held, _replica.Pool);
        Assert.Equal(takenOver, IsInMemory());
    }

    /// <summary>A famfs kernel that was given no map of a file has none of its lines: a listing of all files makes no flush of each.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Of_a_file_that_the_kernel_has_only_looked_up_there_are_none(bool wasMapped)
    {
        KernelPresence mapped = new();
        using HeldFiles held = HeldFiles.Of(_replica, _notifier, _presence, _replica.Pool.Find, hasThread: false, mapped: mapped);
        _replica.Attach(_notifier, null, held);
        _presence.Mark(new(File));
        if (wasMapped)
            mapped.Mark(new(File));
        Remove();
        Assert.Equal(1, held.Count);
        held.AskAll();
        Assert.Equal((0, wasMapped), (held.Count, IsInMemory()));
    }

    /// <summary>A program with a mapping stores without this program.</summary>
    [Fact]
    public void What_the_own_kernel_had_is_in_memory_at_the_end_too()
    {
        _presence.Mark(new(File));
        _replica.PurgeAtEnd(_held, _replica.Pool);
        Assert.True(IsInMemory());
    }

    private void Remove()
    {
        _master.Publish(RecordType.Deleted, new Deleted { Inode = File, Parent = InodeNumber.Root.Value, Name = ByteString.CopyFromUtf8("f") });
        while (_replica.PollMemory() == PollVerdict.Records)
        {
        }
        Assert.Equal(_master.Writer.Position, _replica.Position);
    }

    private bool IsInMemory()
    {
        byte[] found = new byte[s_word.Length];
        _memory.ReadMemory(Place, found);
        return found.AsSpan().SequenceEqual(s_word);
    }

    private sealed class EmptyKernel : IFuseTransport
    {
        public int Read(Span<byte> buffer) => throw new NotSupportedException();

        public int Write(ReadOnlySpan<byte> head, ReadOnlySpan<MemoryPiece> pieces) => -(int)Errno.ENOENT;
    }
}
