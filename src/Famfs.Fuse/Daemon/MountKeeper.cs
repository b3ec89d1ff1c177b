using System.Diagnostics;
using System.Runtime.InteropServices;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Keeper;
using Famfs.Fuse.Session;
using Famfs.V1;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Fuse.Daemon;

/// <summary>A mount whose daemon is gone, in the hands of this one.</summary>
/// <param name="State">What it is.</param>
/// <param name="Connection">Its descriptors.</param>
/// <param name="Files">Files of the mount that are open, by inode: ranges of devices that its kernel holds.</param>
internal sealed record TakenMount(KeptState State, DeviceConnection Connection, IReadOnlyDictionary<InodeNumber, SafeFileHandle> Files) : IDisposable
{
    /// <summary>Closes what nobody has taken. What is kept stays.</summary>
    public void Dispose()
    {
        Connection.Dispose();
        foreach (SafeFileHandle file in Files.Values)
            file.Dispose();
    }
}

/// <summary>What tells whether the keeper has everything: changes when the kernel holds more, and when there are other files to it.</summary>
/// <param name="Devices">Devices of the log.</param>
/// <param name="Segments">Segments of the log. One may go when another comes.</param>
/// <param name="NewestSegment">The inode of the last one.</param>
/// <param name="Present">Devices that are here.</param>
internal readonly record struct KeptScope(int Devices, int Segments, InodeNumber NewestSegment, int Present);

/// <summary>
/// This daemon's dealings with the keeper of its host: takes a mount over that has no daemon, and has its own kept. Without a
/// keeper nothing is done; one that comes later, or comes again, is given what there is. One thread at a time: the starting one,
/// then upkeep, then the ending one.
/// </summary>
internal sealed class MountKeeper(DaemonOptions options, ILogger log) : IDisposable
{
    // Chosen: how soon a keeper that comes is found.
    private static readonly TimeSpan LookAgain = TimeSpan.FromSeconds(1);

    // Chosen: how soon this process sees that it is told to end while it waits for another to leave. A keeper tells when that one has.
    private static readonly TimeSpan LookUp = TimeSpan.FromMilliseconds(250);

    // Chosen: for keepers of older versions, which do not tell.
    private static readonly TimeSpan AskAgain = TimeSpan.FromSeconds(1);

    // Chosen: above the time that a daemon gives the changes it has begun, and a loaded machine takes.
    private static readonly TimeSpan LeavePatience = TimeSpan.FromSeconds(60);

    // Chosen: above what a restart of the keeper takes on a loaded machine.
    private static readonly TimeSpan RestartPatience = TimeSpan.FromSeconds(10);

    // Chosen: how soon a keeper that is back is seen.
    private static readonly TimeSpan LookForIt = TimeSpan.FromMilliseconds(20);

    private readonly TaskCompletionSource _leaveAsked = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private IDescriptorKeeper? _keeper;
    private Func<bool, (KeptDevices Devices, IReadOnlyList<SafeHandle> Files)?> _describe = static _ => null;
    private KeptScope _described; // of which log the keeper has what the kernel holds
    private long? _looked;
    private volatile string? _keptBy;
    private long _lost; // when the keeper was that had it; 0: none has been lost
    private bool _isOver;
    private bool _isTaken;
    private string? _said;

    /// <summary>What outlives this daemon; null before <see cref="Begin"/>.</summary>
    public KeptState? State { get; private set; }

    /// <summary>The mount outlives this daemon now.</summary>
    public bool IsKept => _keptBy is not null;

    /// <summary>What keeps it, by name; null: nothing. Any thread.</summary>
    public string? KeptBy => _keptBy;

    /// <summary>Ends when another daemon waits for this one's mount.</summary>
    public Task LeaveAsked => _leaveAsked.Task;

    /// <summary>Takes over what is kept of the mount point, if it lives: another daemon that serves it is asked to leave it first. Null:
    /// nothing is kept, or it is over and was dropped. Throws <see cref="FamfsException"/> when it cannot be taken over; it stays
    /// kept then.</summary>
    public async Task<TakenMount?> TakeAsync(CancellationToken cancel)
    {
        if (!options.UseKeeper || (_keeper = Connect()) is null)
            return null;
        try
        {
            long start = Stopwatch.GetTimestamp();
            bool said = false;
            SafeFileHandle[] descriptors;
            TakeOutcome outcome;
            while ((outcome = _keeper.TryTake(options.MountPoint, out descriptors, out int holder)) == TakeOutcome.Busy)
            {
                if (Stopwatch.GetElapsedTime(start) > LeavePatience)
                    throw new FamfsException(ErrorReason.Exists, $"{options.MountPoint}: process {holder} serves it, and does not leave it to this one") { Path = options.MountPoint };
                if (!said)
                    DaemonLog.AsksToLeave(log, holder, options.MountPoint);
                said = true;
                await AwaitLeftAsync(_keeper, cancel).ConfigureAwait(false);
            }
            return outcome == TakeOutcome.Taken ? Adopt(descriptors) : null;
        }
        catch (IOException error) when (!_isTaken)
        {
            Lose(error.Message);
            return null;
        }
        catch (IOException error)
        {
            throw new FamfsException(ErrorReason.Exists, $"{options.MountPoint}: what is kept of it cannot be taken over: {error.Message}", error) { Path = options.MountPoint };
        }
    }

    private static async Task AwaitLeftAsync(IDescriptorKeeper keeper, CancellationToken cancel)
    {
        long start = Stopwatch.GetTimestamp();
        while (!await Task.Run(() => keeper.AwaitLeft(LookUp), CancellationToken.None).ConfigureAwait(false))
        {
            cancel.ThrowIfCancellationRequested();
            if (Stopwatch.GetElapsedTime(start) > AskAgain)
                return;
        }
    }

    /// <summary>The mount is there and served: it is kept from now on, where there is a keeper.</summary>
    /// <param name="mount">The mount.</param>
    /// <param name="create">Makes its state, where it was not taken over.</param>
    /// <param name="describe">Gives what its kernel holds; true: what is not open yet is opened.</param>
    public void Begin(FuseMount mount, Func<KeptMount> create, Func<bool, (KeptDevices Devices, IReadOnlyList<SafeHandle> Files)?> describe)
    {
        if (!options.UseKeeper)
            return;
        _describe = describe;
        try
        {
            State ??= KeptState.Create(create());
            Keep(mount, isServed: false);
        }
        catch (IOException error)
        {
            Lose(error.Message);
        }
        if (_keeper is not null && !mount.Negotiated.Resends)
            DaemonLog.NoResend(log);
    }

    /// <summary>Gives the keeper what it has not, and hears what it has to tell. <paramref name="mayBeKept"/>: false when nobody may have
    /// this mount but its daemon. <paramref name="scope"/>: what the keeper is to have.</summary>
    public void Advance(FuseMount mount, KeptScope scope, bool mayBeKept)
    {
        if (State is null || _isOver)
            return;
        if (!mayBeKept)
        {
            Drop();
            DaemonLog.NotKept(log, options.MountPoint, "under policy lease a mount without a daemon could not be revoked in time");
            return;
        }
        try
        {
            if (_keeper is null)
            {
                if (_looked is { } looked && Stopwatch.GetElapsedTime(looked) < LookAgain)
                    return;
                _looked = Stopwatch.GetTimestamp();
                _keeper = Connect();
                Keep(mount, isServed: true);
                _described = scope;
                return;
            }
            if (State.Mount.Devices is not null && _described != scope)
            {
                Keep(mount, isServed: true);
                _described = scope;
            }
            switch (_keeper.Poll())
            {
                case KeeperNews.Leave when IsKept:
                    _leaveAsked.TrySetResult();
                    break;
                case KeeperNews.Lost:
                    Lose("the keeper has ended");
                    break;
            }
        }
        catch (IOException error)
        {
            Lose(error.Message);
        }
    }

    /// <summary>Whether the mount is kept, now or when a keeper that has just ended is back: both may be restarted together. Any
    /// thread, while upkeep runs.</summary>
    public async Task<bool> AwaitKeptAsync()
    {
        while (!IsKept)
        {
            long lost = Volatile.Read(ref _lost);
            if (lost == 0 || Stopwatch.GetElapsedTime(lost) >= RestartPatience)
                return false;
            await Task.Delay(LookForIt).ConfigureAwait(false);
        }
        return true;
    }

    /// <summary>Asks whether the keeper is there: what this daemon leaves is the next one's. One that has ended meanwhile is waited
    /// for, and given the mount.</summary>
    public async Task<bool> StillKeepsAsync(FuseMount mount)
    {
        long start = Stopwatch.GetTimestamp();
        while (!_isOver)
        {
            try
            {
                if (_keeper is not null && _keeper.Poll() != KeeperNews.Lost)
                    return true;
                Disconnect();
                _keeper = Connect();
                Keep(mount, isServed: false); // nobody answers any more
                if (_keeper is not null)
                    continue;
            }
            catch (IOException error)
            {
                Lose(error.Message);
            }
            if (Stopwatch.GetElapsedTime(start) >= RestartPatience)
                break;
            await Task.Delay(LookForIt).ConfigureAwait(false);
        }
        return false;
    }

    /// <summary>The mount ends: nobody takes it over any more.</summary>
    public void Drop()
    {
        _isOver = true;
        Volatile.Write(ref _lost, 0);
        _keptBy = null;
        TryDrop();
        Disconnect();
    }

    private void TryDrop()
    {
        try
        {
            _keeper?.Drop(options.MountPoint);
        }
        catch (IOException)
        {
            // A keeper that has ended has nothing either.
        }
    }

    /// <summary>Gives up its hold: the next daemon has the mount. What is kept stays.</summary>
    public void Dispose()
    {
        Disconnect();
        State?.Dispose();
    }

    private IDescriptorKeeper? Connect() =>
        (IDescriptorKeeper?)ServiceStore.TryOpen(Environment.GetEnvironmentVariable, Environment.ProcessId)
        ?? SocketKeeper.TryConnect(KeeperConnection.PathIn(options.StateDirectory));

    // All or none: what the keeper has was the mount's a moment ago.
    private void Keep(FuseMount mount, bool isServed)
    {
        if (_keeper is null)
            return;
        IReadOnlyList<SafeHandle> files = [];
        // First what is to be known of them: a file that the next daemon does not get is one that it opens.
        if (_describe(isServed) is { } held)
        {
            State!.SetDevices(held.Devices);
            files = held.Files;
        }
        IReadOnlyList<SafeHandle> copies = mount.DuplicateDescriptors();
        try
        {
            _keeper.Keep(options.MountPoint, [State!.Descriptor, .. copies, .. files]);
        }
        finally
        {
            foreach (SafeHandle copy in copies)
                copy.Dispose();
        }
        bool wasKept = IsKept;
        _keptBy = _keeper.Name;
        if (!wasKept)
            DaemonLog.Kept(log, options.MountPoint);
        _said = null;
    }

    private void Lose(string cause)
    {
        // A keeper that refuses what is new is left nothing that is old: the next daemon would take it for the mount.
        if (IsKept)
        {
            TryDrop();
            Volatile.Write(ref _lost, Stopwatch.GetTimestamp());
        }
        Disconnect();
        _keptBy = null;
        if (_said != cause)
            DaemonLog.NotKept(log, options.MountPoint, cause);
        _said = cause;
    }

    private void Disconnect()
    {
        _keeper?.Dispose();
        _keeper = null;
    }

    private TakenMount? Adopt(SafeFileHandle[] descriptors)
    {
        _isTaken = true;
        // In no order: systemd gives them back the other way round.
        List<(SafeFileHandle File, FileStatus Status)> sorted = [.. descriptors.Select(d => (d, FileStatus.ReadKnown(d)))];
        List<SafeFileHandle> memories = [.. sorted.Where(s => s.Status.Type == FileType.Regular && KeptState.IsSize(s.Status.SizeBytes)).Select(s => s.File)];
        List<SafeFileHandle> devices = [.. sorted.Where(s => s.Status.Type == FileType.Other).Select(s => s.File)];
        if (memories.Count != 1 || devices.Count == 0)
            throw new IOException($"of {descriptors.Length} descriptors {memories.Count} are a mount's memory and {devices.Count} its connection, and it has one and some");
        KeptState state = KeptState.Adopt(memories[0]);
        Dictionary<InodeNumber, SafeFileHandle> files = [];
        foreach ((SafeFileHandle file, FileStatus status) in sorted.Where(s => s.Status.Type == FileType.Regular && s.File != memories[0]))
        {
            if (!files.TryAdd(new(status.Inode), file))
                file.Dispose();
        }
        // Where the kernel sends nothing again, what waits at the clones ends with them (PLATFORM).
        bool resends = state.Mount.Negotiated.Resends;
        List<FuseChannel> channels = [.. devices.Select(FuseChannel.Adopt)];
        DeviceConnection connection = new(channels[0], options.PushIoctl, resends ? channels[1..] : []);
        foreach (FuseChannel dropped in resends ? [] : channels[1..])
            dropped.Dispose();
        bool isHere = FuseChannel.TryGetDevice(options.MountPoint, out uint major, out uint minor) && (major, minor) == (0, state.Mount.Connection);
        if (isHere && connection.IsConnected)
        {
            State = state;
            state.SetNextGeneration();
            return new(state, connection, files);
        }
        new TakenMount(state, connection, files).Dispose();
        state.Dispose();
        _isTaken = false;
        _keeper!.Drop(options.MountPoint);
        DaemonLog.KeptIsOver(log, options.MountPoint, isHere ? "its connection is dead" : "it is not mounted there any more");
        if (isHere)
            TakeDeadAway();
        return null;
    }

    private void TakeDeadAway()
    {
        try
        {
            _ = MountPoint.UnmountIdle(options.MountPoint);
        }
        catch (IOException)
        {
            // Programs use it: who mounts finds it there, and says so.
        }
    }
}
