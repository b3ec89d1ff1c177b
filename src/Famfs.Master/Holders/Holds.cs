using Famfs.Core;

namespace Famfs.Master.Holders;

/// <summary>What all mounts together still have of the deleted files. A mount has released every file that was deleted up to its
/// watermark, but for those that it names.</summary>
internal sealed class Holds
{
    // Mounts that are named; others are counted (chosen).
    private const int Named = 16;

    private readonly List<(LogSequence Released, int Held, Guid Mount, string Name, TimeSpan Silent)> _mounts = [];
    private readonly HashSet<InodeNumber> _held = [];

    /// <summary>Up to where every mount has released what it does not name.</summary>
    public LogSequence Released { get; set; }

    /// <summary>Files that mounts name.</summary>
    public IReadOnlySet<InodeNumber> Held => _held;

    /// <summary>Adds what a mount has.</summary>
    public void Add(LogSequence released, IReadOnlyCollection<InodeNumber> held, Guid mount, string name, TimeSpan silent)
    {
        if (released.Value < Released.Value)
            Released = released;
        _held.UnionWith(held);
        _mounts.Add((released, held.Count, mount, name, silent));
    }

    /// <summary>Adds somebody who may have everything.</summary>
    public void Add(LogSequence released, string name)
    {
        if (released.Value < Released.Value)
            Released = released;
        _mounts.Add((released, 0, Guid.Empty, name, default));
    }

    /// <summary>Whom files that were deleted up to <paramref name="sequence"/> wait for, each as a phrase.</summary>
    public IReadOnlyList<string> Explain(LogSequence sequence)
    {
        List<string> waits = [];
        int more = 0;
        foreach ((LogSequence _, int held, Guid _, string name, TimeSpan silent) in FindWaited(sequence).OrderBy(m => m.Name, StringComparer.Ordinal))
        {
            if (waits.Count == Named)
            {
                more++;
                continue;
            }
            string has = held > 0 ? $"has {held} {(held == 1 ? "file" : "files")} open" : "has not released them";
            waits.Add(silent >= MountRegistry.SilentAfter ? $"{name}: {has}, silent for {silent.TotalSeconds:0} s" : $"{name}: {has}");
        }
        if (more > 0)
            waits.Add($"{more} more mounts");
        return waits;
    }

    /// <summary>The mounts that files which were deleted up to <paramref name="sequence"/> wait for.</summary>
    public IReadOnlySet<Guid> FindHolders(LogSequence sequence) => FindWaited(sequence).Where(m => m.Mount != Guid.Empty).Select(m => m.Mount).ToHashSet();

    private IEnumerable<(LogSequence Released, int Held, Guid Mount, string Name, TimeSpan Silent)> FindWaited(LogSequence sequence) =>
        _mounts.Where(m => m.Released.Value < sequence.Value || m.Held > 0);
}
