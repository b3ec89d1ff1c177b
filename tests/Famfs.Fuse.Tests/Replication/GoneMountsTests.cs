using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Fuse.Replication;
using Famfs.Fuse.Tests.Session;
using Famfs.V1;
using Xunit;

namespace Famfs.Fuse.Tests.Replication;

/// <summary>What a daemon reports about older mounts, from what they left in the state directory.</summary>
public sealed class GoneMountsTests : IDisposable
{
    // No superblock can have such a number: minor numbers have 20 bits.
    private const uint Gone = 1 << 24;
    private const uint Living = Gone + 1;

    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-records-").FullName;
    private readonly Guid _fileSystem = Guid.NewGuid();
    private readonly HostIdentity _host = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "test");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void Mount_whose_number_is_the_living_mounts_own_is_gone_also_where_connections_cannot_be_seen()
    {
        Guid killed = Guid.NewGuid();
        MountReceipt.Of(_directory, _fileSystem, _host.Boot, killed, Living).Leave();
        MountReceipt.Of(_directory, _fileSystem, _host.Boot, Guid.NewGuid(), Gone).Leave();
        using GoneMounts mounts = GoneMounts.Begin(_directory, _fileSystem, _host, Guid.NewGuid(), Living);
        OlderMount gone = Assert.Single(mounts.FindOlder());
        Assert.Equal(killed, gone.MountId.ToGuid("mount_id"));
        Assert.Equal(GoneEvidence.SuperblockGone, gone.Evidence);
        Assert.Equal((false, true), (mounts.IsOwnGone(endedByKernel: false), mounts.IsOwnGone(endedByKernel: true)));
    }

    [Fact]
    public void A_receipt_that_is_taken_away_while_it_is_read_is_none()
    {
        // Found by name, and not there when it is opened.
        string receipts = Path.Combine(_directory, "mounts", _fileSystem.ToString());
        MountReceipt.Of(_directory, _fileSystem, _host.Boot, Guid.NewGuid(), Living).Leave();
        File.CreateSymbolicLink(Path.Combine(receipts, Guid.NewGuid().ToString()), "nowhere");
        using GoneMounts mounts = GoneMounts.Begin(_directory, _fileSystem, _host, Guid.NewGuid(), Living);
        Assert.Single(mounts.FindOlder());
    }

    [Fact]
    public void Mount_whose_connection_disappeared_is_gone_and_one_of_another_boot_is_forgotten()
    {
        using TestFileSystem system = new();
        using RealMount mount = RealMount.Start(system);
        uint living = mount.Mount.ConnectionNumber;
        using (FuseConnections connections = FuseConnections.Open(living))
            Assert.SkipUnless(connections.Visible, "FUSE connections cannot be seen here");
        Guid disappeared = Guid.NewGuid();
        Guid otherBoot = Guid.NewGuid();
        MountReceipt.Of(_directory, _fileSystem, _host.Boot, disappeared, Gone).Leave();
        MountReceipt.Of(_directory, _fileSystem, Guid.NewGuid(), otherBoot, Gone).Leave();
        using GoneMounts mounts = GoneMounts.Begin(_directory, _fileSystem, _host, Guid.NewGuid(), living);
        OlderMount gone = Assert.Single(mounts.FindOlder());
        Assert.Equal(disappeared, gone.MountId.ToGuid("mount_id"));
        Assert.False(File.Exists(Path.Combine(_directory, "mounts", _fileSystem.ToString(), otherBoot.ToString())));
        Assert.False(mounts.IsOwnGone(endedByKernel: true));
        mount.Mount.Stop();
        Assert.True(SpinWait.SpinUntil(() => mounts.IsOwnGone(endedByKernel: false), TimeSpan.FromSeconds(60)));
    }

    /// <summary>The kernel gives the number of a connection to the next mount at once.</summary>
    [Fact]
    public void A_mount_is_gone_although_another_has_its_number()
    {
        using TestFileSystem system = new();
        using RealMount mount = RealMount.Start(system);
        uint number = mount.Mount.ConnectionNumber;
        using FuseConnections connections = FuseConnections.Open(number);
        Assert.SkipUnless(connections.Visible, "FUSE connections cannot be seen here");
        Assert.False(connections.IsGone(number));
        mount.Mount.Stop();
        List<RealMount> others = [];
        try
        {
            // Others take what is free, and so does whoever else mounts here.
            Assert.True(SpinWait.SpinUntil(() => connections.IsGone(number), TimeSpan.FromSeconds(60)));
            while (others.Count < 16 && !others.Exists(o => o.Mount.ConnectionNumber == number))
                others.Add(RealMount.Start(system));
            Assert.SkipUnless(others.Exists(o => o.Mount.ConnectionNumber == number), "another program's mount has the number");
            Assert.True(connections.IsGone(number));
            using FuseConnections anew = FuseConnections.Open(number);
            Assert.False(anew.IsGone(number));
        }
        finally
        {
            others.ForEach(o => o.Dispose());
        }
    }

    [Fact]
    public void A_mount_is_over_when_its_line_or_the_log_says_so()
    {
        using ReplayState state = new(new(_fileSystem, 1, default, default), default);
        MountLine line = new() { Counter = 1, Host = _host.Host, Boot = _host.Boot, Mount = Guid.NewGuid(), State = MountState.Live };
        Assert.False(GoneMounts.IsOver(line, state));
        Assert.True(GoneMounts.IsOver(line with { State = MountState.Ended }, state));
        // That an operator went on without its records does not end it: its line and its receipt stay.
        MountReceipt.Of(_directory, _fileSystem, _host.Boot, line.Mount, Living).Leave();
        using GoneMounts mounts = GoneMounts.Begin(_directory, _fileSystem, _host, Guid.NewGuid(), Living);
        foreach ((GoneEvidence evidence, bool isOver) in new[] { (GoneEvidence.LossAccepted, false), (GoneEvidence.Fenced, true) })
        {
            RecordBatch batch = new();
            batch.Start(state.Position.Sequence, new(64), seed: 0);
            batch.Add(RecordType.HostGone, new HostGone { HostId = _host.Host.ToByteString(), MountId = line.Mount.ToByteString(), Evidence = evidence });
            state.ApplyFrames(batch.Frames);
            Assert.Equal(isOver, GoneMounts.IsOver(line, state));
            mounts.ForgetRecorded(state, _host.Host);
            Assert.Equal(isOver ? 0 : 1, MountReceipt.ReadAll(_directory, _fileSystem).Count());
        }
    }

    /// <summary>Its kernel may have files open: nobody takes its entry in the host table, and a successor can still prove its end.</summary>
    [Fact]
    public void A_mount_whose_loss_was_accepted_keeps_its_line_and_its_receipt_until_it_is_proved_gone()
    {
        Guid mount = Guid.NewGuid();
        MountReceipt.Of(_directory, _fileSystem, _host.Boot, mount, Living).Leave();
        using GoneMounts mounts = GoneMounts.Begin(_directory, _fileSystem, _host, Guid.NewGuid(), Living);
        using ReplayState state = new(new(_fileSystem, 1, default, default), default);
        MountLine line = new() { Counter = 1, Host = _host.Host, Boot = _host.Boot, Mount = mount, State = MountState.Live };
        foreach (GoneEvidence evidence in (GoneEvidence[])[GoneEvidence.LossAccepted, GoneEvidence.SuperblockGone])
        {
            RecordBatch batch = new();
            batch.Start(state.Position.Sequence, new(64), seed: 0);
            batch.Add(RecordType.HostGone, new HostGone { HostId = _host.Host.ToByteString(), MountId = mount.ToByteString(), Evidence = evidence });
            state.ApplyFrames(batch.Frames);
            mounts.ForgetRecorded(state, _host.Host);
            bool isProved = evidence != GoneEvidence.LossAccepted;
            Assert.Equal((isProved, isProved ? 0 : 1), (GoneMounts.IsOver(line, state), mounts.FindOlder().Count));
        }
    }

    [Fact]
    public void Receipts_of_killed_mounts_go_when_the_log_has_them_and_a_hello_takes_no_more_than_a_master_does()
    {
        const int Killed = 300;
        List<Guid> killed = [.. Enumerable.Range(0, Killed).Select(_ => Guid.NewGuid())];
        foreach (Guid mount in killed)
            MountReceipt.Of(_directory, _fileSystem, _host.Boot, mount, Living).Leave();
        Guid own = Guid.NewGuid();
        using GoneMounts mounts = GoneMounts.Begin(_directory, _fileSystem, _host, own, Living);
        mounts.LeaveReceipt();
        using ReplayState state = new(new(_fileSystem, 1, default, default), default);
        mounts.ForgetRecorded(state, _host.Host);
        Assert.Equal(Killed + 1, MountReceipt.ReadAll(_directory, _fileSystem).Count());
        IReadOnlyList<OlderMount> said = mounts.FindOlder();
        Assert.Equal(256, said.Count);
        foreach (OlderMount older in said)
        {
            HostGone gone = new() { HostId = _host.Host.ToByteString(), MountId = older.MountId, Evidence = older.Evidence };
            RecordBatch batch = new();
            batch.Start(state.Position.Sequence, new(64), seed: 0);
            batch.Add(RecordType.HostGone, gone);
            state.ApplyFrames(batch.Frames);
        }
        mounts.ForgetRecorded(state, _host.Host);
        Assert.Equal(Killed - 256, mounts.FindOlder().Count);
        Assert.Contains(MountReceipt.ReadAll(_directory, _fileSystem), receipt => receipt.Mount == own);
    }

    [Fact]
    public void A_receipt_is_there_from_before_the_line_until_the_mount_is_forgotten()
    {
        Guid own = Guid.NewGuid();
        using GoneMounts mounts = GoneMounts.Begin(_directory, _fileSystem, _host, own, Living);
        Assert.Empty(MountReceipt.ReadAll(_directory, _fileSystem));
        mounts.Forget();
        mounts.LeaveReceipt();
        MountReceipt receipt = Assert.Single(MountReceipt.ReadAll(_directory, _fileSystem));
        Assert.Equal((own, _host.Boot, Living), (receipt.Mount, receipt.Boot, receipt.Connection));
        File.WriteAllText(Path.Combine(_directory, "mounts", _fileSystem.ToString(), Guid.NewGuid().ToString()), "torn");
        File.WriteAllText(Path.Combine(_directory, "mounts", _fileSystem.ToString(), "other"), "file");
        Assert.Single(MountReceipt.ReadAll(_directory, _fileSystem));
        mounts.Forget();
        Assert.Empty(MountReceipt.ReadAll(_directory, _fileSystem));
        Assert.Empty(MountReceipt.ReadAll(_directory, Guid.NewGuid()));
    }
}
