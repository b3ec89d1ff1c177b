using System.Buffers;
using Famfs.Core;
using Famfs.V1;
using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace Famfs.Master.Rpc;

/// <summary>
/// Looks over the bytes of a message before it is parsed. A few bytes can become an object each: entries of a list that are
/// empty, fields that nobody knows, groups. What would become too many is refused while it is bytes. Any thread.
/// </summary>
internal sealed class MessageShape
{
    private const int MaxDepth = 16;

    // By field number: the shape of a message, or null; numbers that are not here are not known.
    private readonly Dictionary<uint, MessageShape?> _fields = [];

    // Lists of numbers, which take several bytes each however short they are said.
    private readonly HashSet<uint> _numbers = [];
    private readonly uint _counted;
    private readonly bool _isBulk;

    private MessageShape(MessageDescriptor descriptor, bool isBulk, Dictionary<MessageDescriptor, MessageShape> known)
    {
        _isBulk = isBulk;
        known.Add(descriptor, this);
        foreach (FieldDescriptor field in descriptor.Fields.InFieldNumberOrder())
        {
            MessageShape? inner = field.FieldType != FieldType.Message ? null
                : known.TryGetValue(field.MessageType, out MessageShape? shape) ? shape
                : new(field.MessageType, isBulk, known);
            _fields.Add((uint)field.FieldNumber, inner);
            if (field.IsRepeated && inner is not null)
                _counted = (uint)field.FieldNumber;
            else if (field.IsRepeated && field.FieldType is not (FieldType.String or FieldType.Bytes))
                _numbers.Add((uint)field.FieldNumber);
        }
    }

    /// <summary>The shape of a type of messages.</summary>
    public static MessageShape Of(MessageDescriptor descriptor) => new(descriptor, descriptor == CreateFilesRequest.Descriptor, []);

    /// <summary>Throws BAD_REQUEST for a message with too many entries or fields of its kind, and for one with groups, which no
    /// message of this interface has. What is malformed otherwise is for the parser.</summary>
    public void Require(in ReadOnlySequence<byte> message)
    {
        SequenceReader<byte> reader = new(message);
        Counts counts = default;
        Look(ref reader, reader.Length, 0, ref counts);
    }

    private void Look(ref SequenceReader<byte> reader, long end, int depth, ref Counts counts)
    {
        while (reader.Consumed < end && TryReadVarint(ref reader, out ulong tag))
        {
            uint number = (uint)(tag >> 3);
            bool isKnown = _fields.TryGetValue(number, out MessageShape? inner);
            int mostUnknown = _isBulk ? CallLimits.BulkFiles : CallLimits.UnknownFields;
            if (!isKnown && ++counts.Unknown > mostUnknown)
                throw new FamfsException(ErrorReason.BadRequest, $"a message has more than {mostUnknown} fields that this version does not know") { Limit = (ulong)mostUnknown };
            bool isNumbers = isKnown && _numbers.Contains(number);
            if (isNumbers && (tag & 7) != 2)
                RequireNumbers(ref counts, 1);
            long bytes;
            switch (tag & 7)
            {
                case 0 when TryReadVarint(ref reader, out _):
                    continue;
                case 1:
                    bytes = 8;
                    break;
                case 5:
                    bytes = 4;
                    break;
                case 2 when TryReadVarint(ref reader, out ulong length) && length <= (ulong)(end - reader.Consumed):
                    if (number == _counted && isKnown)
                        RequireEntry(++counts.Entries, length);
                    // Packed: a byte for each at least.
                    if (isNumbers)
                        RequireNumbers(ref counts, (long)length);
                    if (inner is not null && depth < MaxDepth)
                    {
                        inner.Look(ref reader, reader.Consumed + (long)length, depth + 1, ref counts);
                        continue;
                    }
                    bytes = (long)length;
                    break;
                case 3 or 4:
                    throw new FamfsException(ErrorReason.BadRequest, $"field {number} is a group, which no message of this interface has");
                default:
                    reader.Advance(reader.Remaining);
                    return;
            }
            if (bytes > end - reader.Consumed)
                reader.Advance(reader.Remaining);
            else
                reader.Advance(bytes);
        }
    }

    private void RequireNumbers(ref Counts counts, long more)
    {
        int most = _isBulk ? CallLimits.BulkNumbers : CallLimits.Entries;
        if ((counts.Numbers += more) > most)
            throw new FamfsException(ErrorReason.BadRequest, $"more than {most} numbers in lists of one message, the limit") { Limit = (ulong)most };
    }

    private void RequireEntry(int entries, ulong bytes)
    {
        int most = _isBulk ? CallLimits.BulkFiles : CallLimits.Entries;
        string what = _isBulk ? "files" : "entries of a list";
        if (entries > most)
            throw new FamfsException(ErrorReason.BadRequest, $"more than {most} {what} in one message, the limit") { Limit = (ulong)most };
        // Of the others the message's own limit is small enough.
        if (_isBulk && bytes > CallLimits.BulkFileBytes)
            throw new FamfsException(ErrorReason.BadRequest, $"a file of a message has {bytes} bytes, the limit is {CallLimits.BulkFileBytes}") { Limit = CallLimits.BulkFileBytes };
    }

    private struct Counts
    {
        public int Entries;
        public int Unknown;
        public long Numbers;
    }

    private static bool TryReadVarint(ref SequenceReader<byte> reader, out ulong value)
    {
        value = 0;
        for (int shift = 0; shift < 64; shift += 7)
        {
            if (!reader.TryRead(out byte part))
                return false;
            value |= (ulong)(part & 0x7f) << shift;
            if (part < 0x80)
                return true;
        }
        return false;
    }
}
