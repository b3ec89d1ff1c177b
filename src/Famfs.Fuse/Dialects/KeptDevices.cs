using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Famfs.Core;
using Famfs.Core.Format;

namespace Famfs.Fuse.Dialects;

/// <summary>A device that a kernel has for a mount.</summary>
/// <param name="Pool">Its index in the pool.</param>
/// <param name="LengthBytes">Usable bytes.</param>
/// <param name="Path">By which the kernel was told of it.</param>
public sealed record KeptDevice(DeviceIndex Pool, long LengthBytes, string Path);

/// <summary>A file of the mount that is a range of a device, open at the keeper.</summary>
/// <param name="Inode">Its number.</param>
/// <param name="Device">In the pool.</param>
/// <param name="OffsetBytes">Where the range begins.</param>
/// <param name="LengthBytes">Its bytes, and the file's.</param>
public sealed record KeptPiece(InodeNumber Inode, DeviceIndex Device, long OffsetBytes, long LengthBytes);

/// <summary>
/// What the next daemon needs to know of a mount whose kernel holds the devices: it cannot open them, and while nobody serves the
/// mount it reads their memory through files that were open before. Little endian:
/// <code>
///    0  u32 devices              4  u32 pieces              8  u64 RefreshedTo
///   16  a device each, by the kernel's index:  u16 index in the pool, u16 bytes of the path, u64 length in bytes, path (UTF-8)
///       a piece each:  u64 inode, u32 offset in units, u16 device, u16 length in units
/// </code>
/// Zeros: the kernel holds none.
/// </summary>
/// <param name="Devices">By the kernel's index.</param>
/// <param name="Pieces">In any order.</param>
/// <param name="RefreshedTo">Space that was given back up to this record is in no cache of this host any more.</param>
public sealed record KeptDevices(IReadOnlyList<KeptDevice> Devices, IReadOnlyList<KeptPiece> Pieces, LogSequence RefreshedTo)
{
    private const int HeadBytes = 16;
    private const int DeviceBytes = 12;
    private const int PieceBytes = 16;

    /// <summary>Writes it. Throws <see cref="IOException"/> when <paramref name="target"/> has no room for it.</summary>
    public void Format(Span<byte> target)
    {
        int needed = HeadBytes + Devices.Sum(d => DeviceBytes + Encoding.UTF8.GetByteCount(d.Path)) + (Pieces.Count * PieceBytes);
        if (needed > target.Length)
            throw new IOException(string.Create(CultureInfo.InvariantCulture, $"{Devices.Count} devices and {Pieces.Count} files of the log take {needed} bytes of a keeper's memory, the limit is {target.Length}"));
        target.Clear();
        BinaryPrimitives.WriteInt32LittleEndian(target, Devices.Count);
        BinaryPrimitives.WriteInt32LittleEndian(target[4..], Pieces.Count);
        BinaryPrimitives.WriteUInt64LittleEndian(target[8..], RefreshedTo.Value);
        target = target[HeadBytes..];
        foreach (KeptDevice device in Devices)
        {
            int path = Encoding.UTF8.GetBytes(device.Path, target[DeviceBytes..]);
            BinaryPrimitives.WriteUInt16LittleEndian(target, device.Pool.Value);
            BinaryPrimitives.WriteUInt16LittleEndian(target[2..], (ushort)path);
            BinaryPrimitives.WriteInt64LittleEndian(target[4..], device.LengthBytes);
            target = target[(DeviceBytes + path)..];
        }
        foreach (KeptPiece piece in Pieces)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(target, piece.Inode.Value);
            BinaryPrimitives.WriteUInt32LittleEndian(target[8..], checked((uint)(piece.OffsetBytes / MediaLayout.UnitBytes)));
            BinaryPrimitives.WriteUInt16LittleEndian(target[12..], piece.Device.Value);
            BinaryPrimitives.WriteUInt16LittleEndian(target[14..], checked((ushort)(piece.LengthBytes / MediaLayout.UnitBytes)));
            target = target[PieceBytes..];
        }
    }

    /// <summary>Reads it; null where the kernel holds no devices. Throws <see cref="IOException"/> for what is none.</summary>
    public static KeptDevices? Parse(ReadOnlySpan<byte> bytes)
    {
        int devices = BinaryPrimitives.ReadInt32LittleEndian(bytes), pieces = BinaryPrimitives.ReadInt32LittleEndian(bytes[4..]);
        LogSequence refreshed = new(BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]));
        if (devices == 0 && pieces == 0)
            return null;
        bytes = bytes[HeadBytes..];
        List<KeptDevice> ofKernel = [];
        for (uint i = 0; i < (uint)devices; i++)
        {
            int path = bytes.Length < DeviceBytes ? int.MaxValue : BinaryPrimitives.ReadUInt16LittleEndian(bytes[2..]);
            if (path > bytes.Length - DeviceBytes)
                throw new IOException("the kept state has more devices than it has bytes for");
            ofKernel.Add(new(new(BinaryPrimitives.ReadUInt16LittleEndian(bytes)), BinaryPrimitives.ReadInt64LittleEndian(bytes[4..]), Encoding.UTF8.GetString(bytes.Slice(DeviceBytes, path))));
            bytes = bytes[(DeviceBytes + path)..];
        }
        if ((uint)pieces > bytes.Length / PieceBytes)
            throw new IOException("the kept state has more files than it has bytes for");
        List<KeptPiece> open = [];
        for (int i = 0; i < pieces; i++)
        {
            ReadOnlySpan<byte> piece = bytes[(i * PieceBytes)..];
            open.Add(new(
                new(BinaryPrimitives.ReadUInt64LittleEndian(piece)),
                new(BinaryPrimitives.ReadUInt16LittleEndian(piece[12..])),
                BinaryPrimitives.ReadUInt32LittleEndian(piece[8..]) * (long)MediaLayout.UnitBytes,
                BinaryPrimitives.ReadUInt16LittleEndian(piece[14..]) * (long)MediaLayout.UnitBytes));
        }
        return new(ofKernel, open, refreshed);
    }
}
