using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.Master.Engine;
using Famfs.Master.State;
using Famfs.V1;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Famfs.Master.Holders;

/// <summary>
/// Gives the space of deleted files back (SAFETY S8, S11, S12, S17): when every mount that counts has released a file, its space
/// is reserved to this term, zeroed, and only then free. In this order, always: mark how far the deletions have gone, which are
/// published; read the whole host table after that, because a mount that was there before them has its line there; judge; record;
/// zero; record.
/// <para>Owner of the fields: its own loop.</para>
/// </summary>
internal sealed class SpaceReclaimer(IEngine engine, MasterState state, MountRegistry mounts, ISpaceZeroing zeroing, TimeProvider clock, ILogger<SpaceReclaimer> log) : BackgroundService
{
    /// <summary>Between two looks while somebody is waited for (chosen: a look reads the lines that hosts use).</summary>
    private static readonly TimeSpan BusyInterval = TimeSpan.FromMilliseconds(20);

    /// <summary>Between two looks while nothing is deleted, or nothing has moved for a second.</summary>
    private static readonly TimeSpan IdleInterval = TimeSpan.FromMilliseconds(250);

    /// <summary>How soon space that could not be zeroed is tried again.</summary>
    private static readonly TimeSpan RetryInterval = TimeSpan.FromSeconds(5);

    /// <summary>Largest piece that one thread zeroes (chosen: a large file takes all of them).</summary>
    private const long PieceBytes = 256L << 20;

    /// <summary>Most marks that wait (chosen: who is behind for long loses only how finely it is told apart what it has released).</summary>
    private const int MaxMarks = 256;

    // The oldest first; each one's last file is younger than that of the one before.
    private readonly List<DeletionMark> _marks = [];

    // The last file of the newest mark ever made.
    private InodeNumber _lastMarked;

    // Of files that mounts had when everything else up to their mark was taken: that mark's position.
    private LogSequence _passed;
    private HashSet<InodeNumber> _passedHeld = [];

    // Released by all mounts, and reserved to an earlier term.
    private HashSet<InodeNumber> _quarantined = [];

    // Reserved to this term and not zeroed yet.
    private readonly List<ReservedFile> _unzeroed = [];
    private long _tried;
    private string _saidFailure = "";
    private string _saidProblem = "";
    private long _movedTimestamp;

    // How long the latest turn looked at the mounts.
    private TimeSpan _look;

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        if (!state.Format.HasHostTable)
            return;
        while (!stoppingToken.IsCancellationRequested)
        {
            bool more = false;
            try
            {
                more = await RunTurnAsync().ConfigureAwait(false);
                _saidProblem = "";
            }
            catch (Exception error) when (error is not OperationCanceledException)
            {
                if (error is FamfsException { Reason: ErrorReason.NotMaster })
                    return;
                // A full log or a busy master today is looked at again next time.
                if (error.Message != _saidProblem)
                    MasterLog.ReclaimFails(log, _saidProblem = error.Message);
            }
            if (more)
                _movedTimestamp = clock.GetTimestamp();
            else
                await Task.Delay(PauseAfterTurn(), clock, stoppingToken).ConfigureAwait(false);
        }
    }

    // A look at mounts that name many files takes long; it takes no more than a tenth of a processor. What the engine takes to answer
    // is not a look's.
    private TimeSpan PauseAfterTurn()
    {
        TimeSpan pause = HasWork && clock.GetElapsedTime(_movedTimestamp) < TimeSpan.FromSeconds(1) ? BusyInterval : IdleInterval;
        return pause > _look * 9 ? pause : _look * 9;
    }

    private bool HasWork => state.Replay.Tree.DeletedCount > 0;

    /// <summary>One round; true when it got anywhere.</summary>
    internal async Task<bool> RunTurnAsync()
    {
        _look = TimeSpan.Zero;
        if (!HasWork)
        {
            state.ReclaimWaits = [];
            state.ReclaimHolders = new HashSet<Guid>();
            _marks.Clear();
            _passedHeld.Clear();
            _quarantined.Clear();
            return false;
        }
        bool moved = await ZeroAsync().ConfigureAwait(false);
        moved |= await MarkAsync().ConfigureAwait(false);
        if (_marks.Count == 0 && _passedHeld.Count == 0 && _quarantined.Count == 0)
            return moved;
        long began = clock.GetTimestamp();
        _ = mounts.Scan();
        Holds holds = mounts.FindHolds(new(ulong.MaxValue));
        _look = clock.GetElapsedTime(began);
        ReservedFiles found = new();
        int reached = _marks.FindLastIndex(m => m.Position.Sequence.Value <= holds.Released.Value);
        if (reached >= 0)
        {
            DeletionMark mark = _marks[reached];
            found = await engine.RunAsync(new ZeroingStart(mark, holds.Held), Caller.Master).ConfigureAwait(false);
            if (found.IsWhole)
            {
                _marks.RemoveRange(0, reached + 1);
                (_passed, _passedHeld, _quarantined) = (mark.Position.Sequence, found.Held, found.Quarantined);
            }
        }
        else if (_passedHeld.Count > 0 && _passed.Value <= holds.Released.Value && !_passedHeld.IsSubsetOf(holds.Held))
        {
            List<InodeNumber> released = [.. _passedHeld.Where(inode => !holds.Held.Contains(inode)).OrderBy(inode => inode.Value).Take(ZeroingStart.MaxFiles)];
            found = await engine.RunAsync(new ZeroingStart(released), Caller.Master).ConfigureAwait(false);
            _passedHeld.ExceptWith(found.Files.Select(f => f.Inode));
        }
        else if (_quarantined.Count > 0)
        {
            found = await engine.RunAsync(new ZeroingStart([.. _quarantined]), Caller.Master).ConfigureAwait(false);
            _quarantined.ExceptWith(found.Files.Select(f => f.Inode));
        }
        LogSequence waiting = _marks.Count > 0 ? _marks[^1].Position.Sequence : _passed;
        List<string> waits = [.. holds.Explain(waiting)];
        if (_quarantined.Count > 0)
            waits.Add($"a former master, which may still store to {_quarantined.Count} {(_quarantined.Count == 1 ? "file" : "files")}: it is not proved to be gone");
        state.ReclaimWaits = waits;
        state.ReclaimHolders = holds.FindHolders(waiting);
        if (found.Files.Count == 0)
            return moved;
        _unzeroed.AddRange(found.Files);
        _tried = 0;
        await ZeroAsync().ConfigureAwait(false);
        return true;
    }

    /// <summary>Remembers how far the list of deleted files goes now, if it goes farther than before.</summary>
    private async Task<bool> MarkAsync()
    {
        if (_marks.Count == MaxMarks)
            return false;
        (DeletionMark mark, bool isUnderWay) = await engine.QueryAsync(Caller.Master, reader =>
        {
            ReplayState replay = reader.State.Replay;
            InodeNumber last = replay.Tree.LastDeleted;
            return (new DeletionMark(reader.Position, last), replay.Reservations.Any(r => r.Inode == last && r.Term == replay.HighestTerm));
        }).ConfigureAwait(false);
        // One that was passed is the last again when those after it are given back. It may be given back itself before a mark of it is
        // reached, and then nothing would tell where that ends.
        if (mark.Last == InodeNumber.None || mark.Last == _lastMarked || isUnderWay || _passedHeld.Contains(mark.Last) || _quarantined.Contains(mark.Last))
            return false;
        _lastMarked = mark.Last;
        _marks.Add(mark);
        return true;
    }

    /// <summary>Zeroes what is reserved, and gives it back; true when anything was.</summary>
    private async Task<bool> ZeroAsync()
    {
        if (_unzeroed.Count == 0 || (_tried != 0 && clock.GetElapsedTime(_tried) < RetryInterval))
            return false;
        List<(ReservedFile File, Task<FamfsException?> Done)> pieces = [];
        foreach (ReservedFile file in _unzeroed)
        {
            foreach (MapExtent extent in file.Extents)
            {
                for (long at = 0; at < extent.LengthBytes; at += PieceBytes)
                    pieces.Add((file, ZeroAsync(new(extent.Device, extent.OffsetBytes + at, Math.Min(PieceBytes, extent.LengthBytes - at)))));
            }
        }
        HashSet<ReservedFile> failed = new(ReferenceEqualityComparer.Instance);
        FamfsException? failure = null;
        foreach ((ReservedFile file, Task<FamfsException?> done) in pieces)
        {
            if (await done.ConfigureAwait(false) is not { } error)
                continue;
            failed.Add(file);
            failure = error;
        }
        if (failure is { Reason: ErrorReason.NotMaster })
            throw failure;
        if (failure is not null && failure.Message != _saidFailure)
            MasterLog.ReclaimFails(log, _saidFailure = failure.Message);
        List<InodeNumber> zeroed = [.. _unzeroed.Where(f => !failed.Contains(f)).Select(f => f.Inode)];
        int returned = zeroed.Count > 0 ? await engine.RunAsync(new SpaceReturn(zeroed), Caller.Master).ConfigureAwait(false) : 0;
        // What is recorded may be another file's by now, and must never be zeroed again.
        HashSet<InodeNumber> given = [.. zeroed.Take(returned)];
        _unzeroed.RemoveAll(f => given.Contains(f.Inode));
        _tried = _unzeroed.Count > 0 ? clock.GetTimestamp() : 0;
        return returned > 0;
    }

    private Task<FamfsException?> ZeroAsync(MapExtent extent)
    {
        TaskCompletionSource<FamfsException?> done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        NewSpace space = new(Guid.Empty, [extent], 0) { IsOfRemoved = true };
        zeroing.Start(space, () => done.SetResult(space.Failure));
        return done.Task;
    }
}
