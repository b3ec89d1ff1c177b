using System.Runtime.InteropServices;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Memory;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Famfs.Fuse.Replication;
using Famfs.Fuse.Session;
using Famfs.Master.Changes;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Simulation.Holders;

/// <summary>One run of a daemon: the real replica, registration, releases, notifier and operations, on threads of the simulation,
/// with a kernel that is a model.</summary>
internal sealed class SimulatedMount : IDeviceResolver, ICapacity, IMountDescription, IDisposable
{
    // A thread that waits looks again after so many steps, whatever it waits for.
    private const int IdleSteps = 1000;

    // What a stream names more than a line, at most; the product's number takes too many files.
    private const int NamedBesides = 4;

    private readonly HolderSimulation _simulation;
    private readonly SimulatedHost _host;
    private readonly Random _random;
    private readonly Replica _replica;
    private readonly TreeReader _reader;
    private readonly TreeReader _workerReader;
    private readonly MountRegistration _registration;
    private readonly KernelNotifier _notifier;
    private readonly HeldFiles _held;
    private readonly FuseWorker _worker;
    private readonly RequestReader _requests;
    private readonly KernelPresence _presence = new();
    private readonly DevicePool _workerPool;
    private readonly DevicePool _releasePool;
    private readonly DevicePool _opensPool;
    private readonly OpenDelay? _opens; // where the kernel has the devices
    private readonly Queue<(SimulatedMaster From, LogBlock Block)> _inbox = [];
    private readonly Queue<(SimulatedMaster To, ReleaseStatement Statement)> _statements = [];
    private SimulatedMaster? _stream;
    private bool _knownStream;
    private bool _behind;

    public SimulatedMount(HolderSimulation simulation, SimulatedHost host, Replica replica, Guid mount, Random random)
    {
        _simulation = simulation;
        _host = host;
        _random = random;
        _replica = replica;
        Id = mount;
        _reader = replica.Tree.RegisterReader();
        _workerReader = replica.Tree.RegisterReader();
        _workerPool = TestFormats.All.Open([simulation.Memory.Attach(host.Name)]);
        _releasePool = TestFormats.All.Open([simulation.Memory.Attach(host.Name)]);
        _opensPool = TestFormats.All.Open([simulation.Memory.Attach(host.Name)]);
        Kernel = new(simulation.Scheduler, mount, host.ReachesMemory);
        if (host.ReachesMemory)
        {
            replica.Windows.RemembersClosed = true;
            _opens = new(replica.Reused, replica.Windows, (inode, use) => TryFlush(inode, use, _opensPool));
        }
        Negotiated negotiated = new(DialectTable.Stock, host.KernelMinor, InitNegotiation.Accepted, 1 << 16, 16);
        bool IsDead() => Life.IsOver;
        _notifier = new(Kernel.Connect(IsDead), _presence, replica.Tree, negotiated, 1 << 16, hasThread: false);
        _registration = new(replica, host.Identity, mount, simulation.Clock);
        IFuseTransport transport = Kernel.Connect(IsDead, simulation.Memory.Coherent ? _workerPool.PrimaryDevice.Fence : null);
        FuseOperations operations = new(
            new(replica.Tree, this, _registration, this, this) { Reused = replica.Reused, OpenDelay = _opens, IsRevoked = () => replica.IsOfOtherHistory || _registration.IsOver, MayWrite = () => replica.Damage is null },
            _presence, new CachePolicy(), negotiated);
        _requests = new(transport, operations.Requests, negotiated.MaxWriteBytes);
        ReplyWriter replies = new(transport);
        _worker = new(_requests, operations, replies, new WorkerState(_workerReader, new ReplyBuffer(), _requests.Buffer, replies, operations.Failures));
        _held = HeldFiles.Of(replica, _notifier, _presence, Resolve, host.ReachesMemory ? inode => FlushRemoved(inode, _releasePool) : null, hasThread: false);
        _registration.Releases = () => _held.Describe(simulation.MostInLine);
        _registration.TakeOver = () => replica.TryTakeOver(_held, host.ReachesMemory ? inode => FlushRemoved(inode, _replica.Pool) : null);
        _registration.MayGiveLease = () =>
        {
            simulation.Counts.Leases += host.ReachesMemory ? 0 : 1;
            return !host.ReachesMemory;
        };
        Kernel.IsTakenAway = () => _registration.IsOver;
        _registration.LeaveReceipt = () => host.Receipts.Add(mount);
        _registration.OlderMounts = () => [.. host.Receipts.Where(r => r != mount)];
        _registration.GoneMountsOfHost = () => host.FindGone(mount);
        replica.Attach(_notifier, null, _held);
    }

    public Guid Id { get; }

    /// <summary>Whose it is.</summary>
    public Guid Host => _host.Identity.Host;

    public SimulatedLife Life { get; } = new();

    public KernelModel Kernel { get; }

    public Replica Replica => _replica;

    /// <summary>It is to be unmounted.</summary>
    public bool IsEnding { get; private set; }

    public bool IsOpen => _registration.IsOpen;

    /// <summary>The log has that it is gone.</summary>
    public bool WasRefused { get; private set; }

    /// <summary>Threads that it has, by kind.</summary>
    public HashSet<int> Kinds { get; } = [];

    /// <summary>Node that the worker loads from or stores to now; 0: none.</summary>
    public ulong Touched { get; private set; }

    PoolCapacity ICapacity.Capacity => _replica.Capacity;

    bool IMountDescription.TryWrite(MountAttribute attribute, Span<byte> destination, out int bytes)
    {
        bytes = 0;
        return false;
    }

    // The thread of releases and the worker have handles of their own: fences are of one thread.
    DaxDevice? IDeviceResolver.Resolve(DeviceIndex index) => _host.ReachesMemory ? null : _workerPool.Find(index);

    private DaxDevice? Resolve(DeviceIndex index) => _host.ReachesMemory ? null : _releasePool.Find(index);

    // Where the kernel has the devices, the daemon maps the file itself, under its own inode.
    private bool TryFlush(InodeNumber inode, Action<DaxDevice, long, long> use, DevicePool pool)
    {
        using TreeReader reader = _replica.Tree.RegisterReader();
        using TreeScope scope = reader.Enter();
        if (!scope.TryGetMap(inode, out MapView map))
            return false;
        for (int i = 0; i < map.ExtentCount; i++)
        {
            if (pool.Find(map[i].Device) is not { } device)
                return false;
            use(device, map[i].OffsetBytes, map[i].LengthBytes);
        }
        return true;
    }

    private bool FlushRemoved(InodeNumber inode, DevicePool pool) =>
        _replica.TryPurge(inode, (removed, use) => TryFlush(removed, use, pool)) && _notifier.Release(inode) == InodePresence.Absent;

    /// <summary>A master sends records. They may be lost: then the stream ends.</summary>
    public void Push(SimulatedMaster from, LogBlock block) => _inbox.Enqueue((from, block));

    /// <summary>The upkeep thread: until the mount is ended in order.</summary>
    public void KeepUp()
    {
        CooperativeScheduler scheduler = _simulation.Scheduler;
        while (!scheduler.Quiescing)
        {
            Follow();
            KeepLine();
            if (_random.Next(scheduler.IsCalm ? 5 : 10) == 0)
            {
                try
                {
                    Talk();
                }
                catch (FamfsException error) when (error.Reason == ErrorReason.NotMaster)
                {
                    // It stops.
                }
            }
            _simulation.Space.RequireSame($"mount {Id.ToString()[..4]} of {_host.Name}", _replica.Position, _reader);
            bool isToEnd = scheduler.IsCalm && _host.IsToMountAnew && Kernel.Open.Count == 0;
            if (isToEnd)
                _host.IsToMountAnew = false;
            if (isToEnd || WasRefused || Kernel.IsCut || (!scheduler.IsCalm && _random.Next(_simulation.UnmountOneInOf(_host)) == 0 && Kernel.Open.Count == 0))
            {
                if (Kernel.Open.Count == 0 || Kernel.IsCut)
                    break;
            }
            (LogSequence known, int held) = (_replica.Gate.Acknowledged.Sequence, _held.Count);
            scheduler.WaitFor(() => _inbox.Count > 0 || _replica.Gate.Acknowledged.Sequence != known || _held.Count != held, _random.Next(1, scheduler.IsCalm ? 40 : _simulation.LongestIdle));
        }
        if (!scheduler.Quiescing)
            End();
    }

    /// <summary>The notifying thread.</summary>
    public void Notify() => Loop(() =>
    {
        LogSequence known = _replica.Position.Sequence;
        if (!_notifier.TellWaiting())
            _simulation.Scheduler.WaitFor(() => IsEnding || _replica.Position.Sequence != known, IdleSteps);
    });

    /// <summary>The thread of releases.</summary>
    public void Release() => Loop(() =>
    {
        if (_held.Count == 0)
            _simulation.Scheduler.WaitFor(() => IsEnding || _held.Count > 0, IdleSteps);
        _held.AskAll();
        _simulation.Scheduler.Sleep(_random.Next(1, 100));
    });

    /// <summary>The thread of first opens.</summary>
    public void AnswerOpens() => Loop(() =>
    {
        if (_opens is not { HasWork: true } opens)
        {
            _simulation.Scheduler.WaitFor(() => IsEnding || _opens?.HasWork == true, IdleSteps);
            return;
        }
        opens.Step(window => _notifier.Release(new(window.Node)));
        _simulation.Scheduler.Sleep(_random.Next(1, 20));
    });

    /// <summary>A worker.</summary>
    public void Work() => Loop(() =>
    {
        _simulation.Scheduler.WaitFor(() => IsEnding || Kernel.HasWaiting, IdleSteps);
        while (true)
        {
            // OPEN holds a lock while it drops lines; others of this process would really wait for it.
            SimulatedProcess self = _simulation.Scheduler.Current;
            Touched = Kernel.TouchedNext;
            // That no request takes longer than the grace is what policy `lease` rests on.
            self.IsUninterrupted = Kernel.IsOpenNext || (Touched != 0 && _registration.LeaseMs > 0);
            try
            {
                if (_worker.Step() != ReadOutcome.Message)
                    return;
            }
            finally
            {
                self.IsUninterrupted = false;
                Touched = 0;
            }
        }
    });

    /// <summary>GET_FMAP, as the operations answer it.</summary>
    public MapExtent[]? GetMap(ulong inode)
    {
        using TreeScope scope = _workerReader.Enter();
        if (!scope.TryGet(new(inode), out InodeAttributes found) || found.Status != InodeStatus.Published || _registration.Admit(new(inode)) != OpenVerdict.Open || !scope.TryGetMap(new(inode), out MapView map))
            return null;
        MapExtent[] extents = new MapExtent[map.ExtentCount];
        for (int i = 0; i < extents.Length; i++)
            extents[i] = map[i];
        return extents;
    }

    /// <summary>Where it is, and what it holds, for people.</summary>
    public override string ToString() =>
        $"mount {Id.ToString()[..4]} of {_host.Name}{(IsOpen ? "" : ", not open,")} at {_replica.Position.Sequence}, told {_replica.Gate.Notified.Sequence}, released {_held.Describe().Watermark}, holds [{string.Join("; ", _held.List().Select(i => Kernel.Describe(i.Value)))}], threads {string.Join(' ', Kinds)}";

    public void Dispose()
    {
        _registration.ReleaseLock(); // the process is over, and with it its locks
        _held.Dispose();
        _notifier.Dispose();
        _requests.Dispose();
        _reader.Dispose();
        _workerReader.Dispose();
        _replica.Dispose();
        _workerPool.Dispose();
        _releasePool.Dispose();
        _opensPool.Dispose();
    }

    private void Loop(Action turn)
    {
        while (!IsEnding && !_simulation.Scheduler.Quiescing)
        {
            turn();
            _simulation.Scheduler.Pass();
        }
    }

    private void Follow()
    {
        if (_stream is { } stream && (stream.HasEnded || stream.Life.IsOver || !_simulation.IsDelivered()))
            Disconnect();
        if (_stream is null || _behind)
        {
            if (_replica.PollMemory() == PollVerdict.UpToDate)
                _behind = false;
            return;
        }
        while (_inbox.TryDequeue(out (SimulatedMaster From, LogBlock Block) next))
        {
            // Of an earlier stream: may still be on its way.
            if (next.From != _stream && _random.Next(2) == 0)
                continue;
            try
            {
                _replica.ApplyPushed(next.Block);
            }
            catch (FamfsException)
            {
                Disconnect(); // a gap
                return;
            }
            if (_random.Next(2) == 0)
                return;
        }
    }

    private void KeepLine()
    {
        LogPosition position = _replica.Gate.Acknowledged;
        try
        {
            _registration.Advance();
        }
        catch (FamfsException error) when (error.Reason is ErrorReason.HostGone or ErrorReason.NoSpace or ErrorReason.HostConflict)
        {
            WasRefused |= error.Reason == ErrorReason.HostGone;
            if (_simulation.Scheduler.IsCalm && error.Reason == ErrorReason.NoSpace)
                _simulation.Note($"{_host.Name}: {error.Message}");
        }
        catch (DeviceFaultException error)
        {
            // Damaged as it was written, with a lease: it is written again.
            _simulation.Note($"{_host.Name}: {error.Message}");
        }
        if (_stream is { } stream && _knownStream && _simulation.IsDelivered())
            stream.Registry.Acknowledged(Id, position);
        // It may come late, and after others.
        if (_stream is { } told && _knownStream && _held.Count > _simulation.MostInLine && _random.Next(4) == 0)
            _statements.Enqueue((told, _held.Describe(_simulation.MostInLine + NamedBesides)));
        if (_statements.Count > 0 && _random.Next(2) == 0)
        {
            (SimulatedMaster to, ReleaseStatement statement) = _statements.Dequeue();
            if (_simulation.IsDelivered())
            {
                _simulation.Counts.StreamReleases++;
                to.Registry.SaidReleased(Id, _host.Identity.Host, statement.Watermark, statement.Exceptions);
            }
        }
        foreach (Guid over in _registration.EndOlder(_host.FindGone(Id)))
            _host.Receipts.Remove(over);
    }

    /// <summary>Subscribes, with what is known of older mounts, and asks for a block of lines.</summary>
    private void Talk()
    {
        if (_simulation.AnyMaster() is not { } master || !_simulation.IsDelivered())
            return;
        if (_registration.WantsBlock)
            _ = master.Send(new HostRegistration(new(_host.Identity.Host, ByteString.CopyFrom(_host.Identity.MachineDigest), _host.Name), _simulation.HostCapacity, _simulation.Registrations));
        if (_stream is not null)
            return;
        List<OlderMount> older = [.. _host.FindGone(Id).Where(_registration.Ended.Contains).Select(m => new OlderMount { MountId = m.ToByteString(), Evidence = GoneEvidence.SuperblockGone })];
        Task<Admission> admission = master.Send(new MountAdmission(
            new(new(_host.Identity.Host, ByteString.CopyFrom(_host.Identity.MachineDigest), _host.Name), Id, _replica.Position.ToMessage()),
            Famfs.Master.Holders.GoneMounts.Accept(_host.Identity.Host, older, master.Registry)));
        while (!admission.IsCompleted && !master.HasEnded && !master.Life.IsOver && !_simulation.Scheduler.Quiescing)
            _simulation.Scheduler.WaitFor(() => admission.IsCompleted || master.HasEnded || master.Life.IsOver, 100);
        if (!admission.IsCompletedSuccessfully || !_simulation.IsDelivered())
        {
            _ = admission.Exception;
            return;
        }
        _knownStream = _random.Next(2) == 0;
        master.Registry.Subscribed(Id, _host.Identity.Host, _host.Identity.Boot, "stock", "", known: _knownStream);
        (_stream, _behind) = (master, true);
        master.Streams.Add(this);
    }

    private void Disconnect()
    {
        if (_stream is not { } stream)
            return;
        stream.Streams.Remove(this);
        stream.Registry.Unsubscribed(Id, _knownStream);
        _stream = null;
    }

    /// <summary>Ends in order, as the daemon does: the superblock is gone first, then all threads, then the line says so.</summary>
    private void End()
    {
        bool wasRefused = WasRefused;
        Kernel.IsCut = true;
        Kernel.IsGone = Kernel.Open.Count == 0;
        Disconnect();
        IsEnding = true;
        while (Life.Threads > 1 && !_simulation.Scheduler.Quiescing)
            _simulation.Scheduler.WaitFor(() => Life.Threads <= 1, 100);
        if (!Kernel.IsGone || Life.Threads > 1)
            return;
        _replica.PurgeAtEnd(_held, _replica.Pool);
        if (!wasRefused || _registration.LeaseMs > 0)
        {
            if (_registration.End(_replica.Pool))
                _host.Receipts.Remove(Id);
        }
    }
}
