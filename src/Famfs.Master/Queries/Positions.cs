using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Queries;

/// <summary>Positions as callers say and are told them. A position is a place in one history: its sequence with the term of
/// that very record (SAFETY S5).</summary>
internal static class Positions
{
    /// <summary>The position of the record that a request made, in the history that <paramref name="end"/> is of.</summary>
    public static Position ToMessage(in RequestTrace trace, LogPosition end) => (end with { Sequence = trace.Sequence, Term = trace.Term }).ToMessage();

    /// <summary>The position that a caller names. Throws WRONG_FILESYSTEM, or STALE_GENERATION for one that is not in this
    /// history. Engine's thread.</summary>
    public static LogPosition Require(MasterState state, Position position)
    {
        if (position.FileSystemUuid.ToGuid("file_system_uuid") != state.FileSystem)
            throw new FamfsException(ErrorReason.WrongFilesystem, $"this is file system {state.FileSystem}");
        RequireInHistory(state, position, state.Replay.Position);
        return state.Replay.Position with { Sequence = new(position.Sequence), Term = new(position.Term) };
    }

    /// <summary>Throws STALE_GENERATION unless <paramref name="position"/> is in the history that ends at
    /// <paramref name="end"/>. Sequence 0 is before every history. Any thread.</summary>
    public static void RequireInHistory(MasterState state, Position position, LogPosition end)
    {
        if (position.Sequence == 0)
            return;
        ReplayState replay = state.Replay;
        // A mount may follow the log to another generation before its master has said so. One below that of mkfs was before an import.
        ulong last = end.Generation + (state.Format.EntersGenerations ? 1u : 0);
        bool isOfHistory = position.Generation >= (replay.FileSystem?.Generation ?? end.Generation) && position.Generation <= last;
        if (!isOfHistory || replay.FindTerm(new(position.Sequence)) != new Term(position.Term))
            throw new FamfsException(ErrorReason.StaleGeneration, $"position {position.Generation}:{position.Sequence}@{position.Term} is not in this master's history, which ends at {end}");
    }
}
