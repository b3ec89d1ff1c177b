using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.TestSupport.Dax;
using Famfs.V1;

namespace Famfs.Simulation.Holders;

/// <summary>Lets those meet whom a rule keeps apart: one waits between two steps whose order the rule demands, until others have come
/// that far, or dies there. Left to chance that is rare. It draws from a random of its own.</summary>
internal sealed class HolderMeetings
{
    public const int LongestSteps = 8000;

    private readonly HolderSimulation _simulation;
    private readonly Random _random;
    private readonly int _oneIn;
    private readonly Dictionary<string, int> _firstLines = []; // by host: lines that were about to be written the first time
    private SimulatedProcess? _wroteLine; // a daemon, which has not read the log since

    public HolderMeetings(HolderSimulation simulation, Random random)
    {
        (_simulation, _random) = (simulation, random);
        _oneIn = ((int[])[0, 1, 2, 6])[random.Next(4)];
        DamagesHolder = _oneIn > 0 && random.Next(2) == 0;
    }

    /// <summary>This run has any.</summary>
    public bool Take => _oneIn > 0;

    /// <summary>What is damaged once is both copies of a line, of a mount that holds a removed file.</summary>
    public bool DamagesHolder { get; }

    /// <summary>Before each access.</summary>
    public void Meet(string operation, long offset)
    {
        CooperativeScheduler scheduler = _simulation.Scheduler;
        SimulatedProcess self = scheduler.Current;
        if (_oneIn == 0 || scheduler.IsCalm || scheduler.Quiescing || self.IsUninterrupted || self.Life is not { IsOver: false } life)
            return;
        // Who waits keeps space from coming back meanwhile.
        if (scheduler.IsLull && !Comes(10))
            return;
        if (operation == FakeOperation.Zero)
            MeetWhileZeroing(self, life);
        else if (self.Name.StartsWith("daemon", StringComparison.Ordinal))
            MeetAsDaemon(self, life, operation, offset);
        else if (operation == FakeOperation.Load && self.Name.StartsWith("reclaimer", StringComparison.Ordinal) && offset >= MediaLayout.HostTableOffset && offset < MediaLayout.HostTableOffset + MediaLayout.UnitBytes && Comes(_oneIn * 200))
        {
            // S11: a mount comes and opens a file, which is removed, while the table is read.
            (int opens, int removed) = ((int)_simulation.Counts.Opens, Made(RecordType.Deleted));
            Await(() => _simulation.Counts.Opens > opens + 2 && Made(RecordType.Deleted) > removed);
        }
    }

    /// <summary>Somebody aborts the connection of a mount now, by <c>umount -f</c> or /sys. Its daemon lives.</summary>
    public bool IsAborted(KernelModel mount)
    {
        if (_oneIn == 0 || _simulation.Scheduler.IsCalm)
            return false;
        // S12: a famfs kernel that answers no more, and whose programs have a removed file.
        bool matters = mount.ReachesMemory && mount.Open.Exists(f => _simulation.Space.StatusOf(f.Inode.Number) is InodeStatus.Deleted);
        return Comes(matters ? 20 : 2000);
    }

    /// <summary>S17: memory that is to be zeroed gives an error now.</summary>
    public bool IsFaulty() => _oneIn > 0 && !_simulation.Scheduler.IsCalm && Comes(_oneIn * 6);

    private void MeetWhileZeroing(SimulatedProcess self, SimulatedLife life)
    {
        if (_simulation.EveryMaster.FirstOrDefault(m => m.Life == life) is not { } own)
            return;
        // S17: it dies with a part of a file zeroed.
        if (Comes(_oneIn * 20))
            _simulation.Scheduler.Doom(self, host: false, 3);
        // S8: another term has begun to zero, perhaps because this one ends.
        if (!Comes(_oneIn))
            return;
        own.IsToEnd |= _random.Next(2) == 0;
        Await(() => _simulation.Space.State.Reservations.Any(r => r.Term > own.Term));
    }

    private void MeetAsDaemon(SimulatedProcess self, SimulatedLife life, string operation, long offset)
    {
        if (_simulation.Hosts.FirstOrDefault(h => h.Mounts.Any(m => m.Life == life)) is not { } host)
            return;
        bool isLine = offset >= MediaLayout.HostTableOffset && offset < MediaLayout.HostTableOffset + ((long)HolderSimulation.MostHosts * MediaLayout.EntriesPerHost * MediaLayout.HostEntryBytes);
        if (host.Mounts.Find(m => m.Life == life)!.IsOpen)
        {
            // S15: its line stands still, often in the middle of being written, until its lease has run out, it is gone, and space that it
            // may have has come back. Its other threads go on.
            (int gone, int returned) = (Made(RecordType.HostGone), Made(RecordType.ExtentsReclaimed));
            if (_simulation.LeaseMs > 0 && Comes(_oneIn * (isLine ? 50 : 300)))
                Await(() => Made(RecordType.HostGone) > gone && Made(RecordType.ExtentsReclaimed) > returned, 3 * LongestSteps);
            return;
        }
        bool isFirst = operation == FakeOperation.Store && isLine && (offset - MediaLayout.HostTableOffset) % MountLine.Size == 0;
        bool isSecond = _wroteLine == self && operation == FakeOperation.Invalidate && !isLine;
        if (isFirst)
        {
            _wroteLine = self;
            // S11: two mounts of a host take an entry at the same time.
            int lines = _firstLines[host.Name] = _firstLines.GetValueOrDefault(host.Name) + 1;
            if (host.Mounts.Count(m => !m.IsOpen) > 1 && Comes(_oneIn))
                Await(() => _firstLines[host.Name] > lines);
        }
        else if (isSecond)
        {
            _wroteLine = null;
        }
        // S11: space comes back before the line is written the first time, or between that and the look at the log.
        int before = Made(RecordType.ExtentsReclaimed);
        if ((isFirst || isSecond) && Comes(_oneIn))
            Await(() => Made(RecordType.ExtentsReclaimed) > before);
    }

    private bool Comes(int oneIn) => _random.Next(oneIn) == 0;

    private int Made(RecordType type) => _simulation.Space.Made.GetValueOrDefault(type);

    private void Await(Func<bool> condition, int most = LongestSteps)
    {
        _simulation.Counts.Meetings++;
        _simulation.Scheduler.WaitFor(condition, most);
        _simulation.Counts.Met += condition() ? 1 : 0;
    }
}
