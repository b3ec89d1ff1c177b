using Famfs.Core.Interop;
using Famfs.Fuse.Protocol;
using Xunit;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Tests.Protocol;

public sealed class ReplyTests
{
    [Fact]
    public void An_error_reply_is_a_header_with_the_negative_number()
    {
        byte[] expected =
        [
            0x10, 0x00, 0x00, 0x00, // len 16
            0xfe, 0xff, 0xff, 0xff, // error −2
            0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, // unique
        ];
        Assert.Equal(expected, Frame(Errno.ENOENT));
    }

    [Fact]
    public void A_body_follows_the_header()
    {
        byte[] expected =
        [
            0x18, 0x00, 0x00, 0x00, // len 24
            0x00, 0x00, 0x00, 0x00, // error 0
            0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, // unique
            0x00, 0x10, 0x00, 0x00, // size 4096
            0x00, 0x00, 0x00, 0x00, // padding
        ];
        var buffer = new ReplyBuffer();
        Assert.Equal(expected, buffer.Frame(0x0102030405060708, buffer.Ok(new WriteOut { SizeBytes = 4096 }), out _).ToArray());
    }

    [Fact]
    public void Pieces_count_in_the_length_and_travel_beside_the_header()
    {
        var buffer = new ReplyBuffer();
        buffer.ClearPieces();
        Assert.True(buffer.TryAddPiece(0x1000, 3));
        Assert.True(buffer.TryAddPiece(0x2000, 5));
        ReadOnlySpan<byte> head = buffer.Frame(1, buffer.OkPieces(), out ReadOnlySpan<MemoryPiece> pieces);
        Assert.Equal((16, 16 + 8), (head.Length, BitConverter.ToInt32(head)));
        Assert.Equal((0x1000, 3, 0x2000, 5), (pieces[0].Address, pieces[0].LengthBytes, pieces[1].Address, pieces[1].LengthBytes));
    }

    [Fact]
    public void Pieces_beyond_what_one_call_can_carry_are_refused()
    {
        var buffer = new ReplyBuffer();
        buffer.ClearPieces();
        for (int i = 0; i < FuseChannel.MaxPieces; i++)
            Assert.True(buffer.TryAddPiece(1, 1));
        Assert.False(buffer.TryAddPiece(1, 1));
    }

    [Fact]
    public void A_request_that_was_dropped_or_wrongly_left_silent_answers_EIO()
    {
        Assert.Equal(Frame(Errno.EIO), Frame(default));
        Assert.Equal(Frame(Errno.EIO), Frame(FuseReply.None));
    }

    [Fact]
    public void A_listing_packs_entries_whole_and_padded()
    {
        byte[] expected =
        [
            0x02, 0, 0, 0, 0, 0, 0, 0, // ino 2
            0x07, 0, 0, 0, 0, 0, 0, 0, // off 7
            0x03, 0, 0, 0, // namelen 3
            0x08, 0, 0, 0, // type DT_REG
            (byte)'a', (byte)'b', (byte)'c', 0, 0, 0, 0, 0, // name, padded
        ];
        byte[] buffer = [.. Enumerable.Repeat((byte)0xff, 32 + 31)];
        var writer = new DirectoryWriter(buffer, plus: false);
        Assert.True(writer.TryAdd("abc"u8, 2, 7, FuseConstants.DT_REG, default));
        Assert.False(writer.TryAdd("abc"u8, 3, 8, FuseConstants.DT_REG, default)); // 31 bytes are left, 32 are needed
        Assert.Equal(32, writer.LengthBytes);
        Assert.Equal(expected, buffer[..32]);
        Assert.All(buffer[32..], b => Assert.Equal(0xff, b));
    }

    [Fact]
    public void A_listing_with_attributes_puts_the_entry_first()
    {
        byte[] buffer = new byte[160];
        var writer = new DirectoryWriter(buffer, plus: true);
        Assert.True(writer.TryAdd("abcdefgh"u8, 2, 7, FuseConstants.DT_DIR, new EntryOut { NodeId = 2, EntryValidSeconds = 9 }));
        Assert.Equal(160, writer.LengthBytes);
        Assert.Equal((2UL, 9UL), (BitConverter.ToUInt64(buffer), BitConverter.ToUInt64(buffer, 16)));
        Assert.Equal((2UL, 7UL, 8u, 4u), (BitConverter.ToUInt64(buffer, 128), BitConverter.ToUInt64(buffer, 136), BitConverter.ToUInt32(buffer, 144), BitConverter.ToUInt32(buffer, 148)));
        Assert.Equal("abcdefgh"u8.ToArray(), buffer[152..]);
    }

    [Fact]
    public void Notifications_have_unique_zero_and_the_code_in_place_of_the_error()
    {
        Span<byte> buffer = stackalloc byte[Notification.MaxBytes];
        byte[] inode =
        [
            0x28, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // len 40, INVAL_INODE, unique 0
            0x05, 0, 0, 0, 0, 0, 0, 0, // ino 5
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // off −1
            0, 0, 0, 0, 0, 0, 0, 0, // len 0
        ];
        Assert.Equal(inode, buffer[..Notification.InvalidateInode(buffer, 5, -1, 0)].ToArray());
        byte[] entry =
        [
            0x23, 0, 0, 0, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // len 35, INVAL_ENTRY
            0x05, 0, 0, 0, 0, 0, 0, 0, // parent 5
            0x02, 0, 0, 0, // namelen 2
            0x00, 0, 0, 0, // flags
            (byte)'a', (byte)'b', 0, // name and NUL
        ];
        Assert.Equal(entry, buffer[..Notification.InvalidateEntry(buffer, 5, "ab"u8)].ToArray());
        byte[] delete =
        [
            0x2b, 0, 0, 0, 0x06, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // len 43, DELETE
            0x05, 0, 0, 0, 0, 0, 0, 0, // parent 5
            0x06, 0, 0, 0, 0, 0, 0, 0, // child 6
            0x02, 0, 0, 0, 0, 0, 0, 0, // namelen 2, padding
            (byte)'a', (byte)'b', 0, // name and NUL
        ];
        Assert.Equal(delete, buffer[..Notification.Delete(buffer, 5, 6, "ab"u8)].ToArray());
        byte[] epoch = [0x10, 0, 0, 0, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]; // len 16, INC_EPOCH
        Assert.Equal(epoch, buffer[..Notification.IncrementEpoch(buffer)].ToArray());
        byte[] prune =
        [
            0x28, 0, 0, 0, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // len 40, PRUNE
            0x01, 0, 0, 0, 0, 0, 0, 0, // count 1, padding
            0, 0, 0, 0, 0, 0, 0, 0, // spare
            0x06, 0, 0, 0, 0, 0, 0, 0, // nodeid 6
        ];
        Assert.Equal(prune, buffer[..Notification.Prune(buffer, 6)].ToArray());
        Assert.Equal(Notification.MaxBytes, Notification.Delete(buffer, 5, 6, new byte[FuseConstants.NAME_MAX]));
    }

    private static byte[] Frame(FuseReply reply) => new ReplyBuffer().Frame(0x0102030405060708, reply, out _).ToArray();
}
