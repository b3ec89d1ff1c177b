using System.Buffers;
using Famfs.Core;
using Famfs.Master.Changes;
using Famfs.Master.Rpc;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Master.Tests.Rpc;

public sealed class MessageShapeTests
{
    private static readonly MessageShape s_files = MessageShape.Of(CreateFilesRequest.Descriptor);

    [Fact]
    public void As_many_files_as_may_be_pass_and_one_more_is_refused_before_it_is_parsed()
    {
        byte[] most = [.. Enumerable.Repeat<byte[]>([0x0a, 0x00], CallLimits.BulkFiles).SelectMany(b => b)];
        s_files.Require(new(most));
        FamfsException error = Refusal(s_files, [.. most, 0x0a, 0x00]);
        Assert.Equal((ErrorReason.BadRequest, (ulong)CallLimits.BulkFiles), (error.Reason, error.Limit));
        Assert.Equal("more than 65536 files in one message, the limit", error.Message);
    }

    [Fact]
    public void Fields_of_a_later_version_pass_in_reason_wherever_they_are()
    {
        // A field 99 in each of as many files as there may be, and one more in the message.
        byte[] files = [.. Enumerable.Repeat<byte[]>([0x0a, 0x03, 0x98, 0x06, 0x01], CallLimits.BulkFiles).SelectMany(b => b)];
        s_files.Require(new(files));
        FamfsException error = Refusal(s_files, [.. files, 0x98, 0x06, 0x01]);
        Assert.Contains("fields that this version does not know", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_of_a_message_has_a_limit_of_its_own()
    {
        static byte[] Of(int bytes) => new CreateFilesRequest { Files = { new CreateFileRequest { Path = new('x', bytes - 3) } } }.ToByteArray();
        s_files.Require(new(Of(CallLimits.BulkFileBytes)));
        FamfsException error = Refusal(s_files, Of(CallLimits.BulkFileBytes + 1));
        Assert.Equal((ErrorReason.BadRequest, (ulong)CallLimits.BulkFileBytes), (error.Reason, error.Limit));
    }

    [Fact]
    public void Other_messages_have_fewer_entries_and_fewer_unknown_fields()
    {
        MessageShape shape = MessageShape.Of(SetAttributesRequest.Descriptor);
        byte[] most = new SetAttributesRequest { Attributes = { Enumerable.Repeat(new ExtendedAttribute(), CallLimits.Entries) } }.ToByteArray();
        shape.Require(new(most));
        FamfsException error = Refusal(shape, new SetAttributesRequest { Attributes = { Enumerable.Repeat(new ExtendedAttribute(), CallLimits.Entries + 1) } }.ToByteArray());
        Assert.Equal("more than 4096 entries of a list in one message, the limit", error.Message);
        byte[] unknown = [.. Enumerable.Repeat<byte[]>([0x98, 0x06, 0x01], CallLimits.UnknownFields).SelectMany(b => b)];
        shape.Require(new(unknown));
        Assert.Equal((ulong)CallLimits.UnknownFields, Refusal(shape, [.. unknown, 0x98, 0x06, 0x01]).Limit);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Numbers_in_lists_count_packed_or_one_by_one(bool packed)
    {
        // files[].layout.devices
        static byte[] Nested(byte[] layout) => [0x0a, .. Length(layout.Length + 1 + Length(layout.Length).Length), LayoutTag(), .. Length(layout.Length), .. layout];
        static byte[] Length(int bytes)
        {
            using MemoryStream written = new();
            CodedOutputStream output = new(written);
            output.WriteLength(bytes);
            output.Flush();
            return written.ToArray();
        }
        static byte LayoutTag() => (byte)(CreateFileRequest.LayoutFieldNumber << 3 | 2);
        byte[] Devices(int count)
        {
            byte tag = (byte)(LayoutWish.DevicesFieldNumber << 3);
            return packed ? [(byte)(tag | 2), .. Length(count), .. new byte[count]] : [.. Enumerable.Repeat<byte[]>([tag, 0], count).SelectMany(b => b)];
        }
        const int Each = 4096;
        byte[] most = [.. Enumerable.Repeat(Nested(Devices(Each)), CallLimits.BulkNumbers / Each).SelectMany(b => b)];
        s_files.Require(new(most));
        FamfsException error = Refusal(s_files, [.. most, .. Nested(Devices(1))]);
        Assert.Equal((ErrorReason.BadRequest, (ulong)CallLimits.BulkNumbers), (error.Reason, error.Limit));
    }

    [Fact]
    public void As_many_written_files_as_a_mount_may_name_pass()
    {
        Written written = new()
        {
            Inodes = { Enumerable.Repeat(InodeNumber.Max, FilesWrittenChange.MostFiles) },
            TimesNs = { Enumerable.Repeat(long.MaxValue, FilesWrittenChange.MostFiles) },
        };
        MessageShape.Of(SubscribeRequest.Descriptor).Require(new(new SubscribeRequest { Written = written }.ToByteArray()));
    }

    [Fact]
    public void Groups_are_refused_at_any_depth()
    {
        Assert.Contains("is a group", Refusal(s_files, [0xa3, 0x06, 0xa4, 0x06]).Message, StringComparison.Ordinal);
        // files[0].layout, a group in it.
        Assert.Contains("is a group", Refusal(s_files, [0x0a, 0x06, 0x42, 0x04, 0xa3, 0x06, 0xa4, 0x06]).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_message_of_the_interface_passes_whole_or_cut_or_in_pieces()
    {
        Hello hello = new() { HostId = ByteString.CopyFrom(new byte[16]), Dialect = "stock", Position = new() { Sequence = 7 }, OlderMounts = { new OlderMount { Detail = "gone" } }, MissingDevices = new() { Indices = { 1, 2, 3 } } };
        byte[] bytes = new SubscribeRequest { Hello = hello }.ToByteArray();
        MessageShape shape = MessageShape.Of(SubscribeRequest.Descriptor);
        for (int cut = 0; cut <= bytes.Length; cut++)
        {
            // What is cut is for the parser to refuse.
            shape.Require(new(bytes.AsMemory(0, cut)));
            shape.Require(Pieces(bytes, cut));
        }
    }

    [Fact]
    public void Random_bytes_end_the_look_without_another_error()
    {
        Random random = new(3);
        for (int i = 0; i < 20_000; i++)
        {
            byte[] bytes = new byte[random.Next(40)];
            random.NextBytes(bytes);
            try
            {
                s_files.Require(new(bytes));
            }
            catch (FamfsException error)
            {
                Assert.Contains("group", error.Message, StringComparison.Ordinal);
            }
        }
    }

    private static FamfsException Refusal(MessageShape shape, byte[] bytes) => Assert.Throws<FamfsException>(() => shape.Require(new(bytes)));

    private static ReadOnlySequence<byte> Pieces(byte[] bytes, int first)
    {
        Piece start = new(bytes.AsMemory(0, first), 0);
        Piece end = new(bytes.AsMemory(first), first);
        start.Then(end);
        return new(start, 0, end, end.Memory.Length);
    }

    private sealed class Piece : ReadOnlySequenceSegment<byte>
    {
        public Piece(ReadOnlyMemory<byte> memory, long index) => (Memory, RunningIndex) = (memory, index);

        public void Then(Piece next) => Next = next;
    }
}
