using Famfs.Core.Dax;
using Famfs.Core.Format;

namespace Famfs.Core.Log.Native;

/// <summary>Checks superblocks, anchors, segment headers and what lies behind the tail of the native format.</summary>
internal sealed class NativeLogCheck : LogCheck
{
    private readonly DevicePool _pool;
    private readonly LogReader _log;
    private readonly AnchorArea _anchors;

    /// <summary>Checks the file system of <paramref name="pool"/>.</summary>
    public NativeLogCheck(DevicePool pool, TimeProvider clock)
        : this(pool, new LogReader(pool, clock) { EntersGenerations = pool.Format.EntersGenerations })
    {
    }

    private NativeLogCheck(DevicePool pool, LogReader log)
        : base(log)
    {
        _pool = pool;
        _log = log;
        _anchors = new(pool.PrimaryDevice, pool.Primary.FileSystem);
    }

    /// <inheritdoc/>
    public override bool CheckStructures(CheckReport report)
    {
        report.Begin("anchors");
        ActiveAnchor? newest = null;
        for (int slot = 0; slot < Term.SlotCount; slot++)
        {
            SlotState state = _anchors.ReadSlot(slot);
            newest = state.Active is { } active && (newest is null || active.Term > newest.Term) ? active : newest;
            if (state.Unreadable)
                report.Add("anchor", $"anchor slot {slot}", $"{state.Damage}: nobody may become master, hosts wait");
            else if (_anchors.FindLostCopy(slot) is { Length: > 0 } lost)
                report.Add("anchor-copy", $"anchor slot {slot}", $"{lost}: repaired by the next master of this slot", FindingSeverity.Warning);
        }
        report.Begin("log segments");
        if (newest is not null)
            new SegmentHeaderCheck(_pool, report).Run(newest);
        return false;
    }

    /// <inheritdoc/>
    public override void CheckEntries(CheckReport report)
    {
        if (_log.CaughtUp || _log.Anchor is not { } anchor)
            return;
        SegmentRef last = _log.Chain[^1];
        // The reader has looked at them for a second, and at the tail, which a master that lives stores in that time.
        if (!_log.TailMayBeRight)
        {
            if (_log.Offset >= last.AbsoluteStart && _anchors.ReadTailWord(anchor.Term.Slot).Judge(anchor, out long tail) == TailVerdict.Published && tail > _log.Offset
                && !FrameRun.IsAnyWhole(_pool, _log.Position.FileSystem, _log.Position.Generation, last, _log.Offset))
            {
                report.Add(CheckReport.LogEndCode, $"anchor slot {anchor.Term.Slot}",
                    $"the tail of term {anchor.Term} is {tail - _log.Offset} bytes behind the last whole record, {_log.Position}, and nothing whole follows it: the tail is too high, or one last record is lost");
            }
            return;
        }
        FrameRun behind = FrameRun.Follow(_pool, _log.Position.FileSystem, _log.Position.Generation, last, _log.Offset, last.AbsoluteEnd, anchor.Term);
        long bytes = behind.End - _log.Offset;
        report.Add(CheckReport.UnpublishedCode, $"anchor slot {anchor.Term.Slot}",
            bytes > MediaLayout.MaxBatchBytes
                ? $"{behind.Count} whole record(s) of term {anchor.Term}, {bytes} bytes, are behind the tail, more than one batch: the tail is stale"
                : $"{behind.Count} whole record(s) of term {anchor.Term} are behind the tail: their master died before it published them, or the tail is stale; start a master",
            bytes > MediaLayout.MaxBatchBytes ? FindingSeverity.Error : FindingSeverity.Warning);
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
