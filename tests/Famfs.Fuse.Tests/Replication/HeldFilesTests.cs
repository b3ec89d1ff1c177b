using System.Diagnostics;
using System.Collections.Concurrent;
using Errno = Famfs.Fuse.Protocol.Errno;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Core.Namespace;
using Famfs.Core;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Famfs.Fuse.Replication;
using Famfs.Fuse.Session;
using Xunit;

namespace Famfs.Fuse.Tests.Replication;

/// <summary>What a mount says that it has released.</summary>
public sealed class HeldFilesTests : IDisposable
{
    private readonly Kernel _kernel = new();
    private readonly KernelPresence _presence = new();
    private readonly AckGate _gate = new(default);
    private readonly InodeTree _tree = new(default);
    private readonly KernelNotifier _notifier;
    private readonly HashSet<InodeNumber> _unpurged = [];
    private readonly ConcurrentDictionary<ulong, bool> _faulty = new();
    private readonly HeldFiles _held;

    public HeldFilesTests()
    {
        _notifier = new(_kernel, _presence, _tree, new Negotiated(DialectTable.Stock, 45, InitFlags.None, 4096, 1), 1 << 20);
        _held = new(_gate, _notifier, _presence, inode => !_faulty.ContainsKey(inode.Value) ? !_unpurged.Contains(inode) : throw new DeviceFaultException("poisoned"), inode => inode.Value >= 1000);
    }

    public void Dispose()
    {
        _held.Dispose();
        _notifier.Dispose();
        _tree.Dispose();
    }

    [Fact]
    public void What_the_kernel_never_heard_of_is_released_with_its_record()
    {
        Delete(7, 5);
        Assert.Equal((5UL, 0), Describe());
        // Unless its space must not become another's here.
        _unpurged.Add(new(1000));
        Delete(1000, 6);
        Assert.Equal((6UL, 1), Describe());
    }

    [Fact]
    public void A_file_is_held_until_the_kernel_says_that_it_has_none()
    {
        _kernel.Has[7] = true;
        _presence.Mark(new(7));
        Delete(7, 5);
        Await(() => _kernel.Asked.Count(i => i == 7) >= 3);
        Assert.Equal([7UL], _held.Describe().Exceptions.Select(i => i.Value));
        _kernel.Has[7] = false;
        Await(() => _held.Count == 0);
        Assert.Equal((5UL, 0), Describe());
    }

    /// <summary>An error of another kind, or a connection that is over, tells nothing of the inode.</summary>
    [Theory]
    [InlineData((int)Errno.ENODEV)]
    [InlineData((int)Errno.EINVAL)]
    public void A_file_is_held_while_the_kernel_answers_neither_that_it_has_it_nor_that_it_has_none(int error)
    {
        _kernel.Error = error;
        _presence.Mark(new(7));
        Delete(7, 5);
        Await(() => _kernel.Asked.Count(i => i == 7) >= 3);
        Assert.Equal((5UL, 1), Describe());
        _kernel.Error = 0;
        Await(() => _held.Count == 0);
    }

    /// <summary>Who deletes comes in between: what a position covers is in the list that is told with it.</summary>
    [Fact]
    public void A_file_is_named_with_every_position_that_covers_its_removal()
    {
        // Two threads take turns, which is slow on a busy machine.
        const ulong Rounds = 50_000;
        TimeSpan enough = TimeSpan.FromSeconds(10);
        long start = Stopwatch.GetTimestamp();
        using HeldFiles held = new(_gate, _notifier, _presence, _ => true, _ => false, hasThread: false);
        (ulong releasing, long told) = (0, 0);
        Task deleting = Task.Run(() =>
        {
            for (ulong round = 1; round <= Rounds && Stopwatch.GetElapsedTime(start) < enough; round++)
            {
                InodeNumber inode = new(round);
                _presence.Mark(inode);
                held.Deleted(inode, new(round - 1));
                Acknowledge(round);
                // A statement that began after that has been made.
                long seen = Volatile.Read(ref told);
                SpinWait.SpinUntil(() => Volatile.Read(ref told) >= seen + 2);
                Volatile.Write(ref releasing, round);
                held.AskAll();
            }
        }, TestContext.Current.CancellationToken);
        string wrong = "";
        while (!deleting.IsCompleted)
        {
            ReleaseStatement now = held.Describe();
            ulong last = now.Watermark.Value;
            if (last > Volatile.Read(ref releasing) && !now.Exceptions.Contains(new(last)))
                wrong = $"at {last} the file that was deleted there is not named";
            Interlocked.Increment(ref told);
        }
        Assert.True(deleting.IsCompletedSuccessfully);
        Assert.Equal("", wrong);
    }

    /// <summary>What a line has said to be released stays so, and nothing is said before the kernel has been asked (SAFETY S29).</summary>
    [Fact]
    public void What_a_former_daemon_had_not_released_is_asked_for_and_its_watermark_goes_on()
    {
        _gate.Applied(new(default, 0, new(50), default), told: true);
        _kernel.Has[7] = _kernel.Has[9] = true;
        // 7 was an exception of a line whose watermark was 40; 8 and 9 were deleted later, or were released.
        using HeldFiles next = new(_gate, _notifier, _presence, _ => true, _ => false, before: [(new(7), new(1)), (new(8), new(41)), (new(9), new(41))]);
        Await(() => next.HasAsked);
        Await(() => next.Count == 2);
        ReleaseStatement now = next.Describe();
        Assert.Equal((50UL, "7 9"), (now.Watermark.Value, string.Join(' ', now.Exceptions.Select(i => i.Value))));
        Assert.True(_held.HasAsked);
    }

    [Fact]
    public void A_file_whose_lines_stay_in_the_caches_is_held()
    {
        _presence.Mark(new(7));
        _unpurged.Add(new(7));
        Delete(7, 5);
        Await(() => _kernel.Asked.Count(i => i == 7) >= 2);
        Assert.Equal((5UL, 1), Describe());
    }

    [Fact]
    public void A_file_whose_memory_faults_is_held_until_it_does_not()
    {
        _presence.Mark(new(7));
        _faulty[7] = true;
        Delete(7, 5);
        Await(() => _kernel.Asked.Count(i => i == 7) >= 3);
        Assert.Equal((5UL, 1), Describe());
        _faulty.Clear();
        Await(() => _held.Count == 0);
    }

    [Fact]
    public void Beyond_the_exceptions_of_a_line_the_watermark_stays_behind()
    {
        for (ulong inode = 1; inode <= MountLine.MaxExceptions + 3; inode++)
        {
            _kernel.Has[inode] = true;
            _presence.Mark(new(inode));
            Delete(inode, 10 * inode);
        }
        ReleaseStatement statement = _held.Describe();
        Assert.Equal(MountLine.MaxExceptions, statement.Exceptions.Length);
        // The first that is not named was deleted after it.
        Assert.InRange(statement.Watermark.Value, 10UL * MountLine.MaxExceptions, (10UL * (MountLine.MaxExceptions + 1)) - 1);
        // By another way more can be named.
        ReleaseStatement longer = _held.Describe(MountLine.MaxExceptions + 2);
        Assert.Equal((MountLine.MaxExceptions + 2, 190UL - 1), (longer.Exceptions.Length, longer.Watermark.Value));
        longer = _held.Describe(1000);
        Assert.Equal((MountLine.MaxExceptions + 3, 190UL), (longer.Exceptions.Length, longer.Watermark.Value));
        _kernel.Has[3] = _kernel.Has[5] = _kernel.Has[17] = false;
        Await(() => _held.Count == MountLine.MaxExceptions);
        Assert.Equal((190UL, MountLine.MaxExceptions), Describe());
    }

    [Fact]
    public void Files_of_one_record_are_named_all_or_none()
    {
        for (ulong inode = 1; inode <= MountLine.MaxExceptions + 1; inode++)
        {
            _kernel.Has[inode] = true;
            _presence.Mark(new(inode));
            _held.Deleted(new(inode), new(4));
        }
        Acknowledge(9);
        ReleaseStatement statement = _held.Describe();
        Assert.Equal((4UL, 0), (statement.Watermark.Value, statement.Exceptions.Length));
    }

    [Fact]
    public void What_is_not_acknowledged_is_not_released()
    {
        Acknowledge(5);
        _gate.Applied(new(Guid.Empty, 1, new(9), new(64)), told: false);
        Assert.Equal(5UL, _held.Describe().Watermark.Value);
    }

    private (ulong Watermark, int Exceptions) Describe()
    {
        ReleaseStatement statement = _held.Describe();
        return (statement.Watermark.Value, statement.Exceptions.Length);
    }

    private void Delete(ulong inode, ulong sequence)
    {
        _held.Deleted(new(inode), new(sequence - 1));
        Acknowledge(sequence);
    }

    private void Acknowledge(ulong sequence) => _gate.Applied(new(Guid.Empty, 1, new(sequence), new(64)), told: true);

    private static void Await(Func<bool> condition) => Assert.True(SpinWait.SpinUntil(condition, TimeSpan.FromSeconds(60)), "it does not happen");

    private sealed class Kernel : IFuseTransport
    {
        public ConcurrentDictionary<ulong, bool> Has { get; } = new();

        public ConcurrentQueue<ulong> Asked { get; } = new();

        /// <summary>What it answers to every question; 0: whether it has the inode.</summary>
        public int Error { get; set; }

        public int Read(Span<byte> buffer) => throw new NotSupportedException();

        public int Write(ReadOnlySpan<byte> head, ReadOnlySpan<MemoryPiece> pieces)
        {
            if (BitConverter.ToInt32(head[4..8]) != FuseConstants.FUSE_NOTIFY_INVAL_INODE)
                return head.Length;
            ulong inode = BitConverter.ToUInt64(head[16..24]);
            Asked.Enqueue(inode);
            return Error != 0 ? -Error : Has.GetValueOrDefault(inode) ? head.Length : -(int)Errno.ENOENT;
        }
    }
}
