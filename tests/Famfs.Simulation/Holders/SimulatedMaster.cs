using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Master.Changes;
using Famfs.Master.Engine;
using Famfs.Master.Holders;
using Famfs.Master.Queries;
using Famfs.Master.Role;
using Famfs.Master.State;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.V1;
using Google.Protobuf;
using Microsoft.Extensions.Logging.Abstractions;

namespace Famfs.Simulation.Holders;

/// <summary>One run of a master: the real engine, registry and reclaimer, on threads of the simulation.</summary>
internal sealed class SimulatedMaster : IRecordFeed, ISpaceZeroing, IEngine, IDisposable
{
    private readonly HolderSimulation _simulation;
    private readonly DevicePool _zeroed; // the zeroing and watching thread's own way to the memory: its fences are its own
    private readonly MasterEngine _engine;
    private readonly Recovery.Result _recovered;
    private readonly SpaceReclaimer _reclaimer;
    private readonly Random _random;
    private bool _stopping;
    private bool _zeroing;
    private bool _isAsked; // since the last turn of the engine began

    public SimulatedMaster(HolderSimulation simulation, string host, HostIdentity identity, Recovery.Result recovered, FakeSharedMemory memory, TimeProvider clock, Random random)
    {
        _simulation = simulation;
        _recovered = recovered;
        _random = random;
        _zeroed = TestFormats.All.Open([memory.Attach(host)]);
        _engine = new(recovered.State, recovered.Writer, this, this, clock, new(random.Next()));
        Registry = new(recovered.State, new MountLineTable(_zeroed), clock);
        _reclaimer = new(this, recovered.State, Registry, this, clock, NullLogger<SpaceReclaimer>.Instance);
        _engine.Announce(new TermStarted
        {
            Slot = (uint)recovered.Claim.Slot,
            HostId = identity.Host.ToByteString(),
            BootId = identity.Boot.ToByteString(),
            MasterId = recovered.Claim.Master.ToByteString(),
            AdoptedFrom = recovered.Claim.AdoptedFrom?.Value ?? 0,
        });
    }

    public SimulatedLife Life { get; } = new();

    public MasterState State => _recovered.State;

    public MountRegistry Registry { get; }

    public Term Term => _recovered.Writer.Term;

    /// <summary>Its engine has ended, in order or not.</summary>
    public bool HasEnded { get; private set; }

    /// <summary>A thread reclaims for it.</summary>
    public bool HasReclaimer { get; set; }

    /// <summary>It ends in order when it is set.</summary>
    public bool IsToEnd { get; set; }

    /// <summary>Where its records go.</summary>
    public List<SimulatedMount> Streams { get; } = [];

    /// <summary>The engine's thread.</summary>
    public void Serve()
    {
        try
        {
            while (!_simulation.Scheduler.Quiescing)
            {
                if (IsToEnd)
                {
                    _engine.Close();
                    while (_engine.RunTurn(TimeSpan.Zero))
                    {
                    }
                    _engine.EndInOrder();
                    return;
                }
                _isAsked = false;
                _ = _engine.RunTurn(TimeSpan.Zero);
                _simulation.Scheduler.WaitFor(() => _isAsked || IsToEnd, _random.Next(1, 60));
            }
        }
        catch (Exception error) when (error is not (ProcessKilledException or FakeHostCrashedException))
        {
            if (error is not FamfsException { Reason: ErrorReason.NotMaster })
                throw;
            _engine.Break(error);
        }
        finally
        {
            HasEnded = true;
        }
    }

    /// <summary>Makes one change and ends in order, while nobody else runs.</summary>
    public void ServeAlone<T>(Change<T> change, Change<bool>? second = null)
    {
        Task<T> task = Send(change);
        Task<bool>? other = second is null ? null : Send(second);
        _engine.Close();
        while (_engine.RunTurn(TimeSpan.Zero))
        {
        }
        _engine.EndInOrder();
        HasEnded = true;
        _ = task.GetAwaiter().GetResult();
        _ = other?.GetAwaiter().GetResult();
    }

    /// <summary>The threads of the reclaimer, of zeroing and of the watch of hosts, as one.</summary>
    public void Reclaim()
    {
        while (!HasEnded && !_simulation.Scheduler.Quiescing)
        {
            try
            {
                _ = _reclaimer.RunTurnAsync().GetAwaiter().GetResult();
                if (_random.Next(4) == 0)
                {
                    foreach (MountEnd end in Registry.LookForGone())
                    {
                        _simulation.Note($"mount {end.Mount.ToString()[..4]} is gone: {end.Detail}");
                        if (end.Evidence == GoneEvidence.LeaseExpired)
                            _simulation.Counts.Expired++;
                        _ = RunAsync(new MountGone(end), Caller.Master).GetAwaiter().GetResult();
                    }
                }
            }
            catch (FamfsException error) when (error.Reason is ErrorReason.NotMaster or ErrorReason.LogFull or ErrorReason.Overloaded)
            {
                if (error.Reason == ErrorReason.NotMaster)
                    return;
            }
            // A file whose name is gone may be below a directory that is not taken apart yet.
            bool hasWork = State.Replay.Tree.DeletedCount > 0;
            _simulation.Scheduler.WaitFor(() => HasEnded || (!hasWork && State.Replay.Tree.DeletedCount > 0), _random.Next(10, hasWork ? 150 : 400));
        }
    }

    /// <summary>Asks the engine, and waits until it has answered: what waits is a thread of the simulation.</summary>
    public Task<T> RunAsync<T>(Change<T> change, Caller caller)
    {
        _isAsked = true;
        return Await(_engine.RunAsync(change, caller));
    }

    /// <inheritdoc cref="RunAsync"/>
    public Task<T> QueryAsync<T>(Caller caller, Func<StateReader, T> query)
    {
        _isAsked = true;
        return Await(_engine.QueryAsync(caller, query));
    }

    /// <summary>Queues a change, without waiting.</summary>
    public Task<T> Send<T>(Change<T> change)
    {
        _isAsked = true;
        return _engine.RunAsync(change, Caller.Master);
    }

    public void Publish(RecordBatch batch, LogPosition position, ulong segmentId, long tail)
    {
        byte[] frames = batch.Frames.ToArray();
        _simulation.Space.Rely($"master {Term}", frames);
        LogBlock block = new(frames, batch.Count, new(position.Sequence.Value - (ulong)batch.Count + 1), position.Generation, segmentId, tail);
        foreach (SimulatedMount mount in Streams)
            mount.Push(this, block);
    }

    public void Entered(LogPosition position, long tail, LogPosition snapshotLast, long snapshotEnd) => throw new NotSupportedException("nothing is compacted here");

    public void End(Exception error)
    {
    }

    public void Start(NewSpace space, Action zeroed)
    {
        if (_stopping)
            throw new FamfsException(ErrorReason.NotMaster, "the master is stopping");
        _zeroing = true;
        try
        {
            if (_simulation.Meetings.IsFaulty())
                throw new FamfsException(ErrorReason.DeviceMissing, "this memory gives errors today");
            SpaceZeroing.Zero(_zeroed, space, () => _stopping);
        }
        catch (FamfsException error)
        {
            space.Failure = error;
        }
        finally
        {
            _zeroing = false;
        }
        zeroed();
    }

    public void Stop()
    {
        _stopping = true;
        while (_zeroing && !_simulation.Scheduler.Quiescing)
            _simulation.Scheduler.WaitFor(() => !_zeroing, 50);
    }

    public void Dispose()
    {
        _ = _engine.DisposeAsync();
        _recovered.Claim.Dispose();
        _recovered.State.Dispose();
        _zeroed.Dispose();
    }

    private Task<T> Await<T>(Task<T> task)
    {
        while (!task.IsCompleted && !_simulation.Scheduler.Quiescing)
            _simulation.Scheduler.WaitFor(() => task.IsCompleted, 50);
        return task.IsCompleted ? task : throw new ProcessKilledException();
    }
}
