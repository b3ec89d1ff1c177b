using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.Master.Queries;
using Famfs.Master.State;
using Famfs.V1;
using Xunit;

namespace Famfs.Master.Tests.Changes;

public sealed class FilesWrittenChangeTests
{
    private static readonly Guid s_mount = Guid.NewGuid();

    private readonly WrittenLimit _limit = new();

    [Fact]
    public void All_files_of_a_report_are_one_record_that_older_readers_skip()
    {
        using Deciding on = NewDeciding(3, out InodeNumber[] files);
        int before = on.Batch.Count;
        long now = NowNs(on);
        Assert.Equal(on.Context.Position.Sequence.Value + 1, Decide(on, [.. files.Select((file, i) => (file, now - i))]));
        Assert.Equal(before + 1, on.Batch.Count);
        (FilesWritten record, FrameFlags flags) = Last(on);
        Assert.Equal((FrameFlags.Skippable, s_mount, now), (flags, record.MountId.ToGuid("mount"), record.TimeNs));
        Assert.Equal(files.Select(f => f.Value), record.Inodes);
        for (int i = 0; i < files.Length; i++)
            Assert.Equal((now - i, now - i), (Read(on, files[i]).ModifyTimeNs, Read(on, files[i]).ChangeTimeNs));
    }

    [Fact]
    public void A_time_moves_forward_only_and_to_no_later_than_the_masters_clock()
    {
        using Deciding on = NewDeciding(1, out InodeNumber[] files);
        InodeAttributes made = Read(on, files[0]);
        on.Clock.Now += TimeSpan.FromSeconds(10);
        int before = on.Batch.Count;
        // What changes nothing needs no record, and the mount need not say it again.
        Assert.Equal(on.Context.Position.Sequence.Value, Decide(on, (files[0], made.ModifyTimeNs)));
        Assert.Equal(on.Context.Position.Sequence.Value, Decide(on, (files[0], long.MinValue)));
        Assert.Equal(before, on.Batch.Count);
        Decide(on, (files[0], long.MaxValue));
        Assert.Equal((NowNs(on), NowNs(on), made.AccessTimeNs), (Read(on, files[0]).ModifyTimeNs, Read(on, files[0]).ChangeTimeNs, Read(on, files[0]).AccessTimeNs));
    }

    [Fact]
    public void What_is_no_file_or_no_more_is_left_out()
    {
        using Deciding on = NewDeciding(1, out InodeNumber[] files);
        on.Clock.Now += TimeSpan.FromSeconds(10);
        Decide(on, (InodeNumber.Root, NowNs(on)), (new(999_999), NowNs(on)), (new(MediaLayout.HostTableInode), NowNs(on)), (files[0], NowNs(on)));
        Assert.Equal([files[0].Value], Last(on).Record.Inodes);
    }

    /// <summary>As by cp -p and touch, while the mount that wrote has not heard of it.</summary>
    [Fact]
    public void A_time_that_was_set_after_what_the_mount_has_seen_stays()
    {
        using Deciding on = NewDeciding(2, out InodeNumber[] files);
        LogSequence seen = on.Context.Position.Sequence;
        on.Decide(new AttributeChange(new() { Path = "f0", ModifyTimeNs = 5 }));
        on.Decide(new AttributeChange(new() { Path = "f1", Mode = 0x100 }));
        on.Clock.Now += TimeSpan.FromSeconds(10);
        Decide(on, seen, (files[0], NowNs(on)), (files[1], NowNs(on)));
        Assert.Equal((5L, NowNs(on)), (Read(on, files[0]).ModifyTimeNs, Read(on, files[1]).ModifyTimeNs));
        // A mount that has seen it and wrote afterwards moves it.
        Decide(on, (files[0], NowNs(on)));
        Assert.Equal(NowNs(on), Read(on, files[0]).ModifyTimeNs);
    }

    [Fact]
    public void Of_a_position_before_the_times_that_are_remembered_the_mount_is_asked_again()
    {
        SetTimes times = new(capacity: 2);
        for (ulong i = 1; i <= 4; i++)
            times.Add(new(100 + (i % 2)), new(i));
        Assert.Equal(2UL, times.KnownAfter.Value);
        Assert.True(times.IsSetAfter(new(101), new(2)));
        Assert.True(times.IsSetAfter(new(100), new(3)));
        Assert.False(times.IsSetAfter(new(101), new(3)));
        Assert.False(times.IsSetAfter(new(7), new(2)));

        using Deciding on = NewDeciding(1, out InodeNumber[] files);
        LogSequence seen = on.Context.Position.Sequence;
        for (int i = 0; i < 16385; i++)
        {
            if (i % 1000 == 0)
                on.Begin();
            on.Decide(new AttributeChange(new() { Path = "f0", ModifyTimeNs = i }));
        }
        Assert.Equal(ErrorReason.RequestExpired, Refuse(on, seen, (files[0], NowNs(on))).Reason);
        on.Clock.Now += TimeSpan.FromSeconds(10);
        Decide(on, on.State.SetTimes.KnownAfter, (files[0], NowNs(on)));
        Assert.Equal(16384, Read(on, files[0]).ModifyTimeNs);
    }

    [Fact]
    public void Half_of_what_the_log_can_have_is_kept_for_changes_that_somebody_asks_for()
    {
        using Deciding on = NewDeciding(1, out InodeNumber[] files);
        on.Clock.Now += TimeSpan.FromSeconds(10);
        long all = on.State.Replay.Segments.Sum(s => s.Extent.LengthBytes) + on.State.Allocator.FreeBytes;
        on.Begin(logBytes: (all + 1) / 2);
        Assert.Equal(ErrorReason.LogFull, Refuse(on, on.Context.Position.Sequence, (files[0], NowNs(on))).Reason);
        // Others have the room.
        on.Decide(new AttributeChange(new() { Path = "f0", Mode = 0x100 }));
        // What needs no record is done.
        Decide(on, (files[0], 0));
        on.Begin(logBytes: ((all + 1) / 2) - 1);
        Decide(on, (files[0], NowNs(on)));
        Assert.Equal(NowNs(on), Read(on, files[0]).ModifyTimeNs);
        on.Begin(roomBytes: 50);
        on.Clock.Now += TimeSpan.FromSeconds(10);
        Assert.Equal(VerdictKind.NextBatch, new FilesWrittenChange(s_mount, Report(on.Context.Position.Sequence, (files[0], NowNs(on))), _limit).Decide(on.Context).Kind);
    }

    [Fact]
    public void A_mount_has_so_many_in_a_minute_and_all_have()
    {
        using Deciding on = new();
        for (int i = 0; i < WrittenLimit.MostOfMount; i += 1024)
            _limit.Take(s_mount, 1024, on.Clock);
        Assert.Equal((ErrorReason.Overloaded, (ulong)WrittenLimit.MostOfMount), Refused(s_mount, 1));
        for (int i = 1; i < WrittenLimit.Most / WrittenLimit.MostOfMount; i++)
            _limit.Take(Guid.NewGuid(), WrittenLimit.MostOfMount, on.Clock);
        Assert.Equal((ErrorReason.Overloaded, (ulong)WrittenLimit.Most), Refused(Guid.NewGuid(), 1));
        on.Clock.Now += TimeSpan.FromSeconds(59);
        Refused(s_mount, 1);
        on.Clock.Now += TimeSpan.FromSeconds(1);
        _limit.Take(s_mount, 1, on.Clock);

        (ErrorReason, ulong) Refused(Guid mount, int files)
        {
            FamfsException error = Assert.Throws<FamfsException>(() => _limit.Take(mount, files, on.Clock));
            return (error.Reason, error.Limit);
        }
    }

    [Fact]
    public void A_report_that_is_none_is_refused_and_changes_nothing()
    {
        using Deciding on = NewDeciding(1, out InodeNumber[] files);
        Written[] bad =
        [
            new() { Inodes = { files[0].Value } },
            new() { TimesNs = { 1 } },
            new() { Inodes = { 0 }, TimesNs = { 1 } },
            new() { Inodes = { ulong.MaxValue }, TimesNs = { 1 } },
            new() { Inodes = { Enumerable.Repeat(files[0].Value, 257) }, TimesNs = { Enumerable.Repeat(NowNs(on), 257) } },
        ];
        foreach (Written written in bad)
            Assert.Equal(ErrorReason.BadRequest, on.Refuse(new FilesWrittenChange(s_mount, written, _limit)).Reason);
    }

    [Fact]
    public void A_format_without_times_refuses_it()
    {
        using Deciding on = new(devices: 1, famfs2: true);
        Assert.Equal(ErrorReason.NotSupportedByFormat, on.Refuse(new FilesWrittenChange(s_mount, new(), _limit)).Reason);
    }

    private static Deciding NewDeciding(int count, out InodeNumber[] files)
    {
        Deciding on = new();
        files = [.. Enumerable.Range(0, count).Select(i => new InodeNumber(on.Decide(new FileCreation(new() { Path = $"f{i}", SizeBytes = 1 })).File.Inode))];
        on.Clock.Now += TimeSpan.FromSeconds(10);
        return on;
    }

    private static long NowNs(Deciding on) => on.Context.NowNs;

    private static Written Report(LogSequence seen, params (InodeNumber Inode, long TimeNs)[] files) => new()
    {
        Position = new() { Sequence = seen.Value },
        Inodes = { files.Select(f => f.Inode.Value) },
        TimesNs = { files.Select(f => f.TimeNs) },
    };

    private ulong Decide(Deciding on, params (InodeNumber Inode, long TimeNs)[] files) => Decide(on, on.Context.Position.Sequence, files);

    private ulong Decide(Deciding on, LogSequence seen, params (InodeNumber Inode, long TimeNs)[] files) =>
        on.Decide(new FilesWrittenChange(s_mount, Report(seen, files), _limit));

    private FamfsException Refuse(Deciding on, LogSequence seen, params (InodeNumber Inode, long TimeNs)[] files) =>
        on.Refuse(new FilesWrittenChange(s_mount, Report(seen, files), _limit));

    private static InodeAttributes Read(Deciding on, InodeNumber inode)
    {
        using TreeScope scope = on.Context.Reader.Tree.Enter();
        Assert.True(scope.TryGet(inode, out InodeAttributes found));
        return found;
    }

    private static (FilesWritten Record, FrameFlags Flags) Last(Deciding on)
    {
        ReadOnlySpan<byte> frames = on.Batch.Frames;
        RecordFrame frame;
        do
        {
            frame = RecordFrame.ReadVerified(frames);
            frames = frames[frame.PaddedBytes..];
        }
        while (!frames.IsEmpty);
        Assert.Equal(RecordType.FilesWritten, frame.Type);
        return (FilesWritten.Parser.ParseFrom(frame.Payload), frame.Flags);
    }
}
