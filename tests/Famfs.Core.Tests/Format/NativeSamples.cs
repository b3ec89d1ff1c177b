using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Core.Tests.Format;

/// <summary>One structure of the native format with every field set to something of its own.</summary>
internal sealed record NativeSample(string Name, int SizeBytes, object Value, Func<byte[]> Format, Func<byte[], object?> Parse)
{
    public override string ToString() => Name;
}

/// <summary>The structures that are frozen under tests/golden/native.</summary>
internal static class NativeSamples
{
    public const int Slot = 5;
    public const int HostEntry = 13;
    public const ulong Generation = 7;
    public static readonly Guid FileSystem = new("00112233-4455-6677-8899-aabbccddeeff");
    public static readonly Guid Device = new("10213243-5465-7687-98a9-bacbdcedfe0f");
    public static readonly Guid Host = new("a0b1c2d3-e4f5-4617-8293-a4b5c6d7e8f9");
    public static readonly Guid Master = new("c0ffee00-1234-4abc-9def-0123456789ab");
    public static readonly Term Term = new(3 * 64 + Slot);
    private static readonly ByteString s_request = ByteString.CopyFrom(Convert.FromHexString("018bd5c0f8007abc9def0123456789ab"));

    public static readonly NativeSuperblock Primary = new()
    {
        FileSystem = FileSystem,
        Device = Device,
        MkfsHost = Host,
        Index = new(0),
        DeviceLengthBytes = 64L * MediaLayout.UnitBytes,
        Coherent = true,
        DeviceName = "dax0.0",
        Label = "prüfstand",
        CreatedNs = 1_700_000_000_123_456_789,
        Generation = 1,
        CompatibleFeatures = 0x8000_0000_0000_0001,
        HostTableLengthBytes = 2L * MediaLayout.UnitBytes,
        FirstSegmentOffset = 3L * MediaLayout.UnitBytes,
        FirstSegmentLengthBytes = MediaLayout.UnitBytes,
    };

    public static readonly NativeSuperblock Further = new()
    {
        FileSystem = FileSystem,
        Device = new("20213243-5465-7687-98a9-bacbdcedfe0f"),
        MkfsHost = Host,
        Index = new(2),
        DeviceLengthBytes = 2L * MediaLayout.UnitBytes,
        Coherent = false,
        DeviceName = "dax1.0",
        CreatedNs = 1_700_000_000_123_456_790,
    };

    public static readonly AnchorClaim Claim = new(0x0102030405060708, Term, Master, Host, Generation);

    public static readonly SegmentRef Sealed = new((64UL << 16) + 1, new(64), new(0), 0x600000, 0x200000, 0x100, 0x1F000);

    public static readonly SegmentRef OpenOne = new((Term.Value << 16) + 2, Term, new(3), 0x40_0000_1000, 0x400000, 0x1F100, SegmentRef.Open);

    public static readonly ActiveAnchor Active = new()
    {
        Counter = 0x1122334455667788,
        Term = Term,
        Generation = Generation,
        Master = Master,
        Host = Host,
        FirstCounter = 0x1122334455667780,
        StartTail = 0x1F000,
        StartSequence = new(0x1234567890),
        StartTerm = new(64),
        SegmentCount = 40,
        Chain = [Sealed, OpenOne],
    };

    public static readonly SegmentHeader Header = new(FileSystem, Generation, OpenOne, new(0x1234567890), Sealed);

    public static readonly MountLine Line = new()
    {
        Counter = 0x0807060504030201,
        State = MountState.Live,
        Host = Host,
        Boot = Device,
        Mount = Master,
        ReplayedSequence = new(0xABCDEF),
        ReplayedTerm = Term,
        Generation = Generation,
        ReleasedWatermark = new(0xABCDE0),
        Dialect = 4,
        WrittenBootNs = 987_654_321,
        Exceptions = [new(17), new(InodeNumber.Max)],
    };

    /// <summary>What a mount under policy lease states besides.</summary>
    public static readonly MountLine LineOfLease = Line with { Dialect = 0, LeaseMs = 0x0A0B0C };

    /// <summary>Payload of the frame: 13 bytes, so that it is padded.</summary>
    public static readonly byte[] Payload = [.. Enumerable.Range(1, 13).Select(i => (byte)(i * 17))];

    /// <summary>Payload of a record that older readers skip.</summary>
    public static readonly FilesWritten Written = new()
    {
        TimeNs = 1_700_000_000_123_456_789,
        MountId = Master.ToByteString(),
        Inodes = { 17, 0x0102030405, InodeNumber.Max },
        TimesNs = { 1_700_000_000_123_456_780, -1, 1 },
    };

    /// <summary>Payload of two ids that a snapshot remembers.</summary>
    public static readonly SnapshotRequests Remembered = new()
    {
        RequestIds = ByteString.CopyFrom([.. Enumerable.Range(1, 32).Select(i => (byte)i)]),
        RequestDigests = { 0x0102030405060708, 0x1112131415161718 },
        TimesNs = { 1_700_000_000_000_000_000, 1_700_000_000_000_000_001 },
        Sequences = { 100, 300 },
        Terms = { 64, 129 },
        Inodes = { 0, 70_000 },
        RecordTypes = { 15, 11 },
    };

    /// <summary>Payload of a forgetting with an id.</summary>
    public static readonly HostForgotten Forgotten = new()
    {
        TimeNs = 1_700_000_000_123_456_789,
        RequestId = s_request,
        RequestDigest = 0x1122334455667788,
        HostId = Host.ToByteString(),
        HostSlot = 511,
        LineCounters = { 0, 1, 0x0807060504030201, ulong.MaxValue, 0, 0, 2, 0 },
        LineMounts = { ByteString.Empty, Master.ToByteString(), Device.ToByteString(), Host.ToByteString(), ByteString.Empty, ByteString.Empty, Master.ToByteString(), ByteString.Empty },
    };

    /// <summary>Payload of a removal with an id.</summary>
    public static readonly Deleted Removed = new()
    {
        TimeNs = 1_700_000_000_123_456_789,
        RequestId = s_request,
        RequestDigest = 0x1122334455667788,
        Inode = 0x0102030405,
        Parent = 17,
        Name = ByteString.CopyFromUtf8("ä b"),
    };

    /// <summary>Payload of a renaming with an id, which replaces something.</summary>
    public static readonly Renamed Moved = new()
    {
        TimeNs = 1_700_000_000_123_456_789,
        RequestId = s_request,
        RequestDigest = 0x1122334455667788,
        Inode = 0x0102030405,
        OldParent = 1,
        OldName = ByteString.CopyFromUtf8("old"),
        NewParent = 17,
        NewName = ByteString.CopyFromUtf8("ä b"),
        ReplacedInode = InodeNumber.Max,
    };

    public static uint FrameSeed => Crc32C.Seed(FileSystem, Generation, OpenOne.Id);

    public static readonly NativeSample[] All =
    [
        new("superblock-primary", 4096, Primary, () => Block(4096, Primary.Format), ParseSuperblock),
        new("superblock-further", 4096, Further, () => Block(4096, Further.Format), ParseSuperblock),
        new("anchor-claim", 64, Claim, () => Block(64, b => Claim.Format(b, FileSystem, Slot)),
            b => AnchorClaim.TryParse(b, FileSystem, Slot, out AnchorClaim claim) ? claim : null),
        new("active-anchor", 2048, Active, () => Block(2048, b => Active.Format(b, FileSystem)),
            b => ActiveAnchor.TryParse(b, FileSystem, Slot, out ActiveAnchor? anchor) ? anchor : null),
        new("segment-header", 4096, Header, () => Block(4096, Header.Format),
            b => SegmentHeader.TryParse(b, out SegmentHeader? header) ? header : null),
        new("host-line", 256, Line, () => Block(256, b => Line.Format(b, FileSystem, HostEntry)),
            b => MountLine.TryParse(b, FileSystem, HostEntry, out MountLine? line) ? line : null),
        new("host-line-of-lease", 256, LineOfLease, () => Block(256, b => LineOfLease.Format(b, FileSystem, HostEntry)),
            b => MountLine.TryParse(b, FileSystem, HostEntry, out MountLine? line) ? line : null),
        new("files-written", 104, Written, () => FormatRecord(RecordType.FilesWritten, Written, FrameFlags.Skippable), b => ParseRecord(b, RecordType.FilesWritten, FilesWritten.Parser, FrameFlags.Skippable)),
        new("host-forgotten", 240, Forgotten, () => FormatRecord(RecordType.HostForgotten, Forgotten), b => ParseRecord(b, RecordType.HostForgotten, HostForgotten.Parser)),
        new("snapshot-requests", 128, Remembered, () => FormatRecord(RecordType.SnapshotRequests, Remembered, FrameFlags.Snapshot), b => ParseRecord(b, RecordType.SnapshotRequests, SnapshotRequests.Parser, FrameFlags.Snapshot)),
        new("deleted", 88, Removed, () => FormatRecord(RecordType.Deleted, Removed), b => ParseRecord(b, RecordType.Deleted, Deleted.Parser)),
        new("renamed", 96, Moved, () => FormatRecord(RecordType.Renamed, Moved), b => ParseRecord(b, RecordType.Renamed, Renamed.Parser)),
        new("record-frame", 48, Convert.ToHexString(Payload), FormatFrame, ParseFrame),
    ];

    /// <summary>Field by field, arrays by their elements.</summary>
    public static void RequireEqual(object expected, object? actual)
    {
        switch (expected)
        {
            case ActiveAnchor anchor:
                ActiveAnchor other = Assert.IsType<ActiveAnchor>(actual);
                Assert.Equal(anchor.Chain, other.Chain);
                Assert.Equal(anchor, other with { Chain = anchor.Chain });
                break;
            case MountLine line:
                MountLine otherLine = Assert.IsType<MountLine>(actual);
                Assert.Equal(line.Exceptions, otherLine.Exceptions);
                Assert.Equal(line, otherLine with { Exceptions = line.Exceptions });
                break;
            default:
                Assert.Equal(expected, actual);
                break;
        }
    }

    private delegate void Filler(Span<byte> block);

    private static byte[] Block(int size, Filler fill)
    {
        // What was there before must not show.
        byte[] block = new byte[size];
        block.AsSpan().Fill(0xEE);
        fill(block);
        return block;
    }

    private static object? ParseSuperblock(byte[] bytes) =>
        NativeSuperblock.Parse(bytes, out NativeSuperblock? superblock, out _) == SuperblockVerdict.Good ? superblock : null;

    private static byte[] FormatFrame()
    {
        byte[] frame = new byte[RecordFrame.PaddedLength(RecordFrame.HeaderBytes + Payload.Length)];
        frame.AsSpan().Fill(0xEE);
        Payload.CopyTo(frame, RecordFrame.HeaderBytes);
        RecordFrame.Seal(frame, Payload.Length, RecordType.Renamed, FrameFlags.Skippable, new(0x1122334455), Term, FrameSeed);
        return frame;
    }

    private static string? ParseFrame(byte[] bytes) =>
        RecordFrame.Parse(bytes, FrameSeed, out RecordFrame frame) == FrameVerdict.Good && frame is { Type: RecordType.Renamed, Flags: FrameFlags.Skippable }
        && frame.Sequence == new LogSequence(0x1122334455) && frame.Term == Term && frame.PaddedBytes == bytes.Length
            ? Convert.ToHexString(frame.Payload)
            : null;

    private static byte[] FormatRecord(RecordType type, IMessage record, FrameFlags flags = FrameFlags.None)
    {
        RecordBatch batch = new(4096);
        batch.Start(new(0x1122334454), Term, FrameSeed);
        return batch.Add(type, record, flags).ToArray();
    }

    private static T? ParseRecord<T>(byte[] bytes, RecordType type, MessageParser<T> parser, FrameFlags flags = FrameFlags.None)
        where T : class, IMessage<T> =>
        RecordFrame.Parse(bytes, FrameSeed, out RecordFrame frame) == FrameVerdict.Good && frame.Type == type && frame.Flags == flags
        && frame.Sequence == new LogSequence(0x1122334455) && frame.Term == Term && frame.PaddedBytes == bytes.Length
            ? parser.ParseFrom(frame.Payload)
            : null;
}
