using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Session;
using Famfs.V1;

namespace Famfs.Fuse.Replication;

/// <summary>
/// Tells the kernel's notifier what replay changes, and the gate what the kernel has been told (SAFETY S21: apply on the
/// thread that brings records, notify on the notifier's). Before there is a mount nobody has to be told anything.
/// <para>Everything but what the notifier calls is called by whoever applies records, under <c>Replica._applying</c>.</para>
/// </summary>
internal sealed class NotifyBridge(AckGate gate, ReusedSpace reused) : IReplayObserver, IDisposable
{
    private KernelNotifier? _notifier;
    private TreeReader? _reader; // set once, before the first record
    private WrittenFiles? _written;
    private HeldFiles? _held;
    private LogSequence _appliedUpTo;
    private readonly List<MapExtent> _devices = []; // each whole
    private MountChanges? _changes;
    private MountChange? _own; // what a program of this mount waits for, and the record at hand does
    private readonly List<(MountChange Change, InodeNumber Made)> _done = []; // those that are applied and not answered

    /// <summary>Reads <paramref name="tree"/> for what a change alone does not say.</summary>
    public void Read(InodeTree tree) => _reader = tree.RegisterReader();

    /// <summary>Everything applied from now on is told to <paramref name="notifier"/>. What was applied before counts as
    /// told: a kernel that has just mounted knows nothing.</summary>
    /// <param name="notifier">Tells the kernel.</param>
    /// <param name="written">What is shown beside the log of files that were written; null: nothing is.</param>
    /// <param name="held">Deleted files that this host may still have; null: nobody asks.</param>
    /// <param name="changes">What programs of this mount have asked for; null: they ask for nothing.</param>
    public void Attach(KernelNotifier notifier, WrittenFiles? written, HeldFiles? held = null, MountChanges? changes = null)
    {
        _changes = changes;
        notifier.Notified += gate.Told;
        if (changes is not null)
            notifier.Locked = changes.PendingIn;
        _written = written;
        _held = held;
        _notifier = notifier;
    }

    /// <summary>Times that were shown beside the log are not shown any more: the kernel is told of files of which the log has others.</summary>
    public void Settled(IReadOnlyList<(InodeNumber Inode, long TimeNs)> files, LogPosition position)
    {
        foreach ((InodeNumber inode, long time) in files)
        {
            bool same;
            using (TreeScope scope = _reader!.Enter())
                same = scope.TryGet(inode, out InodeAttributes found) && found.ModifyTimeNs == time && found.ChangeTimeNs >= time;
            if (!same)
                InodeChanged(inode);
        }
        _notifier?.Applied(position.Sequence);
    }

    /// <summary>Records up to <paramref name="position"/> are in the tree, and what they changed was said to this object.</summary>
    public void Applied(LogPosition position)
    {
        _appliedUpTo = position.Sequence;
        foreach ((MountChange change, InodeNumber made) in _done)
        {
            // A program that does not wait any more has not told its kernel.
            if (!change.Complete(made) && _notifier is { } notifier)
                change.Tell(notifier);
        }
        _done.Clear();
        _changes?.Applied(position.Sequence);
        gate.Applied(position, told: _notifier is null);
        _notifier?.Applied(position.Sequence);
    }

    /// <summary>A file that is no inode of the log has gone from a directory.</summary>
    public void PrivateFileGone(InodeNumber directory, InodeNumber file, ReadOnlySpan<byte> name)
    {
        _notifier?.EntryChanged(directory, name);
        _notifier?.ContentChanged(file);
    }

    public void RecordBegins(ReadOnlySpan<byte> requestId) => _own = requestId.IsEmpty ? null : _changes?.Find(requestId);

    // The kernel holds the directory's lock until the program is answered, and then has the name right by itself (S21).
    public void EntryChanged(InodeNumber parent, ReadOnlySpan<byte> name)
    {
        if (_own is null)
            _notifier?.EntryChanged(parent, name);
    }

    public void EntryRemoved(InodeNumber parent, InodeNumber inode, ReadOnlySpan<byte> name)
    {
        if (_own is null)
            _notifier?.EntryDeleted(parent, inode, name);
    }

    public void InodeChanged(InodeNumber inode)
    {
        if (_notifier is null)
            return;
        InodeNumber parent = InodeNumber.None;
        using (TreeScope scope = _reader!.Enter())
        {
            if (scope.TryGetName(inode, out InodeNumber named, out _))
                parent = named;
        }
        _notifier.AttributesChanged(inode, parent);
    }

    // What this mount's programs wrote came before.
    public void ModifyTimeSet(InodeNumber inode, LogSequence sequence) => _written?.Forget(inode);

    // Its link count. What it holds stays, for whoever has it open; a name of it is told before.
    public void FileDeleted(InodeNumber inode)
    {
        _notifier?.AttributesChanged(inode, InodeNumber.None);
        _held?.Deleted(inode, _appliedUpTo);
    }

    public void ExtentsTaken(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
    {
    }

    public void ExtentsFreed(InodeNumber inode, ReadOnlySpan<MapExtent> extents) => reused.Add(extents);

    // Which space was given back before, a snapshot does not say; this host's caches may have lines of any.
    public void SnapshotRestored(LogPosition position) => reused.Add(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_devices));

    public void DeviceAdded(DeviceAdded device)
    {
        _devices.Add(new(new((ushort)device.Index), 0, (long)device.LengthBytes));
        // Before there is a mount they are looked for anyway.
        if (_notifier is not null)
            gate.DeviceJoins();
    }

    // Who waits for a change has asked for it before any snapshot has it.
    public bool FollowsRequests => _changes is { HasAny: true };

    public void RequestSeen(in RequestTrace request)
    {
        if (_own is { } own)
            _done.Add((own, request.Inode));
        _own = null;
    }

    public void Dispose() => _reader?.Dispose();
}
