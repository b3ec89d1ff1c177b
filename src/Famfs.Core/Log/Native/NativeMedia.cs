using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log.Native;

/// <summary>Reads native superblocks from devices: drop the lines, copy, judge, and fall back to the second copy where only
/// the first is damaged.</summary>
public static class NativeMedia
{
    /// <summary>Reads a device's superblock, from the second copy when the first is damaged. Throws the error
    /// to show when the device is not one of a native file system.</summary>
    public static NativeSuperblock RequireSuperblock(DaxDevice device)
    {
        SuperblockVerdict verdict = ReadSuperblock(device, out NativeSuperblock? superblock, out string cause);
        if (verdict != SuperblockVerdict.Good)
            throw NativeSuperblock.ErrorOf(verdict, device.Path, cause);
        if (superblock!.DeviceLengthBytes > device.LengthBytes)
            throw new FamfsException(ErrorReason.MediaCorrupt, $"{device.Path}: has {device.LengthBytes} bytes, its superblock says {superblock.DeviceLengthBytes}: truncated") { Path = device.Path, Limit = (ulong)superblock.DeviceLengthBytes };
        return superblock!;
    }

    /// <summary>The native superblock of a further device whose file system became native while its own first copy is
    /// still that of the earlier major: a migration was interrupted between the two. Null: it is not one.</summary>
    public static NativeSuperblock? FindUnfinished(DaxDevice device)
    {
        if (device.LengthBytes < MediaLayout.UnitBytes)
            return null;
        byte[] first = Read(device, 0);
        if (NativeSuperblock.Parse(first, out _, out _) != SuperblockVerdict.OtherMajor || !SuperblockHead.TryParse(first, out SuperblockHead head))
            return null;
        return NativeSuperblock.Parse(Read(device, MediaLayout.SuperblockCopyOffset), out NativeSuperblock? copy, out _) == SuperblockVerdict.Good && !copy!.IsPrimary
            && head.FileSystem == copy.FileSystem && head.Device == copy.Device
            ? copy
            : null;
    }

    /// <summary>Judges what is on a device.</summary>
    public static SuperblockVerdict ReadSuperblock(DaxDevice device, out NativeSuperblock? superblock, out string cause)
    {
        superblock = null;
        cause = "shorter than one allocation unit";
        if (device.LengthBytes < MediaLayout.UnitBytes)
            return SuperblockVerdict.Foreign;
        byte[] block = Read(device, 0);
        SuperblockVerdict first = NativeSuperblock.Parse(block, out superblock, out cause);
        // A second copy under a superblock of the earlier major is of a file system that was there before. A wiped or
        // overwritten first copy is a decision of somebody; only damage falls back.
        if (first != SuperblockVerdict.Damaged || NativeSuperblock.LooksLikeOtherMajor(block))
            return first;
        if (NativeSuperblock.Parse(Read(device, MediaLayout.SuperblockCopyOffset), out NativeSuperblock? copy, out _) != SuperblockVerdict.Good || !NativeSuperblock.IsCopyOf(copy!, block))
            return first;
        superblock = copy;
        cause = "";
        return SuperblockVerdict.Good;
    }

    /// <summary>The uuid of a device, whichever major of the format its superblock is of; null when it has none that is sound.</summary>
    public static Guid? FindDeviceUuid(DaxDevice device)
    {
        if (ReadSuperblock(device, out NativeSuperblock? native, out _) == SuperblockVerdict.Good)
            return native!.Device;
        return device.LengthBytes >= MediaLayout.UnitBytes && SuperblockHead.TryParse(Read(device, 0), out SuperblockHead head) ? head.Device : null;
    }

    private static byte[] Read(DaxDevice device, long offset)
    {
        byte[] block = new byte[MediaLayout.SuperblockBytes];
        device.Invalidate(offset, block.Length);
        device.Read(offset, block);
        return block;
    }
}
