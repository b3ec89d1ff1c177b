using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Fuse.Operations;
using Famfs.V1;

namespace Famfs.Fuse.Replication;

/// <summary>
/// When programs wrote files through this mount, until the log has it: what the mount shows beside the log, and what the master is
/// told. A file that was closed is told within a second or two, anything else once a minute, all files of the mount at once. One
/// report is under way at a time.
/// <para>Any thread. Guard: <c>_gate</c>, held for a few instructions, or for a walk over the files where a report is made.</para>
/// </summary>
/// <param name="clock">Of this host: the times are its.</param>
/// <param name="capacity">Most files. What is written beyond moves no time.</param>
internal sealed class WrittenFiles(TimeProvider clock, int capacity = WrittenFiles.MostFiles) : IWrittenFiles
{
    /// <summary>Most files whose times wait for the log (chosen: 4 MiB).</summary>
    public const int MostFiles = 65_536;

    /// <summary>Most files of a report: what a master takes at once.</summary>
    public const int MostReported = 256;

    /// <summary>Most files in a minute that are told because they were closed; others wait for the minute (chosen: the log grows by
    /// 100 MiB a day at most).</summary>
    public const int MostPrompt = 4096;

    // Chosen: files that are closed one after the other share a record, and times that a program sets when it has written come first.
    private static readonly TimeSpan s_afterClose = TimeSpan.FromSeconds(1);

    private static readonly TimeSpan s_minute = TimeSpan.FromMinutes(1);

    private readonly Lock _gate = new(); // guards the block below
    private readonly Dictionary<InodeNumber, Written> _files = [];
    private readonly List<(InodeNumber Inode, long TimeNs)> _reported = []; // of the report under way
    private LogSequence? _recordedAt; // the report under way is in the log by this record
    private long? _writtenSince; // the oldest writing that no report has
    private long? _closedSince; // the oldest closing that no report has
    private long _minuteSince;
    private int _prompt; // files told since then because they were closed
    private long? _refusedSince;
    private TimeSpan _refusedFor;

    // Written under _gate, read anywhere.
    private volatile int _count;
    private volatile bool _hasSkipped;

    /// <summary>No file waits for the log.</summary>
    public bool IsEmpty => _count == 0;

    /// <summary>A file was written while as many as there may be waited: its times did not move.</summary>
    public bool HasSkipped => _hasSkipped;

    /// <inheritdoc/>
    public void OnWritten(InodeNumber inode, long modifyTimeNs)
    {
        long now = (clock.GetUtcNow().UtcTicks - DateTime.UnixEpoch.Ticks) * 100;
        lock (_gate)
        {
            bool known = _files.TryGetValue(inode, out Written file);
            if (!known && _files.Count >= capacity)
            {
                _hasSkipped = true;
                return;
            }
            // A clock that is behind, or was set back, must not hide that there is other content.
            long after = Math.Max(modifyTimeNs, known ? file.TimeNs : long.MinValue);
            _files[inode] = file with { TimeNs = now > after || after == long.MaxValue ? Math.Max(now, after) : after + 1 };
            _count = _files.Count;
            _writtenSince ??= clock.GetTimestamp();
        }
    }

    /// <inheritdoc/>
    public void OnClosed(InodeNumber inode)
    {
        if (_count == 0)
            return;
        lock (_gate)
        {
            if (!_files.TryGetValue(inode, out Written file))
                return;
            _files[inode] = file with { IsClosed = true };
            _closedSince ??= clock.GetTimestamp();
        }
    }

    /// <inheritdoc/>
    public bool TryGet(InodeNumber inode, out long timeNs)
    {
        timeNs = 0;
        if (_count == 0)
            return false;
        lock (_gate)
        {
            bool found = _files.TryGetValue(inode, out Written file);
            timeNs = file.TimeNs;
            return found;
        }
    }

    /// <summary>The log has given a file its time of modification, after what was written here so far.</summary>
    public void Forget(InodeNumber inode)
    {
        if (_count == 0)
            return;
        lock (_gate)
        {
            _files.Remove(inode);
            _count = _files.Count;
        }
    }

    /// <summary>What is to be told now; null: nothing. <paramref name="position"/>: up to where the log is replayed here, read before
    /// this call. <paramref name="all"/>: whatever waits, whether it is due or not.</summary>
    public V1.Written? TakeDue(LogPosition position, bool all = false)
    {
        if (_count == 0)
            return null;
        lock (_gate)
        {
            long now = clock.GetTimestamp();
            if (_reported.Count > 0 || (!all && _refusedSince is { } refused && clock.GetElapsedTime(refused, now) < _refusedFor))
                return null;
            _refusedSince = null;
            if (clock.GetElapsedTime(_minuteSince, now) >= s_minute)
                (_minuteSince, _prompt) = (now, 0);
            bool whole = all || (_writtenSince is { } written && clock.GetElapsedTime(written, now) >= s_minute);
            bool closed = _prompt < MostPrompt && _closedSince is { } since && clock.GetElapsedTime(since, now) >= s_afterClose;
            if (!whole && !closed)
                return null;
            V1.Written report = new() { Position = position.ToMessage() };
            bool isWhole = true;
            foreach ((InodeNumber inode, Written file) in _files)
            {
                if (!whole && !file.IsClosed)
                    continue;
                isWhole = _reported.Count < MostReported;
                if (!isWhole)
                    break;
                report.Inodes.Add(inode.Value);
                report.TimesNs.Add(file.TimeNs);
                _reported.Add((inode, file.TimeNs));
            }
            if (!whole)
                _prompt += _reported.Count;
            if (isWhole)
                _closedSince = null;
            if (isWhole && whole)
                _writtenSince = null;
            return _reported.Count > 0 ? report : null;
        }
    }

    /// <summary>The report under way is in the log, or needs no record there, for whoever has replayed up to
    /// <paramref name="sequence"/>.</summary>
    public void OnRecorded(LogSequence sequence)
    {
        lock (_gate)
        {
            if (_reported.Count > 0)
                _recordedAt = sequence;
        }
    }

    /// <summary>The report under way came to nothing. It is made again, not before <paramref name="pause"/> is over.</summary>
    public void OnRefused(TimeSpan pause)
    {
        lock (_gate)
        {
            if (_reported.Count == 0)
                return;
            _reported.Clear();
            _recordedAt = null;
            (_refusedSince, _refusedFor) = (clock.GetTimestamp(), pause);
            _writtenSince = clock.GetTimestamp() - (long)(s_minute.TotalSeconds * clock.TimestampFrequency);
        }
    }

    /// <summary>The log is replayed here up to <paramref name="position"/>. Gives the files that were waiting for that, each with the
    /// time that was shown; from now on they are as the log has them.</summary>
    public IReadOnlyList<(InodeNumber Inode, long TimeNs)> Settle(LogSequence position)
    {
        lock (_gate)
        {
            if (_recordedAt is not { } recorded || position.Value < recorded.Value)
                return [];
            // One that was written again since is told again.
            List<(InodeNumber, long)> settled = _reported.FindAll(r => _files.TryGetValue(r.Inode, out Written file) && file.TimeNs == r.TimeNs);
            foreach ((InodeNumber inode, _) in settled)
                _files.Remove(inode);
            _reported.Clear();
            _recordedAt = null;
            _count = _files.Count;
            return settled;
        }
    }

    private readonly record struct Written(long TimeNs, bool IsClosed);
}
