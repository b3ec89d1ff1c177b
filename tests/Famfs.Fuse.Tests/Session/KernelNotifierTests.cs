using System.Collections.Concurrent;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Famfs.Fuse.Session;
using Xunit;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Tests.Session;

/// <summary>The notifier against a kernel that can be made to wait.</summary>
public sealed class KernelNotifierTests : IDisposable
{
    private readonly TestFileSystem _system = new();
    private readonly SlowKernel _kernel = new();
    private readonly KernelPresence _presence = new();

    public void Dispose()
    {
        _kernel.Open.Set();
        _system.Dispose();
    }

    [Fact]
    public void Nothing_waits_for_the_kernel_and_a_sequence_is_told_only_when_all_of_it_is()
    {
        using KernelNotifier notifier = New(minor: 45, limit: 1 << 20);
        _presence.Mark(InodeNumber.Root);
        notifier.Applied(new LogSequence(1)); // nothing to tell
        Await(() => notifier.NotifiedUpTo.Value == 1);
        notifier.EntryChanged(InodeNumber.Root, "a"u8);
        notifier.Applied(new LogSequence(2));
        Await(() => _kernel.Waiting);
        notifier.EntryChanged(InodeNumber.Root, "b"u8);
        notifier.Applied(new LogSequence(3));
        Assert.Equal(1UL, notifier.NotifiedUpTo.Value);
        _kernel.Open.Set();
        Await(() => notifier.NotifiedUpTo.Value == 3);
        Assert.Equal([3, 2, 3, 2], _kernel.Codes);
    }

    [Fact]
    public void A_directory_is_told_once_of_all_that_changed_in_it_after_the_names_and_before_the_sequence()
    {
        InodeNumber directory = _system.AddDirectory(InodeNumber.Root, "d");
        using KernelNotifier notifier = New(minor: 45, limit: 1 << 20);
        _presence.Mark(InodeNumber.Root);
        _presence.Mark(directory);
        notifier.ContentChanged(InodeNumber.Root);
        notifier.Applied(new LogSequence(1));
        Await(() => _kernel.Waiting); // what follows comes while the kernel is busy
        for (ulong i = 2; i <= 1000; i++)
        {
            notifier.EntryChanged(directory, System.Text.Encoding.ASCII.GetBytes($"name-{i}"));
            notifier.AttributesChanged(directory, InodeNumber.Root);
            notifier.Applied(new LogSequence(i));
        }
        ulong told = 0;
        int messages = 0;
        notifier.Notified += sequence => (messages, told) = (_kernel.Messages.Count(), sequence.Value);
        _kernel.Open.Set();
        Await(() => Volatile.Read(ref told) == 1000);
        byte[][] sent = [.. _kernel.Messages.Skip(1)];
        Assert.Equal(1 + sent.Length, Volatile.Read(ref messages));
        Assert.Equal(999 + 2, sent.Length);
        Assert.All(sent[..^1], message => Assert.Equal(FuseConstants.FUSE_NOTIFY_INVAL_ENTRY, BitConverter.ToInt32(message, 4)));
        Assert.Equal((InodeNumber.Root.Value, 1), (BitConverter.ToUInt64(sent[^2], 16), BitConverter.ToInt32(sent[^2], 24))); // "." of the parent, for its lock
        Assert.Equal((directory.Value, 0L), (BitConverter.ToUInt64(sent[^1], 16), BitConverter.ToInt64(sent[^1], 24))); // attributes and listing
    }

    [Fact]
    public void Overflow_on_a_kernel_with_epochs_becomes_one_round_over_everything_known()
    {
        InodeNumber known = _system.AddDirectory(InodeNumber.Root, "known");
        InodeNumber unknown = _system.AddDirectory(InodeNumber.Root, "unknown");
        InodeNumber file = _system.AddFile(unknown, "f", 1);
        using KernelNotifier notifier = New(minor: 44, limit: 1024);
        _presence.Mark(InodeNumber.Root);
        _presence.Mark(known);
        _presence.Mark(file);
        for (int i = 0; i < 1000; i++)
            notifier.EntryChanged(InodeNumber.Root, "name"u8);
        notifier.Applied(new LogSequence(7));
        Await(() => _kernel.Waiting);
        Assert.Equal(0UL, notifier.NotifiedUpTo.Value);
        _kernel.Open.Set();
        Await(() => notifier.NotifiedUpTo.Value == 7);
        Assert.InRange(notifier.CoarseRounds, 1, 1000);
        int epoch = Array.LastIndexOf([.. _kernel.Codes], FuseConstants.FUSE_NOTIFY_INC_EPOCH);
        ulong[] inodes = [.. _kernel.Messages.Skip(epoch + 1).Where(message => BitConverter.ToInt32(message, 4) == FuseConstants.FUSE_NOTIFY_INVAL_INODE).Select(message => BitConverter.ToUInt64(message, 16))];
        Assert.Equal(new ulong[] { 1, known.Value, file.Value }.Order(), inodes.Distinct().Order());
    }

    [Fact]
    public void Overflow_on_an_older_kernel_keeps_every_notification()
    {
        using KernelNotifier notifier = New(minor: 43, limit: 1024);
        _presence.Mark(InodeNumber.Root);
        for (int i = 0; i < 5000; i++)
            notifier.EntryChanged(InodeNumber.Root, System.Text.Encoding.ASCII.GetBytes($"name-{i}"));
        notifier.Applied(new LogSequence(1));
        _kernel.Open.Set();
        Await(() => notifier.NotifiedUpTo.Value == 1);
        Assert.Equal(0, notifier.CoarseRounds);
        string[] names = [.. _kernel.Messages.Where(message => BitConverter.ToInt32(message, 4) == FuseConstants.FUSE_NOTIFY_INVAL_ENTRY).Select(message => System.Text.Encoding.ASCII.GetString(message, 32, BitConverter.ToInt32(message, 24)))];
        Assert.Equal(Enumerable.Range(0, 5000).Select(i => $"name-{i}"), names);
    }

    [Fact]
    public void Unknown_entries_are_normal_and_other_errors_are_counted()
    {
        _kernel.Open.Set();
        using KernelNotifier notifier = New(minor: 45, limit: 1024);
        _presence.Mark(InodeNumber.Root);
        _kernel.Result = Errno.ENOENT;
        notifier.ContentChanged(InodeNumber.Root);
        notifier.Applied(new LogSequence(1));
        Await(() => notifier.NotifiedUpTo.Value == 1);
        Assert.Equal((1L, 0L), (notifier.Sent, notifier.Refused));
        Assert.Equal(InodePresence.Absent, notifier.Probe(InodeNumber.Root));
        _kernel.Result = Errno.EINVAL;
        notifier.ContentChanged(InodeNumber.Root);
        notifier.Applied(new LogSequence(2));
        Await(() => notifier.NotifiedUpTo.Value == 2);
        Assert.Equal((2L, 1L), (notifier.Sent, notifier.Refused));
        _kernel.Result = Errno.ENODEV;
        Assert.Equal(InodePresence.Unknown, notifier.Probe(InodeNumber.Root));
        _kernel.Result = Errno.None;
        Assert.Equal(InodePresence.Present, notifier.Probe(InodeNumber.Root));
    }

    [Fact]
    public void Whoever_waits_for_acknowledgements_hears_of_every_advance()
    {
        _kernel.Open.Set();
        using KernelNotifier notifier = New(minor: 45, limit: 1024);
        var heard = new ConcurrentQueue<ulong>();
        notifier.Notified += sequence => heard.Enqueue(sequence.Value);
        for (ulong i = 1; i <= 100; i++)
        {
            notifier.Applied(new LogSequence(i));
            if (i % 10 == 0)
                Await(() => heard.Contains(i));
        }
        Assert.Equal(heard.Order(), heard);
    }

    /// <summary>A change that a program waits for may take longer than whoever leaves the mount has patience for. What the kernel was not
    /// told does not count as told: the next daemon tells it.</summary>
    [Fact]
    public async Task Who_ends_it_does_not_wait_for_a_change_that_keeps_a_directory_locked()
    {
        _kernel.Open.Set();
        TaskCompletionSource change = new();
        using ManualResetEventSlim waits = new();
        KernelNotifier notifier = New(minor: 45, limit: 1024);
        notifier.Locked = _ =>
        {
            waits.Set();
            return change.Task;
        };
        _presence.Mark(InodeNumber.Root);
        notifier.EntryChanged(InodeNumber.Root, "name"u8);
        notifier.Applied(new LogSequence(1));
        Assert.True(waits.Wait(TimeSpan.FromMinutes(1)));
        Task ending = Task.Run(notifier.Dispose);
        bool hasEnded = await Task.WhenAny(ending, Task.Delay(TimeSpan.FromMinutes(1), TestContext.Current.CancellationToken)) == ending;
        change.SetResult();
        await ending;
        Assert.True(hasEnded, "it waits");
        Assert.Equal(0UL, notifier.NotifiedUpTo.Value);
        Assert.Empty(_kernel.Messages);
        notifier.Dispose();
    }

    /// <summary>The end may come while the last thing is told.</summary>
    [Fact]
    public void What_was_not_told_any_more_does_not_count_as_told()
    {
        _kernel.Open.Set();
        using KernelNotifier notifier = new(_kernel, _presence, _system.Tree, new Negotiated(DialectTable.Stock, 45, InitFlags.None, 4096, 1), 1024, hasThread: false);
        InodeNumber directory = _system.AddDirectory(InodeNumber.Root, "d");
        notifier.Locked = _ =>
        {
            notifier.BeginStop();
            return null;
        };
        _presence.Mark(InodeNumber.Root);
        _presence.Mark(directory);
        notifier.AttributesChanged(directory, InodeNumber.Root);
        notifier.Applied(new LogSequence(1));
        Assert.True(notifier.TellWaiting());
        Assert.Equal(0UL, notifier.NotifiedUpTo.Value);
    }

    private KernelNotifier New(uint minor, int limit) =>
        new(_kernel, _presence, _system.Tree, new Negotiated(DialectTable.Stock, minor, InitFlags.None, 4096, 1), limit);

    private static void Await(Func<bool> condition) => Assert.True(SpinWait.SpinUntil(condition, TimeSpan.FromSeconds(60)), "it does not happen");

    private sealed class SlowKernel : IFuseTransport
    {
        private readonly ConcurrentQueue<byte[]> _messages = new();
        private volatile int _waiting;

        public ManualResetEventSlim Open { get; } = new();

        public Errno Result { get; set; }

        public bool Waiting => _waiting > 0;

        public IEnumerable<byte[]> Messages => _messages;

        public IEnumerable<int> Codes => _messages.Select(message => BitConverter.ToInt32(message, 4));

        public int Read(Span<byte> buffer) => throw new NotSupportedException();

        public int Write(ReadOnlySpan<byte> head, ReadOnlySpan<MemoryPiece> pieces)
        {
            _waiting = 1;
            Open.Wait();
            _waiting = 0;
            _messages.Enqueue(head.ToArray());
            return Result == Errno.None ? head.Length : -(int)Result;
        }
    }
}
