using Famfs.Benchmarks.Systems;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Benchmarks.Rows;

/// <summary>The frames of 1,000,000 files in 1,000 directories, as a master would have written them: names of
/// 24 bytes, one extent of one unit, a request id.</summary>
internal sealed class CreationLog
{
    public const int Directories = 1000;
    public const int FilesPerDirectory = 1000;
    public const int Files = Directories * FilesPerDirectory;

    private static readonly Guid s_fileSystem = new("6f1d0f6e-2b86-4a3e-9a55-1d2c3b4a5968");

    private CreationLog(byte[] bytes, uint seed)
    {
        Bytes = bytes;
        Seed = seed;
    }

    public byte[] Bytes { get; }

    public uint Seed { get; }

    public static CreationLog Build()
    {
        uint seed = Crc32C.Seed(s_fileSystem, 1, MediaLayout.FirstSegmentInode);
        MemoryStream bytes = new(256 << 20);
        byte[] frame = new byte[1024];
        ulong sequence = 0;
        ulong inode = MediaLayout.FirstFreeInode;
        Random random = new(1);
        byte[] requestId = new byte[16];
        for (int d = 0; d < Directories; d++)
        {
            ulong directory = inode++;
            Append(RecordType.DirectoryMade, new DirectoryMade
            {
                TimeNs = Time(sequence), RequestId = NextId(), RequestDigest = sequence,
                Inode = directory, Parent = MediaLayout.RootInode, Name = ByteString.CopyFromUtf8($"directory-{d}"), Mode = 0x1ED,
            });
            for (int f = 0; f < FilesPerDirectory; f++)
            {
                ulong file = inode++;
                FileMap map = new();
                map.Extents.Add(new Extent { OffsetBytes = (file + 64) * MediaLayout.UnitBytes, LengthBytes = MediaLayout.UnitBytes });
                Append(RecordType.FileCreated, new FileCreated
                {
                    TimeNs = Time(sequence), RequestId = NextId(), RequestDigest = sequence,
                    Inode = file, Parent = directory, Name = ByteString.CopyFromUtf8(MountContent.FileName(f)), Mode = 0x1A4,
                    SizeBytes = 4096, Map = map,
                });
            }
        }
        return new(bytes.ToArray(), seed);

        void Append(RecordType type, IMessage record)
        {
            int payload = record.CalculateSize();
            Span<byte> whole = frame.AsSpan(0, RecordFrame.PaddedLength(RecordFrame.HeaderBytes + payload));
            record.WriteTo(whole.Slice(RecordFrame.HeaderBytes, payload));
            RecordFrame.Seal(whole, payload, type, FrameFlags.None, new(++sequence), new(Term.SlotCount), seed);
            bytes.Write(whole);
        }

        ByteString NextId()
        {
            random.NextBytes(requestId);
            return ByteString.CopyFrom(requestId);
        }
    }

    private static long Time(ulong sequence) => 1_700_000_000_000_000_000 + (long)sequence * 1000;
}
