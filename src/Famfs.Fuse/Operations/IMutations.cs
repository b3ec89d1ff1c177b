using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Operations;

/// <summary>The program that asks for a change, as its kernel says.</summary>
/// <param name="Uid">Its user id for file systems.</param>
/// <param name="Gid">Its group id for file systems.</param>
public readonly record struct Caller(uint Uid, uint Gid);

/// <summary>
/// The port through which programs change the namespace. Every method is called on a worker, decides without waiting,
/// and either refuses with an error or gives a change that will take its time. Names are bytes that are valid during
/// the call only; none is empty, longer than 255 bytes, or about a hidden directory.
/// </summary>
public interface IMutations
{
    /// <summary>mkdir(2). <see cref="PendingReply.Complete"/> names the new directory.</summary>
    MutationAnswer MakeDirectory(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name, uint mode);

    /// <summary>symlink(2). <see cref="PendingReply.Complete"/> names the new link.</summary>
    MutationAnswer MakeSymlink(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name, ReadOnlySpan<byte> target);

    /// <summary>open(2) with O_CREAT of a name that is not there. <see cref="PendingReply.Complete"/> names the new
    /// file, which is open then.</summary>
    MutationAnswer CreateFile(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name, uint mode, uint openFlags);

    /// <summary>unlink(2).</summary>
    MutationAnswer Unlink(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name);

    /// <summary>rmdir(2).</summary>
    MutationAnswer RemoveDirectory(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name);

    /// <summary>renameat2(2); <paramref name="flags"/> are RENAME_…, 0 for rename(2).</summary>
    MutationAnswer Rename(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name, InodeNumber newParent, ReadOnlySpan<byte> newName, uint flags);

    /// <summary>chmod(2), chown(2) and utimensat(2). A size in <paramref name="wish"/> is the one that the file has.</summary>
    MutationAnswer SetAttributes(Caller caller, InodeNumber inode, in SetAttrIn wish);

    /// <summary>setxattr(2); <paramref name="flags"/> are XATTR_….</summary>
    MutationAnswer SetExtendedAttribute(Caller caller, InodeNumber inode, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, uint flags);

    /// <summary>removexattr(2).</summary>
    MutationAnswer RemoveExtendedAttribute(Caller caller, InodeNumber inode, ReadOnlySpan<byte> name);
}

/// <summary>What the port says to a wish: an error, or a change that is ready to begin. The default value is EIO.</summary>
public readonly struct MutationAnswer
{
    private MutationAnswer(Errno refusal, IMutation? mutation)
    {
        Refusal = refusal;
        Mutation = mutation;
    }

    /// <summary>The error, when there is no <see cref="Mutation"/>.</summary>
    internal Errno Refusal { get; }

    internal IMutation? Mutation { get; }

    /// <summary>A change that begins as soon as its reply has a place among the pending ones.</summary>
    public static MutationAnswer Begin(IMutation mutation) => new(Errno.None, mutation);

    public static implicit operator MutationAnswer(Errno refusal) => new(refusal, null);
}

/// <summary>One change that takes longer than a worker may wait.</summary>
public interface IMutation
{
    /// <summary>Starts it, once, on a worker: neither blocks nor waits for the kernel. Whoever has
    /// <paramref name="reply"/> answers the program, from any thread, also before this returns.</summary>
    void Begin(PendingReply reply);

    /// <summary>The program got a signal while it waits, or just before it was answered. Called on a worker, after
    /// <see cref="Begin"/>; neither blocks nor throws. True: it waits no longer and gets EINTR. False: the change cannot
    /// be taken back, and its outcome will be the answer.</summary>
    bool TryWithdraw();

    /// <summary>The session is over and nobody waits any more. Called once at most, after <see cref="Begin"/>; neither blocks nor
    /// throws.</summary>
    void Abandon();
}

/// <summary>Lets an OPEN wait for what must come before it.</summary>
public interface IOpenDelay
{
    /// <summary>What an OPEN of a file with this map must wait for; null: nothing. On a worker.</summary>
    IMutation? Find(InodeNumber inode, in MapView map);
}

/// <summary>The port of a mount whose programs change nothing: EPERM to everything.</summary>
public sealed class NoMutations : IMutations
{
    /// <inheritdoc/>
    public MutationAnswer MakeDirectory(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name, uint mode) => Errno.EPERM;

    /// <inheritdoc/>
    public MutationAnswer MakeSymlink(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name, ReadOnlySpan<byte> target) => Errno.EPERM;

    /// <inheritdoc/>
    public MutationAnswer CreateFile(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name, uint mode, uint openFlags) => Errno.EPERM;

    /// <inheritdoc/>
    public MutationAnswer Unlink(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name) => Errno.EPERM;

    /// <inheritdoc/>
    public MutationAnswer RemoveDirectory(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name) => Errno.EPERM;

    /// <inheritdoc/>
    public MutationAnswer Rename(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name, InodeNumber newParent, ReadOnlySpan<byte> newName, uint flags) => Errno.EPERM;

    /// <inheritdoc/>
    public MutationAnswer SetAttributes(Caller caller, InodeNumber inode, in SetAttrIn wish) => Errno.EPERM;

    /// <inheritdoc/>
    public MutationAnswer SetExtendedAttribute(Caller caller, InodeNumber inode, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, uint flags) => Errno.EPERM;

    /// <inheritdoc/>
    public MutationAnswer RemoveExtendedAttribute(Caller caller, InodeNumber inode, ReadOnlySpan<byte> name) => Errno.EPERM;
}
