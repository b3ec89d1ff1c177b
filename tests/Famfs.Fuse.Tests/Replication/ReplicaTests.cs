using System.Collections.Concurrent;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Famfs.Fuse.Replication;
using Famfs.Fuse.Session;
using Famfs.TestSupport;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Xunit;

namespace Famfs.Fuse.Tests.Replication;

/// <summary>What a mount knows of the log, beside a master that appends to it.</summary>
public sealed class ReplicaTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-replica-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void What_follows_a_device_that_joined_is_acknowledged_when_the_device_was_looked_for()
    {
        var host = Guid.NewGuid();
        string path = Path.Combine(_directory, "0");
        using (FileStream file = File.Create(path))
            file.SetLength(64 << 20);
        using (DaxDevice device = DaxDevice.Open(path))
            NativeFormatter.Format([device], new() { Host = host, Clock = TimeProvider.System });
        using DevicePool pool = TestFormats.All.Open([DaxDevice.Open(path)]);
        using Replica replica = new(TestFormats.All.Open([DaxDevice.Open(path)]), host, default, TimeProvider.System);
        Assert.Null(replica.Bootstrap());
        using KernelNotifier notifier = new(new MemoryTransport(), new KernelPresence(), replica.Tree, new Negotiated(DialectTable.Stock, 45, InitFlags.None, 4096, 1), 1 << 20);
        Acknowledgements acknowledged = new();
        replica.Gate.SendTo(acknowledged);
        replica.Attach(notifier);
        var master = TestMaster.Start(pool, 0, host);

        ulong before = Apply(() => MakeDirectory(0, "d"));
        Await(() => acknowledged.Sequences.Contains(before));
        LogPosition early = replica.Position;
        Apply(() => Join(1));
        Apply(() => Join(2));
        ulong last = Apply(() => MakeDirectory(1, "e"));
        Await(() => replica.Gate.Notified.Sequence.Value == last);

        // The line in memory acknowledges too, and the same.
        MountRegistration registration = new(replica, new(host, Guid.NewGuid(), new byte[32], "test"), Guid.NewGuid()) { GrantedSlot = 0 };
        registration.Advance();
        Assert.Equal(before, Assert.Single(new MountLineTable(replica.Pool).ReadBlock(0)).Line!.ReplayedSequence.Value);

        // A look that began before the devices had joined says nothing about them.
        replica.Gate.DevicesLookedFor(early);
        Assert.Equal((before, before), (acknowledged.Sequences.Last(), replica.Gate.Acknowledged.Sequence.Value));
        replica.Gate.DevicesLookedFor(replica.Position);
        Assert.Equal((last, last), (acknowledged.Sequences.Last(), replica.Gate.Acknowledged.Sequence.Value));

        // And later records go out by themselves again.
        last = Apply(() => MakeDirectory(2, "f"));
        Await(() => acknowledged.Sequences.Contains(last));

        void MakeDirectory(ulong inode, string name) =>
            master.Publish(RecordType.DirectoryMade, new DirectoryMade { Inode = 1000 + inode, Parent = InodeNumber.Root.Value, Name = Google.Protobuf.ByteString.CopyFromUtf8(name) });

        void Join(uint index) => master.Publish(RecordType.DeviceAdded, new DeviceAdded { Index = index, LengthBytes = 64 << 20, SuperblockInode = 16 + index, DeviceUuid = Google.Protobuf.ByteString.CopyFrom(Guid.NewGuid().ToByteArray()) });

        ulong Apply(Action publish)
        {
            publish();
            while (replica.PollMemory() == PollVerdict.Records)
            {
            }
            return replica.Position.Sequence.Value;
        }
    }

    private sealed class Acknowledgements : IAcknowledgements
    {
        public ConcurrentQueue<ulong> Sequences { get; } = [];

        public void Acknowledge(LogPosition position) => Sequences.Enqueue(position.Sequence.Value);
    }

    private static void Await(Func<bool> condition) => Assert.True(SpinWait.SpinUntil(condition, TimeSpan.FromSeconds(60)), "it does not happen");
}
