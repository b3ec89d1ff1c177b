using System.Buffers;
using FsCheck;
using FsCheck.Fluent;
using Grpc.Core;
using Grpc.Wire;
using Xunit;

namespace Famfs.Grpc.Tests.Wire;

public class FramingTests
{
    private static readonly Marshaller<byte[]> Announced = Marshallers.Create<byte[]>(
        (message, context) =>
        {
            context.SetPayloadLength(message.Length);
            context.GetBufferWriter().Write(message);
            context.Complete();
        },
        context => context.PayloadAsReadOnlySequence().ToArray());

    private static readonly Marshaller<byte[]> Unannounced = Marshallers.Create<byte[]>(
        (message, context) =>
        {
            context.GetBufferWriter().Write(message);
            context.Complete();
        },
        context => context.PayloadAsNewBuffer());

    private static readonly Marshaller<byte[]> Whole = Marshallers.Create<byte[]>(message => message, bytes => bytes);

    public static TheoryData<string> Styles => new("announced", "unannounced", "whole");

    [Theory]
    [MemberData(nameof(Styles))]
    public void Message_is_written_behind_flag_and_big_endian_length(string style)
    {
        ArrayBufferWriter<byte> target = new();
        MessageWriter writer = new(null);
        Assert.Equal(8, writer.Write(target, Of(style), [0xA, 0xB, 0xC]));
        Assert.Equal(5, writer.Write(target, Of(style), []));
        byte[] golden =
        [
            0, 0, 0, 0, 3, 0xA, 0xB, 0xC, // not compressed, three bytes
            0, 0, 0, 0, 0,                // not compressed, empty
        ];
        Assert.Equal(golden, target.WrittenSpan.ToArray());
    }

    [Theory]
    [MemberData(nameof(Styles))]
    public void Length_fills_all_four_bytes(string style)
    {
        ArrayBufferWriter<byte> target = new();
        new MessageWriter(null).Write(target, Of(style), new byte[0x01020304]);
        Assert.Equal([0, 1, 2, 3, 4], target.WrittenSpan[..5].ToArray());
        Assert.Equal(0x01020304 + 5, target.WrittenCount);
    }

    [Fact]
    public void Messages_are_read_from_golden_bytes()
    {
        ReadOnlySequence<byte> buffer = new([0, 0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        Assert.True(MessageReader.TryRead(ref buffer, null, out ReadOnlySequence<byte> message));
        Assert.Equal([7, 8], message.ToArray());
        Assert.True(MessageReader.TryRead(ref buffer, null, out message));
        Assert.True(message.IsEmpty);
        Assert.False(MessageReader.TryRead(ref buffer, null, out _));
        Assert.Equal(5, buffer.Length);
    }

    [Fact]
    public void Any_messages_in_any_segments_come_back_and_no_cut_yields_one_too_many()
    {
        Gen<byte[][]> messages = Gen.Choose(0, 40).SelectMany(length => ArbMap.Default.GeneratorFor<byte>().ArrayOf(length)).ArrayOf(5);
        Prop.ForAll(messages.ToArbitrary(), Gen.Choose(1, 60).ToArbitrary(), (written, segmentLength) =>
        {
            ArrayBufferWriter<byte> target = new();
            MessageWriter writer = new(null);
            foreach (byte[] message in written)
            {
                writer.Write(target, Announced, message);
            }

            byte[] bytes = target.WrittenSpan.ToArray();
            for (int cut = 0; cut <= bytes.Length; cut++)
            {
                ReadOnlySequence<byte> buffer = Segmented(bytes.AsSpan(0, cut), segmentLength);
                int whole = 0;
                while (MessageReader.TryRead(ref buffer, null, out ReadOnlySequence<byte> message))
                {
                    Assert.Equal(written[whole++], message.ToArray());
                }

                int expected = 0;
                for (int end = 0; expected < written.Length && (end += 5 + written[expected].Length) <= cut; expected++)
                {
                }

                Assert.Equal(expected, whole);
            }
        }).QuickCheckThrowOnFailure();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(255)]
    public void Flag_other_than_zero_is_refused(byte flag)
    {
        RpcException e = Assert.Throws<RpcException>(() =>
        {
            ReadOnlySequence<byte> buffer = new([flag, 0, 0, 0, 0]);
            MessageReader.TryRead(ref buffer, null, out _);
        });
        Assert.Equal(StatusCode.Internal, e.StatusCode);
    }

    [Theory]
    [InlineData(100, 100, true)]
    [InlineData(101, 100, false)]
    [InlineData(-1, null, false)]
    [InlineData(int.MinValue, 100, false)]
    public void Length_beyond_the_limit_is_refused_before_the_message_arrives(int length, int? limit, bool allowed)
    {
        byte[] prefix = new byte[5];
        System.Buffers.Binary.BinaryPrimitives.WriteInt32BigEndian(prefix.AsSpan(1), length);
        Exception? e = Record.Exception(() =>
        {
            ReadOnlySequence<byte> buffer = new(prefix);
            Assert.False(MessageReader.TryRead(ref buffer, limit, out _));
        });
        Assert.Equal(allowed, e is null);
        Assert.True(allowed || e is RpcException { StatusCode: StatusCode.ResourceExhausted });
    }

    [Theory]
    [MemberData(nameof(Styles))]
    public void Message_beyond_the_send_limit_leaves_no_bytes(string style)
    {
        ArrayBufferWriter<byte> target = new();
        MessageWriter writer = new(10);
        RpcException e = Assert.Throws<RpcException>(() => writer.Write(target, Of(style), new byte[11]));
        Assert.Equal(StatusCode.ResourceExhausted, e.StatusCode);
        Assert.Equal(0, target.WrittenCount);
        writer.Write(target, Of(style), new byte[10]);
        Assert.Equal(15, target.WrittenCount);
    }

    [Theory]
    [InlineData(10)]
    [InlineData(100_000)]
    public void Serializer_that_breaks_its_announcement_is_refused(int announced)
    {
        foreach (int written in new[] { announced - 1, announced + 1 })
        {
            Marshaller<byte[]> liar = Marshallers.Create<byte[]>(
                (message, context) =>
                {
                    context.SetPayloadLength(announced);
                    context.GetBufferWriter().Write(new byte[written]);
                    context.Complete();
                },
                _ => []);
            ArrayBufferWriter<byte> target = new();
            MessageWriter writer = new(null);
            Assert.Throws<InvalidOperationException>(() => writer.Write(target, liar, []));

            // A small message leaves nothing; a large one has left a prefix, and says so.
            Assert.Equal(announced > 4096, writer.PrefixIsDangling);
            Assert.Equal(announced > 4096, target.WrittenCount != 0);

            // Nothing may follow that prefix until it has been taken back.
            if (writer.PrefixIsDangling)
            {
                int before = target.WrittenCount;
                Assert.Throws<InvalidOperationException>(() => writer.Write(target, Of("announced"), [1]));
                Assert.Equal(before, target.WrittenCount);
                writer.RemnantRemoved();
            }

            writer.Write(target, Of("announced"), [1]);
        }
    }

    [Fact]
    public void Serializer_that_never_completes_is_refused()
    {
        Marshaller<byte[]> lazy = Marshallers.Create<byte[]>((_, _) => { }, _ => []);
        Assert.Throws<InvalidOperationException>(() => new MessageWriter(null).Write(new ArrayBufferWriter<byte>(), lazy, []));
    }

    [Fact]
    public void Serializer_may_ask_for_more_room_than_it_uses()
    {
        Marshaller<byte[]> greedy = Marshallers.Create<byte[]>(
            (message, context) =>
            {
                context.SetPayloadLength(message.Length);
                IBufferWriter<byte> writer = context.GetBufferWriter();
                foreach (byte b in message)
                {
                    writer.GetSpan(64 * 1024)[0] = b;
                    writer.Advance(1);
                }

                context.Complete();
            },
            _ => []);
        ArrayBufferWriter<byte> target = new();
        new MessageWriter(null).Write(target, greedy, [1, 2, 3]);
        Assert.Equal([0, 0, 0, 0, 3, 1, 2, 3], target.WrittenSpan.ToArray());
    }

    private static Marshaller<byte[]> Of(string style) => style switch
    {
        "announced" => Announced,
        "unannounced" => Unannounced,
        _ => Whole,
    };

    private static ReadOnlySequence<byte> Segmented(ReadOnlySpan<byte> bytes, int segmentLength)
    {
        Segment first = new(ReadOnlyMemory<byte>.Empty);
        Segment last = first;
        for (int i = 0; i < bytes.Length; i += segmentLength)
        {
            last = last.Append(bytes.Slice(i, Math.Min(segmentLength, bytes.Length - i)).ToArray());
        }

        return new ReadOnlySequence<byte>(first, 0, last, last.Memory.Length);
    }

    private sealed class Segment : ReadOnlySequenceSegment<byte>
    {
        public Segment(ReadOnlyMemory<byte> memory)
        {
            Memory = memory;
        }

        public Segment Append(ReadOnlyMemory<byte> memory)
        {
            Segment next = new(memory) { RunningIndex = RunningIndex + Memory.Length };
            Next = next;
            return next;
        }
    }
}
