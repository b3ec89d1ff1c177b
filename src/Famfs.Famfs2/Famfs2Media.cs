using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Famfs2.Codec;
using Famfs.V1;

namespace Famfs.Famfs2;

/// <summary>Reads the fixed structures of famfs-2 from a device: drop the lines, copy, judge; what may be caught
/// while it is stored is looked at again before it is called damaged.</summary>
public static class Famfs2Media
{
    /// <summary>Looks at bytes that may be whole a moment later (chosen; some milliseconds in all).</summary>
    private const int Attempts = 200;

    /// <summary>Judges the superblock of a device.</summary>
    public static SuperblockVerdict ReadSuperblock(DaxDevice device, out Famfs2Superblock? superblock, out string cause)
    {
        superblock = null;
        cause = "shorter than one allocation unit";
        if (device.LengthBytes < MediaLayout.UnitBytes)
            return SuperblockVerdict.Foreign;
        byte[] block = new byte[Famfs2Superblock.Size];
        SuperblockVerdict verdict = SuperblockVerdict.Damaged;
        for (int attempt = 0; attempt < Attempts && verdict == SuperblockVerdict.Damaged; attempt++)
        {
            Pause(attempt);
            device.Invalidate(0, block.Length);
            device.Read(0, block);
            verdict = Famfs2Superblock.Parse(block, out superblock, out cause);
        }
        return verdict;
    }

    /// <summary>Why the first device of a famfs-2 file system cannot be used, or null: its lengths, which no checksum
    /// covers, must fit the device.</summary>
    public static string? FindLengthError(DaxDevice device, Famfs2Superblock superblock)
    {
        if ((ulong)superblock.DeviceLengthBytes > (ulong)device.LengthBytes)
            return $"has {device.LengthBytes} bytes, its superblock says {(ulong)superblock.DeviceLengthBytes}: truncated";
        return superblock.DeviceLengthBytes < Famfs2Layout.LogOffset + superblock.LogLengthBytes
            ? $"the superblock says {superblock.DeviceLengthBytes} bytes, less than superblock and log take ({Famfs2Layout.LogOffset + superblock.LogLengthBytes})"
            : null;
    }

    /// <summary>Judges the log header of the first device, which is long enough for it.</summary>
    public static Famfs2HeaderVerdict ReadHeader(DaxDevice device, Famfs2Superblock superblock, out Famfs2LogHeader header, out string cause)
    {
        Span<byte> block = stackalloc byte[Famfs2LogHeader.Size];
        Famfs2HeaderVerdict verdict;
        int attempt = 0;
        do
        {
            Pause(attempt);
            device.Invalidate(Famfs2Layout.LogOffset, block.Length);
            device.Read(Famfs2Layout.LogOffset, block);
            verdict = Famfs2LogHeader.Parse(block, superblock.LogLengthBytes, out header, out cause);
        }
        while (verdict != Famfs2HeaderVerdict.Good && ++attempt < Attempts);
        return verdict;
    }

    /// <summary>The devices that the first <paramref name="count"/> entries add.</summary>
    public static Famfs2DeviceTable ReadDeviceTable(DaxDevice device, Famfs2Superblock superblock, ulong count)
    {
        const int Chunk = 256;
        Famfs2DeviceTable table = new(superblock);
        byte[] bytes = new byte[Chunk * Famfs2Layout.EntryBytes];
        for (ulong index = 0; index < count; index++)
        {
            int at = (int)(index % Chunk) * Famfs2Layout.EntryBytes;
            if (at == 0)
            {
                int length = (int)Math.Min(Chunk, count - index) * Famfs2Layout.EntryBytes;
                device.Invalidate(Famfs2Layout.EntryOffset(index), length);
                device.Read(Famfs2Layout.EntryOffset(index), bytes.AsSpan(0, length));
            }
            Famfs2Entry entry = new(bytes.AsSpan(at));
            // Replay stops at the first of these, so nothing behind it counts.
            if (entry.Judge(index) != Famfs2EntryVerdict.Good || entry.Type is not (Famfs2EntryType.File or Famfs2EntryType.Directory or Famfs2EntryType.AddDevice))
                break;
            if (entry.Type == Famfs2EntryType.AddDevice)
                table.Add(Famfs2Device.Parse(entry));
        }
        return table;
    }

    /// <summary>The error of a device whose superblock or log header is not what it must be.</summary>
    public static FamfsException Corrupt(DaxDevice device, string cause) =>
        new(ErrorReason.MediaCorrupt, $"{device.Path}: {cause}; run `famfs check`") { Path = device.Path };

    private static void Pause(int attempt)
    {
        if (attempt > 0)
            Thread.SpinWait(100);
    }
}
