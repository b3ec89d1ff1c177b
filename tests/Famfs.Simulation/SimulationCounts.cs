namespace Famfs.Simulation;

/// <summary>What is counted.</summary>
internal enum Count
{
    Steps,
    Switches,
    Pauses,
    Kills,
    Crashes,
    Claims,
    Terms,
    Depositions,
    Advances,

    /// <summary>Compactions that were begun.</summary>
    CompactionsBegun,

    /// <summary>Switches to another generation of the log.</summary>
    Compactions,

    /// <summary>Polls of readers in an older generation than that of the newest switch, which gave them records.</summary>
    LateReads,

    /// <summary>Readers that came from one generation to a later one.</summary>
    GenerationsPassed,
    Records,
    Acknowledged,
    UnsettledPolls,

    /// <summary>Terms that went on behind frames which no tail covered.</summary>
    Adoptions,

    /// <summary>Claims of a slot that had claimed before, and others since.</summary>
    RestartsBehindOthers,

    /// <summary>Runs in which two masters share a cache.</summary>
    SharedCaches,

    /// <summary>Lines that a cache wrote to memory unasked.</summary>
    Evictions,

    /// <summary>Lines of a host without power that landed later.</summary>
    LateLines,

    /// <summary>Polls that said that the tail is lost.</summary>
    TailsLost,

    /// <summary>Masters that met damage, said so and did nothing.</summary>
    MastersRefused,

    /// <summary>Polls that said damage.</summary>
    ReadersRefused,
}

/// <summary>What a run went through, or all of them together. One thread.</summary>
internal sealed class SimulationCounts
{
    private readonly long[] _counts = new long[Enum.GetValues<Count>().Length];
    private readonly int[] _healed = new int[Enum.GetValues<DamagedStructure>().Length];
    private readonly int[] _said = new int[Enum.GetValues<DamagedStructure>().Length];

    /// <summary>Counts that are zero, damages of a structure that never came to an end of a kind that must occur included.</summary>
    public IEnumerable<string> Missing =>
    [
        .. Enum.GetValues<Count>().Where(c => _counts[(int)c] == 0).Select(c => c.ToString()),
        .. Enum.GetValues<DamagedStructure>().Where(d => _healed[(int)d] == 0).Select(d => $"a damaged {d} that stopped nobody"),
        .. new[] { DamagedStructure.Frame }.Where(d => _said[(int)d] == 0).Select(d => $"a damaged {d} that was said"),
    ];

    /// <summary>Adds to a count, and gives it.</summary>
    public long Add(Count what, long many = 1) => _counts[(int)what] += many;

    /// <summary>Adds a run in which a line was damaged. <paramref name="healed"/>: a master starts in the end; else it says why not.</summary>
    public void Add(DamagedStructure what, bool healed) => (healed ? _healed : _said)[(int)what]++;

    /// <summary>Adds another run.</summary>
    public void Add(SimulationCounts other)
    {
        for (int i = 0; i < _counts.Length; i++)
            _counts[i] += other._counts[i];
        for (int i = 0; i < _healed.Length; i++)
            (_healed[i], _said[i]) = (_healed[i] + other._healed[i], _said[i] + other._said[i]);
    }

    /// <inheritdoc/>
    public override string ToString() =>
        string.Join(", ", Enum.GetValues<Count>().Select(c => $"{c} {_counts[(int)c]}"))
        + "; damaged lines, healed or harmless + said: "
        + string.Join(", ", Enum.GetValues<DamagedStructure>().Select(d => $"{d} {_healed[(int)d]} + {_said[(int)d]}"));
}
