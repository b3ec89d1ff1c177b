using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log;

/// <summary>Who wants to become master.</summary>
public sealed record ClaimRequest
{
    /// <summary>This host.</summary>
    public required HostIdentity Host { get; init; }

    /// <summary>Replaces a master that lives, or adopts what belongs to another writer.</summary>
    public bool TakeOver { get; init; }

    /// <summary>Where nothing whole follows damage below the published end, the log ends at the damage. Only a repair says so: it
    /// may drop the last record.</summary>
    public bool EndsAtDamage { get; init; }

    /// <summary>File with the uuid of this system, in a format that knows its writer by one.</summary>
    public required string SystemUuidFile { get; init; }

    /// <summary>The clock.</summary>
    public required TimeProvider Clock { get; init; }

    /// <summary>Replays what a reader gives, for what must be known of the log before a claim.</summary>
    public required Func<ILogReader, LogSurvey> Survey { get; init; }
}

/// <summary>What the log said before a claim.</summary>
/// <param name="ReachedEnd">The reader came to the published end.</param>
/// <param name="MasterSlots">Slot → host.</param>
/// <param name="LastTermStarted">The latest start of a term.</param>
/// <param name="TermHasEnded">The last record is the clean end of its term.</param>
public sealed record LogSurvey(bool ReachedEnd, IReadOnlyDictionary<int, Guid> MasterSlots, TermStarted? LastTermStarted, bool TermHasEnded);

/// <summary>
/// The place of the master, taken and not active yet. The holder replays <see cref="Reader"/> to its end, then calls
/// <see cref="Activate"/>, and keeps this object for as long as it may write: it owns the lock on this host.
/// </summary>
public abstract class MasterClaim : IDisposable
{
    /// <summary>Id of this run of a master.</summary>
    public required Guid Master { get; init; }

    /// <summary>The slot.</summary>
    public required int Slot { get; init; }

    /// <summary>Reads the log as it stood when the claim was made.</summary>
    public abstract ILogReader Reader { get; }

    /// <summary>The readable lines of the host table, read behind the claim and before the log: what a line names is then below the end that is
    /// read (SAFETY S26). Empty in a format without the table.</summary>
    public virtual IReadOnlyList<MountLine> HostLines => [];

    /// <summary>The first record that was adopted: found whole behind the published end of the term before. Null: none.</summary>
    public virtual LogSequence? AdoptedFrom => null;

    /// <summary>Becomes active behind what <see cref="Reader"/> has read. Errors: NOT_MASTER, MEDIA_CORRUPT.</summary>
    /// <param name="slots">Slot → host, as replayed.</param>
    /// <param name="segments">Every space that the log gives to segments, oldest first, with its slot.</param>
    public abstract ILogWriter Activate(IReadOnlyDictionary<int, Guid> slots, IReadOnlyList<(int Slot, SegmentSpace Space)> segments);

    /// <inheritdoc/>
    public abstract void Dispose();
}
