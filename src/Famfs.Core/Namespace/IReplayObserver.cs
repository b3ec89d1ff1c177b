using Famfs.V1;

namespace Famfs.Core.Namespace;

/// <summary>What a record says about the request that made it.</summary>
public readonly record struct RequestTrace(Guid RequestId, ulong Digest, long TimeNs, RecordType Type, InodeNumber Inode, LogSequence Sequence, Term Term);

/// <summary>Is told what replay changes, after the change, on the replaying thread. Must not block.</summary>
public interface IReplayObserver
{
    /// <summary>A record is about to be applied. <paramref name="requestId"/>: of the request that made it, 16 bytes; empty where it has
    /// none. What it changes is told next, and <see cref="RequestSeen"/> last.</summary>
    void RecordBegins(ReadOnlySpan<byte> requestId)
    {
    }

    /// <summary>A name appeared, vanished or means another inode now.</summary>
    void EntryChanged(InodeNumber parent, ReadOnlySpan<byte> name);

    /// <summary>A name is gone with what it meant: a file is deleted now, anything else is no inode any more.</summary>
    void EntryRemoved(InodeNumber parent, InodeNumber inode, ReadOnlySpan<byte> name) => EntryChanged(parent, name);

    /// <summary>A file has lost its name to another one, and is deleted now. <see cref="EntryChanged"/> tells the same of the name.</summary>
    void FileReplaced(InodeNumber parent, InodeNumber inode, ReadOnlySpan<byte> name)
    {
    }

    /// <summary>Attributes of an inode changed; a directory's contents too.</summary>
    void InodeChanged(InodeNumber inode);

    /// <summary>A record gave an inode a time of modification, whatever it was before. Called before <see cref="InodeChanged"/>.</summary>
    void ModifyTimeSet(InodeNumber inode, LogSequence sequence)
    {
    }

    /// <summary>A file lost its name and became deleted; its extents are held until released. Or a directory or a symbolic link lost its
    /// name, and is gone.</summary>
    void FileDeleted(InodeNumber inode);

    /// <summary>Ranges of the devices came into use.</summary>
    void ExtentsTaken(InodeNumber inode, ReadOnlySpan<MapExtent> extents);

    /// <summary>Ranges of the devices are free again.</summary>
    void ExtentsFreed(InodeNumber inode, ReadOnlySpan<MapExtent> extents);

    /// <summary>A device joined the pool.</summary>
    void DeviceAdded(DeviceAdded device);

    /// <summary>Whether anything is done now with the ids that a snapshot remembers, of which there may be a million; false: they are not
    /// told.</summary>
    bool FollowsRequests => true;

    /// <summary>A record carries a caller's request id.</summary>
    void RequestSeen(in RequestTrace request);

    /// <summary>Ids of requests made up to this time, ms since 1970, may have been forgotten for want of room: a snapshot does not have
    /// them.</summary>
    void RequestsDropped(long madeMs)
    {
    }

    /// <summary>A snapshot is restored whole: nothing is known of single records up to <paramref name="position"/>.</summary>
    void SnapshotRestored(LogPosition position)
    {
    }
}
