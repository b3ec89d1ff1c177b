using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Famfs2.Codec;

namespace Famfs.Famfs2;

/// <summary>
/// Looks at header and entries of a famfs-2 log one by one, beyond the first one that ends replay, and says what can
/// be made good without guessing:
/// <list type="bullet">
/// <item>header bytes that follow from the superblock, when enough of them says that this is the header, the counters agree,
/// all entries below them are good and none behind them is;</item>
/// <item>counters that differ: a writer died between its two stores. Entries that one of the two covers count as
/// long as they are good, because a reader that looks at that one may have applied them;</item>
/// <item>a torn tail: bad entries at the end, no good one behind them;</item>
/// <item>whole entries that no counter covers: told only, since nobody knows whether they were acknowledged.</item>
/// </list>
/// What means nothing although it is whole is the translator's to judge.
/// </summary>
internal static class Famfs2LogCheck
{
    private const int ChunkEntries = 512;

    /// <summary>Most findings about single entries that are kept of each severity (chosen): counters that lie cover
    /// thousands of millions of entries that were never written.</summary>
    internal const int MaxFindings = 1000;

    /// <summary>Adds what it finds in the log of a file system that opens.</summary>
    public static void Run(DaxDevice device, List<Finding> findings, List<Repair> repairs)
    {
        if (Famfs2Media.ReadSuperblock(device, out Famfs2Superblock? superblock, out _) != SuperblockVerdict.Good || Famfs2Media.FindLengthError(device, superblock!) is not null)
            return;
        Famfs2HeaderVerdict verdict = Famfs2Media.ReadHeader(device, superblock!, out Famfs2LogHeader header, out string cause);
        if (verdict == Famfs2HeaderVerdict.Damaged)
            return;
        ulong room = header.LastIndex + 1;

        (ulong? firstBad, bool goodBehind) = Scan(device, header.ConfirmedEntries, findings);
        if (verdict == Famfs2HeaderVerdict.Good && CountWhole(device, header.NextIndex, room) is var whole and > 0)
        {
            findings.Add(new(CheckReport.UnpublishedCode, $"entry {header.NextIndex}",
                $"{whole} whole entries are behind those that the log header counts: their writer died before it counted them, or the counters are stale; the next append stores over them", FindingSeverity.Warning));
        }
        if (firstBad is { } bad)
        {
            if (!goodBehind && verdict == Famfs2HeaderVerdict.Good)
            {
                findings.Add(new("torn-tail", $"entry {bad}", $"the log has {header.NextIndex} entries, and none from {bad} on is whole"));
                repairs.Add(RepairHeader("torn-tail", device, header, bad, $"the log ends before entry {bad}"));
            }
        }
        if (verdict == Famfs2HeaderVerdict.Skewed)
        {
            findings.Add(new("index-skew", $"{device.Path} at {Famfs2Layout.LogOffset + Famfs2LogHeader.CountersOffset}", cause));
            if (firstBad is null)
            {
                ulong end = Math.Min(Math.Max(header.NextIndex, header.NextSequence), room);
                (ulong? firstBadBehind, bool goodBehindBad) = Scan(device, end, null, header.ConfirmedEntries);
                ulong settled = firstBadBehind ?? end;
                // A good entry that one of the counters covers would be dropped, and written over by the next.
                if (!goodBehindBad)
                    repairs.Add(RepairHeader("index-skew", device, header, settled, $"both counters become {settled}"));
            }
        }
    }

    /// <summary>Looks at the log header of a device that may be the first of a file system that does not open. A further
    /// device, which need not say that it is one, has bytes of a file there: what is written over must itself say that it is
    /// the header of this log, by two of its three words at least. And no whole entry may follow those that its counters
    /// cover, since a counter that lost its line would drop them.</summary>
    public static void RunOnHeader(DaxDevice device, List<Finding> findings, List<Repair> repairs)
    {
        if (Famfs2Media.ReadSuperblock(device, out Famfs2Superblock? superblock, out _) != SuperblockVerdict.Good || Famfs2Media.FindLengthError(device, superblock!) is not null
            || Famfs2Media.ReadHeader(device, superblock!, out Famfs2LogHeader header, out string cause) != Famfs2HeaderVerdict.Damaged)
            return;
        byte[] block = new byte[Famfs2LogHeader.Size];
        device.Invalidate(Famfs2Layout.LogOffset, block.Length);
        device.Read(Famfs2Layout.LogOffset, block);
        int right = Famfs2LogHeader.CountRight(block, header.LengthBytes);
        if (right == 0)
            return;
        findings.Add(new("log-header", $"{device.Path} at {Famfs2Layout.LogOffset}", cause));
        ulong next = header.NextIndex;
        ulong room = header.LastIndex + 1;
        if (right < 2 || next != header.NextSequence || next > room || Scan(device, next, null).FirstBad is not null)
            return;
        (ulong? firstBehind, bool goodBehind) = Scan(device, room, null, next);
        if (next == room || (firstBehind == next && !goodBehind))
            repairs.Add(RepairHeader("log-header", device, header, next, "the log header is written from the superblock, its counters stay"));
    }

    private static Repair RepairHeader(string code, DaxDevice device, Famfs2LogHeader header, ulong next, string what)
    {
        byte[] bytes = new byte[Famfs2LogHeader.Size];
        new Famfs2LogHeader(header.LengthBytes, next, next).Format(bytes);
        ulong covered = Math.Min(Math.Max(header.NextIndex, header.NextSequence), header.LastIndex + 1);
        return new(code, device, Famfs2Layout.LogOffset, bytes, what)
        {
            Uncovered = (Famfs2Layout.EntryOffset(next), (long)(covered - Math.Min(next, covered)) * Famfs2Layout.EntryBytes),
            UncoveredPieceBytes = Famfs2Layout.EntryBytes,
        };
    }

    /// <summary>Number of good entries from <paramref name="start"/> to the first that is none.</summary>
    private static ulong CountWhole(DaxDevice device, ulong start, ulong end)
    {
        byte[] entry = new byte[Famfs2Layout.EntryBytes];
        ulong index = start;
        for (; index < end; index++)
        {
            device.Invalidate(Famfs2Layout.EntryOffset(index), entry.Length);
            device.Read(Famfs2Layout.EntryOffset(index), entry);
            if (new Famfs2Entry(entry).Judge(index) != Famfs2EntryVerdict.Good)
                break;
        }
        return index - start;
    }

    /// <summary>Judges entries from <paramref name="start"/> to <paramref name="end"/>; gives the first bad one, and
    /// whether a good one follows it.</summary>
    private static (ulong? FirstBad, bool GoodBehind) Scan(DaxDevice device, ulong end, List<Finding>? findings, ulong start = 0)
    {
        ulong? firstBad = null;
        bool goodBehind = false;
        byte[] bytes = new byte[ChunkEntries * Famfs2Layout.EntryBytes];
        byte[] canonical = new byte[Famfs2Layout.EntryBytes];
        long errors = 0;
        long warnings = 0;
        for (ulong index = start; index < end; index++)
        {
            int at = (int)((index - start) % ChunkEntries) * Famfs2Layout.EntryBytes;
            if (at == 0)
            {
                int length = (int)Math.Min(ChunkEntries, end - index) * Famfs2Layout.EntryBytes;
                device.Invalidate(Famfs2Layout.EntryOffset(index), length);
                device.Read(Famfs2Layout.EntryOffset(index), bytes.AsSpan(0, length));
            }
            Famfs2Entry entry = new(bytes.AsSpan(at));
            string where = $"entry {index} at {Famfs2Layout.EntryOffset(index)}";
            Famfs2EntryVerdict verdict = entry.Judge(index);
            if (verdict != Famfs2EntryVerdict.Good)
            {
                firstBad ??= index;
                Report(verdict == Famfs2EntryVerdict.BadChecksum ? new("entry-checksum", where, "checksum is wrong") : new("entry-sequence", where, $"sequence is {entry.Sequence}"));
                continue;
            }
            goodBehind |= firstBad is not null;
            if (!Famfs2Translator.Knows(entry.Type))
            {
                Report(new("entry-type", where, $"type {(uint)entry.Type} is undefined; nothing from here on is applied"));
                continue;
            }
            if (findings is null)
                continue;
            Reformat(entry, canonical);
            if (!entry.Bytes.SequenceEqual(canonical))
                Report(new("padding", where, "has bytes set that writers leave zero", FindingSeverity.Warning));
        }
        if (errors > MaxFindings)
            findings?.Add(new("more", "log", $"{errors - MaxFindings} more entries are bad"));
        if (warnings > MaxFindings)
            findings?.Add(new("more", "log", $"{warnings - MaxFindings} more entries have bytes set that writers leave zero", FindingSeverity.Warning));
        return (firstBad, goodBehind);

        void Report(Finding finding)
        {
            if ((finding.Severity == FindingSeverity.Error ? ++errors : ++warnings) <= MaxFindings)
                findings?.Add(finding);
        }
    }

    private static void Reformat(Famfs2Entry entry, Span<byte> canonical)
    {
        switch (entry.Type)
        {
            case Famfs2EntryType.File:
                Famfs2File.Parse(entry).Format(canonical, entry.Sequence);
                break;
            case Famfs2EntryType.Directory:
                Famfs2Directory.Parse(entry).Format(canonical, entry.Sequence);
                break;
            default:
                Famfs2Device.Parse(entry).Format(canonical, entry.Sequence);
                break;
        }
    }
}
