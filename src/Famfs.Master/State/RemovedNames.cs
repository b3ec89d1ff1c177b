using Famfs.Core;

namespace Famfs.Master.State;

/// <summary>What a removed file was called.</summary>
/// <param name="Parent">The directory that had it; it may be gone itself.</param>
/// <param name="Name">Its name there, UTF-8.</param>
/// <param name="TimeNs">When it was removed, ns since 1970; 0: not known.</param>
internal readonly record struct RemovedName(InodeNumber Parent, byte[] Name, long TimeNs);

/// <summary>
/// What files were called that are removed and not reclaimed. It is for people who look for who has a file: nothing depends on it, and
/// it forgets. The tree itself has nothing of a name that is gone. Owner: that of the state.
/// </summary>
internal sealed class RemovedNames
{
    /// <summary>Most names that are kept (chosen: some MiB). Of more the first stay, because what is held for long is looked for.</summary>
    public const int MaxNames = 16384;

    private readonly Dictionary<InodeNumber, RemovedName> _names = [];

    // Of the record at hand: its time, once that is told, and what came before.
    private readonly List<InodeNumber> _untimed = [];
    private long _timeNs;

    /// <summary>It takes no more.</summary>
    public bool IsFull => _names.Count >= MaxNames;

    /// <summary>A record begins, whose time is not known yet.</summary>
    public void RecordBegins()
    {
        _untimed.Clear();
        _timeNs = 0;
    }

    /// <summary>The record at hand is of this time.</summary>
    public void SetTime(long timeNs)
    {
        _timeNs = timeNs;
        foreach (InodeNumber inode in _untimed)
        {
            if (_names.TryGetValue(inode, out RemovedName name))
                _names[inode] = name with { TimeNs = timeNs };
        }
        _untimed.Clear();
    }

    /// <summary>A file has lost its name. <paramref name="nowNs"/>: the time, where it is no record of earlier; else 0.</summary>
    public void Add(InodeNumber inode, InodeNumber parent, ReadOnlySpan<byte> name, long nowNs)
    {
        if (IsFull)
            return;
        long timeNs = nowNs != 0 ? nowNs : _timeNs;
        _names[inode] = new(parent, name.ToArray(), timeNs);
        if (timeNs == 0)
            _untimed.Add(inode);
    }

    /// <summary>A file's space is free again.</summary>
    public void Forget(InodeNumber inode) => _names.Remove(inode);

    /// <summary>What a file was called; null: not known.</summary>
    public RemovedName? Find(InodeNumber inode) => _names.TryGetValue(inode, out RemovedName name) ? name : null;
}
