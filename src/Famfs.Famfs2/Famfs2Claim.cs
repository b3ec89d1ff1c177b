using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Famfs2.Codec;

namespace Famfs.Famfs2;

/// <summary>What a famfs-2 device says of its place in its file system.</summary>
internal sealed class Famfs2Claim : DeviceClaim
{
    /// <summary>Its superblock.</summary>
    public required Famfs2Superblock Superblock { get; init; }

    /// <summary>The devices that the log on it names; null when it has no sound one.</summary>
    public required Famfs2DeviceTable? Log { get; init; }

    /// <summary>Has what looks like a log. A further device may: at the same place it has bytes of a file, which may be a copy
    /// of a log.</summary>
    public override bool HasLog => Log is not null;

    /// <summary>1, 0 or −1: the flags say first device, nothing, or further one. No checksum covers them, they may be stale.</summary>
    private int Rank => Superblock.Flags switch { Famfs2Superblock.PrimaryFlag => 1, Famfs2Superblock.SecondaryFlag => -1, _ => 0 };

    /// <summary>Indices of those claims of one file system that are of its first device: one, unless nothing tells. A log
    /// makes a device the first, but not against one whose flags say more and that this log does not name (it is the first, its own
    /// log damaged); nor when another log names the device. Without any log: what does not say that it is a further
    /// device, or else all.</summary>
    public static IReadOnlyList<int> FindFirst(IReadOnlyList<Famfs2Claim> claims)
    {
        List<int> all = [.. Enumerable.Range(0, claims.Count)];
        List<int> first = all.FindAll(i => claims[i].HasLog && !claims.Any(d => d.Rank > claims[i].Rank && !claims[i].Names(d)));
        if (first.Count > 1 && first.FindAll(i => !first.Any(other => other != i && claims[other].Names(claims[i]))) is { Count: > 0 } unnamed)
            first = unnamed;
        if (first.Count > 1 && first.FindAll(i => claims[i].Rank >= 0) is { Count: > 0 } unmarked)
            first = unmarked;
        if (first.Count == 0)
            first = all.FindAll(i => !claims[i].HasLog && claims[i].Rank >= 0);
        return first.Count > 0 ? first : all;
    }

    /// <summary>The log on this device adds <paramref name="further"/> as a further one.</summary>
    public override bool Names(DeviceClaim further) => Log?.Find(further.Device) is { Value: > 0 };
}
