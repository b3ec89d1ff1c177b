using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Famfs2.Codec;

namespace Famfs.Famfs2;

/// <summary>Checks superblock, header and entries of famfs-2, and reports what its translator found.</summary>
internal sealed class Famfs2Check(DevicePool pool, Famfs2LogReader reader) : LogCheck(reader)
{
    /// <inheritdoc/>
    public override bool CheckStructures(CheckReport report)
    {
        report.Begin("log");
        int before = report.Findings.Count;
        Famfs2LogCheck.Run(pool.PrimaryDevice, report.Findings, report.Repairs);
        return report.Findings.Skip(before).Any(f => f.Severity == FindingSeverity.Error);
    }

    /// <inheritdoc/>
    public override void CheckEntries(CheckReport report)
    {
        foreach (Famfs2Finding finding in reader.Translator.Findings)
            report.Add(finding.Code, $"entry {finding.Index}", finding.Cause + (finding.Ignored ? "; it has no effect" : ""), finding.Ignored ? FindingSeverity.Error : FindingSeverity.Warning);
        AddUnlisted(reader.Translator.IgnoredCount, "entries have no effect", FindingSeverity.Error);
        AddUnlisted(reader.Translator.RemarkCount, "remarks on entries", FindingSeverity.Warning);

        void AddUnlisted(long found, string what, FindingSeverity severity)
        {
            if (found > Famfs2Translator.MaxFindings)
                report.Add("more", "log", $"{found - Famfs2Translator.MaxFindings} more {what}", severity);
        }
    }

    /// <inheritdoc cref="MediaFormat.CheckSuperblock"/>
    public static bool CheckSuperblock(DaxDevice device, CheckReport report)
    {
        SuperblockVerdict verdict = Famfs2Media.ReadSuperblock(device, out Famfs2Superblock? superblock, out string cause);
        if (verdict != SuperblockVerdict.Good && !LooksLikeThis(device))
            return false;
        if (verdict != SuperblockVerdict.Good)
            report.Add("superblock", device.Path, $"{cause}; famfs-2 has no second copy");
        else if (superblock!.System == Guid.Empty)
            report.Add("system-uuid", device.Path, "the superblock names no system, so none may append; `famfs-master --take-over` makes it this one's", FindingSeverity.Warning);
        return true;
    }

    private static bool LooksLikeThis(DaxDevice device)
    {
        byte[] block = new byte[SuperblockHead.Size];
        device.Invalidate(0, block.Length);
        device.Read(0, block);
        return NativeSuperblock.LooksLikeOtherMajor(block);
    }
}
