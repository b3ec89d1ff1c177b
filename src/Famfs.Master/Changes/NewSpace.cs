using Famfs.Core;

namespace Famfs.Master.Changes;

/// <summary>Space that a new file has got in memory only: no record names it, so a crash leaves it free. It is zeroed before
/// there is a record, in a format that promises zeros.</summary>
/// <param name="RequestId">Request id of the change that it is for, which equal requests wait by; empty: none do.</param>
/// <param name="Extents">Where.</param>
/// <param name="ChunkBytes">Chunk of the layout, 0 for simple extents.</param>
internal sealed record NewSpace(Guid RequestId, IReadOnlyList<MapExtent> Extents, long ChunkBytes)
{
    /// <summary>Why it could not be zeroed, or null. Written by whoever zeroes, before the change goes on.</summary>
    public FamfsException? Failure { get; set; }

    /// <summary>It was a removed file's, and nobody waits for it who could not wait longer.</summary>
    public bool IsOfRemoved { get; init; }

    /// <summary>Called once the change has had its turn with the space, whatever came of it. Engine's thread.</summary>
    public Action? Over { get; set; }
}
