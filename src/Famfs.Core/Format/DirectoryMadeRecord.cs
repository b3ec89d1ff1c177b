using System.Buffers;

namespace Famfs.Core.Format;

/// <summary><c>DirectoryMade</c> of protos/famfs/v1/log.proto without allocation; see
/// <see cref="FileCreatedRecord"/>.</summary>
public ref struct DirectoryMadeRecord
{
    /// <summary>Wall clock of the master, nanoseconds since 1970.</summary>
    public long TimeNs;

    /// <summary>The caller's id, empty when no caller made the record.</summary>
    public ReadOnlySpan<byte> RequestId;

    /// <summary>Digest of the caller's request.</summary>
    public ulong RequestDigest;

    /// <summary>The new inode. Not checked.</summary>
    public InodeNumber Inode;

    /// <summary>Its directory.</summary>
    public InodeNumber Parent;

    /// <summary>Its name. Not checked.</summary>
    public ReadOnlySpan<byte> Name;

    /// <summary>Permission bits.</summary>
    public uint Mode;
    public uint Uid;
    public uint Gid;

    /// <summary>Reads a payload; false: not a valid record.</summary>
    public static bool TryRead(ReadOnlySpan<byte> payload, out DirectoryMadeRecord record)
    {
        record = default;
        ProtoReader reader = new(payload);
        while (!reader.AtEnd)
        {
            if (!reader.TryReadTag(out uint tag))
                return false;
            ulong value;
            bool read;
            switch (tag)
            {
                case (1 << 3) | ProtoReader.Fixed64:
                    read = reader.TryReadFixed64(out value);
                    record.TimeNs = (long)value;
                    break;
                case (2 << 3) | ProtoReader.Delimited:
                    read = reader.TryReadBytes(out record.RequestId);
                    break;
                case (3 << 3) | ProtoReader.Fixed64:
                    read = reader.TryReadFixed64(out record.RequestDigest);
                    break;
                case 4 << 3:
                    read = reader.TryReadVarint(out value);
                    record.Inode = new InodeNumber(value);
                    break;
                case 5 << 3:
                    read = reader.TryReadVarint(out value);
                    record.Parent = new InodeNumber(value);
                    break;
                case (6 << 3) | ProtoReader.Delimited:
                    read = reader.TryReadBytes(out record.Name);
                    break;
                case 7 << 3:
                    read = reader.TryReadVarint(out value);
                    record.Mode = (uint)value;
                    break;
                case 8 << 3:
                    read = reader.TryReadVarint(out value);
                    record.Uid = (uint)value;
                    break;
                case 9 << 3:
                    read = reader.TryReadVarint(out value);
                    record.Gid = (uint)value;
                    break;
                default:
                    read = reader.TrySkip(tag);
                    break;
            }

            if (!read)
                return false;
        }

        return true;
    }

    /// <summary>Length of the payload in bytes.</summary>
    public readonly int GetByteCount() =>
        ProtoWriter.Fixed64FieldBytes((ulong)TimeNs)
        + ProtoWriter.BytesFieldBytes(RequestId.Length)
        + ProtoWriter.Fixed64FieldBytes(RequestDigest)
        + ProtoWriter.VarintFieldBytes(Inode.Value)
        + ProtoWriter.VarintFieldBytes(Parent.Value)
        + ProtoWriter.BytesFieldBytes(Name.Length)
        + ProtoWriter.VarintFieldBytes(Mode)
        + ProtoWriter.VarintFieldBytes(Uid)
        + ProtoWriter.VarintFieldBytes(Gid);

    /// <summary>Writes the payload to the start of <paramref name="target"/>; returns its length.</summary>
    /// <exception cref="ArgumentException">The target is too short.</exception>
    public readonly int Write(Span<byte> target)
    {
        if (target.Length < GetByteCount())
            throw new ArgumentException("the target is too short", nameof(target));
        ProtoWriter writer = new(target);
        writer.Fixed64Field(1, (ulong)TimeNs);
        writer.BytesField(2, RequestId);
        writer.Fixed64Field(3, RequestDigest);
        writer.VarintField(4, Inode.Value);
        writer.VarintField(5, Parent.Value);
        writer.BytesField(6, Name);
        writer.VarintField(7, Mode);
        writer.VarintField(8, Uid);
        writer.VarintField(9, Gid);
        return writer.Written;
    }

    /// <summary>Writes the payload; returns its length.</summary>
    public readonly int Write(IBufferWriter<byte> target)
    {
        int written = Write(target.GetSpan(GetByteCount()));
        target.Advance(written);
        return written;
    }
}
