using Famfs.Benchmarks.Systems;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log.Native;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Benchmarks.Rows;

/// <summary>The frames of a file system with 1,000,000 files in 1,000 directories, as a master would have
/// written them: names of 24 bytes, one extent of one unit, a request id. The frames are made in pieces, so that who
/// measures memory need not hold them all.</summary>
internal sealed class CreationLog
{
    public const int Directories = 1000;
    public const int FilesPerDirectory = 1000;
    public const int Files = Directories * FilesPerDirectory;

    private static readonly Guid s_fileSystem = new("6f1d0f6e-2b86-4a3e-9a55-1d2c3b4a5968");

    private readonly MemoryStream _piece = new(1 << 20);
    private readonly byte[] _frame = new byte[MediaLayout.MaxRecordBytes];
    private readonly byte[] _requestId = new byte[16];
    private readonly Random _random = new(1);
    private ulong _sequence;
    private ulong _inode = MediaLayout.FirstFreeInode;

    /// <summary>The place before the first record.</summary>
    public static LogPosition Start => new(s_fileSystem, 1, new(0), new(0));

    /// <summary>Start register of the frames' checksums.</summary>
    public static uint Seed { get; } = Crc32C.Seed(s_fileSystem, 1, MediaLayout.FirstSegmentInode);

    /// <summary>The whole log in one array.</summary>
    public static byte[] Build()
    {
        MemoryStream all = new(256 << 20);
        foreach (ReadOnlyMemory<byte> piece in new CreationLog().Pieces())
            all.Write(piece.Span);
        return all.ToArray();
    }

    /// <summary>The frames up to the first directory, then those of one directory after the other. A piece is
    /// valid until the next.</summary>
    public IEnumerable<ReadOnlyMemory<byte>> Pieces()
    {
        AppendBeginning();
        for (int d = 0; d < Directories; d++)
        {
            yield return Take();
            AppendDirectory(d);
        }
        yield return Take();
    }

    private void AppendBeginning()
    {
        Append(RecordType.FileSystemCreated, new FileSystemCreated
        {
            TimeNs = Time,
            FileSystemUuid = s_fileSystem.ToByteString(),
            Generation = 1,
            UnitBytes = MediaLayout.UnitBytes,
            RootInode = MediaLayout.RootInode,
            RootMode = 0b111_101_101,
            SuperblockInode = MediaLayout.SuperblockInode,
            HostTableInode = MediaLayout.HostTableInode,
            HostTable = new() { OffsetBytes = MediaLayout.HostTableOffset, LengthBytes = MediaLayout.UnitBytes },
        });
        Append(RecordType.DeviceAdded, new DeviceAdded
        {
            TimeNs = Time,
            DeviceUuid = Guid.NewGuid().ToByteString(),
            LengthBytes = (Files + (64UL * 1024)) * MediaLayout.UnitBytes,
            Coherent = true,
            SuperblockInode = MediaLayout.SuperblockInode,
        });
    }

    private void AppendDirectory(int number)
    {
        ulong directory = _inode++;
        Append(RecordType.DirectoryMade, new DirectoryMade
        {
            TimeNs = Time,
            RequestId = NextRequestId(),
            RequestDigest = _sequence,
            Inode = directory,
            Parent = MediaLayout.RootInode,
            Name = ByteString.CopyFromUtf8($"directory-{number}"),
            Mode = 0b111_101_101,
        });
        for (int i = 0; i < FilesPerDirectory; i++)
        {
            ulong file = _inode++;
            FileMap map = new();
            map.Extents.Add(new Extent { OffsetBytes = (file + 64) * MediaLayout.UnitBytes, LengthBytes = MediaLayout.UnitBytes });
            Append(RecordType.FileCreated, new FileCreated
            {
                TimeNs = Time,
                RequestId = NextRequestId(),
                RequestDigest = _sequence,
                Inode = file,
                Parent = directory,
                Name = ByteString.CopyFromUtf8(MountContent.FileName(i)),
                Mode = 0b110_100_100,
                SizeBytes = 4096,
                Map = map,
            });
        }
    }

    private long Time => 1_700_000_000_000_000_000 + ((long)_sequence * 1000);

    private void Append(RecordType type, IMessage record)
    {
        int payload = record.CalculateSize();
        Span<byte> whole = _frame.AsSpan(0, RecordFrame.PaddedLength(RecordFrame.HeaderBytes + payload));
        record.WriteTo(whole.Slice(RecordFrame.HeaderBytes, payload));
        RecordFrame.Seal(whole, payload, type, FrameFlags.None, new(++_sequence), new(Term.SlotCount), Seed);
        _piece.Write(whole);
    }

    private ByteString NextRequestId()
    {
        _random.NextBytes(_requestId);
        return ByteString.CopyFrom(_requestId);
    }

    private ReadOnlyMemory<byte> Take()
    {
        int length = (int)_piece.Length;
        _piece.SetLength(0);
        return _piece.GetBuffer().AsMemory(0, length);
    }
}
