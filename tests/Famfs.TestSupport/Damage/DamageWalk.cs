using System.Globalization;
using Famfs.Core.Dax;
using Famfs.TestSupport.Dax;
using Xunit;

namespace Famfs.TestSupport.Damage;

/// <summary>How a line is damaged.</summary>
public enum LineDamage
{
    /// <summary>One bit is another.</summary>
    Flip,

    /// <summary>All zeros.</summary>
    Zeros,

    /// <summary>All ones.</summary>
    Ones,

    /// <summary>As it was earlier.</summary>
    Stale,

    /// <summary>The bytes of the line behind it.</summary>
    Neighbour,
}

/// <summary>What became of what everybody relies on.</summary>
public enum DamageVerdict
{
    /// <summary>Somebody says it, who cannot go on.</summary>
    Detected,

    /// <summary>A check says it, and everybody goes on with everything.</summary>
    Healed,

    /// <summary>Nobody says it, and everybody has everything.</summary>
    Harmless,

    /// <summary>Something is lost that the format cannot know of; docs/safety.md lists it.</summary>
    ListedLoss,

    /// <summary>Something is lost without a word.</summary>
    SilentLoss,
}

/// <summary>One line, damaged in one way.</summary>
/// <param name="Structure">What the line is part of.</param>
/// <param name="Offset">Where it is.</param>
/// <param name="Damage">How it is damaged.</param>
/// <param name="Bit">Which bit is flipped.</param>
public readonly record struct DamageCase(string Structure, long Offset, LineDamage Damage, int Bit);

/// <summary>
/// Walks the table of docs/safety.md over one image of a file system: damages one line at a time and lets the one who derives
/// judge it. FAMFS_DAMAGE_SHARE=N takes one case of N, FAMFS_DAMAGE_SEED chooses which, and which bits are flipped where not all
/// are; `make test-damage` takes every case.
/// </summary>
public abstract class DamageWalk
{
    /// <summary>Bytes of a line.</summary>
    protected const int Line = DaxDevice.LineBytes;

    /// <summary>Of how many cases a run takes one (chosen: all images together take less than a minute).</summary>
    private const int DefaultShare = 397;

    private const int CasesWorthACopy = 1000;

    private readonly byte[] _whole;
    private readonly byte[] _earlier;

    /// <summary>A walk over an image that is sound in <paramref name="whole"/>, and was as <paramref name="earlier"/> before.</summary>
    protected DamageWalk(byte[] whole, byte[] earlier)
    {
        _whole = whole;
        _earlier = earlier;
        Memory = new(whole);
    }

    /// <summary>The memory to look at.</summary>
    protected PlainMemory Memory { get; }

    /// <summary>Takes the cases of this run, on all cores, prints their counts under <paramref name="name"/>, and fails when anything
    /// is lost silently.</summary>
    /// <param name="open">Makes a walk over one and the same image, for one thread.</param>
    /// <param name="name">What the image is.</param>
    /// <param name="output">Of the test.</param>
    public static async Task RunAsync(Func<DamageWalk> open, string name, ITestOutputHelper output)
    {
        int share = FromEnvironment("FAMFS_DAMAGE_SHARE", DefaultShare);
        int seed = FromEnvironment("FAMFS_DAMAGE_SEED", 1);
        Random random = new(seed);
        int at = random.Next(share);
        DamageWalk first = open();
        DamageCase[] cases = [.. first.Cases(random).Where((_, i) => i % share == at)];
        int next = -1;
        SortedDictionary<(string Structure, LineDamage Damage), int[]> counts = [];
        List<string> losses = [];
        // Each has a copy of the image, which costs more than a few cases do.
        int workers = Math.Clamp(cases.Length / CasesWorthACopy, 1, Environment.ProcessorCount);
        await Task.WhenAll(Enumerable.Range(0, workers).Select(worker => Task.Run(() => Walk(worker == 0 ? first : open()))));
        foreach (((string structure, LineDamage damage), int[] row) in counts)
            output.WriteLine($"  {structure}, {damage}: {Describe(row)}");
        output.WriteLine($"walk of {name}, seed {seed}, one of {share}: {Describe([.. Enum.GetValues<DamageVerdict>().Select(v => counts.Values.Sum(r => r[(int)v]))])}");
        Assert.NotEmpty(counts);
        Assert.True(losses.Count == 0, $"FAMFS_DAMAGE_SEED={seed} FAMFS_DAMAGE_SHARE={share}: {losses.Count} silent losses, first: {string.Join("; ", losses.Take(10))}");

        void Walk(DamageWalk walk)
        {
            for (int i = Interlocked.Increment(ref next); i < cases.Length; i = Interlocked.Increment(ref next))
            {
                DamageCase one = cases[i];
                if (!walk.Damage(one))
                    continue;
                DamageVerdict verdict = walk.Judge(one, out string why);
                lock (counts)
                {
                    if (!counts.TryGetValue((one.Structure, one.Damage), out int[]? row))
                        counts[(one.Structure, one.Damage)] = row = new int[Enum.GetValues<DamageVerdict>().Length];
                    row[(int)verdict]++;
                    if (verdict == DamageVerdict.SilentLoss)
                        losses.Add($"{one.Structure} at {one.Offset:x} {one.Damage} bit {one.Bit}: {why}");
                }
            }
        }
    }

    /// <summary>Every line of every structure.</summary>
    protected abstract IEnumerable<DamageCase> Cases(Random random);

    /// <summary>What becomes of it. The memory is damaged; <see cref="Damage"/> makes it so again.</summary>
    protected abstract DamageVerdict Judge(DamageCase one, out string why);

    /// <summary>Makes the memory sound but for one line. False: the line is the same afterwards.</summary>
    protected bool Damage(DamageCase one)
    {
        ReadOnlySpan<byte> before = _whole.AsSpan((int)one.Offset, Line);
        Span<byte> line = stackalloc byte[Line];
        before.CopyTo(line);
        if (one.Damage == LineDamage.Flip)
            line[one.Bit / 8] ^= (byte)(1 << (one.Bit % 8));
        else if (one.Damage == LineDamage.Zeros)
            line.Clear();
        else if (one.Damage == LineDamage.Ones)
            line.Fill(0xFF);
        else if (one.Damage == LineDamage.Stale)
            _earlier.AsSpan((int)one.Offset, Line).CopyTo(line);
        else
            _whole.AsSpan((int)one.Offset + Line, Line).CopyTo(line);
        Memory.Restore();
        using DaxDevice device = Memory.Attach();
        device.Write(one.Offset, line);
        return !line.SequenceEqual(before);
    }

    /// <summary>The cases of a range of lines: each damage of each, and flips of all bits or of one by <paramref name="random"/>.</summary>
    protected static IEnumerable<DamageCase> Lines(string structure, long start, long length, bool allBits, Random random)
    {
        for (long offset = start; offset < start + length; offset += Line)
        {
            foreach (LineDamage damage in new[] { LineDamage.Zeros, LineDamage.Ones, LineDamage.Stale, LineDamage.Neighbour })
                yield return new(structure, offset, damage, 0);
            if (!allBits)
                yield return new(structure, offset, LineDamage.Flip, random.Next(Line * 8));
            for (int bit = 0; allBits && bit < Line * 8; bit++)
                yield return new(structure, offset, LineDamage.Flip, bit);
        }
    }

    private static string Describe(int[] row) =>
        $"{row[0]} detected, {row[1]} healed, {row[2]} harmless, {row[3]} listed loss, {row[4]} silent loss";

    private static int FromEnvironment(string name, int otherwise) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } given ? int.Parse(given, CultureInfo.InvariantCulture) : otherwise;
}
