using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Master.Changes;
using Famfs.Master.Engine;
using Famfs.Master.Role;
using Famfs.TestSupport;
using Famfs.V1;
using Xunit;

namespace Famfs.Master.Tests.Engine;

/// <summary>A change of many files lets others have their turns, and the heartbeat its time. The clock goes on by one millisecond at
/// each look.</summary>
public sealed class TurnTests : IDisposable
{
    private const int BulkFiles = 65536;

    private readonly string _path = Path.GetTempFileName();
    private readonly HostIdentity _host = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "test");

    public TurnTests()
    {
        using (FileStream file = File.OpenWrite(_path))
            file.SetLength(64L << 20);
        using DaxDevice device = DaxDevice.Open(_path);
        NativeFormatter.Format([device], new() { Host = _host.Host, Clock = TimeProvider.System });
    }

    public void Dispose() => File.Delete(_path);

    [Fact]
    public async Task A_lone_change_comes_before_sixteen_bulks_that_came_first_and_ticks_go_on()
    {
        LookingClock clock = new();
        using DevicePool pool = TestFormats.All.Open([DaxDevice.Open(_path)]);
        Recovery.Result recovered = await Recovery.RunAsync(pool, _host, takeOver: false, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken);
        TickingWriter writer = new(recovered.Writer, clock);
        await using RunningMaster master = new(recovered, writer: writer, clock: clock);
        using ManualResetEventSlim queued = new();
        Task<bool> first = master.DecideAsync(_ => queued.Wait(TimeSpan.FromMinutes(3)));
        Many[] bulks = [.. Enumerable.Range(0, 16).Select(_ => new Many())];
        List<Task> all = [.. bulks.Select(b => master.Engine.RunAsync(b, Caller.Unknown with { }))];
        Task<int> lone = master.Engine.RunAsync(new TestChange<int>(_ => bulks.Sum(b => b.Decided)), Caller.Unknown with { });
        queued.Set();
        await Task.WhenAll([first, .. all]);
        // It came last.
        Assert.Equal(0, await lone);
        Assert.All(bulks, b => Assert.Equal(BulkFiles, b.Decided));
        // One look at the clock for each file: all of them took more than a thousand seconds.
        Assert.InRange(writer.Ticks, 16 * BulkFiles / 300, int.MaxValue);
        Assert.InRange(writer.LongestGap, TimeSpan.FromMilliseconds(1), TimeSpan.FromMilliseconds(300));
    }

    [Fact]
    public async Task Files_that_are_refused_end_a_turn_as_others_do()
    {
        LookingClock clock = new();
        using DevicePool pool = TestFormats.All.Open([DaxDevice.Open(_path)]);
        Recovery.Result recovered = await Recovery.RunAsync(pool, _host, takeOver: false, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken);
        await using RunningMaster master = new(recovered, clock: clock);
        using ManualResetEventSlim queued = new();
        Task<bool> first = master.DecideAsync(_ => queued.Wait(TimeSpan.FromMinutes(3)));
        CreateFilesRequest request = new() { Files = { Enumerable.Range(0, 5000).Select(i => new CreateFileRequest { Path = $"no/such/{i}", SizeBytes = 1 }) } };
        FilesCreation bulk = new(request);
        Task<CreateFilesReply> refused = master.Engine.RunAsync(bulk, Caller.Unknown with { });
        Task<int> other = master.Engine.RunAsync(new Looking(() => bulk.Reply.Results.Count), Caller.Unknown with { });
        queued.Set();
        Assert.Equal(5000, (await refused).Results.Count);
        Assert.All((await refused).Results, r => Assert.Equal(ErrorReason.NotFound, r.Error.Reason));
        Assert.InRange(await other, 1, ChangeContext.FilesPerTurn);
    }

    /// <summary>A removed directory of 20,000 links: the call is answered before they are taken apart, callers that come then are answered
    /// meanwhile, and a master that starts in the middle of it has all of it done.</summary>
    [Fact]
    public async Task A_removal_with_all_below_is_answered_at_once_and_others_are_answered_while_it_is_taken_apart()
    {
        const int Links = 20_000;
        using (DevicePool pool = TestFormats.All.Open([DaxDevice.Open(_path)]))
        {
            Recovery.Result recovered = await Recovery.RunAsync(pool, _host, takeOver: false, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken);
            await using RunningMaster master = new(recovered, clock: new LookingClock());
            await master.MakeDirectoryAsync("d");
            ulong directory = (await master.DescribeAsync("d")).Inode;
            for (int i = 0; i < Links; i += 500)
            {
                int first = i;
                await master.DecideAsync(context =>
                {
                    for (int k = first; k < first + 500; k++)
                        context.Append(RecordType.SymlinkMade, new SymlinkMade { Inode = context.NextInode.Value, Parent = directory, Name = Google.Protobuf.ByteString.CopyFromUtf8($"{k}"), Target = Google.Protobuf.ByteString.CopyFromUtf8("t") });
                    return true;
                });
            }
            long before = await master.QueryAsync(reader => reader.State.Replay.Tree.InodeCount);
            // From the removal on there is always somebody who asks.
            List<long> seen = [];
            TaskCompletionSource end = new(TaskCreationOptions.RunContinuationsAsynchronously);
            void Ask() => _ = master.DecideAsync(context =>
            {
                seen.Add(context.State.Replay.Tree.InodeCount);
                if (context.State.Replay.HasSubtrees)
                    Ask();
                else
                    end.SetResult();
                return true;
            });
            await master.DecideAsync(context =>
            {
                Ask();
                return new Removal(new() { Path = "d", Recursive = true }).Decide(context);
            });
            await end.Task.WaitAsync(TimeSpan.FromMinutes(3), TestContext.Current.CancellationToken);
            Assert.Equal(before, seen[0]);
            Assert.All(seen.Zip(seen.Skip(1)), pair => Assert.InRange(pair.First - pair.Second, 0, ChangeContext.FilesPerTurn));
            Assert.Equal(before - Links - 1, await master.QueryAsync(reader => reader.State.Replay.Tree.InodeCount));
            await master.MakeDirectoryAsync("d");
            await master.RunAsync(new Removal(new() { Path = "d", Recursive = true }));
        }
        using DevicePool again = TestFormats.All.Open([DaxDevice.Open(_path)]);
        Recovery.Result after = await Recovery.RunAsync(again, _host, takeOver: false, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken);
        Assert.False(after.State.Replay.HasSubtrees);
        Assert.Equal(1, after.State.Replay.Tree.DirectoryCount);
        await using RunningMaster next = new(after);
    }

    /// <summary>Also the one that is to begin the next batch: somebody waits for it.</summary>
    [Fact]
    public async Task Everybody_is_told_when_a_batch_fails()
    {
        using DevicePool pool = TestFormats.All.Open([DaxDevice.Open(_path)]);
        Recovery.Result recovered = await Recovery.RunAsync(pool, _host, takeOver: false, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken);
        TickingWriter writer = new(recovered.Writer, TimeProvider.System);
        // No batch is over for want of time.
        await using RunningMaster master = new(recovered, writer: writer, clock: new StoppedClock());
        await master.PositionAsync();
        using ManualResetEventSlim queued = new();
        Task<bool> first = master.DecideAsync(context =>
        {
            writer.Failure = new FamfsException(ErrorReason.NotMaster, "deposed");
            context.Append(RecordType.DirectoryMade, new DirectoryMade { Inode = context.NextInode.Value, Parent = 1, Name = Google.Protobuf.ByteString.CopyFromUtf8("d") });
            return queued.Wait(TimeSpan.FromMinutes(3));
        });
        Large large = new();
        Task<bool> second = master.RunAsync(large);
        Task<LogPosition> third = master.PositionAsync();
        queued.Set();
        foreach (Task waiting in (Task[])[first, second, third])
            Assert.Equal(ErrorReason.NotMaster, (await Assert.ThrowsAsync<FamfsException>(() => waiting.WaitAsync(TimeSpan.FromMinutes(2), TestContext.Current.CancellationToken))).Reason);
        Assert.Equal(1, large.Decisions);
        await Assert.ThrowsAnyAsync<Exception>(() => master.Engine.Completion);
    }

    /// <summary>One that fits no batch.</summary>
    private sealed class Large : Change<bool>
    {
        public int Decisions { get; private set; }

        public override Verdict Decide(ChangeContext context)
        {
            Decisions++;
            return new(VerdictKind.NextBatch, 1);
        }
    }

    private sealed class StoppedClock : TimeProvider
    {
        public override long GetTimestamp() => 0;
    }

    /// <summary>A bulk change that sees how far another one is.</summary>
    private sealed class Looking(Func<int> look) : Change<int>
    {
        public override int Files => 250;

        public override Verdict Decide(ChangeContext context)
        {
            Reply = look();
            return Verdict.Done;
        }
    }

    /// <summary>Many files that cost nothing but the look at the clock.</summary>
    private sealed class Many : Change<bool>
    {
        public override int Files => BulkFiles;

        public int Decided { get; private set; }

        public override Verdict Decide(ChangeContext context)
        {
            while (Decided < BulkFiles)
            {
                Decided++;
                if (Decided < BulkFiles && context.EndsTurn())
                    return new(VerdictKind.NextTurn);
            }
            return Verdict.Done;
        }
    }

    private sealed class LookingClock : TimeProvider
    {
        private long _now;

        public override long TimestampFrequency => 1000;

        public override long GetTimestamp() => Interlocked.Increment(ref _now);
    }

    private sealed class TickingWriter(ILogWriter writer, TimeProvider clock) : ILogWriter
    {
        private long _last;

        public int Ticks { get; private set; }

        public TimeSpan LongestGap { get; private set; }

        /// <summary>Every batch fails with it.</summary>
        public Exception? Failure { get; set; }

        public Term Term => writer.Term;

        public LogPosition Position => writer.Position;

        public long Tail => writer.Tail;

        public ulong SegmentId => writer.SegmentId;

        public long RemainingRecords => writer.RemainingRecords;

        public ISegmentedLog? Segments => writer.Segments;

        public void Publish(RecordBatch batch)
        {
            if (Failure is not null)
                throw Failure;
            writer.Publish(batch);
        }

        public void Check() => writer.Check();

        public void Tick(ulong counter)
        {
            TimeSpan gap = _last == 0 ? TimeSpan.Zero : clock.GetElapsedTime(_last);
            LongestGap = gap > LongestGap ? gap : LongestGap;
            _last = clock.GetTimestamp();
            Ticks++;
            writer.Tick(counter);
        }
    }
}
