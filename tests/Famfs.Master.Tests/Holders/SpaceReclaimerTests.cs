using System.Collections.Concurrent;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.Master.Engine;
using Famfs.Master.Holders;
using Famfs.Master.Role;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.V1;
using Google.Protobuf;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Famfs.Master.Tests.Holders;

/// <summary>Space of removed files comes back when every line in the host table has released it, and when it is zeroed. Nobody
/// else reads the table here.</summary>
public sealed class SpaceReclaimerTests : IAsyncLifetime
{
    private const long Unit = MediaLayout.UnitBytes;

    private readonly FakeSharedMemory _memory = new(64L << 20, seed: 1, coherent: true) { AccidentOneIn = 0 };
    private readonly HostIdentity _host = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "test");
    private readonly Clock _clock = new();
    private readonly Zeroing _zeroing = new();
    private RunningMaster _master = null!;
    private SpaceReclaimer _reclaimer = null!;
    private MountLine _line = null!;

    public async ValueTask InitializeAsync()
    {
        using (DaxDevice device = _memory.Attach("master"))
            NativeFormatter.Format([device], new() { Host = _host.Host, Clock = TimeProvider.System });
        CancellationToken cancel = TestContext.Current.CancellationToken;
        _master = new(await Recovery.RunAsync(TestFormats.All.Open([_memory.Attach("master")]), _host, takeOver: false, "", TimeProvider.System, new Random(1), cancel));
        MountRegistry mounts = new(_master.State, new(_master.State.Pool), _clock);
        _reclaimer = new(_master.Engine, _master.State, mounts, _zeroing, _clock, NullLogger<SpaceReclaimer>.Instance);
        await _master.DecideAsync(context =>
        {
            context.Append(RecordType.HostRegistered, new HostRegistered { HostId = _host.Host.ToByteString(), HostSlot = 0, Name = "alpha" });
            return true;
        });
        _line = new() { Counter = 0, State = MountState.Live, Host = _host.Host, Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };
    }

    public async ValueTask DisposeAsync()
    {
        await _reclaimer.StopAsync(CancellationToken.None);
        _reclaimer.Dispose();
        await _master.DisposeAsync();
    }

    [Fact]
    public async Task A_line_holds_what_it_has_not_released_and_what_it_names()
    {
        Write(new(0));
        (InodeNumber first, _) = await RemoveAsync("first");
        (InodeNumber second, _) = await RemoveAsync("second");
        (_, LogSequence all) = await RemoveAsync("third");
        await _reclaimer.StartAsync(TestContext.Current.CancellationToken);
        await AwaitAsync(() => Waits("alpha") || Pending < 3);
        Assert.Equal((3, 0), (Pending, Reserved));

        Write(all, first, second);
        await AwaitAsync(() => Pending < 2 || (Pending == 2 && Reserved == 0 && Waits("has 2 files open")));
        Assert.Equal((2, 0), (Pending, Reserved));

        // What cannot be read may have both.
        DaxDevice device = _master.State.Pool.PrimaryDevice;
        byte[] entry = new byte[MediaLayout.HostEntryBytes];
        device.Read(TableOffset, entry);
        device.Write(TableOffset, [.. Enumerable.Repeat((byte)1, entry.Length)]);
        await AwaitAsync(() => Waits("unreadable") || Pending < 2);
        Assert.Equal((2, 0), (Pending, Reserved));
        device.Write(TableOffset, entry);

        Write(all, second);
        await AwaitAsync(() => Pending < 1 || (Pending == 1 && Reserved == 0 && Waits("has 1 file open")));
        Assert.Equal((1, 0), (Pending, Reserved));
        await AwaitAsync(() => _master.State.ReclaimHolders.SetEquals([_line.Mount]));
        Write(all);
        await AwaitAsync(() => Pending == 0);
        Assert.Equal(3, _zeroing.Done.Count);
        await AwaitAsync(() => _master.State.ReclaimHolders.Count == 0);
    }

    /// <summary>Files after one that a mount has are given back, so that it is the last removed one again; then it is given back, too.</summary>
    [Fact]
    public async Task A_file_that_was_passed_and_is_the_last_again_holds_up_nothing()
    {
        (InodeNumber first, _) = await RemoveAsync("first");
        (_, LogSequence all) = await RemoveAsync("second");
        Write(all, first);
        await TurnUntilAsync(1);
        for (int turn = 0; turn < 3; turn++)
            await _reclaimer.RunTurnAsync();
        Write(all);
        await TurnUntilAsync(0);
        (_, LogSequence newest) = await RemoveAsync("third");
        // Everything but that.
        Write(new(newest.Value - 1));
        for (int turn = 0; turn < 3; turn++)
            await _reclaimer.RunTurnAsync();
        Write(newest);
        await TurnUntilAsync(0);
    }

    private async Task TurnUntilAsync(int pending)
    {
        for (int turn = 0; Pending != pending; turn++)
        {
            Assert.InRange(turn, 0, 100);
            await _reclaimer.RunTurnAsync();
        }
    }

    [Fact]
    public async Task A_watermark_before_a_removal_holds_what_was_removed_after_it()
    {
        (_, LogSequence early) = await RemoveAsync("early");
        Write(early);
        await _reclaimer.StartAsync(TestContext.Current.CancellationToken);
        await AwaitAsync(() => Pending == 0);
        (_, LogSequence late) = await RemoveAsync("late");
        await AwaitAsync(() => Waits("alpha") || Pending == 0);
        Assert.Equal((1, 0), (Pending, Reserved));
        Write(late);
        await AwaitAsync(() => Pending == 0);
    }

    [Fact]
    public async Task What_could_not_be_zeroed_is_not_given_back_and_is_tried_again()
    {
        _zeroing.Fails = 1;
        await RemoveAsync("f");
        await RemoveAsync("g");
        await _reclaimer.StartAsync(TestContext.Current.CancellationToken);
        await AwaitAsync(() => Pending < 2);
        Assert.Equal(1, Pending);
        _clock.Ahead = TimeSpan.FromSeconds(10);
        await AwaitAsync(() => Pending == 0);
        Assert.Equal(3, _zeroing.Done.Count);
    }

    [Fact]
    public async Task Nothing_is_given_back_before_it_is_zeroed()
    {
        _zeroing.Waits = true;
        await RemoveAsync("f");
        await _reclaimer.StartAsync(TestContext.Current.CancellationToken);
        await AwaitAsync(() => !_zeroing.Held.IsEmpty || Pending == 0);
        long free = await _master.FreeBytesAsync();
        Assert.Equal(1, Pending);
        Assert.True(_zeroing.Held.TryDequeue(out Action? zeroed));
        zeroed();
        await AwaitAsync(() => Pending == 0);
        Assert.Equal(free + Unit, await _master.FreeBytesAsync());
    }

    /// <summary>While the table is read a mount writes its line, opens a file, and the file is removed: the table is read again
    /// before that file is judged.</summary>
    [Fact]
    public async Task A_removal_is_judged_by_lines_that_were_read_after_it()
    {
        // The table's page was written, else the memory has nothing to load.
        new MountLineTable(_master.State.Pool).Write(1, _line with { Counter = 1, State = MountState.Ended, Mount = Guid.NewGuid() });
        await RemoveAsync("another");
        TaskCompletionSource reached = new(TaskCreationOptions.RunContinuationsAsynchronously);
        using ManualResetEventSlim removed = new();
        long last = TableOffset + (MediaLayout.EntriesPerHost * MediaLayout.HostEntryBytes) - DaxDevice.LineBytes;
        _memory.BeforeAccess = (_, operation, offset) =>
        {
            if (operation == FakeOperation.Load && offset == last && reached.TrySetResult())
                removed.Wait(TimeSpan.FromMinutes(1));
        };
        await _reclaimer.StartAsync(TestContext.Current.CancellationToken);
        await reached.Task.WaitAsync(TimeSpan.FromMinutes(1), TestContext.Current.CancellationToken);
        Write(new(0));
        await RemoveAsync("f");
        removed.Set();
        await AwaitAsync(() => Pending == 0 || (Pending == 1 && Reserved == 0 && Waits("alpha")));
        Assert.Equal((1, 0), (Pending, Reserved));
    }

    private long TableOffset => ((NativeSuperblock)_master.State.Pool.Primary).HostTableOffset;

    private long Pending => _master.State.Replay.PendingReclaimBytes / Unit;

    // What a turn reserves is in the log when it says whom it waits for.
    private int Reserved => _master.State.Replay.Reservations.Length;

    private bool Waits(string text) => _master.State.ReclaimWaits.Any(wait => wait.Contains(text, StringComparison.Ordinal));

    private static async Task AwaitAsync(Func<bool> condition)
    {
        long start = TimeProvider.System.GetTimestamp();
        while (!condition())
        {
            Assert.True(TimeProvider.System.GetElapsedTime(start) < TimeSpan.FromSeconds(60), "it does not happen");
            await Task.Delay(5, TestContext.Current.CancellationToken);
        }
    }

    private async Task<(InodeNumber Inode, LogSequence Removed)> RemoveAsync(string path)
    {
        ulong inode = (await _master.CreateAsync(new() { Path = path, SizeBytes = 1 })).File.Inode;
        MutationReply reply = await _master.RunAsync(new Removal(new() { Path = path }));
        return (new(inode), new(reply.Position.Sequence));
    }

    private void Write(LogSequence released, params InodeNumber[] held)
    {
        _line = _line with { Counter = _line.Counter + 1, ReleasedWatermark = released, Exceptions = held };
        new MountLineTable(_master.State.Pool).Write(0, _line);
    }

    /// <summary>Fails, or waits, as the test tells.</summary>
    private sealed class Zeroing : ISpaceZeroing
    {
        public int Fails { get; set; }

        public bool Waits { get; set; }

        public ConcurrentQueue<NewSpace> Done { get; } = new();

        public ConcurrentQueue<Action> Held { get; } = new();

        public void Start(NewSpace space, Action zeroed)
        {
            if (Done.Count < Fails)
                space.Failure = new(ErrorReason.DeviceMissing, "not here");
            Done.Enqueue(space);
            if (Waits)
                Held.Enqueue(zeroed);
            else
                zeroed();
        }

        public void Stop()
        {
        }
    }

    private sealed class Clock : TimeProvider
    {
        public TimeSpan Ahead { get; set; }

        public override long GetTimestamp() => base.GetTimestamp() + (long)(Ahead.TotalSeconds * TimestampFrequency);
    }
}
