using Famfs.Core.Dax;
using Famfs.Core.Format;

namespace Famfs.Core.Log.Native;

/// <summary>Checks superblocks and anchors of the native format.</summary>
internal sealed class NativeLogCheck(DevicePool pool) : LogCheck(new LogReader(pool))
{
    /// <inheritdoc/>
    public override bool CheckStructures(CheckReport report)
    {
        report.Begin("anchors");
        AnchorArea anchors = new(pool.PrimaryDevice, pool.Primary.FileSystem);
        for (int slot = 0; slot < Term.SlotCount; slot++)
        {
            SlotState state = anchors.ReadSlot(slot);
            if (state.Unreadable)
                report.Add("anchor", $"anchor slot {slot}", $"{state.Damage}: nobody may become master, hosts wait");
        }
        return false;
    }

    /// <inheritdoc cref="MediaFormat.CheckSuperblock"/>
    public static bool CheckSuperblock(DaxDevice device, IReadOnlyList<DaxDevice> devices, CheckReport report)
    {
        if (device.LengthBytes < MediaLayout.UnitBytes)
            return true;
        if (NativeMedia.FindUnfinished(device) is { } unfinished && devices.Any(d => IsPrimaryOf(d, unfinished.FileSystem)))
        {
            report.Add("migration", device.Path, "its file system became native, its own superblock did not: run `famfs migrate` again");
            return true;
        }
        byte[][] copies = [new byte[MediaLayout.SuperblockBytes], new byte[MediaLayout.SuperblockBytes]];
        long[] offsets = [0, MediaLayout.SuperblockCopyOffset];
        SuperblockVerdict[] verdicts = new SuperblockVerdict[2];
        NativeSuperblock?[] parsed = new NativeSuperblock?[2];
        string[] causes = ["", ""];
        for (int i = 0; i < 2; i++)
        {
            device.Invalidate(offsets[i], copies[i].Length);
            device.Read(offsets[i], copies[i]);
            verdicts[i] = NativeSuperblock.Parse(copies[i], out parsed[i], out causes[i]);
        }
        if (verdicts[0] == SuperblockVerdict.OtherMajor || NativeSuperblock.LooksLikeOtherMajor(copies[0]))
            return false;
        if (verdicts[0] == SuperblockVerdict.Good)
        {
            if (!copies[0].AsSpan().SequenceEqual(copies[1]))
            {
                report.Add("superblock-copy", $"{device.Path} at {offsets[1]}", $"the second copy differs from the first{(causes[1].Length > 0 ? $": {causes[1]}" : "")}");
                report.Repairs.Add(new("superblock-copy", device, offsets[1], copies[0], "the second copy of the superblock is written from the first"));
            }
        }
        else if (verdicts[0] == SuperblockVerdict.Damaged && verdicts[1] == SuperblockVerdict.Good && NativeSuperblock.IsCopyOf(parsed[1]!, copies[0]))
        {
            report.Add("superblock", $"{device.Path} at 0", causes[0]);
            report.Repairs.Add(new("superblock", device, 0, copies[1], "the superblock is written from its second copy"));
        }
        else
        {
            report.Add("superblock", device.Path, causes[0]);
        }
        return true;
    }

    private static bool IsPrimaryOf(DaxDevice device, Guid fileSystem) =>
        NativeMedia.ReadSuperblock(device, out NativeSuperblock? superblock, out _) == SuperblockVerdict.Good && superblock!.IsPrimary && superblock.FileSystem == fileSystem;
}
