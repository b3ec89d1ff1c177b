namespace Famfs.Master.Holders;

/// <summary>A host that nothing is heard of, in one of its boots, and the mounts of that boot that count as holders.</summary>
/// <param name="Host">Its id.</param>
/// <param name="Name">As it was registered, for people; may be empty.</param>
/// <param name="Boot">The kernel's id of the boot.</param>
/// <param name="Silent">Since any mount of the host was last heard of.</param>
/// <param name="Mounts">At least one.</param>
internal sealed record SilentHost(Guid Host, string Name, Guid Boot, TimeSpan Silent, IReadOnlyList<SilentMount> Mounts)
{
    /// <summary>For people.</summary>
    public override string ToString() => Name.Length > 0 ? $"{Name} ({Host})" : Host.ToString();
}

/// <summary>A mount, as its line was read.</summary>
/// <param name="Mount">Its id.</param>
/// <param name="MountPoint">Where it is on its host; empty when it has not told.</param>
/// <param name="Counter">Its line's counter: another one tells that it has moved.</param>
internal sealed record SilentMount(Guid Mount, string MountPoint, ulong Counter);
