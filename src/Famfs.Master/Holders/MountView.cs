using Famfs.Core;

namespace Famfs.Master.Holders;

/// <summary>What a mount has released: every file that was deleted up to <paramref name="Watermark"/>, but for those in
/// <paramref name="Held"/>.</summary>
internal sealed record ReleasedFiles(LogSequence Watermark, IReadOnlyList<InodeNumber> Held)
{
    /// <summary>Nothing.</summary>
    public static ReleasedFiles None { get; } = new(default, []);

    /// <summary>It says more than <paramref name="other"/> of the same mount. What was released once is never held again: so of two
    /// with one watermark the shorter one came later.</summary>
    public bool GoesFartherThan(ReleasedFiles other) =>
        Watermark.Value > other.Watermark.Value || (Watermark == other.Watermark && Held.Count < other.Held.Count);
}

/// <summary>One mount as the master sees it.</summary>
internal sealed class MountView
{
    public required Guid Mount { get; init; }

    /// <summary>The host that first named it and is believed.</summary>
    public required Guid Host { get; set; }

    /// <summary>A line, or a stream of a caller that is known, says whose it is; else it is a hint.</summary>
    public bool IsBound { get; set; }
    public Guid Boot { get; set; }

    /// <summary>Replayed there, and its kernel notified.</summary>
    public LogPosition Acknowledged { get; set; }

    /// <summary>When it was last heard of, by its stream or its line.</summary>
    public long LastMovedTimestamp { get; set; }

    /// <summary>Streams that are open for it.</summary>
    public int Streams { get; set; }

    /// <summary>Those of callers that are known.</summary>
    public int KnownStreams { get; set; }

    /// <summary>Waits for all count it.</summary>
    public bool Counts => InTable || KnownStreams > 0;

    /// <summary>It has a line in the host table.</summary>
    public bool InTable { get; set; }

    /// <summary>Its line says that it has ended in order.</summary>
    public bool Ended { get; set; }
    public ulong LineCounter { get; set; }

    /// <summary>Of the bytes of its entry when they were read last.</summary>
    public uint LineDigest { get; set; }

    /// <summary>When its entry was last seen to have changed, after it was read; of use while <see cref="InTable"/>.</summary>
    public long LineMovedTimestamp { get; set; }

    /// <summary>What its line states: within which time it gives up its files when it cannot write it; 0: it does not.</summary>
    public uint LeaseMs { get; set; }
    public string Dialect { get; set; } = "";
    public string Version { get; set; } = "";

    /// <summary>It has said that it follows the log to another generation.</summary>
    public bool FollowsGenerations { get; set; }

    /// <summary>Where it is on its host, when it has said so.</summary>
    public string MountPoint { get; set; } = "";

    /// <summary>Where its stream comes from, when it has or had one.</summary>
    public string Address { get; set; } = "";

    /// <summary>What it last said of its devices; null when it has said nothing.</summary>
    public DevicesSaid? Devices { get; set; }

    /// <summary>A sequence that it has not acknowledged yet, or the newest that it has.</summary>
    public LogSequence Target { get; set; }

    /// <summary>Since when it is to acknowledge <see cref="Target"/>.</summary>
    public long TargetTimestamp { get; set; }

    /// <summary>Since when it has had no stream; of use while <see cref="Streams"/> is 0.</summary>
    public long StreamlessTimestamp { get; set; }

    /// <summary>What its line says that it has released.</summary>
    public ReleasedFiles LineReleased { get; set; } = ReleasedFiles.None;

    /// <summary>The counter of the line that said so.</summary>
    public ulong ReleasedCounter { get; set; }

    /// <summary>What a stream has said, when that goes farther than the line.</summary>
    public ReleasedFiles? StreamReleased { get; set; }

    /// <summary>What it has released as far as is known. Both are true, and stay true.</summary>
    public ReleasedFiles Released => StreamReleased ?? LineReleased;
}
