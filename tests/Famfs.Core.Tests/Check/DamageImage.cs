using System.Text;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Core.Tests.Log;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Core.Tests.Check;

/// <summary>A native file system with real records: directories, segments and, if wanted, the line of a mount that has all, and of one that begins.</summary>
internal sealed class DamageImage
{
    public static readonly Guid Mount = new("cccccccc-3333-4333-8333-333333333333");

    private readonly LogBench _bench = new(coherent: true, accidentOneIn: 0);
    private ulong _next = 1000;

    /// <summary>Makes one of <paramref name="segments"/> segments; with more than one, the second is of another slot's term.
    /// <paramref name="startsAgain"/>: the latest slot has a second term, and <see cref="Earlier"/> is of its first.</summary>
    public DamageImage(int segments, bool withLine = true, bool startsAgain = false)
    {
        Master = _bench.StartMaster("a", 0);
        Publish(RecordType.HostRegistered, new HostRegistered { HostId = LogBench.HostA.ToByteString(), HostSlot = 0, Name = "a" });
        if (segments > 1)
        {
            Publish(RecordType.MasterSlotGranted, new MasterSlotGranted { Slot = 1, HostId = LogBench.HostB.ToByteString(), SegmentInode = _next++, Segment = NextUnit() });
            MakeDirectories(5);
            Master = _bench.StartMaster("b", 1);
        }
        MakeDirectories(20);
        Earlier = Snapshot();
        if (startsAgain)
            Master = segments > 1 ? _bench.StartMaster("b", 1) : _bench.StartMaster("a", 0);
        for (int i = 2; i < segments; i++)
        {
            Extent extent = NextUnit();
            Publish(RecordType.SegmentReserved, new SegmentReserved { Inode = _next++, Extent = extent });
            Master.Writer.Advance(new(new(0), (long)extent.OffsetBytes, (long)extent.LengthBytes));
            MakeDirectories(3);
        }
        MakeDirectories(20);
        if (withLine)
        {
            for (ulong counter = 1; counter <= 2; counter++)
                WriteLine(counter, Master.Writer.Position);
            // Another mount has taken the entry of one that ended, and is about to open its gate.
            WriteLine(2, default, MountState.Ended, entry: 1);
            WriteLine(3, default, MountState.Live, entry: 1);
        }
        _bench.Memory.Settle();
        Whole = Snapshot();
    }

    /// <summary>The latest master, which says no more.</summary>
    public TestMaster Master { get; private set; }

    /// <summary>The memory.</summary>
    public FakeSharedMemory Memory => _bench.Memory;

    /// <summary>The bytes of device 0 that were ever written, when about half of it was there.</summary>
    public byte[] Earlier { get; }

    /// <summary>The same at the end.</summary>
    public byte[] Whole { get; private set; }

    public DevicePool OpenPool(string host) => _bench.OpenPool(host);

    public FakeDaxDevice Attach() => Memory.Attach("c");

    /// <summary>Writes the line of the mount.</summary>
    public void WriteLine(ulong counter, LogPosition position, MountState state = MountState.Live, int entry = 0)
    {
        using DevicePool pool = _bench.OpenPool("m");
        new MountLineTable(pool).Write(entry, new()
        {
            Counter = counter,
            State = state,
            Host = LogBench.HostA,
            Boot = new("dddddddd-4444-4444-8444-444444444444"),
            Mount = Mount,
            ReplayedSequence = position.Sequence,
            ReplayedTerm = position.Term,
            Generation = position.Generation,
        });
        Memory.Settle();
    }

    public void MakeDirectories(int count)
    {
        for (int i = 0; i < count; i++)
            Publish(RecordType.DirectoryMade, new DirectoryMade { Inode = _next, Parent = 1, Name = ByteString.CopyFrom(Encoding.ASCII.GetBytes($"directory-{_next++}")), Mode = 0x1ED });
        Memory.Settle();
    }

    /// <summary>Replays as anybody does. Throws what a reader throws.</summary>
    public static string Replay(ILogReader reader, ReplayState state)
    {
        PollVerdict verdict;
        while ((verdict = reader.Poll(out LogBlock block)) is PollVerdict.Records or PollVerdict.LookAgain)
        {
            if (verdict == PollVerdict.Records)
                state.ApplyFrames(block.Frames.Span);
        }

        return verdict == PollVerdict.UpToDate ? $"{state.Position.Sequence} {state.Position.Term} {state.Tree.DirectoryCount}" : throw new FamfsException(ErrorReason.NotMaster, $"{verdict}");
    }

    public ReplayState NewState() => new(new(_bench.Superblock.FileSystem, _bench.Superblock.Generation, default, default), default);

    /// <summary>Puts bytes back.</summary>
    public void Restore(long offset, int length) => Memory.WriteMemory(offset, Whole.AsSpan((int)offset, length));

    private void Publish(RecordType type, IMessage payload) => Master.Publish(type, payload);

    private Extent NextUnit() => new() { OffsetBytes = (ulong)Master.History.FreeOffset, LengthBytes = MediaLayout.UnitBytes };

    private byte[] Snapshot()
    {
        Memory.Settle();
        byte[] bytes = new byte[Memory.LengthBytes];
        Memory.ReadMemory(0, bytes);
        return bytes;
    }
}
