using Famfs.V1;

namespace Famfs.Core.Format;

/// <summary><c>SnapshotInode</c> of protos/famfs/v1/log.proto without allocation, but for extended attributes: nearly every record
/// of a snapshot is one; see <see cref="FileCreatedRecord"/>.</summary>
public ref struct SnapshotInodeRecord
{
    /// <summary>Bits of <see cref="Mode"/> that say what an inode is.</summary>
    public const uint TypeBits = 0xF000;

    /// <summary>A directory, in <see cref="TypeBits"/>.</summary>
    public const uint DirectoryType = 0x4000;

    /// <summary>A file.</summary>
    public const uint FileType = 0x8000;

    /// <summary>A symbolic link.</summary>
    public const uint SymlinkType = 0xA000;

    /// <summary>Memory that the file system uses itself.</summary>
    public const uint SystemType = 0;

    /// <summary>Most bytes of a record besides name, target, map and attributes.</summary>
    internal const int OtherBytes = 256;

    /// <summary>Time of change, nanoseconds since 1970.</summary>
    public long ChangeTimeNs;

    /// <summary>Time of access.</summary>
    public long AccessTimeNs;

    /// <summary>Time of modification.</summary>
    public long ModifyTimeNs;

    /// <summary>The inode. Not checked.</summary>
    public InodeNumber Inode;

    /// <summary>Its directory; none: it has no name. The root is in itself.</summary>
    public InodeNumber Parent;

    /// <summary>Its name. Not checked.</summary>
    public ReadOnlySpan<byte> Name;

    /// <summary>Permission bits and type.</summary>
    public uint Mode;
    public uint Uid;
    public uint Gid;

    /// <summary>Size of a file.</summary>
    public ulong SizeBytes;

    /// <summary>Bytes of a chunk; 0: simple.</summary>
    public ulong ChunkBytes;

    /// <summary>Extents or strips.</summary>
    public ReadOnlySpan<MapExtent> Extents;

    /// <summary>Status; unspecified: more attributes of an inode that came before.</summary>
    public InodeState State;

    /// <summary>Staged: the mount that owns the file.</summary>
    public ReadOnlySpan<byte> OwnerMount;

    /// <summary>Of a symbolic link.</summary>
    public ReadOnlySpan<byte> Target;

    /// <summary>Place in its directory.</summary>
    public ulong Cookie;

    /// <summary>Of a directory: the highest place that it gave.</summary>
    public ulong LastCookie;

    /// <summary>The <c>ExtendedAttribute</c> fields, each with its tag, as they are in the payload, if they follow each other; see
    /// <see cref="TryReadAttribute"/>.</summary>
    public ReadOnlySpan<byte> Attributes;

    /// <summary>Reads a payload. <paramref name="extents"/>: room for <see cref="FileCreatedRecord.MaxExtentsPerFile"/>. False: not a
    /// valid record.</summary>
    public static bool TryRead(ReadOnlySpan<byte> payload, Span<MapExtent> extents, out SnapshotInodeRecord record)
    {
        record = default;
        int extentCount = 0;
        bool hasAccess = false;
        bool hasModify = false;
        int attributesAt = -1;
        int attributesEnd = 0;
        ProtoReader reader = new(payload);
        while (!reader.AtEnd)
        {
            int at = payload.Length - reader.RestBytes;
            if (!reader.TryReadTag(out uint tag))
                return false;
            ulong value = 0;
            bool read;
            switch (tag)
            {
                case (1 << 3) | ProtoReader.Fixed64:
                    read = reader.TryReadFixed64(out value);
                    record.ChangeTimeNs = (long)value;
                    break;
                case 4 << 3:
                    read = reader.TryReadVarint(out value);
                    record.Inode = new(value);
                    break;
                case 5 << 3:
                    read = reader.TryReadVarint(out value);
                    record.Parent = new(value);
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
                case 10 << 3:
                    read = reader.TryReadVarint(out record.SizeBytes);
                    break;
                case (11 << 3) | ProtoReader.Delimited:
                    read = reader.TryReadBytes(out ReadOnlySpan<byte> map)
                        && FileCreatedRecord.TryReadMap(map, extents, ref extentCount, ref record.ChunkBytes);
                    break;
                case 12 << 3:
                    read = reader.TryReadVarint(out value);
                    record.State = (InodeState)(int)value;
                    break;
                case (13 << 3) | ProtoReader.Delimited:
                    read = reader.TryReadBytes(out record.OwnerMount);
                    break;
                case (14 << 3) | ProtoReader.Delimited:
                    read = reader.TryReadBytes(out record.Target);
                    break;
                case (15 << 3) | ProtoReader.Fixed64:
                    read = hasAccess = reader.TryReadFixed64(out value);
                    record.AccessTimeNs = (long)value;
                    break;
                case (16 << 3) | ProtoReader.Fixed64:
                    read = hasModify = reader.TryReadFixed64(out value);
                    record.ModifyTimeNs = (long)value;
                    break;
                case AttributeTag:
                    read = reader.TryReadBytes(out _) && (attributesAt < 0 || attributesEnd == at);
                    attributesAt = attributesAt < 0 ? at : attributesAt;
                    attributesEnd = payload.Length - reader.RestBytes;
                    break;
                case 20 << 3:
                    read = reader.TryReadVarint(out record.Cookie);
                    break;
                case 21 << 3:
                    read = reader.TryReadVarint(out record.LastCookie);
                    break;
                default:
                    read = reader.TrySkip(tag);
                    break;
            }

            if (!read)
                return false;
        }

        record.Extents = extents[..extentCount];
        record.AccessTimeNs = hasAccess ? record.AccessTimeNs : record.ChangeTimeNs;
        record.ModifyTimeNs = hasModify ? record.ModifyTimeNs : record.ChangeTimeNs;
        record.Attributes = attributesAt < 0 ? default : payload[attributesAt..attributesEnd];
        return true;
    }

    /// <summary>Takes the first attribute off <paramref name="attributes"/>, which is not empty. False: it is not a valid one.</summary>
    public static bool TryReadAttribute(ref ReadOnlySpan<byte> attributes, out ReadOnlySpan<byte> name, out ReadOnlySpan<byte> value)
    {
        name = default;
        value = default;
        ProtoReader reader = new(attributes);
        if (!reader.TryReadTag(out uint tag) || tag != AttributeTag || !reader.TryReadBytes(out ReadOnlySpan<byte> one))
            return false;
        attributes = attributes[^reader.RestBytes..];
        ProtoReader fields = new(one);
        while (!fields.AtEnd)
        {
            if (!fields.TryReadTag(out tag))
                return false;
            bool read = tag switch
            {
                (1 << 3) | ProtoReader.Delimited => fields.TryReadBytes(out name),
                (2 << 3) | ProtoReader.Delimited => fields.TryReadBytes(out value),
                _ => fields.TrySkip(tag),
            };
            if (!read)
                return false;
        }
        return true;
    }

    /// <summary>Bytes that an attribute takes in a record.</summary>
    internal static int AttributeBytes(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value) => 1 + ProtoWriter.DelimitedFieldBytes(AttributeContentBytes(name, value));

    /// <summary>Writes an attribute to the start of <paramref name="target"/>; returns its length.</summary>
    internal static int WriteAttribute(Span<byte> target, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        ProtoWriter writer = new(target);
        writer.DelimitedField(17, AttributeContentBytes(name, value));
        writer.BytesField(1, name);
        writer.BytesField(2, value);
        return writer.Written;
    }

    /// <summary>Most bytes that <see cref="Write"/> takes, attributes apart.</summary>
    internal readonly int MaxBytes => OtherBytes + Name.Length + Target.Length + FileCreatedRecord.MapBytes(ChunkBytes, Extents);

    /// <summary>Writes the payload but for attributes, which may follow; returns its length.</summary>
    public readonly int Write(Span<byte> target)
    {
        ProtoWriter writer = new(target);
        writer.Fixed64Field(1, (ulong)ChangeTimeNs);
        writer.VarintField(4, Inode.Value);
        writer.VarintField(5, Parent.Value);
        writer.BytesField(6, Name);
        writer.VarintField(7, Mode);
        writer.VarintField(8, Uid);
        writer.VarintField(9, Gid);
        writer.VarintField(10, SizeBytes);
        if (ChunkBytes != 0 || !Extents.IsEmpty)
            FileCreatedRecord.WriteMap(ref writer, FileCreatedRecord.MapBytes(ChunkBytes, Extents), ChunkBytes, Extents);
        writer.VarintField(12, (ulong)State);
        writer.BytesField(13, OwnerMount);
        writer.BytesField(14, Target);
        if (AccessTimeNs != ChangeTimeNs)
            writer.OptionalFixed64Field(15, (ulong)AccessTimeNs);
        if (ModifyTimeNs != ChangeTimeNs)
            writer.OptionalFixed64Field(16, (ulong)ModifyTimeNs);
        writer.VarintField(20, Cookie);
        writer.VarintField(21, LastCookie);
        return writer.Written;
    }

    private const uint AttributeTag = (17 << 3) | ProtoReader.Delimited;

    private static int AttributeContentBytes(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value) => ProtoWriter.BytesFieldBytes(name.Length) + ProtoWriter.BytesFieldBytes(value.Length);
}
