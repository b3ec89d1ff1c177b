using System.Threading.Channels;
using System.Text;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Keeper;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Famfs.Fuse.Replication;
using Famfs.Fuse.Session;
using Famfs.Fuse.Tests.Kernel;
using Famfs.ScriptedMaster;
using Famfs.TestSupport;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Tests.Replication;

/// <summary>Changes through the mount: a kernel asks, a master is asked, its log is followed, and the test is all three.</summary>
public sealed class MountChangesTests : IAsyncDisposable
{
    private const uint Unlink = 10;
    private static readonly ByteString s_name = ByteString.CopyFromUtf8("d");

    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-changes-").FullName;
    private readonly Guid _host = Guid.NewGuid();
    private readonly Channel<(RemoveRequest Request, TaskCompletionSource<MutationReply> Answer)> _asked = Channel.CreateUnbounded<(RemoveRequest, TaskCompletionSource<MutationReply>)>();
    private readonly MemoryTransport _told = new();
    private readonly KernelRig _rig = new(KernelGeneration.Stock);
    private FakeMaster _master = null!;
    private FamfsClient? _client;
    private DevicePool _pool = null!;
    private Replica _replica = null!;
    private KernelNotifier _notifier = null!;
    private TestMaster _log = null!;
    private MountChanges _changes = null!;
    private readonly KeptState _state = KeptState.Create(new(default, default, 0, new Negotiated(DialectTable.Stock, 45, InitFlags.FUSE_HAS_RESEND, 4096, 1), -1, 0));
    private bool _isReached = true;
    private int _finds;
    private Action? _atFind; // the next time that a master is looked for, after it was

    public async ValueTask DisposeAsync()
    {
        _rig.Dispose();
        _state.Dispose();
        _client?.Dispose();
        _notifier?.Dispose();
        _replica?.Dispose();
        _pool?.Dispose();
        if (_master is not null)
            await _master.DisposeAsync();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public async Task A_program_is_answered_when_its_record_is_applied_and_its_own_kernel_is_not_told_the_name()
    {
        await StartAsync();
        Make(1000);
        // Else what is told of it may wait for the change that comes next, which waits for this test.
        AwaitTold();
        ulong unique = _rig.Kernel.Post(0, Unlink, 1, RequestDriver.Terminated("d"));
        (RemoveRequest request, TaskCompletionSource<MutationReply> answer) = await NextAsync();
        Assert.Equal((1UL, "d", RemoveKind.File), (request.At.Directory, request.At.Name, request.Kind));
        _rig.Kernel.RequireSilence();
        int before = NamesTold();
        Delete(1000, request.RequestId);
        // The record came first.
        Assert.Equal(Errno.None, _rig.Kernel.Await(0, unique).Errno);
        AwaitTold();
        Assert.Equal(before, NamesTold());
        answer.SetResult(new() { Position = _replica.Position.ToMessage() });

        // What another host removes is told.
        Make(1001);
        before = NamesTold();
        Delete(1001, Guid.NewGuid().ToByteString());
        AwaitTold();
        Assert.Equal(before + 1, NamesTold());
    }

    /// <summary>The kernel holds the directory's lock, and a thread that waits for it there cannot be ended.</summary>
    [Fact]
    public async Task Names_of_a_directory_are_told_when_the_changes_that_programs_wait_for_there_have_ended()
    {
        await StartAsync();
        Make(1000);
        int before = NamesTold();
        ulong unique = _rig.Kernel.Post(0, Unlink, 1, RequestDriver.Terminated("x"));
        (_, TaskCompletionSource<MutationReply> answer) = await NextAsync();
        Delete(1000, ByteString.Empty);
        LogSequence told = _notifier.NotifiedUpTo;
        // Another one, which is answered at once, shows that time has passed.
        _isReached = false;
        ulong other = _rig.Kernel.Post(0, Unlink, 1, RequestDriver.Terminated("y"));
        Assert.Equal(Errno.EHOSTDOWN, _rig.Kernel.Await(0, other).Errno);
        Assert.Equal((told, before), (_notifier.NotifiedUpTo, CountNames()));
        answer.SetException(FakeMaster.Error(StatusCode.NotFound, new() { Reason = ErrorReason.NotFound, Message = "no" }));
        Assert.Equal(Errno.ENOENT, _rig.Kernel.Await(0, unique).Errno);
        Assert.Equal(before + 1, NamesTold());
    }

    [Fact]
    public async Task An_answer_that_comes_before_the_record_waits_for_it_and_a_record_without_an_id_will_do()
    {
        await StartAsync();
        Make(1000);
        ulong unique = _rig.Kernel.Post(0, Unlink, 1, RequestDriver.Terminated("d"));
        (_, TaskCompletionSource<MutationReply> answer) = await NextAsync();
        Position next = _replica.Position.ToMessage();
        next.Sequence++;
        answer.SetResult(new() { Position = next });
        _rig.Kernel.RequireSilence();
        Delete(1000, ByteString.Empty);
        Assert.Equal(Errno.None, _rig.Kernel.Await(0, unique).Errno);
    }

    [Theory]
    [InlineData(ErrorReason.NotFound, StatusCode.NotFound, Errno.ENOENT)]
    [InlineData(ErrorReason.NotEmpty, StatusCode.FailedPrecondition, Errno.ENOTEMPTY)]
    [InlineData(ErrorReason.IsADirectory, StatusCode.FailedPrecondition, Errno.EISDIR)]
    [InlineData(ErrorReason.NotPermitted, StatusCode.PermissionDenied, Errno.EPERM)]
    [InlineData(ErrorReason.NotSupportedByFormat, StatusCode.Unimplemented, Errno.EPERM)]
    [InlineData(ErrorReason.LogFull, StatusCode.ResourceExhausted, Errno.ENOSPC)]
    [InlineData(ErrorReason.MediaCorrupt, StatusCode.DataLoss, Errno.EIO)]
    public async Task A_refusal_is_an_error_number(ErrorReason reason, StatusCode status, Errno errno)
    {
        await StartAsync();
        ulong unique = _rig.Kernel.Post(0, Unlink, 1, RequestDriver.Terminated("d"));
        (_, TaskCompletionSource<MutationReply> answer) = await NextAsync();
        answer.SetException(FakeMaster.Error(status, new() { Reason = reason, Message = "no" }));
        Assert.Equal(errno, _rig.Kernel.Await(0, unique).Errno);
    }

    [Fact]
    public async Task An_id_that_is_refused_for_its_time_is_replaced_once()
    {
        await StartAsync();
        Make(1000);
        ulong unique = _rig.Kernel.Post(0, Unlink, 1, RequestDriver.Terminated("d"));
        (RemoveRequest first, TaskCompletionSource<MutationReply> refusal) = await NextAsync();
        refusal.SetException(FakeMaster.Error(StatusCode.InvalidArgument, new() { Reason = ErrorReason.BadRequest, Message = "from ahead", MasterTimeMs = 1_000_000_000_000 }));
        (RemoveRequest second, _) = await NextAsync();
        Assert.NotEqual(first.RequestId, second.RequestId);
        // Its time is the master's.
        Assert.Equal(1_000_000_000_000 >> 16, System.Buffers.Binary.BinaryPrimitives.ReadUInt32BigEndian(second.RequestId.Span));
        Delete(1000, second.RequestId);
        Assert.Equal(Errno.None, _rig.Kernel.Await(0, unique).Errno);
    }

    /// <summary>The change may be in the log already: it is the same one for the master.</summary>
    [Fact]
    public async Task A_request_that_is_sent_again_is_the_change_that_a_former_daemon_asked_for()
    {
        await StartAsync();
        Make(1000);
        ulong unique = _rig.Kernel.Post(0, Unlink, 1, RequestDriver.Terminated("d"));
        (RemoveRequest first, _) = await NextAsync();
        // The daemon is killed; the next one has what it left.
        RequestMemory next = new(_state);
        _changes.Remember(next);
        ulong again = _rig.Kernel.PostAgain(0, unique, Unlink, 1, RequestDriver.Terminated("d"));
        (RemoveRequest second, _) = await NextAsync();
        Assert.Equal(first, second);
        Delete(1000, second.RequestId);
        Assert.Equal(Errno.None, _rig.Kernel.Await(0, again).Errno);
        // Answered, so it is forgotten; and what is new is new.
        Assert.True(SpinWait.SpinUntil(() => !new RequestMemory(_state).TryFind(again, out _, out _), TimeSpan.FromMinutes(2)));
        _rig.Kernel.Post(0, Unlink, 1, RequestDriver.Terminated("d"));
        (RemoveRequest third, _) = await NextAsync();
        Assert.NotEqual(first.RequestId, third.RequestId);
    }

    [Fact]
    public async Task A_daemon_that_goes_on_for_another_lets_programs_wait_for_the_first_master()
    {
        await StartAsync();
        _isReached = false;
        _changes.AwaitMaster();
        ulong unique = _rig.Kernel.Post(0, Unlink, 1, RequestDriver.Terminated("d"));
        _rig.Kernel.RequireSilence();
        _isReached = true;
        (_, TaskCompletionSource<MutationReply> answer) = await NextAsync();
        answer.SetException(FakeMaster.Error(StatusCode.NotFound, new() { Reason = ErrorReason.NotFound, Message = "no" }));
        Assert.Equal(Errno.ENOENT, _rig.Kernel.Await(0, unique).Errno);
        // From then on it is as it is without.
        _isReached = false;
        unique = _rig.Kernel.Post(0, Unlink, 1, RequestDriver.Terminated("d"));
        Assert.Equal(Errno.EHOSTDOWN, _rig.Kernel.Await(0, unique).Errno);
    }

    [Fact]
    public async Task Without_a_master_it_is_refused_before_anything_is_asked()
    {
        await StartAsync();
        _isReached = false;
        ulong unique = _rig.Kernel.Post(0, Unlink, 1, RequestDriver.Terminated("d"));
        Assert.Equal(Errno.EHOSTDOWN, _rig.Kernel.Await(0, unique).Errno);
        unique = _rig.Kernel.Post(0, Unlink, 1, [0xFF, 0]);
        Assert.Equal(Errno.EINVAL, _rig.Kernel.Await(0, unique).Errno);
        Assert.Equal(0, _asked.Reader.Count);
    }

    /// <summary>The stream tells of its end before what finds a master knows of it.</summary>
    [Fact]
    public async Task A_master_that_is_lost_while_a_change_finds_it_is_waited_for_by_the_next()
    {
        await StartAsync();
        _atFind = () => _changes.AwaitMaster();
        ulong first = _rig.Kernel.Post(0, Unlink, 1, RequestDriver.Terminated("d"));
        (_, TaskCompletionSource<MutationReply> answer) = await NextAsync();
        answer.SetException(FakeMaster.Error(StatusCode.NotFound, new() { Reason = ErrorReason.NotFound, Message = "no" }));
        Assert.Equal(Errno.ENOENT, _rig.Kernel.Await(0, first).Errno);
        _isReached = false;
        int finds = Volatile.Read(ref _finds);
        ulong second = _rig.Kernel.Post(0, Unlink, 1, RequestDriver.Terminated("d"));
        // Once before it is begun, and again and again since.
        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref _finds) > finds + 3, TimeSpan.FromMinutes(1)));
        _rig.Kernel.RequireSilence();
        _isReached = true;
        (_, answer) = await NextAsync();
        answer.SetException(FakeMaster.Error(StatusCode.NotFound, new() { Reason = ErrorReason.NotFound, Message = "no" }));
        Assert.Equal(Errno.ENOENT, _rig.Kernel.Await(0, second).Errno);
    }

    private FamfsClient? Find()
    {
        Interlocked.Increment(ref _finds);
        FamfsClient? found = _isReached ? _client : null;
        Interlocked.Exchange(ref _atFind, null)?.Invoke();
        return found;
    }

    private async Task StartAsync()
    {
        string path = Path.Combine(_directory, "0");
        using (FileStream file = File.Create(path))
            file.SetLength(64 << 20);
        using (DaxDevice device = DaxDevice.Open(path))
            NativeFormatter.Format([device], new() { Host = _host, Clock = TimeProvider.System });
        _pool = TestFormats.All.Open([DaxDevice.Open(path)]);
        _replica = new(TestFormats.All.Open([DaxDevice.Open(path)]), _host, default, TimeProvider.System);
        Assert.Null(_replica.Bootstrap());
        _log = TestMaster.Start(_pool, 0, _host);
        _master = await FakeMaster.StartAsync(new()
        {
            Unary = async (request, _) =>
            {
                TaskCompletionSource<MutationReply> answer = new(TaskCreationOptions.RunContinuationsAsynchronously);
                _asked.Writer.TryWrite(((RemoveRequest)request, answer));
                return await answer.Task;
            },
        });
        _client = new(new FamfsClientOptions { Addresses = [_master.Address] });
        KernelPresence presence = new();
        presence.Mark(InodeNumber.Root);
        _notifier = new(_told, presence, _replica.Tree, new Negotiated(DialectTable.Stock, 45, InitFlags.None, 4096, 1), 1 << 20);
        _changes = new(_replica, Find, TimeProvider.System, NullLogger.Instance);
        _changes.Remember(new(_state));
        _replica.Attach(_notifier, null, changes: _changes);
        _rig.System.Mutations = _changes;
        _rig.Start(wantsFmaps: false);
    }

    private async Task<(RemoveRequest Request, TaskCompletionSource<MutationReply> Answer)> NextAsync()
    {
        using CancellationTokenSource patience = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        patience.CancelAfter(TimeSpan.FromMinutes(2));
        return await _asked.Reader.ReadAsync(patience.Token);
    }

    private void Make(ulong inode) => Publish(RecordType.DirectoryMade, new DirectoryMade { TimeNs = 1, Inode = inode, Parent = 1, Name = s_name });

    private void Delete(ulong inode, ByteString id) => Publish(RecordType.Deleted, new Deleted { TimeNs = 2, RequestId = id, Inode = inode, Parent = 1, Name = s_name });

    private void Publish(RecordType type, IMessage record)
    {
        _log.Publish(type, record);
        PollVerdict verdict;
        while ((verdict = _replica.PollMemory()) == PollVerdict.Records)
        {
        }
        Assert.Equal((PollVerdict.UpToDate, _log.Writer.Position), (verdict, _replica.Position));
    }

    private void AwaitTold() => Assert.True(SpinWait.SpinUntil(() => _notifier.NotifiedUpTo == _replica.Position.Sequence, TimeSpan.FromMinutes(2)));

    /// <summary>Messages that have the name in them.</summary>
    private int NamesTold()
    {
        AwaitTold();
        return CountNames();
    }

    private int CountNames()
    {
        return _told.Replies.Count(m => m.AsSpan().IndexOf(Encoding.UTF8.GetBytes("d\0")) >= 0);
    }
}
