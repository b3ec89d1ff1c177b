using System.Buffers;

namespace Famfs.Core.Format;

/// <summary>
/// <c>FileCreated</c> of protos/famfs/v1/log.proto without allocation: nearly every record of a log is one, and
/// the generated class costs four objects each. Writes exactly the bytes the generated code writes (fields
/// in number order, defaults left out), reads every encoding the generated code reads: fields in any order,
/// the last of several wins, several maps are merged, unknown fields are skipped.
/// <para>Narrower than the message: a device index above 65535, an offset or length above 2^63 − 1 and more
/// than <see cref="MaxExtentsPerFile"/> extents are refused.</para>
/// <para>The spans point into the payload (or what the caller set); the record is as short-lived as they are.</para>
/// </summary>
public ref struct FileCreatedRecord
{
    /// <summary>Most extents or strips of one file.</summary>
    public const int MaxExtentsPerFile = 1024;

    private const uint TimeTag = (1 << 3) | ProtoReader.Fixed64;
    private const uint RequestIdTag = (2 << 3) | ProtoReader.Delimited;
    private const uint RequestDigestTag = (3 << 3) | ProtoReader.Fixed64;
    private const uint InodeTag = 4 << 3;
    private const uint ParentTag = 5 << 3;
    private const uint NameTag = (6 << 3) | ProtoReader.Delimited;
    private const uint ModeTag = 7 << 3;
    private const uint UidTag = 8 << 3;
    private const uint GidTag = 9 << 3;
    private const uint SizeTag = 10 << 3;
    private const uint MapTag = (11 << 3) | ProtoReader.Delimited;
    private const uint StagedTag = 12 << 3;
    private const uint OwnerMountTag = (13 << 3) | ProtoReader.Delimited;

    /// <summary>Wall clock of the master, nanoseconds since 1970.</summary>
    public long TimeNs;

    /// <summary>The caller's id, empty when no caller made the record.</summary>
    public ReadOnlySpan<byte> RequestId;

    /// <summary>Digest of the caller's request.</summary>
    public ulong RequestDigest;

    /// <summary>The new inode. Not checked against <see cref="InodeNumber.Max"/>.</summary>
    public InodeNumber Inode;

    /// <summary>Its directory, 0 when staged.</summary>
    public InodeNumber Parent;

    /// <summary>Its name, empty when staged. Not checked.</summary>
    public ReadOnlySpan<byte> Name;

    /// <summary>Permission bits.</summary>
    public uint Mode;
    public uint Uid;
    public uint Gid;
    public ulong SizeBytes;

    /// <summary>Whether the record has a map, which may be empty.</summary>
    public bool HasMap;

    /// <summary>Bytes of a chunk; 0: simple.</summary>
    public ulong ChunkBytes;

    /// <summary>Extents or strips; empty without <see cref="HasMap"/>.</summary>
    public ReadOnlySpan<MapExtent> Extents;
    public bool Staged;

    /// <summary>Staged: the mount that owns the file.</summary>
    public ReadOnlySpan<byte> OwnerMount;

    /// <summary>Reads a payload. <paramref name="extents"/> receives the extents; at least
    /// <see cref="MaxExtentsPerFile"/> long it suffices for every valid record. False: not a valid record, or
    /// one with more extents than fit.</summary>
    public static bool TryRead(ReadOnlySpan<byte> payload, Span<MapExtent> extents, out FileCreatedRecord record)
    {
        record = default;
        int extentCount = 0;
        ProtoReader reader = new(payload);
        while (!reader.AtEnd)
        {
            if (!reader.TryReadTag(out uint tag))
                return false;
            ulong value;
            bool read;
            switch (tag)
            {
                case TimeTag:
                    read = reader.TryReadFixed64(out value);
                    record.TimeNs = (long)value;
                    break;
                case RequestIdTag:
                    read = reader.TryReadBytes(out record.RequestId);
                    break;
                case RequestDigestTag:
                    read = reader.TryReadFixed64(out record.RequestDigest);
                    break;
                case InodeTag:
                    read = reader.TryReadVarint(out value);
                    record.Inode = new InodeNumber(value);
                    break;
                case ParentTag:
                    read = reader.TryReadVarint(out value);
                    record.Parent = new InodeNumber(value);
                    break;
                case NameTag:
                    read = reader.TryReadBytes(out record.Name);
                    break;
                case ModeTag:
                    read = reader.TryReadVarint(out value);
                    record.Mode = (uint)value;
                    break;
                case UidTag:
                    read = reader.TryReadVarint(out value);
                    record.Uid = (uint)value;
                    break;
                case GidTag:
                    read = reader.TryReadVarint(out value);
                    record.Gid = (uint)value;
                    break;
                case SizeTag:
                    read = reader.TryReadVarint(out record.SizeBytes);
                    break;
                case MapTag:
                    read = reader.TryReadBytes(out ReadOnlySpan<byte> map)
                        && TryReadMap(map, extents, ref extentCount, ref record.ChunkBytes);
                    record.HasMap = true;
                    break;
                case StagedTag:
                    read = reader.TryReadVarint(out value);
                    record.Staged = value != 0;
                    break;
                case OwnerMountTag:
                    read = reader.TryReadBytes(out record.OwnerMount);
                    break;
                default:
                    read = reader.TrySkip(tag);
                    break;
            }

            if (!read)
                return false;
        }

        record.Extents = extents[..extentCount];
        return true;
    }

    /// <summary>Length of the payload in bytes.</summary>
    public readonly int GetByteCount() => GetByteCount(HasMap ? MapBytes(ChunkBytes, Extents) : 0);

    /// <summary>Writes the payload to the start of <paramref name="target"/>; returns its length.</summary>
    /// <exception cref="ArgumentException">The target is too short, or the map has more extents than
    /// <see cref="MaxExtentsPerFile"/>.</exception>
    public readonly int Write(Span<byte> target)
    {
        if (Extents.Length > MaxExtentsPerFile)
            throw new ArgumentException($"a map of {Extents.Length} extents");
        int mapBytes = HasMap ? MapBytes(ChunkBytes, Extents) : 0;
        if (target.Length < GetByteCount(mapBytes))
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
        writer.VarintField(10, SizeBytes);
        if (HasMap)
            WriteMap(ref writer, mapBytes, ChunkBytes, Extents);
        writer.VarintField(12, Staged ? 1u : 0);
        writer.BytesField(13, OwnerMount);
        return writer.Written;
    }

    /// <summary>Writes the payload; returns its length.</summary>
    public readonly int Write(IBufferWriter<byte> target)
    {
        int written = Write(target.GetSpan(GetByteCount()));
        target.Advance(written);
        return written;
    }

    /// <summary>Reads a <c>FileMap</c>, adding to what was read of another one before.</summary>
    internal static bool TryReadMap(ReadOnlySpan<byte> bytes, Span<MapExtent> extents, ref int count, ref ulong chunkBytes)
    {
        ProtoReader reader = new(bytes);
        while (!reader.AtEnd)
        {
            if (!reader.TryReadTag(out uint tag))
                return false;
            bool read;
            switch (tag)
            {
                case 1 << 3:
                    read = reader.TryReadVarint(out chunkBytes);
                    break;
                case (2 << 3) | ProtoReader.Delimited:
                    read = reader.TryReadBytes(out ReadOnlySpan<byte> extent)
                        && count < extents.Length && count < MaxExtentsPerFile
                        && TryReadExtent(extent, out extents[count]);
                    count++;
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

    private static bool TryReadExtent(ReadOnlySpan<byte> bytes, out MapExtent extent)
    {
        extent = default;
        ulong device = 0;
        ulong offset = 0;
        ulong length = 0;
        ProtoReader reader = new(bytes);
        while (!reader.AtEnd)
        {
            if (!reader.TryReadTag(out uint tag))
                return false;
            bool read = tag switch
            {
                1 << 3 => reader.TryReadVarint(out device),
                2 << 3 => reader.TryReadVarint(out offset),
                3 << 3 => reader.TryReadVarint(out length),
                _ => reader.TrySkip(tag),
            };
            if (!read)
                return false;
        }

        if ((uint)device > ushort.MaxValue || offset > long.MaxValue || length > long.MaxValue)
            return false;
        extent = new MapExtent(new DeviceIndex((ushort)device), (long)offset, (long)length);
        return true;
    }

    private static int ExtentBytes(in MapExtent extent) =>
        ProtoWriter.VarintFieldBytes(extent.Device.Value)
        + ProtoWriter.VarintFieldBytes((ulong)extent.OffsetBytes)
        + ProtoWriter.VarintFieldBytes((ulong)extent.LengthBytes);

    /// <summary>Length of a <c>FileMap</c> in bytes.</summary>
    internal static int MapBytes(ulong chunkBytes, ReadOnlySpan<MapExtent> extents)
    {
        int bytes = ProtoWriter.VarintFieldBytes(chunkBytes);
        foreach (ref readonly MapExtent extent in extents)
            bytes += ProtoWriter.DelimitedFieldBytes(ExtentBytes(extent));
        return bytes;
    }

    /// <summary>Writes a <c>FileMap</c> as field 11. <paramref name="mapBytes"/>: of <see cref="MapBytes"/>.</summary>
    internal static void WriteMap(ref ProtoWriter writer, int mapBytes, ulong chunkBytes, ReadOnlySpan<MapExtent> extents)
    {
        writer.DelimitedField(11, mapBytes);
        writer.VarintField(1, chunkBytes);
        foreach (ref readonly MapExtent extent in extents)
        {
            writer.DelimitedField(2, ExtentBytes(extent));
            writer.VarintField(1, extent.Device.Value);
            writer.VarintField(2, (ulong)extent.OffsetBytes);
            writer.VarintField(3, (ulong)extent.LengthBytes);
        }
    }

    private readonly int GetByteCount(int mapBytes) =>
        ProtoWriter.Fixed64FieldBytes((ulong)TimeNs)
        + ProtoWriter.BytesFieldBytes(RequestId.Length)
        + ProtoWriter.Fixed64FieldBytes(RequestDigest)
        + ProtoWriter.VarintFieldBytes(Inode.Value)
        + ProtoWriter.VarintFieldBytes(Parent.Value)
        + ProtoWriter.BytesFieldBytes(Name.Length)
        + ProtoWriter.VarintFieldBytes(Mode)
        + ProtoWriter.VarintFieldBytes(Uid)
        + ProtoWriter.VarintFieldBytes(Gid)
        + ProtoWriter.VarintFieldBytes(SizeBytes)
        + (HasMap ? ProtoWriter.DelimitedFieldBytes(mapBytes) : 0)
        + (Staged ? 2 : 0)
        + ProtoWriter.BytesFieldBytes(OwnerMount.Length);
}
