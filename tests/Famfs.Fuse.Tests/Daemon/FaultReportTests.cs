using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Daemon;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Tests.Session;
using Xunit;

namespace Famfs.Fuse.Tests.Daemon;

/// <summary>What goes wrong on a thread that serves the kernel is counted, and said by the daemon.</summary>
public sealed class FaultReportTests
{
    [Fact]
    public void A_request_that_fails_by_a_mistake_is_said_with_its_cause_and_counted()
    {
        using TestFileSystem system = new();
        HeldMutations port = new() { OnBegin = _ => throw new InvalidOperationException("a mistake") };
        system.Mutations = port;
        using RealMount mount = RealMount.Start(system);
        RecordingLog log = new();
        ManualClock clock = new();
        FaultReport report = new(mount.Mount, clock, log);
        report.Say();
        Assert.Empty(log.Lines);

        Assert.NotEqual(0, mount.Shell("mkdir d").ExitCode);
        report.Say();
        Assert.Equal(["1 requests failed by a mistake of this daemon, or could not be answered; the last: InvalidOperationException: a mistake"], log.Lines);
        Assert.Equal(1, mount.Mount.Statistics.Failures);

        // Not a line for each: the next is due after a while, or in the end.
        mount.Shell("mkdir d; mkdir d");
        report.Say();
        Assert.Single(log.Lines);
        clock.Advance(FaultReport.Interval);
        report.Say();
        Assert.StartsWith("2 requests failed", log.Lines[^1], StringComparison.Ordinal);
        mount.Shell("mkdir d");
        report.Say(last: true);
        Assert.StartsWith("1 requests failed", log.Lines[^1], StringComparison.Ordinal);
        Assert.Equal(3, log.Lines.Count);
    }

    [Fact]
    public void A_device_that_is_not_here_is_named_once_and_not_for_each_read()
    {
        using TestFileSystem system = new();
        system.AddFile(InodeNumber.Root, "f", 10);
        system.AddFile(InodeNumber.Root, "g", 10, 0x1A4, 0, new MapExtent(new DeviceIndex(7), 0, TestFileSystem.Unit));
        using RealMount mount = RealMount.Start(system);
        RecordingLog log = new();
        Guid uuid = Guid.NewGuid();
        FaultReport report = new(mount.Mount, TimeProvider.System, log, device => device.Value == 7 ? uuid : null);
        Assert.NotEqual(0, mount.Shell("cat f || cat f || cat f").ExitCode);
        report.Say();
        Assert.StartsWith("reads, writes or opens of files on device 0 (its uuid is not known) answer EIO: it is not on this host", Assert.Single(log.Lines), StringComparison.Ordinal);
        Assert.NotEqual(0, mount.Shell("cat f || cat g || cat g").ExitCode);
        report.Say();
        report.Say(last: true);
        Assert.Equal(2, log.Lines.Count);
        Assert.Contains($"on device 7 ({uuid})", log.Lines[1], StringComparison.Ordinal);
        Assert.Contains($"`famfs devices attach DEVICE {mount.Mount.MountPointPath}`", log.Lines[1], StringComparison.Ordinal);
    }

    [Fact]
    public void Changes_that_the_mount_does_not_do_are_said_once_an_hour_with_what_does_them()
    {
        using TestFileSystem system = new();
        system.AddFile(InodeNumber.Root, "f", 10);
        using RealMount mount = RealMount.Start(system);
        RecordingLog log = new();
        ManualClock clock = new();
        FaultReport report = new(mount.Mount, clock, log);
        report.Say();
        Assert.Empty(log.Lines);

        mount.Shell("mkdir d; cp /proc/self/comm new; touch f; rm f; mkfifo p; ln f g; : > f");
        report.Say();
        string line = Assert.Single(log.Lines);
        Assert.Contains("files are made by famfs creat and famfs cp", line, StringComparison.Ordinal);
        Assert.Matches("^[7-9] calls", line);

        mount.Shell("mkdir d");
        clock.Advance(FaultReport.ForbiddenInterval - FaultReport.Interval);
        report.Say();
        report.Say(last: true);
        Assert.Single(log.Lines);
        clock.Advance(FaultReport.Interval);
        report.Say();
        Assert.StartsWith("1 calls", log.Lines[^1], StringComparison.Ordinal);
        Assert.Equal(2, log.Lines.Count);
    }

    private sealed class ManualClock : TimeProvider
    {
        private long _ticks;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public void Advance(TimeSpan time) => _ticks += time.Ticks;

        public override long GetTimestamp() => _ticks;
    }
}
