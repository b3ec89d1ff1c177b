using System.Buffers.Binary;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Xunit;

namespace Famfs.Fuse.Tests.Protocol;

public sealed class FuseRequestTests
{
    // LOOKUP "ab" in node 5, as Linux 6.18 sends it.
    private static readonly byte[] LookupMessage =
    [
        0x2b, 0x00, 0x00, 0x00, // len 43
        0x01, 0x00, 0x00, 0x00, // opcode LOOKUP
        0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x01, // unique
        0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // nodeid 5
        0xe8, 0x03, 0x00, 0x00, // uid 1000
        0xe9, 0x03, 0x00, 0x00, // gid 1001
        0x2a, 0x00, 0x00, 0x00, // pid 42
        0x00, 0x00, // total_extlen
        0x00, 0x00, // padding
        0x61, 0x62, 0x00, // "ab"
    ];

    // READ of 4096 bytes at 0x12345000 of node 7.
    private static readonly byte[] ReadMessage =
    [
        0x50, 0x00, 0x00, 0x00, // len 80
        0x0f, 0x00, 0x00, 0x00, // opcode READ
        0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // unique 2
        0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // nodeid 7
        0x00, 0x00, 0x00, 0x00, // uid
        0x00, 0x00, 0x00, 0x00, // gid
        0x01, 0x00, 0x00, 0x00, // pid
        0x00, 0x00, // total_extlen
        0x00, 0x00, // padding
        0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // fh 9
        0x00, 0x50, 0x34, 0x12, 0x00, 0x00, 0x00, 0x00, // offset
        0x00, 0x10, 0x00, 0x00, // size
        0x02, 0x00, 0x00, 0x00, // read_flags
        0x11, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // lock_owner
        0x00, 0x80, 0x00, 0x00, // flags O_LARGEFILE
        0x00, 0x00, 0x00, 0x00, // padding
    ];

    [Fact]
    public void A_lookup_is_read_as_the_kernel_wrote_it()
    {
        Assert.Equal(ParseVerdict.Ok, FuseRequest.Parse(LookupMessage, FuseOperations.StockRequests, out FuseRequest request));
        Assert.Equal("LOOKUP", request.Row!.Name);
        Assert.Equal(0x0170605040302010UL, request.Header.Unique);
        Assert.Equal(5UL, request.NodeId);
        Assert.Equal((1000u, 1001u, 42u), (request.Header.Uid, request.Header.Gid, request.Header.Pid));
        Assert.Equal("ab"u8, request.Name);
        Assert.True(request.Replies);
    }

    [Fact]
    public void A_read_is_read_as_the_kernel_wrote_it()
    {
        Assert.Equal(ParseVerdict.Ok, FuseRequest.Parse(ReadMessage, FuseOperations.StockRequests, out FuseRequest request));
        ref readonly ReadIn read = ref request.Fixed<ReadIn>();
        Assert.Equal((9UL, 0x12345000UL, 4096u, 2u, 0x11UL, 0x8000u), (read.Handle, read.Offset, read.SizeBytes, read.ReadFlags, read.LockOwner, read.Flags));
    }

    [Fact]
    public void Extensions_at_the_end_belong_to_no_payload()
    {
        byte[] message = [.. LookupMessage, 1, 2, 3, 4, 5, 6, 7, 8];
        message[0] = (byte)message.Length;
        message[36] = 1; // total_extlen, in units of 8 bytes
        Assert.Equal(ParseVerdict.Ok, FuseRequest.Parse(message, FuseOperations.StockRequests, out FuseRequest request));
        Assert.Equal("ab"u8, request.Name);
        message[36] = 2; // longer than what follows the header
        Assert.Equal(ParseVerdict.WrongLength, FuseRequest.Parse(message, FuseOperations.StockRequests, out _));
    }

    [Fact]
    public void A_message_cut_at_any_boundary_is_rejected_with_or_without_an_honest_length()
    {
        foreach (byte[] whole in new[] { LookupMessage, ReadMessage })
        {
            for (int length = 0; length < whole.Length; length++)
            {
                byte[] cut = whole[..length];
                ParseVerdict expected = length < 40 ? ParseVerdict.NoHeader : ParseVerdict.WrongLength;
                Assert.Equal(expected, FuseRequest.Parse(cut, FuseOperations.StockRequests, out FuseRequest request));
                Assert.Equal(length < 40 ? 0 : BinaryPrimitives.ReadUInt64LittleEndian(whole.AsSpan(8)), request.Header.Unique);
                if (length < 40)
                    continue;
                BinaryPrimitives.WriteInt32LittleEndian(cut, length);
                ParseVerdict verdict = FuseRequest.Parse(cut, FuseOperations.StockRequests, out _);
                Assert.True(verdict is ParseVerdict.WrongSize or ParseVerdict.BadName, $"{length} bytes of {whole.Length}: {verdict}");
            }
        }
    }

    [Fact]
    public void Every_opcode_rejects_a_fixed_part_that_is_one_byte_short_or_has_something_after_it()
    {
        foreach (OpcodeRow row in FuseOperations.StockRequests.Rows)
        {
            if (row.InBytes > 0)
                Assert.Equal(ParseVerdict.WrongSize, Parse(Message(row.Opcode, new byte[row.InBytes - 1])));
            byte[] exact = [.. new byte[row.InBytes], .. PayloadOf(row.Payload)];
            Assert.Equal(ParseVerdict.Ok, Parse(Message(row.Opcode, exact)));
            if (row.Payload == PayloadKind.None)
                Assert.Equal(ParseVerdict.WrongSize, Parse(Message(row.Opcode, new byte[row.InBytes + 1])));
        }
    }

    [Theory]
    [InlineData(new byte[] { 0 })] // empty
    [InlineData(new byte[] { 97 })] // not terminated
    [InlineData(new byte[] { 97, 0, 98, 0 })] // two names
    [InlineData(new byte[] { 97, 47, 98, 0 })] // a/b
    [InlineData(new byte[] { 0, 0 })]
    public void A_name_that_no_file_can_have_is_rejected(byte[] name) =>
        Assert.Equal(ParseVerdict.BadName, Parse(Message((uint)FuseOpcode.FUSE_LOOKUP, name)));

    [Fact]
    public void An_opcode_outside_the_dialect_is_unknown_and_has_an_answer()
    {
        foreach (uint opcode in new uint[] { 0, 7, 19, 54, 255, 256, 4096, 1048576, uint.MaxValue })
        {
            Assert.Equal(ParseVerdict.UnknownOpcode, FuseRequest.Parse(Message(opcode, []), FuseOperations.StockRequests, out FuseRequest request));
            Assert.True(request.Replies);
        }
    }

    [Fact]
    public void Only_what_the_kernel_expects_no_reply_to_has_none()
    {
        string[] silent = [.. FuseOperations.StockRequests.Rows.Where(row => !row.Replies).Select(row => row.Name)];
        Assert.Equal(["FORGET", "INTERRUPT", "NOTIFY_REPLY", "BATCH_FORGET"], silent);
    }

    [Fact]
    public void The_table_has_every_opcode_of_the_interface()
    {
        Assert.Equal(Enum.GetValues<FuseOpcode>().Select(opcode => (uint)opcode), FuseOperations.StockRequests.Rows.Select(row => row.Opcode));
        Assert.All(FuseOperations.StockRequests.Rows, row => Assert.Equal(row.In is null, row.InBytes == 0));
    }

    [Theory]
    [InlineData(PayloadKind.Name, "a\0", true)]
    [InlineData(PayloadKind.Name, "a\0b\0", false)]
    [InlineData(PayloadKind.Name, "a/b\0", false)]
    [InlineData(PayloadKind.AttributeName, "user.a/b\0", true)]
    [InlineData(PayloadKind.AttributeName, "user.a", false)]
    [InlineData(PayloadKind.TwoNames, "a\0b\0", true)]
    [InlineData(PayloadKind.TwoNames, "a\0", false)]
    [InlineData(PayloadKind.TwoNames, "a\0\0", false)]
    [InlineData(PayloadKind.TwoNames, "\0b\0", false)]
    [InlineData(PayloadKind.TwoNames, "a\0b", false)]
    [InlineData(PayloadKind.TwoNames, "a\0b\0c\0", false)]
    [InlineData(PayloadKind.TwoNames, "a/\0b\0", false)]
    [InlineData(PayloadKind.TwoNames, "a\0b/\0", false)]
    [InlineData(PayloadKind.NameAndTarget, "a\0../b\0", true)]
    [InlineData(PayloadKind.NameAndTarget, "a\0\0", false)]
    [InlineData(PayloadKind.NameAndTarget, "a/\0b\0", false)]
    [InlineData(PayloadKind.NameAndTarget, "a\0b", false)]
    [InlineData(PayloadKind.AttributeNameAndValue, "user.a/b\0", true)]
    [InlineData(PayloadKind.AttributeNameAndValue, "user.a\0\0v\0", true)]
    [InlineData(PayloadKind.AttributeNameAndValue, "\0v", false)]
    [InlineData(PayloadKind.AttributeNameAndValue, "user.a", false)]
    public void A_payload_is_what_its_kind_says_or_it_is_rejected(PayloadKind kind, string payload, bool sound)
    {
        foreach (OpcodeRow row in FuseOperations.StockRequests.Rows.Where(row => row.Payload == kind))
            Assert.Equal(sound ? ParseVerdict.Ok : ParseVerdict.BadName, Parse(Message(row.Opcode, [.. new byte[row.InBytes], .. System.Text.Encoding.ASCII.GetBytes(payload)])));
    }

    [Fact]
    public void The_parts_of_a_payload_are_told_apart()
    {
        byte[] message = Message((uint)FuseOpcode.FUSE_RENAME2, [.. new byte[16], .. "old\0new\0"u8]);
        Assert.Equal(ParseVerdict.Ok, FuseRequest.Parse(message, FuseOperations.StockRequests, out FuseRequest request));
        Assert.Equal("old"u8, request.First);
        Assert.Equal("new"u8, request.Second);
        message = Message((uint)FuseOpcode.FUSE_SETXATTR, [.. new byte[8], .. "user.a\0v\0w"u8]);
        Assert.Equal(ParseVerdict.Ok, FuseRequest.Parse(message, FuseOperations.StockRequests, out request));
        Assert.Equal("user.a"u8, request.First);
        Assert.Equal("v\0w"u8, request.Value);
    }

    [Fact]
    public void The_fixed_part_is_read_as_the_rows_struct_and_no_other()
    {
        Assert.Equal(ParseVerdict.Ok, FuseRequest.Parse(ReadMessage, FuseOperations.StockRequests, out FuseRequest request));
        try
        {
            _ = request.Fixed<WriteIn>();
            Assert.Fail("a READ was read as a WRITE");
        }
        catch (InvalidOperationException)
        {
            Assert.Equal(9UL, request.Fixed<ReadIn>().Handle);
        }
    }

    private static byte[] PayloadOf(PayloadKind kind) => kind switch
    {
        PayloadKind.None or PayloadKind.Data => [],
        PayloadKind.Name or PayloadKind.AttributeName or PayloadKind.AttributeNameAndValue => [.. "a\0"u8],
        _ => [.. "a\0b\0"u8],
    };

    private static ParseVerdict Parse(byte[] message) => FuseRequest.Parse(message, FuseOperations.StockRequests, out _);

    private static byte[] Message(uint opcode, byte[] body)
    {
        byte[] message = new byte[40 + body.Length];
        BinaryPrimitives.WriteInt32LittleEndian(message, message.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(4), opcode);
        body.CopyTo(message, 40);
        return message;
    }
}
