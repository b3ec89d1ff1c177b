using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Master.Rpc;
using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;
using Xunit;

namespace Famfs.Master.Tests.Rpc;

/// <summary>An answer reaches a client that has the limits which gRPC libraries have by default.</summary>
public sealed class ReplyLimitsTests
{
    private const int MetadataBytes = 8192;

    public static TheoryData<string, string> Texts => new()
    {
        { "short", "no master" },
        { "long ASCII", new('x', 20_000) },
        { "three bytes sent for each", new('ä', 5_000) },
        { "outside the basic plane", string.Concat(Enumerable.Repeat("🐟", 3_000)) },
        { "per cent", new('%', 4_000) },
        { "half a character", new string('y', 1020) + "\ud83d" },
    };

    [Theory]
    [MemberData(nameof(Texts))]
    public void Text_and_trailer_of_an_error_fit_the_metadata_whatever_is_in_them(string name, string text)
    {
        Assert.NotEmpty(name);
        List<HostStatus> lagging = [.. Enumerable.Range(0, 400).Select(i => new HostStatus
        {
            HostId = Guid.NewGuid().ToByteString(),
            MountId = Guid.NewGuid().ToByteString(),
            BootId = Guid.NewGuid().ToByteString(),
            Name = text,
            Version = text,
            Dialect = text,
            Position = new() { FileSystemUuid = Guid.NewGuid().ToByteString(), Generation = ulong.MaxValue, Sequence = ulong.MaxValue, Term = ulong.MaxValue },
            LagRecords = ulong.MaxValue,
            SilentMs = ulong.MaxValue,
            HeldInodes = ulong.MaxValue,
        })];
        RpcException error = StatusMap.ToRpc(new FamfsException(ErrorReason.Timeout, text) { Path = text, Lagging = lagging, LaggingCount = 400 });
        byte[] trailer = error.Trailers.GetValueBytes(StatusMap.DetailTrailer)!;
        int sent = Encoded(error.Status.Detail) + "grpc-message".Length + 32 + ((trailer.Length + 2) / 3 * 4) + StatusMap.DetailTrailer.Length + 32;
        Assert.True(sent < MetadataBytes, $"{sent} bytes");
        ErrorDetail detail = ErrorDetail.Parser.ParseFrom(trailer);
        Assert.Equal(400u, detail.LaggingCount);
        Assert.InRange(detail.Lagging.Count, 1, 400);
        Assert.Equal(error.Status.Detail, detail.Message);
        Assert.True(text.Length < 100 ? detail.Message == text : detail.Message.EndsWith("...", StringComparison.Ordinal), detail.Message);
    }

    [Fact]
    public void A_path_is_told_whole_or_not_at_all()
    {
        foreach (int length in (int[])[1, 255, 2000, 4095])
        {
            string path = new('p', length);
            RpcException error = StatusMap.ToRpc(new FamfsException(ErrorReason.NotFound, $"{path}: is not there") { Path = path });
            ErrorDetail detail = ErrorDetail.Parser.ParseFrom(error.Trailers.GetValueBytes(StatusMap.DetailTrailer));
            Assert.True(detail.Path == path || (detail.Path.Length == 0 && length > 3000), $"{length}: {detail.Path.Length}");
        }
    }

    [Fact]
    public void Parts_of_a_list_fit_a_message_and_are_the_list_in_order()
    {
        Random random = new(7);
        foreach (int count in (int[])[0, 1, 255, 256, 20_000])
        {
            List<CreateFileResult> all = [.. Enumerable.Range(0, count).Select(i => new CreateFileResult { Reply = new() { File = new() { Inode = (ulong)i + 1, Path = new('n', random.Next(1, 4096)) } } })];
            List<CreateFileResult> again = [];
            foreach (Range part in ReplyLimits.Split(all))
            {
                CreateFilesReply reply = new() { Results = { all.Take(part) } };
                Assert.InRange(reply.CalculateSize(), 0, ReplyLimits.MessageBytes);
                again.AddRange(reply.Results);
            }
            Assert.Equal(all, again);
        }
    }

    [Fact]
    public void Parts_of_records_fit_a_message_and_each_says_where_it_begins_and_ends()
    {
        Random random = new(11);
        RecordBatch batch = new();
        batch.Start(new(40), new(65), seed: 1234);
        while (batch.LengthBytes < MediaLayout.MaxBatchBytes - MediaLayout.MaxRecordBytes)
        {
            int bytes = random.Next(8) == 0 ? random.Next(RecordFrame.MaxPayloadBytes) : random.Next(200);
            random.NextBytes(batch.Reserve(bytes)[..bytes]);
            batch.Commit(bytes, RecordType.FileCreated);
        }
        Records whole = new() { FirstSequence = 41, Generation = 3, SegmentId = 9, EndOffset = 1_000_000_000, Frames = ByteString.CopyFrom(batch.Frames) };
        ulong next = 41;
        List<byte> again = [];
        foreach (Records part in ReplyLimits.Split(whole, NativeFormat.Instance))
        {
            Assert.InRange(new SubscribeReply { Records = part }.CalculateSize(), 1, ReplyLimits.MessageBytes);
            Assert.Equal((next, 3ul, 9ul), (part.FirstSequence, part.Generation, part.SegmentId));
            again.AddRange(part.Frames.Span);
            Assert.Equal(whole.EndOffset - (ulong)(whole.Frames.Length - again.Count), part.EndOffset);
            for (ReadOnlySpan<byte> frames = part.Frames.Span; frames.Length > 0; next++)
            {
                RecordFrame frame = RecordFrame.ReadVerified(frames);
                Assert.Equal(next, frame.Sequence.Value);
                frames = frames[frame.PaddedBytes..];
            }
        }
        Assert.Equal(batch.Last.Value + 1, next);
        Assert.Equal(whole.Frames.ToByteArray(), again);
    }

    [Fact]
    public void Warnings_beyond_the_limit_are_counted()
    {
        string[] lines = [.. Enumerable.Range(0, 400).Select(i => $"gap {i}")];
        Assert.Equal([.. lines[..16], "and 384 more like these"], ReplyLimits.Shorten(lines));
        Assert.Equal(lines[..16], ReplyLimits.Shorten(lines[..16]));
    }

    private static int Encoded(string text) => System.Text.Encoding.UTF8.GetBytes(text).Sum(b => b is >= 0x20 and <= 0x7e and not (byte)'%' ? 1 : 3);
}
