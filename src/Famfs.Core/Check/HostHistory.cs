using Famfs.Core.Format;
using Famfs.Core.Namespace;

namespace Famfs.Core.Check;

/// <summary>
/// Compares what a mount says that it has replayed with a replayed log (SAFETY S26). A mount writes only what passed the check of
/// S3 or S5 and is in the log for good. So a line that names another record, or one behind the end, says that records were lost.
/// The line must have been read before the log was.
/// </summary>
public static class HostHistory
{
    /// <summary>True when the (sequence, term) of <paramref name="line"/> is not in the history that <paramref name="state"/> has
    /// replayed, ahead of it or inside. False for a line of a generation that this log does not have, and for one whose loss was accepted.</summary>
    public static bool Contradicts(MountLine line, ReplayState state) =>
        line.ReplayedSequence.Value != 0 && IsGenerationOf(state, line.Generation)
        && state.FindTerm(line.ReplayedSequence) != line.ReplayedTerm
        && !state.IsLossAccepted(line.Mount);

    /// <summary>The log has, or had before it was compacted, that generation: an import begins another history.</summary>
    public static bool IsGenerationOf(ReplayState state, ulong generation) =>
        generation >= (state.FileSystem?.Generation ?? state.Position.Generation) && generation <= state.Position.Generation;

    /// <summary>One line for people: the mount, what it has, what the log has.</summary>
    public static string Explain(MountLine line, ReplayState state) =>
        $"mount {line.Mount} of host {line.Host} has replayed record {line.ReplayedSequence} of term {line.ReplayedTerm}, "
        + (state.FindTerm(line.ReplayedSequence) is { } term ? $"which is of term {term} in the log" : $"and the log ends at {state.Position}")
        + ": records are lost, or the mount is left from another file system in this memory";
}
