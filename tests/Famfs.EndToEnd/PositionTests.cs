using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.V1;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>A position names a place in one history: sequence and term of the same record (SAFETY S5). What names
/// another place is refused by everything that takes a position.</summary>
public sealed class PositionTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_pair_of_sequence_and_term_that_is_not_in_the_history_is_refused()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        (ServerProcess first, string address) = cluster.StartMaster("a");
        Position before;
        using (FamfsClient client = Cluster.Connect(address))
            before = (await client.CreateFileAsync(new() { Path = "before", SizeBytes = 1 }, cancel: Cancel)).Position;
        first.Signal("TERM");
        first.AwaitExit();
        address = cluster.StartMaster("a").Address;
        using FamfsClient again = Cluster.Connect(address);
        Position now = (await again.CreateFileAsync(new() { Path = "now", SizeBytes = 1 }, cancel: Cancel)).Position;
        Assert.NotEqual(before.Term, now.Term);

        Assert.Equal(before, (await again.BarrierAsync(new() { Position = before }, cancel: Cancel)).Position);
        Assert.Equal(now, (await again.BarrierAsync(new() { Position = now }, cancel: Cancel)).Position);
        Position Of(Action<Position> change)
        {
            Position other = now.Clone();
            change(other);
            return other;
        }
        (Position Position, ErrorReason Reason)[] wrong =
        [
            (Of(p => p.Sequence = before.Sequence), ErrorReason.StaleGeneration),
            (Of(p => p.Term = before.Term), ErrorReason.StaleGeneration),
            (Of(p => p.Term += 64), ErrorReason.StaleGeneration),
            (Of(p => p.Sequence += 1), ErrorReason.StaleGeneration),
            // Into the next one a mount may go before its master has told so.
            (Of(p => p.Generation += 2), ErrorReason.StaleGeneration),
            (Of(p => p.FileSystemUuid = Guid.NewGuid().ToByteString()), ErrorReason.WrongFilesystem),
        ];
        foreach ((Position position, ErrorReason reason) in wrong)
        {
            Assert.Equal(reason, (await Assert.ThrowsAsync<FamfsException>(() => again.BarrierAsync(new() { Position = position }, cancel: Cancel))).Reason);
            Assert.Equal(reason, (await Assert.ThrowsAsync<FamfsException>(() => new LogSubscriber(again).RunOnceAsync(new Listener(position), Cancel))).Reason);
        }
        (int exit, string output) = cluster.TryFamfs("wait", "--master", address, "--position", $"1:{now.Sequence}@{before.Term}");
        Assert.Equal(1, exit);
        Assert.Contains("is not in this master's history", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_wait_of_an_unknown_kind_is_refused_before_anything_is_created()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        using FamfsClient client = Cluster.Connect(cluster.StartMaster("a").Address);
        Wait unknown = new() { Kind = (WaitKind)9 };
        Wait malformed = new() { Kind = WaitKind.Mount, MountId = Google.Protobuf.ByteString.CopyFrom(1, 2, 3) };
        foreach ((Wait wait, string limit) in new[] { (unknown, "0 to 2"), (malformed, "16 are needed") })
        {
            FamfsException file = await Assert.ThrowsAsync<FamfsException>(() => client.CreateFileAsync(new() { Path = "f", SizeBytes = 1, Wait = wait }, cancel: Cancel));
            FamfsException directory = await Assert.ThrowsAsync<FamfsException>(() => client.MakeDirectoryAsync(new() { Path = "d", Wait = wait }, cancel: Cancel));
            Assert.Equal((ErrorReason.BadRequest, ErrorReason.BadRequest), (file.Reason, directory.Reason));
            Assert.Contains(limit, file.Message, StringComparison.Ordinal);
        }
        GetStatusReply status = await client.GetStatusAsync(cancel: Cancel);
        Assert.Equal((0UL, 0UL), (status.FileCount, status.DirectoryCount - 1));
    }

    [Fact]
    public async Task An_acknowledgement_of_what_was_never_written_ends_the_stream()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        using FamfsClient client = Cluster.Connect(address);
        Position end = (await client.BarrierAsync(new(), cancel: Cancel)).Position;
        LogSubscriber subscriber = new(client);
        LogPosition beyond = new(end.FileSystemUuid.ToGuid("uuid"), end.Generation, new(end.Sequence + 1), new(end.Term));
        Listener listener = new(end) { Welcomed = () => subscriber.Acknowledge(beyond) };
        Assert.Equal(ErrorReason.StaleGeneration, (await Assert.ThrowsAsync<FamfsException>(() => subscriber.RunOnceAsync(listener, Cancel))).Reason);
    }

    private sealed class Listener(Position position) : ISubscriptionHandler
    {
        public Action Welcomed { get; init; } = () => { };

        public Hello CreateHello() => new() { Position = position };

        public void OnWelcome(Welcome welcome) => Welcomed();

        public void OnRecords(in LogBlock block, LogPosition position)
        {
        }

        public void OnSnapshot(in LogBlock block, bool last, LogPosition position)
        {
        }

        public void OnLease(TimeSpan timeToLive)
        {
        }

        public void OnDisconnected(Exception? error)
        {
        }
    }
}
