using Famfs.Core;
using Famfs.Fuse.Replication;
using Famfs.V1;
using Xunit;

namespace Famfs.Fuse.Tests.Replication;

public sealed class WrittenFilesTests
{
    private static readonly InodeNumber s_a = new(101);
    private static readonly InodeNumber s_b = new(102);
    private static readonly LogPosition s_position = new(Guid.NewGuid(), 1, new(7), new(64));

    private readonly ManualClock _clock = new();
    private readonly WrittenFiles _files;

    public WrittenFilesTests() => _files = new(_clock);

    [Fact]
    public void Every_writing_moves_the_time_however_wrong_the_clock_is()
    {
        Assert.False(_files.TryGet(s_a, out _));
        _files.OnWritten(s_a, 5);
        Assert.Equal(_clock.NowNs, Time(s_a));
        // The log is ahead of this host's clock, and then the clock stands still, and is set back.
        _files.OnWritten(s_b, _clock.NowNs + 1_000_000);
        Assert.Equal(_clock.NowNs + 1_000_001, Time(s_b));
        _files.OnWritten(s_b, _clock.NowNs + 1_000_000);
        Assert.Equal(_clock.NowNs + 1_000_002, Time(s_b));
        _clock.Now -= TimeSpan.FromHours(1);
        _files.OnWritten(s_a, 5);
        Assert.Equal(_clock.NowNs + 3_600_000_000_001, Time(s_a));
        _files.OnWritten(new(3), long.MaxValue);
        Assert.Equal(long.MaxValue, Time(new(3)));
    }

    [Fact]
    public void What_is_closed_is_told_a_second_later_and_the_rest_once_a_minute()
    {
        _files.OnWritten(s_a, 0);
        _files.OnWritten(s_b, 0);
        Assert.Null(_files.TakeDue(s_position));
        _files.OnClosed(s_a);
        _files.OnClosed(new(999));
        _clock.Now += TimeSpan.FromSeconds(0.9);
        Assert.Null(_files.TakeDue(s_position));
        _clock.Now += TimeSpan.FromSeconds(0.1);
        Written closed = _files.TakeDue(s_position)!;
        Assert.Equal((7UL, 64UL), (closed.Position.Sequence, closed.Position.Term));
        Assert.Equal([s_a.Value], closed.Inodes);
        Assert.Equal([Time(s_a)], closed.TimesNs);
        Record(8);
        _clock.Now += TimeSpan.FromSeconds(58.9);
        Assert.Null(_files.TakeDue(s_position));
        _clock.Now += TimeSpan.FromSeconds(0.1);
        Assert.Equal([s_b.Value], _files.TakeDue(s_position)!.Inodes);
        Record(9);
        Assert.True(_files.IsEmpty);

        // The next minute begins with the next writing.
        _files.OnWritten(s_b, 0);
        _clock.Now += TimeSpan.FromSeconds(59);
        _files.OnWritten(s_b, 0);
        Assert.Null(_files.TakeDue(s_position));
        _clock.Now += TimeSpan.FromSeconds(1);
        Assert.Equal([s_b.Value], _files.TakeDue(s_position)!.Inodes);
    }

    [Fact]
    public void One_report_is_under_way_and_what_was_written_meanwhile_is_told_again()
    {
        _files.OnWritten(s_a, 0);
        _files.OnWritten(s_b, 0);
        Assert.Equal(2, _files.TakeDue(s_position, all: true)!.Inodes.Count);
        Assert.Null(_files.TakeDue(s_position, all: true));
        _clock.Now += TimeSpan.FromSeconds(1);
        _files.OnWritten(s_b, 0);
        // What is in the log is shown from the log when it has been replayed here, and not before.
        _files.OnRecorded(new(9));
        Assert.Empty(_files.Settle(new(8)));
        Assert.True(_files.TryGet(s_a, out _));
        Assert.Equal(s_a, Assert.Single(_files.Settle(new(9))).Inode);
        Assert.False(_files.TryGet(s_a, out _));
        Assert.Equal(_clock.NowNs, Time(s_b));
        Assert.Equal([s_b.Value], _files.TakeDue(s_position, all: true)!.Inodes);
    }

    [Fact]
    public void What_the_log_sets_later_is_shown_and_not_told()
    {
        _files.OnWritten(s_a, 0);
        _files.OnWritten(s_b, 0);
        _files.Forget(s_a);
        Assert.False(_files.TryGet(s_a, out _));
        Assert.Equal([s_b.Value], _files.TakeDue(s_position, all: true)!.Inodes);
        _files.Forget(s_b);
        _files.OnRecorded(new(9));
        Assert.Empty(_files.Settle(new(9)));
        _files.OnWritten(s_b, 0);
        Assert.Equal([s_b.Value], _files.TakeDue(s_position, all: true)!.Inodes);
    }

    [Fact]
    public void What_was_not_recorded_is_told_again_when_the_pause_is_over()
    {
        _files.OnWritten(s_a, 0);
        _files.TakeDue(s_position, all: true);
        _files.OnRefused(TimeSpan.FromMinutes(1));
        _clock.Now += TimeSpan.FromSeconds(59);
        Assert.Null(_files.TakeDue(s_position));
        Assert.True(_files.TryGet(s_a, out _));
        _clock.Now += TimeSpan.FromSeconds(1);
        Assert.Equal([s_a.Value], _files.TakeDue(s_position)!.Inodes);
        // A new stream gets it at once.
        _files.OnRefused(TimeSpan.Zero);
        Assert.Equal([s_a.Value], _files.TakeDue(s_position)!.Inodes);
        // An answer that nothing was asked for changes nothing.
        Record(9);
        _files.OnRecorded(new(3));
        _files.OnRefused(TimeSpan.FromHours(1));
        _files.OnWritten(s_a, 0);
        Assert.NotNull(_files.TakeDue(s_position, all: true));
    }

    [Fact]
    public void A_report_has_a_bounded_number_of_files_and_the_rest_follows_at_once()
    {
        for (ulong i = 0; i < WrittenFiles.MostReported + 10; i++)
        {
            _files.OnWritten(new(1000 + i), 0);
            _files.OnClosed(new(1000 + i));
        }
        _clock.Now += TimeSpan.FromSeconds(1);
        Assert.Equal(WrittenFiles.MostReported, _files.TakeDue(s_position)!.Inodes.Count);
        Record(8);
        Assert.Equal(10, _files.TakeDue(s_position)!.Inodes.Count);
        Record(9);
        Assert.True(_files.IsEmpty);
    }

    [Fact]
    public void Beyond_so_many_closed_files_in_a_minute_the_rest_waits_for_the_minute()
    {
        int told = 0;
        for (int second = 0; second < 59; second++)
        {
            for (ulong i = 0; i < 500; i++)
            {
                _files.OnWritten(new(1000 + i), 0);
                _files.OnClosed(new(1000 + i));
            }
            _clock.Now += TimeSpan.FromSeconds(1);
            told += _files.TakeDue(s_position)?.Inodes.Count ?? 0;
            Record(8);
        }
        Assert.InRange(told, WrittenFiles.MostPrompt, WrittenFiles.MostPrompt + WrittenFiles.MostReported);
        _clock.Now += TimeSpan.FromMinutes(1);
        int rest = 0;
        while (_files.TakeDue(s_position) is { } report)
        {
            rest += report.Inodes.Count;
            Record(9);
        }
        Assert.Equal(500, rest);
    }

    [Fact]
    public void So_many_files_may_wait_and_no_more()
    {
        WrittenFiles files = new(_clock, capacity: 2);
        files.OnWritten(s_a, 0);
        files.OnWritten(s_b, 0);
        Assert.False(files.HasSkipped);
        files.OnWritten(new(3), 0);
        Assert.True(files.HasSkipped);
        Assert.False(files.TryGet(new(3), out _));
        _clock.Now += TimeSpan.FromSeconds(1);
        files.OnWritten(s_a, 0);
        Assert.True(files.TryGet(s_a, out long time));
        Assert.Equal(_clock.NowNs, time);
    }

    [Fact]
    public void Many_threads_write_and_one_reports_until_the_log_has_everything()
    {
        Thread[] writers = [.. Enumerable.Range(0, 4).Select(t => new Thread(() =>
        {
            for (ulong i = 0; i < 20_000; i++)
            {
                _files.OnWritten(new(1000 + (i % 300)), 0);
                _files.OnClosed(new(1000 + (i % 300)));
                _files.TryGet(new(1000 + i), out _);
            }
        }))];
        foreach (Thread writer in writers)
            writer.Start();
        while (writers.Any(w => w.IsAlive) || !_files.IsEmpty)
        {
            if (_files.TakeDue(s_position, all: true) is not null)
                Record(9);
        }
        foreach (Thread writer in writers)
            writer.Join();
        Assert.True(_files.IsEmpty);
    }

    private long Time(InodeNumber inode)
    {
        Assert.True(_files.TryGet(inode, out long time));
        return time;
    }

    private void Record(ulong sequence)
    {
        _files.OnRecorded(new(sequence));
        _files.Settle(new(sequence));
    }

    private sealed class ManualClock : TimeProvider
    {
        public DateTimeOffset Now { get; set; } = new(2030, 1, 2, 3, 4, 5, TimeSpan.Zero);

        public long NowNs => (Now.UtcTicks - DateTime.UnixEpoch.Ticks) * 100;

        public override DateTimeOffset GetUtcNow() => Now;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => Now.Ticks;
    }
}
