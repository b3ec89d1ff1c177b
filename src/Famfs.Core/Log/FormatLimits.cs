namespace Famfs.Core.Log;

/// <summary>What a format of the media can express. The native one can everything; what another cannot is refused before
/// anything changes.</summary>
public sealed record FormatLimits
{
    /// <summary>The format can express all that the protocol has.</summary>
    public bool IsComplete { get; init; }

    /// <summary>Records have times and request ids.</summary>
    public bool HasTimes { get; init; }

    /// <summary>Masters announce themselves in the log; without terms there is one history only.</summary>
    public bool HasTerms { get; init; }

    /// <summary>Mounts register in memory.</summary>
    public bool HasHostTable { get; init; }

    /// <summary>The space of a new file must be zeroed and fenced before a record names it.</summary>
    public bool ZeroesNewFiles { get; init; }

    /// <summary>Most bytes of a path; null: as many as the protocol allows.</summary>
    public int? MaxPathBytes { get; init; }

    /// <summary>Most extents, and most strips, of a file; null: as many as kernels take.</summary>
    public int? MaxExtents { get; init; }

    /// <summary>What the format cannot promise, one line each, for an operator.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];
}
