using System.Threading.Channels;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.ScriptedMaster;
using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;

namespace Famfs.Client.Tests;

public sealed class LogSubscriberTests
{
    private const ulong Segment = 0x40_0001;
    private static readonly Guid s_fileSystem = Guid.NewGuid();
    private static readonly TimeSpan s_long = TimeSpan.FromMinutes(1);

    [Fact]
    public async Task Records_reach_the_handler_and_acknowledgements_the_master()
    {
        TaskCompletionSource<Ack> acked = new(TaskCreationOptions.RunContinuationsAsynchronously);
        Hello? hello = null;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Subscribe = async (requests, replies, _) =>
            {
                Assert.True(await requests.MoveNext(CancellationToken.None));
                hello = requests.Current.Hello;
                await replies.WriteAsync(new() { Welcome = new() { Registered = true, HostSlot = 3 } });
                await replies.WriteAsync(new() { Records = Frames(1, 64, 3) });
                await replies.WriteAsync(new() { Lease = new() { TtlMs = 700 } });
                Assert.True(await requests.MoveNext(CancellationToken.None));
                acked.SetResult(requests.Current.Ack);
                await replies.WriteAsync(new() { Goaway = new() { Reason = "moving" } });
            },
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);
        LogSubscriber subscriber = new(client);
        RecordingHandler handler = new() { OnBlock = position => subscriber.Acknowledge(position) };

        Goaway? goaway = await subscriber.RunOnceAsync(handler, Limit.Minute());

        Assert.Equal("moving", goaway!.Reason);
        Assert.Equal(3u, handler.Welcome!.HostSlot);
        Assert.Equal([(3, 1UL)], handler.Blocks);
        Assert.Equal(TimeSpan.FromMilliseconds(700), handler.Lease);
        Ack ack = await acked.Task.WaitAsync(s_long, Limit.Minute());
        Assert.Equal((3UL, 64UL), (ack.Position.Sequence, ack.Position.Term));
        Assert.Equal(handler.Hello, hello);
        Assert.False(subscriber.Connected);
    }

    [Fact]
    public async Task What_was_released_reaches_the_master_as_it_was_said_last()
    {
        TaskCompletionSource<Released> said = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Subscribe = async (requests, replies, _) =>
            {
                Assert.True(await requests.MoveNext(CancellationToken.None));
                await replies.WriteAsync(new() { Welcome = new() { TakesReleased = true } });
                while (await requests.MoveNext(CancellationToken.None))
                {
                    if (requests.Current.Released is { } released && released.HeldInodes.Count == 2)
                    {
                        said.SetResult(released);
                        await replies.WriteAsync(new() { Goaway = new() { Reason = "moving" } });
                        return;
                    }
                }
            },
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);
        LogSubscriber subscriber = new(client);
        Assert.False(subscriber.Report(new Released()));
        RecordingHandler handler = new()
        {
            Welcomed = () =>
            {
                Assert.True(subscriber.Report(new Released { HeldInodes = { 5 } }));
                Assert.True(subscriber.Report(new Released { Watermark = new() { Sequence = 9 }, HeldInodes = { 5, 7 } }));
            },
        };

        await subscriber.RunOnceAsync(handler, Limit.Minute());

        Released taken = await said.Task.WaitAsync(s_long, Limit.Minute());
        Assert.Equal((9UL, "5 7"), (taken.Watermark.Sequence, string.Join(' ', taken.HeldInodes)));
    }

    [Fact]
    public async Task Written_files_reach_the_master_and_its_answer_the_handler()
    {
        Written? said = null;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Subscribe = async (requests, replies, _) =>
            {
                Assert.True(await requests.MoveNext(CancellationToken.None));
                await replies.WriteAsync(new() { Welcome = new() { TakesWritten = true } });
                await replies.WriteAsync(new() { Records = Frames(1, 64, 3) });
                Assert.True(await requests.MoveNext(CancellationToken.None));
                said = requests.Current.Written;
                await replies.WriteAsync(new() { WrittenAnswer = new() { Sequence = 9 } });
                await replies.WriteAsync(new() { Goaway = new() });
            },
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);
        LogSubscriber subscriber = new(client);
        Written written = new() { Inodes = { 5 }, TimesNs = { 6 } };
        Assert.False(subscriber.Report(written));
        RecordingHandler handler = new() { OnBlock = _ => Assert.True(subscriber.Report(written)) };

        await subscriber.RunOnceAsync(handler, Limit.Minute());

        Assert.Equal(written, said);
        Assert.Equal(9UL, handler.WrittenAnswer!.Sequence);
        Assert.False(subscriber.Report(written));
    }

    [Fact]
    public async Task Inside_a_batch_acknowledgements_wait_for_the_interval_or_the_batchs_end()
    {
        Channel<ulong> acks = Channel.CreateUnbounded<ulong>();
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Subscribe = async (requests, replies, _) =>
            {
                Assert.True(await requests.MoveNext(CancellationToken.None));
                await replies.WriteAsync(new() { Welcome = new() });
                await replies.WriteAsync(new() { Records = Frames(1, 64, 5) });
                ulong last;
                do
                {
                    Assert.True(await requests.MoveNext(CancellationToken.None));
                    last = requests.Current.Ack.Position.Sequence;
                    await acks.Writer.WriteAsync(last);
                }
                while (last < 5);
                await replies.WriteAsync(new() { Goaway = new() });
            },
        });
        // The interval never passes on this clock.
        using FamfsClient client = new(new FamfsClientOptions { Addresses = [master.Address], Clock = new StoppedClock() });
        LogSubscriber subscriber = new(client);
        List<ulong> seen = [];
        RecordingHandler handler = new()
        {
            OnBlock = last =>
            {
                subscriber.Acknowledge(last with { Sequence = new(1) });
                seen.Add(acks.Reader.ReadAsync(Limit.Minute()).AsTask().GetAwaiter().GetResult());
                subscriber.Acknowledge(last with { Sequence = new(2) });
                subscriber.Acknowledge(last with { Sequence = new(3) });
                // Nothing may come; what comes all the same is mostly here by then.
                Assert.False(acks.Reader.WaitToReadAsync(Limit.Minute()).AsTask().Wait(TimeSpan.FromMilliseconds(300)));
                subscriber.Acknowledge(last);
            },
        };

        await subscriber.RunOnceAsync(handler, Limit.Minute());
        seen.Add(await acks.Reader.ReadAsync(Limit.Minute()));

        Assert.Equal([1UL, 5UL], seen);
    }

    [Fact]
    public async Task Missing_devices_go_out_once_with_an_acknowledgement()
    {
        Channel<Ack> acks = Channel.CreateUnbounded<Ack>();
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Subscribe = async (requests, replies, _) =>
            {
                Assert.True(await requests.MoveNext(CancellationToken.None));
                await replies.WriteAsync(new() { Welcome = new() });
                await replies.WriteAsync(new() { Records = Frames(1, 64, 1) });
                Assert.True(await requests.MoveNext(CancellationToken.None));
                await acks.Writer.WriteAsync(requests.Current.Ack);
                await replies.WriteAsync(new() { Records = Frames(2, 64, 1) });
                Assert.True(await requests.MoveNext(CancellationToken.None));
                await acks.Writer.WriteAsync(requests.Current.Ack);
                await replies.WriteAsync(new() { Goaway = new() });
            },
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);
        LogSubscriber subscriber = new(client);
        MissingDevices missing = new() { DeviceCount = 3, Indices = { 2 } };
        RecordingHandler handler = new()
        {
            OnBlock = last =>
            {
                if (last.Sequence.Value == 1)
                    subscriber.ReportDevices(missing, last);
                else
                    subscriber.Acknowledge(last);
            },
        };

        await subscriber.RunOnceAsync(handler, Limit.Minute());

        Ack first = await acks.Reader.ReadAsync(Limit.Minute());
        Assert.Equal((1UL, missing), (first.Position.Sequence, first.MissingDevices));
        Ack second = await acks.Reader.ReadAsync(Limit.Minute());
        Assert.Equal((2UL, null), (second.Position.Sequence, second.MissingDevices));
    }

    public static TheoryData<string, SubscriptionFault> BadStreams => new()
    {
        { "gap", SubscriptionFault.Gap },
        { "repeated", SubscriptionFault.Gap },
        { "gap inside", SubscriptionFault.Gap },
        { "bad checksum", SubscriptionFault.Corrupt },
        { "torn", SubscriptionFault.Corrupt },
        { "other segment", SubscriptionFault.Corrupt },
        { "other file system", SubscriptionFault.Corrupt },
        { "term backwards", SubscriptionFault.TermBackwards },
        { "other generation", SubscriptionFault.WrongHistory },
        { "empty", SubscriptionFault.OutOfPlace },
        { "snapshot frame", SubscriptionFault.OutOfPlace },
        { "welcome again", SubscriptionFault.OutOfPlace },
    };

    [Theory]
    [MemberData(nameof(BadStreams))]
    public async Task Bad_content_ends_the_stream_before_the_handler_sees_it(string what, SubscriptionFault fault)
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Subscribe = async (requests, replies, context) =>
            {
                Assert.True(await requests.MoveNext(CancellationToken.None));
                await replies.WriteAsync(new() { Welcome = new() });
                await replies.WriteAsync(new() { Records = Frames(1, 128, 2) });
                await replies.WriteAsync(Bad(what));
                await Task.Delay(Timeout.Infinite, context.CancellationToken).ContinueWith(_ => { }, TaskScheduler.Default);
            },
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);
        RecordingHandler handler = new();

        SubscriptionBrokenException e = await Assert.ThrowsAsync<SubscriptionBrokenException>(() => new LogSubscriber(client).RunOnceAsync(handler, Limit.Minute()));

        Assert.Equal(fault, e.Fault);
        Assert.Equal(new LogPosition(s_fileSystem, 1, new(2), new(128)), e.Position);
        Assert.Equal([(2, 1UL)], handler.Blocks);
    }

    [Fact]
    public async Task Records_before_welcome_end_the_stream()
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Subscribe = (_, replies, _) => replies.WriteAsync(new() { Records = Frames(1, 64, 1) }),
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);
        RecordingHandler handler = new();

        SubscriptionBrokenException e = await Assert.ThrowsAsync<SubscriptionBrokenException>(() => new LogSubscriber(client).RunOnceAsync(handler, Limit.Minute()));

        Assert.Equal(SubscriptionFault.OutOfPlace, e.Fault);
        Assert.Empty(handler.Blocks);
    }

    [Fact]
    public void Every_flipped_bit_of_a_message_is_seen()
    {
        Records good = Frames(1, 64, 2);
        byte[] bytes = good.Frames.ToByteArray();
        for (int bit = 0; bit < bytes.Length * 8; bit++)
        {
            byte[] flipped = [.. bytes];
            flipped[bit / 8] ^= (byte)(1 << (bit % 8));
            FrameVerifier verifier = new(Start);
            Assert.Throws<SubscriptionBrokenException>(() => verifier.Verify(new Records(good) { Frames = ByteString.CopyFrom(flipped) }));
            Assert.Equal(Start, verifier.Position);
        }
    }

    [Fact]
    public void A_later_generation_follows_at_any_record_and_an_earlier_one_never()
    {
        FrameVerifier verifier = new(Start);
        verifier.Verify(Frames(1, 64, 2));
        // The master went on in generation 2 there, and its log has the record in the middle.
        verifier.Verify(Frames(3, 64, 1, type: RecordType.GenerationChanged));
        LogBlock block = verifier.Verify(Frames(4, 64, 1, generation: 2));
        Assert.Equal(2UL, block.Generation);
        Assert.Equal(new LogPosition(s_fileSystem, 2, new(4), new(64)), verifier.Position);
        Assert.Equal(SubscriptionFault.WrongHistory, Assert.Throws<SubscriptionBrokenException>(() => verifier.Verify(Frames(5, 64, 1))).Fault);
        Assert.Equal(SubscriptionFault.Gap, Assert.Throws<SubscriptionBrokenException>(() => verifier.Verify(Frames(6, 64, 1, generation: 3))).Fault);

        // A stream that is late passes several.
        verifier.Verify(Frames(5, 64, 2, generation: 4, type: RecordType.GenerationChanged));
        verifier.Verify(Frames(7, 64, 1, generation: 4));
        Assert.Equal(new LogPosition(s_fileSystem, 4, new(7), new(64)), verifier.Position);
    }

    [Fact]
    public void A_snapshot_in_parts_moves_the_position_with_its_last_part()
    {
        FrameVerifier verifier = new(Start);

        verifier.Verify(Snapshot([RecordType.SnapshotBegin, RecordType.SnapshotState], 0, last: false));
        Assert.Equal(SubscriptionFault.OutOfPlace, Assert.Throws<SubscriptionBrokenException>(() => verifier.Verify(Frames(1, 64, 1))).Fault);
        Assert.Equal(Start, verifier.Position);
        verifier.Verify(Snapshot([RecordType.SnapshotInode, RecordType.SnapshotEnd], 2, last: true));

        Assert.Equal(new LogPosition(s_fileSystem, 5, new(70), new(192)), verifier.Position);
        Assert.Equal(1, verifier.Verify(Frames(71, 192, 1, generation: 5)).Count);
    }

    [Theory]
    [InlineData("starts late", SubscriptionFault.Gap)]
    [InlineData("no begin", SubscriptionFault.OutOfPlace)]
    [InlineData("no end", SubscriptionFault.OutOfPlace)]
    [InlineData("beyond end", SubscriptionFault.OutOfPlace)]
    [InlineData("no position", SubscriptionFault.WrongHistory)]
    public void A_snapshot_that_is_not_whole_is_refused(string what, SubscriptionFault fault)
    {
        SnapshotChunk chunk = what switch
        {
            "starts late" => Snapshot([RecordType.SnapshotState, RecordType.SnapshotEnd], 1, last: true),
            "no begin" => Snapshot([RecordType.SnapshotState, RecordType.SnapshotEnd], 0, last: true),
            "no end" => Snapshot([RecordType.SnapshotBegin, RecordType.SnapshotState], 0, last: true),
            "beyond end" => Snapshot([RecordType.SnapshotBegin, RecordType.SnapshotEnd], 0, last: false),
            _ => new SnapshotChunk(Snapshot([RecordType.SnapshotBegin, RecordType.SnapshotEnd], 0, last: true)) { Position = null },
        };
        FrameVerifier verifier = new(Start);

        Assert.Equal(fault, Assert.Throws<SubscriptionBrokenException>(() => verifier.Verify(chunk)).Fault);
        Assert.Equal(Start, verifier.Position);
    }

    [Fact]
    public async Task A_stream_that_ends_is_reported_and_made_again_from_the_hosts_own_position()
    {
        Channel<Hello> hellos = Channel.CreateUnbounded<Hello>();
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Subscribe = async (requests, replies, context) =>
            {
                Assert.True(await requests.MoveNext(CancellationToken.None));
                Hello hello = requests.Current.Hello;
                await hellos.Writer.WriteAsync(hello);
                await replies.WriteAsync(new() { Welcome = new() });
                await replies.WriteAsync(new() { Records = Frames(hello.Position.Sequence + 1, 64, 1) });
                // A gap: this host must come back with what it has.
                await replies.WriteAsync(new() { Records = Frames(hello.Position.Sequence + 3, 64, 1) });
                await Task.Delay(Timeout.Infinite, context.CancellationToken).ContinueWith(_ => { }, TaskScheduler.Default);
            },
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);
        using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(Limit.Minute());
        RecordingHandler handler = new();

        Task running = new LogSubscriber(client).RunAsync(handler, stop.Token);
        List<ulong> positions = [];
        while (positions.Count < 3)
            positions.Add((await hellos.Reader.ReadAsync(Limit.Minute()).AsTask().WaitAsync(s_long, Limit.Minute())).Position.Sequence);
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);

        Assert.Equal([0UL, 1UL, 2UL], positions);
        Assert.True(handler.Disconnects.Count >= 2);
        Assert.All(handler.Disconnects.Take(2), e => Assert.IsType<SubscriptionBrokenException>(e));
    }

    [Theory]
    [InlineData(ErrorReason.HostGone)]
    [InlineData(ErrorReason.HostConflict)]
    [InlineData(ErrorReason.WrongFilesystem)]
    public async Task A_refusal_for_good_ends_the_subscription(ErrorReason reason)
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Subscribe = (_, _, _) => throw FakeMaster.Error(StatusCode.PermissionDenied, new() { Reason = reason, Message = "go away" }),
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);
        RecordingHandler handler = new();

        FamfsException e = await Assert.ThrowsAsync<FamfsException>(() => new LogSubscriber(client).RunAsync(handler, Limit.Minute()));

        Assert.Equal(reason, e.Reason);
        Assert.Same(e, Assert.Single(handler.Disconnects));
    }

    [Fact]
    public async Task Goaway_with_an_address_leads_to_the_new_master()
    {
        TaskCompletionSource arrived = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using FakeMaster next = await FakeMaster.StartAsync(new()
        {
            Subscribe = async (_, replies, context) =>
            {
                await replies.WriteAsync(new() { Welcome = new() });
                arrived.TrySetResult();
                await Task.Delay(Timeout.Infinite, context.CancellationToken).ContinueWith(_ => { }, TaskScheduler.Default);
            },
        });
        await using FakeMaster old = await FakeMaster.StartAsync(new()
        {
            Subscribe = (_, replies, _) => replies.WriteAsync(new() { Goaway = new() { Reason = "moved", MasterAddress = next.Address } }),
        });
        using FamfsClient client = FamfsClientTests.ClientOf(old.Address);
        using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(Limit.Minute());

        Task running = new LogSubscriber(client).RunAsync(new RecordingHandler(), stop.Token);
        await arrived.Task.WaitAsync(s_long, Limit.Minute());
        await stop.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
        Assert.Equal(next.Address, client.CurrentAddress);
    }

    [Fact]
    public async Task An_error_of_the_handler_ends_the_subscription_with_that_error()
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Subscribe = async (_, replies, context) =>
            {
                await replies.WriteAsync(new() { Welcome = new() });
                await replies.WriteAsync(new() { Records = Frames(1, 64, 1) });
                await Task.Delay(Timeout.Infinite, context.CancellationToken).ContinueWith(_ => { }, TaskScheduler.Default);
            },
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);
        RecordingHandler handler = new() { OnBlock = _ => throw new InvalidDataException("cannot apply") };

        InvalidDataException e = await Assert.ThrowsAsync<InvalidDataException>(() => new LogSubscriber(client).RunAsync(handler, Limit.Minute()));
        Assert.Equal("cannot apply", e.Message);
    }

    public static TheoryData<string, Exception> Passing => new()
    {
        { "files", new IOException("no descriptors") },
        { "rights", new UnauthorizedAccessException("not now") },
        { "memory", new DeviceFaultException("does not answer") },
    };

    [Theory]
    [MemberData(nameof(Passing), DisableDiscoveryEnumeration = true)]
    public async Task What_passes_on_a_host_ends_no_subscription(string what, Exception error)
    {
        Channel<Hello> hellos = Channel.CreateUnbounded<Hello>();
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Subscribe = async (requests, replies, context) =>
            {
                Assert.True(await requests.MoveNext(CancellationToken.None));
                await hellos.Writer.WriteAsync(requests.Current.Hello);
                await replies.WriteAsync(new() { Welcome = new() });
                await replies.WriteAsync(new() { Records = Frames(requests.Current.Hello.Position.Sequence + 1, 64, 1) });
                await Task.Delay(Timeout.Infinite, context.CancellationToken).ContinueWith(_ => { }, TaskScheduler.Default);
            },
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);
        using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(Limit.Minute());
        bool failed = false;
        RecordingHandler handler = new()
        {
            OnBlock = _ =>
            {
                if (!Interlocked.Exchange(ref failed, true))
                    throw error;
            },
        };

        Task running = new LogSubscriber(client).RunAsync(handler, stop.Token);
        for (int i = 0; i < 2; i++)
        {
            Task<Hello> next = hellos.Reader.ReadAsync(Limit.Minute()).AsTask();
            Assert.True(await Task.WhenAny(next, running) == next, what);
        }
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
        Assert.Same(error, handler.Disconnects[0]);
    }

    private static LogPosition Start => new(s_fileSystem, 1, default, default);

    private static SubscribeReply Bad(string what) => what switch
    {
        "gap" => new() { Records = Frames(4, 128, 1) },
        "repeated" => new() { Records = Frames(2, 128, 1) },
        "gap inside" => new() { Records = Join(Frames(3, 128, 1), Frames(5, 128, 1)) },
        "bad checksum" => new() { Records = Change(Frames(3, 128, 2), bytes => bytes[^9] ^= 1) },
        "torn" => new() { Records = new Records(Frames(3, 128, 2)) { Frames = ByteString.CopyFrom(Frames(3, 128, 2).Frames.Span[..^8]) } },
        "other segment" => new() { Records = new Records(Frames(3, 128, 1)) { SegmentId = Segment + 1 } },
        "other file system" => new() { Records = Frames(3, 128, 1, fileSystem: Guid.NewGuid()) },
        "term backwards" => new() { Records = Frames(3, 64, 1) },
        "other generation" => new() { Records = Frames(3, 128, 1, generation: 0) },
        "empty" => new() { Records = new Records { FirstSequence = 3, Generation = 1, SegmentId = Segment } },
        "snapshot frame" => new() { Records = Frames(3, 128, 1, flags: FrameFlags.Snapshot) },
        "welcome again" => new() { Welcome = new() },
        _ => throw new ArgumentOutOfRangeException(nameof(what)),
    };

    private static Records Frames(ulong first, ulong term, int count, ulong generation = 1, RecordType type = RecordType.Deleted, FrameFlags flags = FrameFlags.None, Guid? fileSystem = null)
    {
        RecordBatch batch = new();
        batch.Start(new(first - 1), new(term), Crc32C.Seed(fileSystem ?? s_fileSystem, generation, Segment));
        for (int i = 0; i < count; i++)
            batch.Add(type, new Deleted { Inode = (ulong)i + 16, Name = ByteString.CopyFromUtf8("gone") }, flags);
        return new() { FirstSequence = first, Generation = generation, SegmentId = Segment, EndOffset = 4096, Frames = ByteString.CopyFrom(batch.Frames) };
    }

    private static SnapshotChunk Snapshot(RecordType[] types, ulong first, bool last)
    {
        // A batch counts up from what it is started with; frame 0 of a snapshot follows "minus one".
        RecordBatch batch = new();
        batch.Start(new(first - 1), new(192), Crc32C.Seed(s_fileSystem, 5, Segment));
        foreach (RecordType type in types)
            batch.Add(type, new SnapshotInode { Inode = 20 }, FrameFlags.Snapshot);
        return new()
        {
            Generation = 5,
            SegmentId = Segment,
            Frames = ByteString.CopyFrom(batch.Frames),
            Last = last,
            Position = last ? new() { FileSystemUuid = s_fileSystem.ToByteString(), Generation = 5, Sequence = 70, Term = 192 } : null,
        };
    }

    private static Records Join(Records a, Records b) => new(a) { Frames = ByteString.CopyFrom([.. a.Frames.ToByteArray(), .. b.Frames.ToByteArray()]) };

    private static Records Change(Records records, Action<byte[]> change)
    {
        byte[] bytes = records.Frames.ToByteArray();
        change(bytes);
        return new(records) { Frames = ByteString.CopyFrom(bytes) };
    }

    private sealed class StoppedClock : TimeProvider
    {
        public override long GetTimestamp() => 1_000_000_000_000;

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) => new Never();

        private sealed class Never : ITimer
        {
            public bool Change(TimeSpan dueTime, TimeSpan period) => true;

            public void Dispose()
            {
            }

            public ValueTask DisposeAsync() => default;
        }
    }

    private sealed class RecordingHandler : ISubscriptionHandler
    {
        private LogPosition _position = Start;

        public List<(int Count, ulong First)> Blocks { get; } = [];
        public List<Exception?> Disconnects { get; } = [];
        public Welcome? Welcome { get; private set; }
        public TimeSpan Lease { get; private set; }
        public Hello? Hello { get; private set; }
        public Action<LogPosition>? OnBlock { get; init; }
        public Action? Welcomed { get; init; }

        public Hello CreateHello() => Hello = new()
        {
            HostName = "test",
            Position = new() { FileSystemUuid = s_fileSystem.ToByteString(), Generation = _position.Generation, Sequence = _position.Sequence.Value, Term = _position.Term.Value },
        };

        public void OnWelcome(Welcome welcome)
        {
            Welcome = welcome;
            Welcomed?.Invoke();
        }

        public void OnRecords(in LogBlock block, LogPosition position)
        {
            Blocks.Add((block.Count, block.FirstSequence.Value));
            _position = position;
            OnBlock?.Invoke(position);
        }

        public void OnSnapshot(in LogBlock block, bool last, LogPosition position) => _position = position;

        public WrittenAnswer? WrittenAnswer { get; private set; }

        public void OnWrittenAnswer(WrittenAnswer answer) => WrittenAnswer = answer;

        public void OnLease(TimeSpan timeToLive) => Lease = timeToLive;

        public void OnDisconnected(Exception? error) => Disconnects.Add(error);
    }
}
