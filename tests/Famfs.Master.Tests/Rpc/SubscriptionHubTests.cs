using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Famfs2;
using Famfs.Master.Role;
using Famfs.Master.Rpc;
using Famfs.Master.State;
using Famfs.TestSupport;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Master.Tests.Rpc;

public sealed class SubscriptionHubTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-hub-").FullName;
    private readonly string _path;
    private readonly HostIdentity _host = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "test");

    public SubscriptionHubTests()
    {
        _path = Path.Combine(_directory, "0");
        using (FileStream file = File.Create(_path))
            file.SetLength(64L << 30);
        using DaxDevice device = DaxDevice.Open(_path);
        NativeFormatter.Format([device], new() { Host = _host.Host, Clock = TimeProvider.System });
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task A_busy_subscriber_gets_what_has_gathered_in_few_messages_that_each_replay()
    {
        // Several segments' worth: 2 MiB each at first.
        const int Files = 20_000;
        await using RunningMaster master = new(await Recovery.RunAsync(
            TestFormats.All.Open([DaxDevice.Open(_path)]), _host, takeOver: true, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken));
        LogPosition start = new(master.State.Pool.Primary.FileSystem, master.State.Pool.Primary.Generation, default, default);
        using ReplayState state = new(start, default);
        TaskCompletionSource gate = new();
        using CancellationTokenSource over = new();
        int messages = 0;
        HashSet<ulong> segments = [];
        Task running = master.Hub.RunAsync(start, async reply =>
        {
            await Volatile.Read(ref gate).Task.WaitAsync(over.Token);
            Records records = reply.Records;
            Assert.Equal(state.Position.Sequence.Value + 1, records.FirstSequence);
            ReadOnlyMemory<byte> frames = records.Frames.Memory;
            uint seed = Crc32C.Seed(master.State.Pool.Primary.FileSystem, records.Generation, records.SegmentId);
            while (!frames.IsEmpty)
                frames = frames[ApplyOne(state, frames.Span, seed)..];
            segments.Add(records.SegmentId);
            messages++;
        }, over.Token);
        gate.SetResult();
        await WaitAsync(() => master.Hub.LiveCount == 1, running);
        messages = 0;
        Volatile.Write(ref gate, new(TaskCreationOptions.RunContinuationsAsynchronously));
        for (int done = 0; done < Files;)
        {
            List<Task> some = [];
            for (int i = 0; i < 50; i++, done++)
            {
                string path = $"a-name-that-takes-some-room-in-the-log-{done:D60}";
                some.Add(master.CreateAsync(new() { Path = path, SizeBytes = 1 }));
            }
            await Task.WhenAll(some);
        }
        gate.SetResult();
        LogPosition end = await master.PositionAsync();
        await WaitAsync(() => state.Position.Sequence == end.Sequence, running);
        await over.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
        Assert.Equal(Files, state.Tree.FileCount);
        Assert.True(segments.Count > 1, $"{segments.Count} segment");
        Assert.True(messages is >= 2 and < 40, $"{messages} messages for {Files / 50} batches or more");
    }

    [Fact]
    public async Task Entries_of_another_format_come_in_messages_that_each_fit_and_say_where_they_end()
    {
        List<DaxDevice> devices = [DaxDevice.Open(_path)];
        Famfs2Formatter.Format(devices, new() { System = Guid.NewGuid(), Force = true });
        using DevicePool pool = Famfs2Format.Instance.Open(devices);
        ILogReader reader = pool.Format.OpenReader(pool, TimeProvider.System);
        while (reader.PollSettled(out _) == PollVerdict.Records)
        {
        }
        LogIndex index = new();
        index.Add(reader.Position, reader.Offset);
        SubscriptionHub hub = new(pool, index, TimeProvider.System);
        LogPosition start = reader.Position;
        hub.Recovered(start, reader.Offset);
        uint seed = Crc32C.Seed(start.FileSystem, start.Generation, 0);
        RecordBatch batch = new();
        batch.Start(start.Sequence, default, seed);
        while (batch.LengthBytes < MediaLayout.MaxBatchBytes - MediaLayout.MaxRecordBytes)
            batch.Add(RecordType.DirectoryMade, new DirectoryMade { Inode = 2 + Famfs2Translator.EntriesUpTo(batch.Last), Parent = 1, Name = ByteString.CopyFromUtf8(new('d', 60)) });
        LogPosition end = start with { Sequence = batch.Last };

        using CancellationTokenSource over = new();
        LogPosition seen = start;
        Task running = hub.RunAsync(start, reply =>
        {
            Assert.InRange(reply.CalculateSize(), 1, ReplyLimits.MessageBytes);
            Assert.Equal(seen.Sequence.Value + 1, reply.Records.FirstSequence);
            foreach (RecordFrame frame in new RecordFrames(reply.Records.Frames.Span))
                seen = seen with { Sequence = frame.Sequence };
            // An entry of 544 bytes for each record but the three that the superblock stands for.
            Assert.Equal((seen.Sequence.Value - 3) * 544, reply.Records.EndOffset);
            return default;
        }, over.Token);
        await WaitAsync(() => hub.LiveCount == 1, running);
        hub.Publish(batch, end, 0, (long)(end.Sequence.Value - 3) * 544);
        await WaitAsync(() => seen == end, running);
        await over.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
    }

    [Fact]
    public async Task Streams_that_take_nothing_keep_no_place_from_others()
    {
        await using RunningMaster master = new(await Recovery.RunAsync(
            TestFormats.All.Open([DaxDevice.Open(_path)]), _host, takeOver: true, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken));
        for (int i = 0; i < 10; i++)
            await master.CreateAsync(new() { Path = $"f{i}", SizeBytes = 1 });
        LogPosition start = new(master.State.Pool.Primary.FileSystem, master.State.Pool.Primary.Generation, default, default);
        using CancellationTokenSource over = new();
        TaskCompletionSource take = new(TaskCreationOptions.RunContinuationsAsynchronously);
        List<ulong> taken = [];
        List<Task> deaf = [];
        for (int i = 0; i <= CallLimits.CatchUps; i++)
        {
            bool first = i == 0;
            deaf.Add(master.Hub.RunAsync(start, async reply =>
            {
                await take.Task.WaitAsync(over.Token);
                if (!first)
                    return;
                foreach (RecordFrame frame in new RecordFrames(reply.Records.Frames.Span))
                    taken.Add(frame.Sequence.Value);
            }, over.Token));
        }
        Task reading = master.Hub.RunAsync(start, _ => default, over.Token);
        await WaitAsync(() => master.Hub.LiveCount == 1, reading);
        // What was sent when the place was given up is not sent again.
        take.SetResult();
        await WaitAsync(() => master.Hub.LiveCount == deaf.Count + 1, reading);
        await master.CreateAsync(new() { Path = "last", SizeBytes = 1 });
        ulong end = (await master.PositionAsync()).Sequence.Value;
        await WaitAsync(() => taken.Count > 0 && taken[^1] == end, reading);
        await over.CancelAsync();
        foreach (Task stream in deaf)
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => stream);
        Assert.Equal(Enumerable.Range(1, (int)end).Select(i => (ulong)i), taken);
    }

    private static int ApplyOne(ReplayState state, ReadOnlySpan<byte> frames, uint seed)
    {
        Assert.Equal(FrameVerdict.Good, RecordFrame.Parse(frames, seed, out RecordFrame frame));
        state.Apply(frame);
        return frame.PaddedBytes;
    }

    private static async Task WaitAsync(Func<bool> condition, Task running)
    {
        using CancellationTokenSource patience = new(TimeSpan.FromMinutes(2));
        while (!condition())
        {
            // A subscription that has ended brings nothing more; why it did is the result.
            if (running.IsCompleted)
                await running;
            await Task.Delay(1, patience.Token);
        }
    }
}
