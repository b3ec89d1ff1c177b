namespace Famfs.Core.Format;

/// <summary>One entry of the host table as read: its index, its line, and whether it holds bytes that may be the
/// line of a mount that cannot be read (which counts as a holder of unknown identity: absence of a report is a
/// hold). That is so too where one copy says that a mount has ended and the other is damaged.</summary>
public readonly record struct HostEntry(int Index, MountLine? Line, bool Unreadable)
{
    /// <summary>One of the two copies is damaged or gone, and the other one tells the line.</summary>
    public bool HasLostCopy { get; init; }

    /// <summary>It cannot be read, and whatever it was, no mount has it open: the other copy has ended or is zeros. A mount opens nothing
    /// before both copies are its own (SAFETY S24), so this one ended, or its first writing was not finished. Its host may give the
    /// entry to another mount.</summary>
    public bool IsUnfinished { get; init; }

    /// <summary>Counter of the mount that had an unfinished entry before; 0: none had.</summary>
    public ulong FormerCounter { get; init; }

    /// <summary>Of the bytes of both copies: another one tells that something was stored there.</summary>
    public uint Digest { get; init; }

    /// <summary>Block of the host that owns the entry.</summary>
    public int HostSlot => Index / MediaLayout.EntriesPerHost;
}
