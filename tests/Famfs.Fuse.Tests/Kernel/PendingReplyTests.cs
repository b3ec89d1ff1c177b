using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Famfs.Core;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Xunit;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Tests.Kernel;

/// <summary>Requests that are answered later than they were read, in a whole session: the test is the kernel and the
/// master's side at once.</summary>
public sealed class PendingReplyTests : IDisposable
{
    private const uint Mkdir = 9;
    private static readonly InodeNumber Root = InodeNumber.Root;
    private readonly HeldMutations _port = new();
    private readonly KernelRig _rig;

    public PendingReplyTests()
    {
        _rig = new KernelRig(KernelGeneration.Stock);
        _rig.System.Mutations = _port;
        _rig.Start(wantsFmaps: false);
    }

    public void Dispose() => _rig.Dispose();

    private static byte[] NewDirectory(string name) => [.. new byte[8], .. RequestDriver.Terminated(name)];

    // The test's own thread is another than any worker's.
    [Fact]
    public void A_worker_goes_on_serving_while_a_change_waits_and_the_answer_comes_where_the_request_was_read()
    {
        ulong first = _rig.Kernel.Post(0, Mkdir, 1, NewDirectory("a"));
        HeldMutation a = _port.Take();
        ulong second = _rig.Kernel.Post(0, Mkdir, 1, NewDirectory("b"));
        HeldMutation b = _port.Take();
        Assert.Equal(("MKDIR a", "MKDIR b"), (a.What, b.What));
        for (int i = 0; i < 10; i++)
            Assert.Equal(0UL, _rig.Kernel.SizeOf(1)); // both workers
        _rig.Kernel.RequireSilence();

        InodeNumber made = _rig.System.AddDirectory(Root, "b");
        Assert.True(b.Reply.Complete(made));
        (Errno errno, byte[] body) = _rig.Kernel.Await(0, second);
        Assert.Equal(Errno.None, errno);
        EntryOut entry = MemoryMarshal.Read<EntryOut>(body);
        Assert.Equal((made.Value, CachePolicy.Unlimited, FuseConstants.S_IFDIR | 0x1EDu), (entry.NodeId, entry.EntryValidSeconds, entry.Attributes.Mode));
        _rig.Session.Notifier.ContentChanged(made); // the kernel has it now, so it is told of changes
        _rig.Session.Notifier.Applied(new LogSequence(1));
        Await(() => _rig.Session.Notifier.Sent == 1);
        Assert.True(a.Reply.Fail(Errno.ENOSPC));
        Assert.Equal(Errno.ENOSPC, _rig.Kernel.Await(0, first).Errno);
        Assert.Equal((0, 0), (a.Signals, b.Signals));
    }

    [Fact]
    public void Each_kind_of_change_has_its_arguments_and_its_body()
    {
        InodeNumber file = _rig.System.AddFile(Root, "f", 10);
        InodeNumber link = _rig.System.AddSymlink(Root, "l", "f");
        (uint Opcode, byte[] Body, string What, InodeNumber Made, int Bytes)[] kinds =
        [
            (6, [.. "l\0../f\0"u8], "SYMLINK l ../f", link, 128),
            (10, [.. "f\0"u8], "UNLINK f", default, 0),
            (11, [.. "d\0"u8], "RMDIR d", default, 0),
            (12, [1, 0, 0, 0, 0, 0, 0, 0, .. "f\0g\0"u8], "RENAME 0 f g", default, 0),
            (45, [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, .. "f\0g\0"u8], "RENAME 2 f g", default, 0),
            (21, [1, 0, 0, 0, 0, 0, 0, 0, .. "user.a\0v"u8], "SETXATTR user.a v", default, 0),
            (24, [.. "user.a\0"u8], "REMOVEXATTR user.a", default, 0),
            (4, [1, 0, 0, 0, .. new byte[84]], "SETATTR 0", default, 104),
            (35, [.. new byte[16], .. "f\0"u8], "CREATE f", file, 144),
        ];
        foreach ((uint opcode, byte[] body, string what, InodeNumber made, int bytes) in kinds)
        {
            ulong unique = _rig.Kernel.Post(1, opcode, 1, body);
            HeldMutation change = _port.Take();
            Assert.Equal(what, change.What);
            Assert.True(change.Reply.Complete(made));
            (Errno errno, byte[] reply) = _rig.Kernel.Await(1, unique);
            Assert.Equal((what, Errno.None, bytes), (what, errno, reply.Length));
            if (bytes >= 128)
                Assert.Equal(made.Value, BinaryPrimitives.ReadUInt64LittleEndian(reply));
            else if (bytes == 104)
                Assert.Equal(1UL, MemoryMarshal.Read<AttrOut>(reply).Attributes.Inode);
        }
    }

    [Fact]
    public void A_request_has_one_answer_whoever_tries()
    {
        ulong unique = _rig.Kernel.Post(0, Mkdir, 1, NewDirectory("a"));
        PendingReply reply = _port.Take().Reply;
        int answers = 0;
        Parallel.For(0, 64, i =>
        {
            if (i % 2 == 0 ? reply.Fail(Errno.EEXIST) : reply.Complete())
                Interlocked.Increment(ref answers);
            _rig.Session.Notifier.Applied(new LogSequence((ulong)i)); // something else on the same connection
        });
        Assert.Equal(1, answers);
        _ = _rig.Kernel.Await(0, unique);
        Assert.Equal(0UL, _rig.Kernel.SizeOf(1));
        _rig.Kernel.RequireSilence();
    }

    [Fact]
    public void What_was_made_and_is_gone_again_or_was_never_made_is_stale()
    {
        ulong unique = _rig.Kernel.Post(0, Mkdir, 1, NewDirectory("a"));
        Assert.True(_port.Take().Reply.Complete(new InodeNumber(4711)));
        Assert.Equal(Errno.ESTALE, _rig.Kernel.Await(0, unique).Errno);
        unique = _rig.Kernel.Post(0, Mkdir, 1, NewDirectory("b"));
        Assert.True(_port.Take().Reply.Complete());
        Assert.Equal(Errno.ESTALE, _rig.Kernel.Await(0, unique).Errno);
    }

    [Fact]
    public void A_created_file_is_not_open_before_the_gate_is()
    {
        _rig.System.Verdict = OpenVerdict.HostDown;
        InodeNumber file = _rig.System.AddFile(Root, "f", 10);
        ulong unique = _rig.Kernel.Post(0, 35, 1, [.. new byte[16], .. "f\0"u8]);
        Assert.True(_port.Take().Reply.Complete(file));
        Assert.Equal(Errno.EHOSTDOWN, _rig.Kernel.Await(0, unique).Errno);
    }

    [Fact]
    public void A_created_file_is_not_open_on_a_mount_that_is_over()
    {
        InodeNumber file = _rig.System.AddFile(Root, "f", 10);
        ulong unique = _rig.Kernel.Post(0, 35, 1, [.. new byte[16], .. "f\0"u8]);
        _rig.System.IsRevoked = true;
        Assert.True(_port.Take().Reply.Complete(file));
        Assert.Equal(Errno.ESTALE, _rig.Kernel.Await(0, unique).Errno);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void A_signal_ends_the_wait_of_a_change_that_can_be_taken_back(int worker)
    {
        ulong unique = _rig.Kernel.Post(0, Mkdir, 1, NewDirectory("a"));
        HeldMutation change = _port.Take();
        _rig.Kernel.Interrupt(worker, unique);
        Assert.Equal(Errno.EINTR, _rig.Kernel.Await(0, unique).Errno);
        Assert.Equal(1, change.Signals);
        Assert.False(change.Reply.Complete());
        Assert.False(change.Reply.Fail(Errno.EIO));
        _rig.Kernel.RequireSilence();
    }

    [Fact]
    public void A_change_that_cannot_be_taken_back_goes_on_after_a_signal()
    {
        _port.Withdraws = false;
        ulong unique = _rig.Kernel.Post(0, Mkdir, 1, NewDirectory("a"));
        HeldMutation change = _port.Take();
        _rig.Kernel.Interrupt(1, unique);
        Await(() => change.Signals == 1);
        Assert.True(change.Reply.Complete(_rig.System.AddDirectory(Root, "a")));
        Assert.Equal(Errno.None, _rig.Kernel.Await(0, unique).Errno);
    }

    [Fact]
    public void A_signal_that_another_worker_reads_first_is_not_lost()
    {
        // The kernel names its requests by even numbers, one after the other: this is the third from here.
        ulong probe = _rig.Kernel.Post(1, 3, 1, new byte[16]);
        Assert.Equal(Errno.None, _rig.Kernel.Await(1, probe).Errno);
        ulong next = probe + 6;
        _rig.Kernel.Interrupt(1, next);
        RequireHandled(1);
        Assert.Equal(next, _rig.Kernel.Post(0, Mkdir, 1, NewDirectory("a")));
        Assert.Equal(Errno.EINTR, _rig.Kernel.Await(0, next).Errno);
        Assert.Equal(1, _port.Take().Signals);
    }

    [Fact]
    public void A_signal_while_a_change_begins_is_told_after_that()
    {
        using ManualResetEventSlim begins = new();
        using ManualResetEventSlim goOn = new();
        _port.OnBegin = _ =>
        {
            begins.Set();
            Assert.True(goOn.Wait(TimeSpan.FromSeconds(60)));
        };
        ulong unique = _rig.Kernel.Post(0, Mkdir, 1, NewDirectory("a"));
        Assert.True(begins.Wait(TimeSpan.FromSeconds(60)));
        _rig.Kernel.Interrupt(1, unique);
        RequireHandled(1);
        _rig.Kernel.RequireSilence();
        goOn.Set();
        Assert.Equal(Errno.EINTR, _rig.Kernel.Await(0, unique).Errno);
        Assert.Equal(1, _port.Take().Signals);
    }

    [Fact]
    public void Beyond_the_limit_a_program_is_told_to_try_again_and_its_change_does_not_begin()
    {
        List<ulong> uniques = [];
        for (int i = 0; i < PendingReplies.Limit; i++)
        {
            uniques.Add(_rig.Kernel.Post(0, Mkdir, 1, NewDirectory("d")));
            Await(() => _port.Waiting == i + 1);
        }
        Assert.Equal(Errno.EAGAIN, _rig.Kernel.Ask(Mkdir, 1, NewDirectory("d")).Errno);
        Assert.Equal(PendingReplies.Limit, _port.Waiting);
        Assert.Equal(PendingReplies.Limit, _rig.Session.Statistics.Pending);
        Assert.True(_port.Take().Reply.Fail(Errno.EEXIST));
        Assert.Equal(Errno.EEXIST, _rig.Kernel.Await(0, uniques[0]).Errno);
        ulong later = _rig.Kernel.Post(1, Mkdir, 1, NewDirectory("d"));
        Await(() => _port.Waiting == PendingReplies.Limit);
        while (_port.Waiting > 0)
            Assert.True(_port.Take().Reply.Fail(Errno.EEXIST));
        foreach (ulong unique in uniques[1..])
            Assert.Equal(Errno.EEXIST, _rig.Kernel.Await(0, unique).Errno);
        Assert.Equal(Errno.EEXIST, _rig.Kernel.Await(1, later).Errno);
        Assert.Equal(0, _rig.Session.Statistics.Pending);
    }

    [Fact]
    public void An_answer_that_nobody_can_give_any_more_is_EIO_and_is_counted()
    {
        ulong unique = _rig.Kernel.Post(0, Mkdir, 1, NewDirectory("a"));
        Lose();
        Await(() =>
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            return _rig.Session.Statistics.Failures == 1;
        });
        Assert.Equal(Errno.EIO, _rig.Kernel.Await(0, unique).Errno);
        Assert.Equal("the answer to MKDIR was lost", _rig.Session.LastFailure!.Message);

        [MethodImpl(MethodImplOptions.NoInlining)]
        void Lose() => Assert.Equal("MKDIR a", _port.Take().What);
    }

    [Fact]
    public void A_change_that_cannot_begin_is_EIO_once_and_is_counted()
    {
        _port.OnBegin = _ => throw new InvalidOperationException("no");
        Assert.Equal(Errno.EIO, _rig.Kernel.Ask(Mkdir, 1, NewDirectory("a")).Errno);
        _port.OnBegin = change =>
        {
            change.Reply.Fail(Errno.EEXIST);
            throw new InvalidOperationException("too late");
        };
        Assert.Equal(Errno.EEXIST, _rig.Kernel.Ask(Mkdir, 1, NewDirectory("a")).Errno);
        Await(() => _rig.Session.Statistics.Failures == 2); // counted after the answer went out
        Assert.Equal("too late", _rig.Session.LastFailure!.Message);
        _rig.Kernel.RequireSilence();
    }

    [Fact]
    public void A_change_that_is_made_at_once_is_answered_at_once()
    {
        InodeNumber made = _rig.System.AddDirectory(Root, "a");
        _port.OnBegin = change => Assert.True(change.Reply.Complete(made));
        (Errno errno, byte[] body) = _rig.Kernel.Ask(Mkdir, 1, NewDirectory("a"));
        Assert.Equal((Errno.None, made.Value), (errno, MemoryMarshal.Read<EntryOut>(body).NodeId));
    }

    [Fact]
    public async Task The_end_of_the_session_answers_what_waits_and_tells_it()
    {
        ulong first = _rig.Kernel.Post(0, Mkdir, 1, NewDirectory("a"));
        HeldMutation a = _port.Take();
        ulong second = _rig.Kernel.Post(1, Mkdir, 1, NewDirectory("b"));
        HeldMutation b = _port.Take();
        a.RequireKept();
        Task ending = Task.Run(_rig.Session.Dispose);
        Assert.Equal(Errno.ECONNABORTED, _rig.Kernel.Await(0, first).Errno);
        Assert.Equal(Errno.ECONNABORTED, _rig.Kernel.Await(1, second).Errno);
        a.RequireAbandoned();
        b.RequireAbandoned();
        _rig.Kernel.Dispose(); // a socket's read is not ended by a signal, as one of /dev/fuse is
        await ending.WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        Assert.False(a.Reply.Complete());
        Assert.False(b.Reply.Fail(Errno.EIO));
    }

    [Fact]
    public async Task A_connection_that_breaks_tells_what_waits()
    {
        _rig.Kernel.Post(0, Mkdir, 1, NewDirectory("a"));
        HeldMutation change = _port.Take();
        _rig.Kernel.Dispose();
        change.RequireAbandoned();
        await _rig.Session.Completion.WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        Assert.False(change.Reply.Complete());
    }

    [Fact]
    public async Task A_session_that_fails_answers_what_waits_and_tells_it()
    {
        ulong unique = _rig.Kernel.Post(0, Mkdir, 1, NewDirectory("a"));
        HeldMutation change = _port.Take();
        _rig.Kernel.BreaksReads = true;
        _rig.Kernel.Post(0, 3, 1, new byte[16]);
        change.RequireKept(); // another worker goes on
        _rig.Kernel.Post(1, 3, 1, new byte[16]);
        Assert.Equal(Errno.ECONNABORTED, _rig.Kernel.Await(0, unique).Errno);
        change.RequireAbandoned();
        Assert.False(change.Reply.Complete());
        IOException error = await Assert.ThrowsAsync<IOException>(() => _rig.Session.Completion.WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken));
        Assert.Equal((int)Errno.EIO, error.HResult);
    }

    [Fact]
    public void Nothing_in_a_hidden_directory_and_no_hidden_name_reaches_the_port()
    {
        Assert.Equal(Errno.EPERM, _rig.Kernel.Ask(Mkdir, 1, NewDirectory(".meta")).Errno);
        Assert.Equal(Errno.EPERM, _rig.Kernel.Ask(12, 1, [1, 0, 0, 0, 0, 0, 0, 0, .. "f\0.meta\0"u8]).Errno);
        Assert.Equal(Errno.EPERM, _rig.Kernel.Ask(Mkdir, WindowTable.DirectoryNode, NewDirectory("a")).Errno);
        Assert.Equal(Errno.EPERM, _rig.Kernel.Ask(4, WindowTable.DirectoryNode + 1, [1, 0, 0, 0, .. new byte[84]]).Errno);
        Assert.Equal(Errno.ENAMETOOLONG, _rig.Kernel.Ask(Mkdir, 1, NewDirectory(new string('n', 256))).Errno);
        Assert.Equal(Errno.EINVAL, _rig.Kernel.Ask(21, 1, [2, 0, 0, 0, 0, 0, 0, 0, .. "user.a\0v"u8]).Errno);
        Assert.Equal(0, _port.Waiting);
    }

    // Whatever was sent to that worker before has been handled.
    private void RequireHandled(int worker) =>
        Assert.Equal(Errno.None, _rig.Kernel.Await(worker, _rig.Kernel.Post(worker, 3, 1, new byte[16])).Errno);

    private static void Await(Func<bool> condition) => Assert.True(SpinWait.SpinUntil(condition, TimeSpan.FromSeconds(60)), "it does not happen");
}
