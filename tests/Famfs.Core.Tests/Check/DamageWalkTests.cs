using Famfs.Core;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Core.Tests.Log;
using Famfs.TestSupport;
using Famfs.TestSupport.Log;
using Xunit;

namespace Famfs.Core.Tests.Check;

/// <summary>
/// Walks the table of docs/safety.md: each line of each structure, flipped, zeroed, set to ones, stale, its neighbour. After each a
/// check, a reader and the start of a master say what they find. What nobody says must not be lost. A run takes a share of all
/// cases by seed; FAMFS_DAMAGE_SHARE=1 takes every one, as `make test-damage` does.
/// </summary>
public sealed class DamageWalkTests(ITestOutputHelper output)
{
    /// <summary>Of how many cases a run takes one (chosen: all images together take less than a minute).</summary>
    private const int DefaultShare = 797;

    private const int Line = DaxDevice.LineBytes;
    private const int MostFrameLines = 900;

    public enum Damage
    {
        Flip,
        Zeros,
        Ones,
        Stale,
        Neighbour,
    }

    [Theory]
    [InlineData(1, true)]
    [InlineData(2, true)]
    [InlineData(2, false)]
    [InlineData(40, true)]
    public void No_damaged_line_loses_anything_silently(int segments, bool withLine)
    {
        int share = int.Parse(Environment.GetEnvironmentVariable("FAMFS_DAMAGE_SHARE") ?? $"{DefaultShare}", System.Globalization.CultureInfo.InvariantCulture);
        int seed = int.Parse(Environment.GetEnvironmentVariable("FAMFS_DAMAGE_SEED") ?? "1", System.Globalization.CultureInfo.InvariantCulture);
        DamageImage image = new(segments, withLine);
        string sound = ReadBack(image)!;
        Assert.Empty(Check(image).Findings);
        Dictionary<string, int> counts = new() { ["detected"] = 0, ["healed"] = 0, ["harmless"] = 0, ["silent loss"] = 0 };
        List<string> losses = [];
        Random random = new(seed);
        int at = random.Next(share);
        int cases = 0;
        foreach ((string structure, long offset, Damage damage, int bit) in Cases(image, random))
        {
            if (cases++ % share != at)
                continue;
            if (!Apply(image, offset, damage, bit))
                continue;
            string verdict = Judge(image, sound, out string why);
            counts[verdict]++;
            if (verdict == "silent loss")
                losses.Add($"{structure} at {offset:x} {damage} bit {bit}: {why}");
            // The start that was tried has stored a claim; nothing else changes what is not damaged.
            image.Restore(MediaLayout.AnchorOffset, Term.SlotCount * MediaLayout.AnchorStride);
            image.Restore(offset, Line);
        }
        output.WriteLine($"{segments} segment(s), seed {seed}, one of {share}: {string.Join(", ", counts.Select(c => $"{c.Value} {c.Key}"))}");
        Assert.True(counts["detected"] + counts["harmless"] + counts["healed"] > 0);
        Assert.True(losses.Count == 0, $"FAMFS_DAMAGE_SEED={seed} FAMFS_DAMAGE_SHARE={share}: {losses.Count} silent losses, first: {string.Join("; ", losses.Take(10))}");
    }

    private static IEnumerable<(string Structure, long Offset, Damage Damage, int Bit)> Cases(DamageImage image, Random random)
    {
        foreach (long start in new[] { 0L, MediaLayout.SuperblockCopyOffset })
        {
            foreach ((string, long, Damage, int) one in Lines("superblock", start, MediaLayout.SuperblockBytes, allBits: false, random))
                yield return one;
        }
        foreach (int slot in new[] { 0, 1, 7 })
        {
            bool used = image.Whole.AsSpan((int)LogBench.SlotOffset(slot), 2 * Line).ContainsAnyExcept((byte)0);
            foreach ((string, long, Damage, int) one in Lines("anchor", LogBench.SlotOffset(slot), MediaLayout.AnchorStride, used, random))
                yield return one;
        }
        foreach ((string, long, Damage, int) one in Lines("host entry", MediaLayout.HostTableOffset, MediaLayout.HostEntryBytes, allBits: true, random))
            yield return one;
        int frames = 0;
        foreach (SegmentRef segment in image.Master.Mastership.Reader.Chain.Take(1).Concat(ChainOf(image)).Distinct())
        {
            foreach ((string, long, Damage, int) one in Lines("segment header", segment.Offset, MediaLayout.SegmentHeaderBytes, allBits: false, random))
                yield return one;
            long end = segment.SealedBytes == SegmentRef.Open ? image.Master.Writer.Tail - segment.AbsoluteStart : segment.SealedBytes;
            long length = Math.Min((end + Line - 1) / Line * Line, Math.Max(0, MostFrameLines - frames) * Line);
            frames += (int)(length / Line);
            foreach ((string, long, Damage, int) one in Lines("frame", segment.Offset + MediaLayout.SegmentHeaderBytes, length, allBits: false, random))
                yield return one;
        }
    }

    private static IReadOnlyList<SegmentRef> ChainOf(DamageImage image)
    {
        using DevicePool pool = image.OpenPool("c");
        LogReader reader = new(pool);
        using ReplayState state = image.NewState();
        DamageImage.Replay(reader, state);
        return reader.Chain;
    }

    private static IEnumerable<(string, long, Damage, int)> Lines(string structure, long start, long length, bool allBits, Random random)
    {
        for (long offset = start; offset < start + length; offset += Line)
        {
            foreach (Damage damage in new[] { Damage.Zeros, Damage.Ones, Damage.Stale, Damage.Neighbour })
                yield return (structure, offset, damage, 0);
            if (!allBits)
                yield return (structure, offset, Damage.Flip, random.Next(Line * 8));
            for (int bit = 0; allBits && bit < Line * 8; bit++)
                yield return (structure, offset, Damage.Flip, bit);
        }
    }

    /// <summary>False: the line is the same afterwards.</summary>
    private static bool Apply(DamageImage image, long offset, Damage damage, int bit)
    {
        byte[] before = image.Whole.AsSpan((int)offset, Line).ToArray();
        byte[] line = new byte[Line];
        if (damage == Damage.Flip)
        {
            before.CopyTo(line, 0);
            line[bit / 8] ^= (byte)(1 << (bit % 8));
        }
        else if (damage == Damage.Ones)
        {
            Array.Fill(line, (byte)0xFF);
        }
        else if (damage == Damage.Stale)
        {
            image.Earlier.AsSpan((int)offset, Line).CopyTo(line);
        }
        else if (damage == Damage.Neighbour)
        {
            image.Whole.AsSpan((int)offset + Line, Line).CopyTo(line);
        }
        image.Memory.WriteMemory(offset, line);
        return !line.AsSpan().SequenceEqual(before);
    }

    private static string Judge(DamageImage image, string sound, out string why)
    {
        CheckResult check = Check(image);
        string? read = ReadBack(image);
        string? started = Start(image, out string refused);
        bool told = check.Findings.Count > 0;
        why = $"check {(told ? check.Findings[0] : "clean")}, read {read ?? "fails"}, started {started ?? refused}";
        // What a start goes on with is what everybody has from then on.
        if (started is not null && started != sound)
            return "silent loss";
        if (told)
            return started is null ? "detected" : "healed";
        return read == sound && started == sound ? "harmless" : read is null || read == sound ? "detected" : "silent loss";
    }

    private static CheckResult Check(DamageImage image) => FileSystemCheck.Run([image.Attach()], TestFormats.All, clock: new HastyClock(2000));

    private static string? ReadBack(DamageImage image)
    {
        try
        {
            using DevicePool pool = image.OpenPool("c");
            using ReplayState state = image.NewState();
            return DamageImage.Replay(new LogReader(pool, clock: new HastyClock(2000)), state);
        }
        catch (Exception error) when (error is FamfsException or DeviceFaultException)
        {
            return null;
        }
    }

    /// <summary>What a master of slot 0 would go on with; null: it does not start.</summary>
    private static string? Start(DamageImage image, out string refused)
    {
        refused = "";
        try
        {
            using DevicePool pool = image.OpenPool("s");
            Mastership mastership = Mastership.Claim(pool, 0, LogBench.HostA, Guid.NewGuid(), new HastyClock(2000));
            List<HostEntry> lines = new MountLineTable(pool).ReadInUse();
            using ReplayState state = image.NewState();
            string replayed = DamageImage.Replay(mastership.Reader, state);
            foreach (MountLine line in lines.Select(l => l.Line).OfType<MountLine>())
            {
                if (HostHistory.Contradicts(line, state))
                    throw new FamfsException(V1.ErrorReason.MediaCorrupt, HostHistory.Explain(line, state));
            }
            return replayed;
        }
        catch (Exception error) when (error is FamfsException or DeviceFaultException)
        {
            refused = error.Message;
            return null;
        }
        finally
        {
            image.Memory.Settle();
        }
    }
}
