using System.Buffers.Binary;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary>
/// An exported log: the frames as they are on the media and on the wire, whatever the media format.
/// <code>
///  0   8  magic "FAMFSLOG"
///  8   4  version 1; 2 when the log was compacted
/// 12   4  reserved
/// 16  16  file-system uuid
/// 32   8  generation that the file system began with
/// 40   8  version 1: reserved; 2: generation of the frames, which begin with a snapshot
/// then blocks, each of frames of one segment:
///  0   8  segment id (it seeds the checksums of the frames)
///  8   8  bytes of frames that follow, a multiple of 8; 0 ends the file
/// </code>
/// </summary>
internal static class LogExport
{
    public const int HeaderBytes = 48;
    private const ulong Magic = 0x474F_4C53_464D_4146; // "FAMFSLOG"
    private const uint Version = 1;
    private const uint CompactedVersion = 2;

    /// <summary>Writes the header. <paramref name="first"/>: the generation that the file system began with;
    /// <paramref name="generation"/>: that of all frames.</summary>
    public static void WriteHeader(Stream file, Guid fileSystem, ulong first, ulong generation)
    {
        Span<byte> header = stackalloc byte[HeaderBytes];
        header.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(header, Magic);
        bool isCompacted = generation != first;
        BinaryPrimitives.WriteUInt32LittleEndian(header[8..], isCompacted ? CompactedVersion : Version);
        fileSystem.TryWriteBytes(header[16..], bigEndian: true, out _);
        BinaryPrimitives.WriteUInt64LittleEndian(header[32..], first);
        if (isCompacted)
            BinaryPrimitives.WriteUInt64LittleEndian(header[40..], generation);
        file.Write(header);
    }

    public static void WriteBlock(Stream file, ulong segmentId, ReadOnlySpan<byte> frames)
    {
        Span<byte> head = stackalloc byte[16];
        BinaryPrimitives.WriteUInt64LittleEndian(head, segmentId);
        BinaryPrimitives.WriteUInt64LittleEndian(head[8..], (ulong)frames.Length);
        file.Write(head);
        file.Write(frames);
    }

    public static void WriteEnd(Stream file) => WriteBlock(file, 0, default);

    /// <summary>Reads the header; throws BAD_REQUEST with what is wrong.</summary>
    public static (Guid FileSystem, ulong First, ulong Generation) ReadHeader(Stream file, string path)
    {
        Span<byte> header = stackalloc byte[HeaderBytes];
        if (file.ReadAtLeast(header, HeaderBytes, throwOnEndOfStream: false) < HeaderBytes || BinaryPrimitives.ReadUInt64LittleEndian(header) != Magic)
            throw Bad(path, "is not an exported log");
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(header[8..]);
        if (version is not (Version or CompactedVersion))
            throw Bad(path, $"has version {version}, this version knows {Version} and {CompactedVersion}");
        ulong first = BinaryPrimitives.ReadUInt64LittleEndian(header[32..]);
        ulong generation = version == Version ? first : BinaryPrimitives.ReadUInt64LittleEndian(header[40..]);
        if (version == CompactedVersion && generation <= first)
            throw Bad(path, $"is of generation {generation} of a file system that begins with {first}, and of a log that was compacted");
        return (new(header.Slice(16, 16), bigEndian: true), first, generation);
    }

    /// <summary>Reads the next block; null at the end. Throws BAD_REQUEST when it is cut or damaged; every frame has a
    /// good checksum.</summary>
    public static (ulong SegmentId, byte[] Frames)? ReadBlock(Stream file, Guid fileSystem, ulong generation, string path)
    {
        Span<byte> head = stackalloc byte[16];
        if (file.ReadAtLeast(head, head.Length, throwOnEndOfStream: false) < head.Length)
            throw Bad(path, "ends before its end mark: it was cut");
        ulong segmentId = BinaryPrimitives.ReadUInt64LittleEndian(head);
        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(head[8..]);
        if (length == 0)
            return null;
        if (length > MediaLayout.MaxBatchBytes || length % RecordFrame.Alignment != 0)
            throw Bad(path, $"has a block of {length} bytes");
        byte[] frames = new byte[length];
        if (file.ReadAtLeast(frames, frames.Length, throwOnEndOfStream: false) < frames.Length)
            throw Bad(path, "ends inside a block: it was cut");
        uint seed = Crc32C.Seed(fileSystem, generation, segmentId);
        for (ReadOnlySpan<byte> rest = frames; !rest.IsEmpty;)
        {
            if (RecordFrame.Parse(rest, seed, out RecordFrame frame) != FrameVerdict.Good)
                throw Bad(path, $"has a damaged record, {frames.Length - rest.Length} bytes into a block");
            rest = rest[frame.PaddedBytes..];
        }
        return (segmentId, frames);
    }

    private static FamfsException Bad(string path, string what) => new(ErrorReason.BadRequest, $"{path}: {what}") { Path = path };
}
