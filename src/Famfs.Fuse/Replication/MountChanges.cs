using System.Text;
using System.Text.Unicode;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Fuse.Keeper;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Famfs.V1;
using Google.Protobuf;
using Microsoft.Extensions.Logging;

namespace Famfs.Fuse.Replication;

/// <summary>
/// Changes that programs ask for through the mount, made by the master (SAFETY S22): a worker begins the call, and the program is
/// answered when the record is applied here, by whoever applies it, or when the master has refused. The kernel has judged the
/// rights (default_permissions), so the daemon asks as itself.
/// <para>Entries are named by the number of their directory: whatever that is called by now is meant.</para>
/// <para>A change has a request id of its own. By that its record is known, whichever of record and answer comes first, and its
/// names are not told to this host's kernel, which holds the directory's lock until the program is answered (S21).</para>
/// <para>Lock: <c>_gate</c>, for a few instructions; nothing is called under it.</para>
/// </summary>
/// <param name="replica">What is applied here.</param>
/// <param name="find">Who calls the master; null: there is none.</param>
/// <param name="clock">For request ids and times.</param>
/// <param name="log">For the operator.</param>
internal sealed class MountChanges(Replica replica, Func<FamfsClient?> find, TimeProvider clock, ILogger log) : IMutations
{
    private const uint NoReplace = 1; // RENAME_NOREPLACE
    private const uint CreateAttribute = 1; // XATTR_CREATE
    private const uint ReplaceAttribute = 2; // XATTR_REPLACE

    /// <summary>Bytes of name and value that one call takes, without what lies around them (docs/protocol.md).</summary>
    private const int MaxAttributeBytes = 59_000;

    private const long NsPerSecond = 1_000_000_000;

    /// <summary>How long a program may be kept waiting, and with it everybody who looks a new name up in that directory. Chosen:
    /// above a restart of a master.</summary>
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(10);

    // Chosen: a master answers within milliseconds when it is there.
    private static readonly TimeSpan s_lookAgain = TimeSpan.FromMilliseconds(5);

    private readonly Lock _gate = new(); // guards the block below
    private readonly Dictionary<Guid, MountChange> _own = [];
    private volatile int _count;
    private volatile bool _saidNone;
    private volatile bool _leaving;
    private volatile RequestMemory? _memory;
    private long _awaitedSince; // when the master was lost that is waited for; 0: none is

    private static ReadOnlySpan<byte> UserPrefix => "user."u8;

    private static ReadOnlySpan<byte> OwnPrefix => "user.famfs."u8;

    /// <summary>Remembers from now on which request goes to the master under which id, beyond the end of this daemon.</summary>
    public void Remember(RequestMemory memory) => _memory = memory;

    /// <inheritdoc/>
    public MutationAnswer MakeDirectory(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name, uint mode)
    {
        if (Refuse(name) is var refusal and not Errno.None)
            return refusal;
        MakeDirectoryRequest request = new() { At = PlaceOf(parent, name), Mode = mode & 0xFFF, ModeSet = true, Uid = caller.Uid, Gid = caller.Gid };
        return Begin(new(this, async (client, id, timeout) =>
        {
            request.RequestId = id;
            MakeDirectoryReply reply = await client.MakeDirectoryAsync(request, timeout).ConfigureAwait(false);
            return (reply.Position, reply.Directory.Inode);
        }), parent, name);
    }

    /// <inheritdoc/>
    public MutationAnswer MakeSymlink(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name, ReadOnlySpan<byte> target)
    {
        if (Refuse(name) is var refusal and not Errno.None)
            return refusal;
        if (target.Length > InodeTree.MaxSymlinkTargetBytes)
            return Errno.ENAMETOOLONG;
        if (!Utf8.IsValid(target))
            return Errno.EINVAL;
        MakeSymlinkRequest request = new() { At = PlaceOf(parent, name), Target = Encoding.UTF8.GetString(target), Uid = caller.Uid, Gid = caller.Gid };
        return Begin(new(this, async (client, id, timeout) =>
        {
            request.RequestId = id;
            MakeSymlinkReply reply = await client.MakeSymlinkAsync(request, timeout).ConfigureAwait(false);
            return (reply.Position, reply.Link.Inode);
        }), parent, name);
    }

    // A file has a size from its beginning, which open(2) does not say.
    /// <inheritdoc/>
    public MutationAnswer CreateFile(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name, uint mode, uint openFlags) => Errno.EPERM;

    /// <inheritdoc/>
    public MutationAnswer Unlink(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name) => Remove(parent, name, RemoveKind.File);

    /// <inheritdoc/>
    public MutationAnswer RemoveDirectory(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name) => Remove(parent, name, RemoveKind.Directory);

    /// <inheritdoc/>
    public MutationAnswer Rename(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name, InodeNumber newParent, ReadOnlySpan<byte> newName, uint flags)
    {
        if ((flags & ~NoReplace) != 0)
            return Errno.EINVAL;
        if (Refuse(name) is var refusal and not Errno.None)
            return refusal;
        if (!Utf8.IsValid(newName))
            return Errno.EINVAL;
        RenameRequest request = new() { OldAt = PlaceOf(parent, name), NewAt = PlaceOf(newParent, newName), Replace = flags == 0 };
        MountChange change = new(this, async (client, id, timeout) =>
        {
            request.RequestId = id;
            return ((await client.RenameAsync(request, timeout).ConfigureAwait(false)).Position, 0);
        });
        return MutationAnswer.Begin(change.About(parent, name).About(newParent, newName));
    }

    /// <inheritdoc/>
    public MutationAnswer SetAttributes(Caller caller, InodeNumber inode, in SetAttrIn wish)
    {
        if (RefuseAny() is var refusal and not Errno.None)
            return refusal;
        SetAttributesRequest request = new() { Inode = inode.Value };
        if ((wish.Valid & FuseConstants.FATTR_MODE) != 0)
            request.Mode = wish.Mode & 0xFFF;
        if ((wish.Valid & FuseConstants.FATTR_UID) != 0)
            request.Uid = wish.Uid;
        if ((wish.Valid & FuseConstants.FATTR_GID) != 0)
            request.Gid = wish.Gid;
        if (!TrySetTimes(request, wish, out bool accessNow, out bool modifyNow))
            return Errno.EINVAL;
        if (!request.HasMode && !request.HasUid && !request.HasGid && !request.TimesNow && !request.HasAccessTimeNs && !request.HasModifyTimeNs)
            return MutationAnswer.Begin(new MountChange(this, null));
        return MutationAnswer.Begin(OfAttributes(request, Errno.ESTALE, accessNow, modifyNow));
    }

    /// <inheritdoc/>
    public MutationAnswer SetExtendedAttribute(Caller caller, InodeNumber inode, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, uint flags)
    {
        if (flags is not (0 or CreateAttribute or ReplaceAttribute))
            return Errno.EINVAL;
        if (RefuseAttribute(name) is var refusal and not Errno.None)
            return refusal;
        if (name.Length + value.Length > MaxAttributeBytes)
            return Errno.E2BIG;
        ExtendedAttribute attribute = new() { Name = ByteString.CopyFrom(name), Value = ByteString.CopyFrom(value) };
        AttributeCondition condition = flags switch
        {
            CreateAttribute => AttributeCondition.IsNew,
            ReplaceAttribute => AttributeCondition.IsThere,
            _ => AttributeCondition.None,
        };
        return MutationAnswer.Begin(OfAttributes(new() { Inode = inode.Value, Attributes = { attribute }, Condition = condition }, Errno.ENODATA));
    }

    /// <inheritdoc/>
    public MutationAnswer RemoveExtendedAttribute(Caller caller, InodeNumber inode, ReadOnlySpan<byte> name)
    {
        if (RefuseAttribute(name) is var refusal and not Errno.None)
            return refusal;
        ExtendedAttribute attribute = new() { Name = ByteString.CopyFrom(name), Removed = true };
        return MutationAnswer.Begin(OfAttributes(new() { Inode = inode.Value, Attributes = { attribute }, Condition = AttributeCondition.IsThere }, Errno.ENODATA));
    }

    /// <summary>A program waits for a change. Any thread.</summary>
    public bool HasAny => _count != 0;

    /// <summary>The change that a record is known for by its request id, if a program waits for it; else null. Whoever applies.</summary>
    public MountChange? Find(ReadOnlySpan<byte> requestId)
    {
        if (_count == 0)
            return null;
        Guid id = new(requestId, bigEndian: true);
        lock (_gate)
            return _own.GetValueOrDefault(id);
    }

    /// <summary>Records up to <paramref name="position"/> are in the tree: who waits for one of them, and is not known by its id, is
    /// answered. Whoever applies.</summary>
    public void Applied(LogSequence position)
    {
        if (_count == 0)
            return;
        List<MountChange> due;
        lock (_gate)
            due = [.. _own.Values.Where(c => c.Until.Value != 0 && c.Until.Value <= position.Value)];
        foreach (MountChange change in due)
            change.Complete(change.Made);
    }

    /// <summary>Ends with the changes in a directory that programs wait for now; null: there is none. The notifier's thread.</summary>
    public Task? PendingIn(InodeNumber directory)
    {
        if (_count == 0)
            return null;
        Task[] pending;
        lock (_gate)
            pending = [.. _own.Values.Where(c => c.Locks(directory)).Select(c => c.Ended)];
        return pending.Length == 0 ? null : Task.WhenAll(pending);
    }

    /// <summary>Nobody waits for it any more.</summary>
    public void Forget(MountChange change)
    {
        lock (_gate)
        {
            if (_own.TryGetValue(change.RequestId, out MountChange? known) && known == change)
                _own.Remove(change.RequestId);
            _count = _own.Count;
        }
    }

    /// <summary>A master is to be expected, because this daemon continues for another, or one has just gone: until one is reached, and
    /// for the time of its restart at most, programs wait for it and are not refused. Any thread.</summary>
    public void AwaitMaster()
    {
        Volatile.Write(ref _awaitedSince, Math.Max(clock.GetTimestamp(), 1));
    }

    /// <summary>Calls the master, on the thread pool. On a worker.</summary>
    public void Start(MountChange change)
    {
        if (find() is { } client)
            _ = Task.Run(() => RunAsync(change, client));
        else if (MayComeYet())
            _ = Task.Run(() => RunWhenReachedAsync(change));
        else
            change.Fail(Errno.EHOSTDOWN);
    }

    private bool MayComeYet() => Volatile.Read(ref _awaitedSince) is > 0 and long since && clock.GetElapsedTime(since) < s_patience;

    // Of a loss that was known before the master was looked for: the next one may come in between.
    private void AwaitNoMore(long since) => Interlocked.CompareExchange(ref _awaitedSince, 0, since);

    private async Task RunWhenReachedAsync(MountChange change)
    {
        FamfsClient? client;
        long since;
        while (true)
        {
            since = Volatile.Read(ref _awaitedSince);
            client = find();
            if (client is not null || !MayComeYet())
                break;
            await Task.Delay(s_lookAgain, clock).ConfigureAwait(false);
        }
        AwaitNoMore(since);
        if (client is not null)
            await RunAsync(change, client).ConfigureAwait(false);
        else
            change.Fail(Errno.EHOSTDOWN);
    }

    /// <summary>Its program has its answer.</summary>
    public void Answered(MountChange change)
    {
        // The kernel sends it again to the next daemon when the answer came too late.
        if (!_leaving && change.NowNs != 0)
            _memory?.Forget(change.Unique);
    }

    /// <summary>Another daemon goes on: what is not answered yet is answered there.</summary>
    public void Leave() => _leaving = true;

    private async Task RunAsync(MountChange change, FamfsClient client)
    {
        try
        {
            Position position;
            ulong made;
            try
            {
                (position, made) = await change.CallAsync(client, FirstId(change, client), s_patience).ConfigureAwait(false);
            }
            catch (FamfsException error) when (error.Reason == ErrorReason.BadRequest && FamfsClient.DetailOf(error) is { MasterTimeMs: > 0 })
            {
                // Nothing was done. By now the client knows how far the clocks are apart.
                (position, made) = await change.CallAsync(client, NewId(change, client), s_patience).ConfigureAwait(false);
            }
            bool isApplied;
            lock (_gate)
            {
                (change.Until, change.Made) = (new(position.Sequence), new(made));
                isApplied = replica.Position.Sequence.Value >= position.Sequence;
            }
            if (isApplied)
            {
                change.Complete(change.Made);
                return;
            }
            await change.Ended.WaitAsync(s_patience, clock).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            ReplicationLog.PerhapsMade(log, $"record {change.Until} did not come to this host");
            change.Fail(Errno.ETIMEDOUT);
        }
        catch (FamfsException error)
        {
            Errno errno = ErrnoOf(error, change);
            if (errno == Errno.ETIMEDOUT)
                ReplicationLog.PerhapsMade(log, error.Message);
            change.Fail(errno);
        }
        catch (Exception error) when (error is OperationCanceledException or ObjectDisposedException)
        {
            change.Fail(Errno.EHOSTDOWN); // the mount ends
        }
        catch (Exception error)
        {
            // Whatever it is, a program waits, and so does the thread that tells the kernel of this directory.
            ReplicationLog.PerhapsMade(log, error.Message);
            change.Fail(Errno.EIO);
        }
    }

    // A request that the kernel sends again is the change that a former daemon began.
    private ByteString FirstId(MountChange change, FamfsClient client)
    {
        if (_memory is { } memory && memory.TryFind(change.Unique, out Guid known, out long timeNs))
        {
            change.NowNs = timeNs;
            Expect(change, known);
            return known.ToByteString();
        }
        change.NowNs = NowNs();
        return NewId(change, client);
    }

    private ByteString NewId(MountChange change, FamfsClient client)
    {
        ByteString id = client.NewRequestId();
        Guid known = id.ToGuid("request id");
        _memory?.Remember(change.Unique, known, change.NowNs);
        Expect(change, known);
        return id;
    }

    private void Expect(MountChange change, Guid id)
    {
        lock (_gate)
        {
            _own.Remove(change.RequestId);
            change.RequestId = id;
            _own[id] = change;
            _count = _own.Count;
        }
    }

    private long NowNs() => (clock.GetUtcNow().UtcTicks - DateTime.UnixEpoch.Ticks) * 100;

    private MutationAnswer Remove(InodeNumber parent, ReadOnlySpan<byte> name, RemoveKind kind)
    {
        if (Refuse(name) is var refusal and not Errno.None)
            return refusal;
        RemoveRequest request = new() { At = PlaceOf(parent, name), Kind = kind };
        return Begin(new(this, async (client, id, timeout) =>
        {
            request.RequestId = id;
            return ((await client.RemoveAsync(request, timeout).ConfigureAwait(false)).Position, 0);
        }), parent, name);
    }

    private MountChange OfAttributes(SetAttributesRequest request, Errno notFound, bool accessNow = false, bool modifyNow = false)
    {
        MountChange? change = null;
        return change = new(this, async (client, id, timeout) =>
        {
            request.RequestId = id;
            if (accessNow)
                request.AccessTimeNs = change!.NowNs;
            if (modifyNow)
                request.ModifyTimeNs = change!.NowNs;
            return ((await client.SetAttributesAsync(request, timeout).ConfigureAwait(false)).Position, request.Inode);
        })
        { NotFound = notFound };
    }

    private static MutationAnswer Begin(MountChange change, InodeNumber parent, ReadOnlySpan<byte> name) => MutationAnswer.Begin(change.About(parent, name));

    private static Place PlaceOf(InodeNumber directory, ReadOnlySpan<byte> name) => new() { Directory = directory.Value, Name = Encoding.UTF8.GetString(name) };

    private Errno Refuse(ReadOnlySpan<byte> name) => Utf8.IsValid(name) ? RefuseAny() : Errno.EINVAL;

    private Errno RefuseAttribute(ReadOnlySpan<byte> name) =>
        !name.StartsWith(UserPrefix) || name.Length == UserPrefix.Length ? Errno.EOPNOTSUPP
        : name.StartsWith(OwnPrefix) ? Errno.EPERM
        : RefuseAny();

    private Errno RefuseAny()
    {
        if (replica.Damage is not null)
            return Errno.EROFS;
        long since = Volatile.Read(ref _awaitedSince);
        if (find() is not null)
        {
            _saidNone = false;
            AwaitNoMore(since);
            return Errno.None;
        }
        if (MayComeYet())
            return Errno.None;
        if (!_saidNone)
            ReplicationLog.NoChanges(log, "no master is reached");
        _saidNone = true;
        return Errno.EHOSTDOWN;
    }

    // Of the two that are now, the time is set when the change is asked for.
    private static bool TrySetTimes(SetAttributesRequest request, in SetAttrIn wish, out bool accessNow, out bool modifyNow)
    {
        bool access = (wish.Valid & FuseConstants.FATTR_ATIME) != 0;
        bool modify = (wish.Valid & FuseConstants.FATTR_MTIME) != 0;
        accessNow = access && (wish.Valid & FuseConstants.FATTR_ATIME_NOW) != 0;
        modifyNow = modify && (wish.Valid & FuseConstants.FATTR_MTIME_NOW) != 0;
        if (accessNow && modifyNow)
        {
            request.TimesNow = true;
            accessNow = modifyNow = false;
            return true;
        }
        long time = 0;
        if (access && !accessNow && !TryJoin(wish.AccessSeconds, wish.AccessNanoseconds, out time))
            return false;
        if (access)
            request.AccessTimeNs = time;
        if (modify && !modifyNow && !TryJoin(wish.ModifySeconds, wish.ModifyNanoseconds, out time))
            return false;
        if (modify)
            request.ModifyTimeNs = time;
        return true;
    }

    // Seconds may be negative (before 1970) while nanoseconds never are.
    private static bool TryJoin(ulong seconds, uint nanoseconds, out long timeNs)
    {
        Int128 time = ((Int128)(long)seconds * NsPerSecond) + nanoseconds;
        timeNs = (long)Int128.Clamp(time, long.MinValue, long.MaxValue);
        return time == timeNs && nanoseconds < NsPerSecond;
    }

    private static Errno ErrnoOf(FamfsException error, MountChange change) => error.Reason switch
    {
        ErrorReason.Exists or ErrorReason.ExistsDifferent => Errno.EEXIST,
        ErrorReason.NotFound => change.NotFound,
        ErrorReason.NotADirectory => Errno.ENOTDIR,
        ErrorReason.IsADirectory => Errno.EISDIR,
        ErrorReason.NotEmpty => Errno.ENOTEMPTY,
        ErrorReason.NoSpace or ErrorReason.LogFull => Errno.ENOSPC,
        ErrorReason.Quota => Errno.EDQUOT,
        ErrorReason.BadPath => error.Limit > 0 ? Errno.ENAMETOOLONG : Errno.EINVAL,
        ErrorReason.BadRequest or ErrorReason.BadSize => Errno.EINVAL,
        ErrorReason.NotPermitted or ErrorReason.NotSupportedByFormat or ErrorReason.NotImplemented => Errno.EPERM,
        ErrorReason.ReadOnly => Errno.EROFS,
        ErrorReason.Overloaded => Errno.EAGAIN,
        ErrorReason.NotMaster or ErrorReason.HostGone => Errno.EHOSTDOWN,
        ErrorReason.Timeout or ErrorReason.Unspecified or ErrorReason.RequestExpired => Errno.ETIMEDOUT,
        _ => Errno.EIO,
    };
}
