using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;

namespace Famfs.Fuse.Operations;

/// <summary>What the gate says to an OPEN of a regular file.</summary>
public enum OpenVerdict
{
    Open = 0,

    /// <summary>No master has registered this host yet (SAFETY S11): EHOSTDOWN.</summary>
    HostDown,
}

/// <summary>Asked before every OPEN of a regular file is answered: has this mount said, where every master
/// looks, that it may hold memory (SAFETY S11)? Called on workers, so it never waits for a master.</summary>
public interface IOpenGate
{
    /// <summary>Whether the file may be opened now.</summary>
    OpenVerdict Admit(InodeNumber inode);
}

/// <summary>The devices this host has. Called on workers; does not block.</summary>
public interface IDeviceResolver
{
    /// <summary>The device, or null when this host does not have it: what lies there reads and writes EIO, and
    /// nothing else is affected.</summary>
    DaxDevice? Resolve(DeviceIndex index);
}

/// <summary>Knows when programs wrote files through this mount, as far as the log does not. Any thread; neither blocks nor
/// throws.</summary>
public interface IWrittenFiles
{
    /// <summary>The content of a file has changed. <paramref name="modifyTimeNs"/>: the time of modification that the log has for it:
    /// every writing moves the time that is shown.</summary>
    void OnWritten(InodeNumber inode, long modifyTimeNs);

    /// <summary>An open file of a node was closed for the last time.</summary>
    void OnClosed(InodeNumber inode);

    /// <summary>When a file was written, nanoseconds since 1970; false when the log knows all of it.</summary>
    bool TryGet(InodeNumber inode, out long timeNs);
}

/// <summary>How full the pool is, for statfs.</summary>
/// <param name="TotalBytes">Of all devices, as far as files can use it.</param>
/// <param name="FreeBytes">Allocatable now.</param>
/// <param name="PendingBytes">Of removed files, and not allocatable.</param>
public readonly record struct PoolCapacity(ulong TotalBytes, ulong FreeBytes, ulong PendingBytes = 0);

/// <summary>Knows how full the pool is. Called on workers; does not block.</summary>
public interface ICapacity
{
    /// <summary>As of the last record replayed.</summary>
    PoolCapacity Capacity { get; }
}

/// <summary>Extended attributes of the root that describe the mount.</summary>
public enum MountAttribute
{
    /// <summary><c>user.famfs.uuid</c>: of the file system.</summary>
    Uuid,

    /// <summary><c>user.famfs.mount</c>: of this mount.</summary>
    Mount,

    /// <summary><c>user.famfs.position</c>: replayed up to.</summary>
    Position,

    /// <summary><c>user.famfs.master</c>: its address, while it is reached.</summary>
    Master,

    /// <summary><c>user.famfs.log-master</c>: address of the master of the newest term, as the log has it.</summary>
    LogMaster,

    /// <summary><c>user.famfs.registration</c>: <c>registered</c> when files can be opened, <c>pending</c> while that is not known,
    /// else why they cannot.</summary>
    Registration,

    /// <summary><c>user.famfs.dialect</c>: how the kernel is served; "stock" on one without famfs.</summary>
    Dialect,

    /// <summary><c>user.famfs.devices</c>: a line "index uuid path" for each device of this host.</summary>
    Devices,

    /// <summary><c>user.famfs.requests</c>: messages read from the kernel so far, the one that asks for this among them.
    /// Two readings differ by what one costs and by what came in between.</summary>
    Requests,

    /// <summary><c>user.famfs.failures</c>: requests that failed by a mistake of the daemon, or whose reply could not be
    /// sent. The daemon's log has the last cause.</summary>
    Failures,

    /// <summary><c>user.famfs.damage</c>: why the log is not followed any further and nothing may be written; absent while
    /// it is whole.</summary>
    Damage,

    /// <summary><c>user.famfs.missing-devices</c>: a line "index uuid" for each device of the pool that this host lacks; absent
    /// while it has all. What is on them answers EIO.</summary>
    MissingDevices,

    /// <summary><c>user.famfs.version</c>: of the daemon.</summary>
    Version,

    /// <summary><c>user.famfs.keeper</c>: what keeps the mount beyond the death of its daemon; absent while nothing does.</summary>
    Keeper,

    /// <summary><c>user.famfs.lease</c>: within how many milliseconds the mount gives up its files when it cannot write its line; absent
    /// where it does not (policy <c>confirmed</c>, a famfs kernel, a mount that was begun before the policy).</summary>
    Lease,
}

/// <summary>Gives the values of <see cref="MountAttribute"/>. Called on workers; neither blocks nor allocates.</summary>
public interface IMountDescription
{
    /// <summary>Writes the value as text; false when it is not known now, and the attribute is absent then.</summary>
    bool TryWrite(MountAttribute attribute, Span<byte> destination, out int bytes);
}

/// <summary>Everything the operations work on.</summary>
/// <param name="Tree">The namespace.</param>
/// <param name="Devices">The memory.</param>
/// <param name="Gate">Admits OPEN.</param>
/// <param name="Capacity">For statfs.</param>
/// <param name="Description">For the root's attributes.</param>
public sealed record OperationDependencies(
    InodeTree Tree, IDeviceResolver Devices, IOpenGate Gate, ICapacity Capacity, IMountDescription Description)
{
    /// <summary>The devices a famfs kernel is given; empty on a stock one.</summary>
    public KernelDevices KernelDevices { get; init; } = new();

    /// <summary>False from the moment on that no file may be written: the log is damaged. Called on workers; does not
    /// block.</summary>
    public Func<bool> MayWrite { get; init; } = static () => true;

    /// <summary>True from the moment on that this mount may have no file (P2): the log has that it is gone, or the tree is of a history
    /// that is over. Called on workers; does not block.</summary>
    public Func<bool> IsRevoked { get; init; } = static () => false;

    /// <summary>Makes the changes that programs ask for.</summary>
    public IMutations Mutations { get; init; } = new NoMutations();

    /// <summary>When files were written; null: writing moves no times. Not asked where the kernel writes without this server.</summary>
    public IWrittenFiles? Written { get; init; }

    /// <summary>What this host's caches may have of space from before; null: nothing.</summary>
    public ReusedSpace? Reused { get; init; }

    /// <summary>Lets an OPEN wait until this host's caches have nothing of the file's space from before; null: the worker drops it
    /// itself.</summary>
    public IOpenDelay? OpenDelay { get; init; }

    /// <summary>Lets the daemon flush files of its own mount; null: it reaches their memory in another way.</summary>
    public FlushDoor? FlushDoor { get; init; }

    /// <summary>How many daemons have served this mount before.</summary>
    public uint Generation { get; init; }

    /// <summary>What lies in <c>.meta</c>; null: there is no such directory.</summary>
    public MetaFiles? Meta { get; init; }

    /// <summary>What lies in <c>.meta/window</c>.</summary>
    public WindowTable Windows { get; init; } = new();
}
