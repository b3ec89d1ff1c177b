using System.Globalization;
using System.Text;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Core.Tests.Namespace;

/// <summary>A state that is written as a snapshot and read again is the same in all that can be seen, and stays so.</summary>
public sealed class SnapshotTests
{
    private const uint Seed = 77;

    [Theory]
    [MemberData(nameof(Seeds))]
    public void A_restored_state_equals_the_one_that_was_written_and_goes_on_like_it(int seed)
    {
        Observer before = new();
        Observer after = new();
        using ReplayState written = NewState(before);
        RandomHistory history = new(seed, written);
        history.Run(400 + (seed * 37 % 900));
        using ReplayState restored = NewState(after);
        byte[] frames = Write(written, new(before.Requests, 4321));
        Restore(restored, frames);

        Assert.Equal(Describe(written, before), Describe(restored, after));
        Assert.Equal(2UL, restored.Position.Generation);
        Assert.Equal(written.Position.Sequence, after.RestoredAt.Sequence);
        Assert.Equal(4321, after.DroppedMs);
        Assert.False(restored.IsInSnapshot);

        // What cannot be seen now would show later: places in directories, numbers, the order of deleted files.
        written.EnterGeneration(2);
        history.GoOnWith(written, restored);
        history.Run(300);
        Assert.Equal(Describe(written, before), Describe(restored, after));

        // And a snapshot of what was restored is the same bytes.
        Assert.Equal(Write(written, new(before.Requests, -1)), Write(restored, new(before.Requests, -1)));
    }

    [Fact]
    public void A_snapshot_that_is_cut_or_out_of_order_is_no_state()
    {
        using ReplayState written = NewState(new());
        new RandomHistory(5, written).Run(300);
        List<byte[]> frames = Split(Write(written, RememberedRequests.None));
        Assert.True(frames.Count > 50);
        for (int drop = 0; drop < frames.Count; drop += Math.Max(1, frames.Count / 40))
        {
            using ReplayState restored = NewState(new());
            byte[] without = [.. frames.Where((_, i) => i != drop).SelectMany(f => f)];
            if (drop == frames.Count - 1)
            {
                Restore(restored, without);
                Assert.True(restored.IsInSnapshot);
                continue;
            }
            FamfsException error = Assert.Throws<FamfsException>(() => Restore(restored, without));
            Assert.Equal(ErrorReason.MediaCorrupt, error.Reason);
        }
        // In a state that has something already.
        FamfsException second = Assert.Throws<FamfsException>(() => Restore(written, Write(written, RememberedRequests.None)));
        Assert.Equal(ErrorReason.MediaCorrupt, second.Reason);
    }

    [Theory]
    [InlineData("units of no bytes")]
    [InlineData("another file system")]
    [InlineData("another generation of mkfs")]
    [InlineData("no file system")]
    [InlineData("a master slot that does not exist")]
    [InlineData("a segment of such a slot")]
    [InlineData("a place that no directory gives")]
    [InlineData("a place above the highest")]
    [InlineData("an inode above the next")]
    [InlineData("an extent beyond its device")]
    public void A_snapshot_of_what_cannot_be_is_refused(string what)
    {
        using ReplayState written = NewState(new());
        new RandomHistory(5, written).Run(300);
        bool done = false;
        List<byte> frames = [];
        foreach (byte[] whole in Split(Write(written, RememberedRequests.None)))
            frames.AddRange(Alter(whole, what, ref done));
        Assert.True(done);
        using ReplayState restored = NewState(new());
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => Restore(restored, [.. frames])).Reason);
    }

    [Fact]
    public void Request_ids_of_a_snapshot_are_told_in_order_to_an_observer_that_follows_them()
    {
        using ReplayState written = NewState(new());
        new RandomHistory(5, written).Run(10);
        List<RequestTrace> requests = [.. Enumerable.Range(1, 1500).Select(i => new RequestTrace(Guid.CreateVersion7(), (ulong)i * 7919, i - 700, (RecordType)(9 + (i % 7)), new((ulong)i * 3), new((ulong)i), new(1 + ((ulong)i / 100))))];
        byte[] frames = Write(written, new(requests, -1));
        Observer told = new();
        using (ReplayState restored = NewState(told))
            Restore(restored, frames);
        Assert.Equal(requests, told.Requests);
        Assert.Equal(requests.Select(r => Convert.ToHexString(r.RequestId.ToByteArray(bigEndian: true))), told.Begun);
        Observer deaf = new() { FollowsRequests = false };
        using (ReplayState restored = NewState(deaf))
            Restore(restored, frames);
        Assert.Empty(deaf.Requests);
    }

    [Fact]
    public void Request_ids_one_by_one_are_read_as_earlier_versions_wrote_them()
    {
        using ReplayState written = NewState(new());
        new RandomHistory(5, written).Run(10);
        RequestTrace request = new(Guid.CreateVersion7(), 5, 6, RecordType.FileCreated, new(7), new(8), new(9));
        List<byte> frames = [];
        foreach (byte[] whole in Split(Write(written, new([request], -1))))
        {
            bool isIds = RecordFrame.ReadVerified(whole).Type == RecordType.SnapshotRequests;
            SnapshotRequest one = new() { RequestId = request.RequestId.ToByteString(), RequestDigest = 5, TimeNs = 6, RecordType = (uint)request.Type, Inode = 7, Sequence = 8, Term = 9 };
            frames.AddRange(isIds ? Replace(whole, RecordType.SnapshotRequest, one) : whole);
        }
        Observer told = new();
        using ReplayState restored = NewState(told);
        Restore(restored, [.. frames]);
        Assert.Equal([request], told.Requests);
    }

    [Theory]
    [InlineData("ids")]
    [InlineData("digests")]
    [InlineData("times")]
    [InlineData("sequences")]
    [InlineData("terms")]
    [InlineData("inodes")]
    [InlineData("types")]
    public void Request_ids_whose_columns_differ_in_length_are_refused(string column)
    {
        using ReplayState written = NewState(new());
        new RandomHistory(5, written).Run(10);
        List<byte> frames = [];
        foreach (byte[] whole in Split(Write(written, new([new(Guid.CreateVersion7(), 5, 6, RecordType.FileCreated, new(7), new(8), new(9))], -1))))
        {
            RecordFrame frame = RecordFrame.ReadVerified(whole);
            if (frame.Type != RecordType.SnapshotRequests)
            {
                frames.AddRange(whole);
                continue;
            }
            SnapshotRequests ids = SnapshotRequests.Parser.ParseFrom(frame.Payload);
            switch (column)
            {
                case "ids":
                    ids.RequestIds = ByteString.CopyFrom(ids.RequestIds.Span[1..]);
                    break;
                case "digests":
                    ids.RequestDigests.Add(1);
                    break;
                case "times":
                    ids.TimesNs.Clear();
                    break;
                case "sequences":
                    ids.Sequences.Clear();
                    break;
                case "terms":
                    ids.Terms.Add(1);
                    break;
                case "inodes":
                    ids.Inodes.Clear();
                    break;
                default:
                    ids.RecordTypes.Clear();
                    break;
            }
            frames.AddRange(Replace(whole, frame.Type, ids));
        }
        using ReplayState restored = NewState(new());
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => Restore(restored, [.. frames])).Reason);
    }

    private static byte[] Replace(byte[] whole, RecordType type, IMessage message)
    {
        RecordFrame frame = RecordFrame.ReadVerified(whole);
        Sink sink = new();
        byte[] payload = message.ToByteArray();
        payload.CopyTo(sink.Reserve(payload.Length));
        sink.Commit(payload.Length, type, frame.Flags, frame.Sequence, frame.Term);
        return sink.ToArray();
    }

    private static byte[] Alter(byte[] whole, string what, ref bool done)
    {
        RecordFrame frame = RecordFrame.ReadVerified(whole);
        byte[] payload;
        if (frame.Type == RecordType.SnapshotState && !done)
        {
            SnapshotState state = SnapshotState.Parser.ParseFrom(frame.Payload);
            done = true;
            switch (what)
            {
                case "units of no bytes":
                    state.FileSystem.UnitBytes = 0;
                    break;
                case "another file system":
                    state.FileSystem.FileSystemUuid = Guid.NewGuid().ToByteString();
                    break;
                case "another generation of mkfs":
                    state.FileSystem.Generation = 2;
                    break;
                case "no file system":
                    state.FileSystem = null;
                    break;
                case "a master slot that does not exist":
                    state.MasterSlots[0].Slot = 64;
                    break;
                case "a segment of such a slot":
                    state.Segments[0].Slot = uint.MaxValue;
                    break;
                case "an inode above the next":
                    state.NextInode = 20;
                    break;
                default:
                    done = false;
                    break;
            }
            payload = state.ToByteArray();
        }
        else if (frame.Type == RecordType.SnapshotInode && !done)
        {
            SnapshotInode inode = SnapshotInode.Parser.ParseFrom(frame.Payload);
            bool isDirectory = (inode.Mode & SnapshotInodeRecord.TypeBits) == SnapshotInodeRecord.DirectoryType;
            bool isFile = (inode.Mode & SnapshotInodeRecord.TypeBits) == SnapshotInodeRecord.FileType;
            done = what switch
            {
                "a place that no directory gives" => isDirectory,
                "a place above the highest" => !isDirectory && inode.Cookie != 0,
                _ => isFile && inode.Map is not null,
            };
            if (!done)
                return whole;
            if (what == "a place that no directory gives")
                inode.LastCookie = 1UL << 48;
            else if (what == "a place above the highest")
                inode.Cookie += 1UL << 40;
            else
                inode.Map!.Extents[0].OffsetBytes = 1UL << 50;
            payload = inode.ToByteArray();
        }
        else
        {
            return whole;
        }
        Sink sink = new();
        payload.CopyTo(sink.Reserve(payload.Length));
        sink.Commit(payload.Length, frame.Type, frame.Flags, frame.Sequence, frame.Term);
        return sink.ToArray();
    }

    [Fact]
    public void A_record_of_a_snapshot_reads_what_the_generated_code_writes()
    {
        SnapshotInode message = new()
        {
            TimeNs = 9, Inode = 20, Parent = 1, Name = ByteString.CopyFromUtf8("n"), Mode = 0x81A4, Uid = 3, Gid = uint.MaxValue, SizeBytes = 5_000_000,
            Map = new() { ChunkBytes = 0, Extents = { new Extent { Device = 2, OffsetBytes = 4UL << 21, LengthBytes = 3UL << 21 } } },
            State = InodeState.Published, AccessTimeNs = 0, ModifyTimeNs = -4, Cookie = 1UL << 40, LastCookie = 17,
            Attributes = { new ExtendedAttribute { Name = ByteString.CopyFromUtf8("user.a"), Value = ByteString.CopyFromUtf8("v") } },
        };
        byte[] payload = message.ToByteArray();
        Assert.True(SnapshotInodeRecord.TryRead(payload, new MapExtent[4], out SnapshotInodeRecord record));
        byte[] again = new byte[200];
        int bytes = record.Write(again);
        record.Attributes.CopyTo(again.AsSpan(bytes));
        Assert.Equal(message, SnapshotInode.Parser.ParseFrom(again, 0, bytes + record.Attributes.Length));
        for (int cut = 1; cut < payload.Length; cut++)
        {
            bool read = SnapshotInodeRecord.TryRead(payload.AsSpan(0, cut), new MapExtent[4], out _);
            bool expected = true;
            try
            {
                SnapshotInode.Parser.ParseFrom(payload, 0, cut);
            }
            catch (InvalidProtocolBufferException)
            {
                expected = false;
            }
            Assert.Equal(expected, read);
        }
    }

    public static TheoryData<int> Seeds() => [.. Enumerable.Range(1, 60)];

    private static ReplayState NewState(Observer observer) => new(new(RandomHistory.FileSystem, 1, default, default), default, observer);

    private static byte[] Write(ReplayState state, RememberedRequests requests)
    {
        Sink sink = new();
        SnapshotBegin begin = new() { FileSystemUuid = RandomHistory.FileSystem.ToByteString(), Generation = 2, Sequence = state.Position.Sequence.Value + 1, LastTerm = state.Position.Term.Value, EndOffset = 8 };
        byte[] payload = begin.ToByteArray();
        payload.CopyTo(sink.Reserve(payload.Length));
        sink.Commit(payload.Length, RecordType.SnapshotBegin, FrameFlags.Snapshot, default, state.HighestTerm);
        state.WriteSnapshot(sink, state.HighestTerm, requests, CancellationToken.None);
        return sink.ToArray();
    }

    private static void Restore(ReplayState state, byte[] frames) => state.ApplyFrames(frames);

    private static List<byte[]> Split(byte[] frames)
    {
        List<byte[]> parts = [];
        for (int at = 0; at < frames.Length; at += parts[^1].Length)
            parts.Add(frames[at..(at + RecordFrame.ReadVerified(frames.AsSpan(at)).PaddedBytes)]);
        return parts;
    }

    /// <summary>Everything that can be seen, as text.</summary>
    private static string Describe(ReplayState state, Observer observer)
    {
        StringBuilder text = new();
        text.AppendLine(CultureInfo.InvariantCulture, $"{state.Position.Sequence} {state.Position.Term} next {state.NextInode} highest {state.HighestTerm} capacity {state.CapacityBytes} used {state.UsedBytes} pending {state.PendingReclaimBytes}");
        text.AppendLine(CultureInfo.InvariantCulture, $"{state.FileSystem} slots {state.HostSlots} started {state.LastStartedTerm} {state.LastTermStarted} ended {state.TermHasEnded} {state.Policy}");
        text.AppendLine(CultureInfo.InvariantCulture, $"files {state.Tree.FileCount} directories {state.Tree.DirectoryCount} inodes {state.Tree.InodeCount} deleted {state.Tree.DeletedCount}: {string.Join(' ', state.Tree.EnumerateDeleted())}");
        Lines("device", state.Devices);
        Lines("host", state.Hosts.Values.OrderBy(h => h.Host));
        Lines("forgotten", state.ForgottenBlocks.Values.OrderBy(b => b.Slot).Select(b => $"{b.Sequence} {b.Host} {b.Slot} {string.Join(',', b.LineCounters)} {string.Join(',', b.LineMounts)}"));
        Lines("slot", state.MasterSlots.OrderBy(s => s.Key));
        Lines("segment", state.Segments);
        Lines("former segment", state.FormerSegments);
        Lines("reservation", state.Reservations.OrderBy(r => r.Inode.Value).Select(r => $"{r.Inode} {r.Term} {string.Join(' ', r.Extents)} {state.IsProvedEnded(r.Term)}"));
        Lines("gone", state.Gone.Values.OrderBy(g => g.Mount).Select(g => $"{g} {state.IsLossAccepted(g.Mount)}"));
        for (int i = 1; i < 8; i++)
        {
            Guid host = new(i, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1);
            for (ulong sequence = 0; sequence <= state.Position.Sequence.Value; sequence += 50)
                text.AppendLine(CultureInfo.InvariantCulture, $"gone {host} {sequence}: {state.FindGone(host, Guid.Empty, new(sequence))}");
        }
        for (ulong sequence = 0; sequence <= state.Position.Sequence.Value + 1; sequence++)
            text.Append(CultureInfo.InvariantCulture, $"{state.FindTerm(new(sequence))?.Value} ");
        for (ulong term = 0; term < 4000; term++)
            text.Append(state.IsProvedEnded(new(term)) ? '1' : '0').Append(state.IsSlotAtRest(new(term)) ? '1' : '0');
        text.AppendLine();
        Lines("request", observer.Requests.OrderBy(r => r.Sequence.Value));
        Lines("taken", observer.Taken.Order());
        HashSet<ulong> deleted = [.. state.Tree.EnumerateDeleted().Select(inode => inode.Value)];
        // Directories and symbolic links are told too, and are gone.
        Lines("told deleted", observer.Deleted.Where(deleted.Contains).Order());

        using TreeReader reader = state.Tree.RegisterReader();
        using TreeScope scope = reader.Enter();
        for (InodeNumber at = InodeNumber.None; scope.TryGetNext(at, out InodeAttributes a); at = a.Inode)
        {
            text.Append(CultureInfo.InvariantCulture, $"inode {a.Inode} in {a.Parent} {a.Kind} {a.Status} {a.Mode:x} {a.Uid}:{a.Gid} {a.SizeBytes} links {a.LinkCount} {a.AccessTimeNs} {a.ModifyTimeNs} {a.ChangeTimeNs}");
            if (scope.TryGetName(a.Inode, out InodeNumber parent, out ReadOnlySpan<byte> name))
            {
                Assert.True(scope.TryLookup(parent, name, out InodeAttributes child));
                Assert.Equal(a.Inode, child.Inode);
                text.Append(CultureInfo.InvariantCulture, $" name {parent}/{Convert.ToHexString(name)}");
            }
            if (scope.TryGetMap(a.Inode, out MapView map))
            {
                text.Append(CultureInfo.InvariantCulture, $" map {map.SizeBytes}/{map.ChunkBytes}:");
                for (int i = 0; i < map.ExtentCount; i++)
                    text.Append(CultureInfo.InvariantCulture, $" {map[i]}");
            }
            if (scope.TryGetSymlinkTarget(a.Inode, out ReadOnlySpan<byte> target))
                text.Append(CultureInfo.InvariantCulture, $" to {Encoding.UTF8.GetString(target)}");
            if (scope.TryGetOwnerMount(a.Inode, out Guid owner))
                text.Append(CultureInfo.InvariantCulture, $" of {owner}");
            ExtendedAttributes attributes = scope.ListExtendedAttributes(a.Inode);
            while (attributes.MoveNext())
                text.Append(CultureInfo.InvariantCulture, $" {Encoding.UTF8.GetString(attributes.Name)}={attributes.Value.Length}");
            DirectoryEntries entries = scope.List(a.Inode, 0);
            while (entries.MoveNext())
                text.Append(CultureInfo.InvariantCulture, $" [{entries.Cookie} {entries.Attributes.Inode}]");
            text.AppendLine();
        }
        return text.ToString();

        void Lines<T>(string what, IEnumerable<T> items)
        {
            foreach (T item in items)
                text.AppendLine(CultureInfo.InvariantCulture, $"{what} {item}");
        }
    }

    private sealed class Sink : IFrameSink
    {
        private readonly List<byte> _frames = [];
        private readonly byte[] _frame = new byte[MediaLayout.MaxRecordBytes];

        public byte[] ToArray() => [.. _frames];

        public Span<byte> Reserve(int maxBytes) => _frame.AsSpan(RecordFrame.HeaderBytes, maxBytes);

        public void Commit(int payloadBytes, RecordType type, FrameFlags flags, LogSequence sequence, Term term)
        {
            Span<byte> frame = _frame.AsSpan(0, RecordFrame.PaddedLength(RecordFrame.HeaderBytes + payloadBytes));
            RecordFrame.Seal(frame, payloadBytes, type, flags, sequence, term, Seed);
            Assert.Equal(FrameVerdict.Good, RecordFrame.Parse(frame, Seed, out _));
            _frames.AddRange(frame);
        }
    }

    private sealed class Observer : IReplayObserver
    {
        public List<RequestTrace> Requests { get; } = [];

        public List<string> Begun { get; } = [];

        public bool FollowsRequests { get; init; } = true;

        public void RecordBegins(ReadOnlySpan<byte> requestId)
        {
            if (!requestId.IsEmpty)
                Begun.Add(Convert.ToHexString(requestId));
        }

        public List<string> Taken { get; } = [];

        public HashSet<ulong> Deleted { get; } = [];

        public LogPosition RestoredAt { get; private set; }

        public long DroppedMs { get; private set; } = -1;

        public void EntryChanged(InodeNumber parent, ReadOnlySpan<byte> name)
        {
        }

        public void InodeChanged(InodeNumber inode)
        {
        }

        public void FileDeleted(InodeNumber inode) => Deleted.Add(inode.Value);

        public void ExtentsTaken(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
        {
            foreach (MapExtent extent in extents)
                Taken.Add($"{inode} {extent}");
        }

        public void ExtentsFreed(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
        {
            foreach (MapExtent extent in extents)
                Taken.Remove($"{inode} {extent}");
            Deleted.Remove(inode.Value);
        }

        public void DeviceAdded(DeviceAdded device)
        {
        }

        public void RequestSeen(in RequestTrace request) => Requests.Add(request);

        public void RequestsDropped(long madeMs) => DroppedMs = madeMs;

        public void SnapshotRestored(LogPosition position) => RestoredAt = position;
    }
}
