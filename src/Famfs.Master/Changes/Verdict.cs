namespace Famfs.Master.Changes;

/// <summary>What a change says when it has been asked to decide.</summary>
internal enum VerdictKind
{
    /// <summary>Decided: all that it appends is in the batch.</summary>
    Done,

    /// <summary>Decided, and nothing else goes into the batch.</summary>
    Last,

    /// <summary>The batch has no room for it; it asks to be asked again in one that has.</summary>
    NextBatch,

    /// <summary>It has had its turn; it asks to be asked again when others have had theirs.</summary>
    NextTurn,

    /// <summary>It has space that must be zeroed first; it asks to be asked again then.</summary>
    Zero,

    /// <summary>An equal request has space that is being zeroed; it asks to be asked again when that is over.</summary>
    After,
}

/// <summary>The answer of <see cref="Change.Decide"/>.</summary>
/// <param name="Kind">Which.</param>
/// <param name="Bytes"><see cref="VerdictKind.NextBatch"/>: bytes of frames that it needs.</param>
/// <param name="Space"><see cref="VerdictKind.Zero"/> and <see cref="VerdictKind.After"/>: the space.</param>
internal readonly record struct Verdict(VerdictKind Kind, long Bytes = 0, NewSpace? Space = null)
{
    /// <summary>Decided.</summary>
    public static Verdict Done => default;
}
