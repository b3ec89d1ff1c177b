using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log.Native;
using Famfs.Master.Changes;
using Famfs.Master.Role;
using Famfs.TestSupport;
using Famfs.V1;
using Xunit;

namespace Famfs.Master.Tests.Role;

/// <summary>What a start does when a mount has replayed what the log does not have.</summary>
public sealed class LostRecordsTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-lost-").FullName;
    private readonly HostIdentity _host = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "test");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData(1000, 0)]
    [InlineData(0, 64)]
    public async Task A_start_names_the_mount_that_lost_records_and_goes_on_for_good_when_told(int ahead, int termsAhead)
    {
        string path = Path.Combine(_directory, "0");
        using (FileStream file = File.Create(path))
            file.SetLength(16 << 20);
        using (DaxDevice device = DaxDevice.Open(path))
            NativeFormatter.Format([device], new() { Host = _host.Host, Clock = TimeProvider.System });
        LogPosition end;
        await using (RunningMaster master = new(await StartAsync(path)))
        {
            await master.MakeDirectoryAsync("d");
            end = await master.PositionAsync();
        }
        Guid mount = Guid.NewGuid();
        using (var pool = TestFormats.All.Open([DaxDevice.Open(path)]))
        {
            MountLine line = new()
            {
                Counter = 1,
                State = MountState.Live,
                Host = _host.Host,
                Boot = _host.Boot,
                Mount = mount,
                ReplayedSequence = new(end.Sequence.Value + (ulong)ahead),
                ReplayedTerm = new(end.Term.Value + (ulong)termsAhead),
                Generation = end.Generation,
            };
            new MountLineTable(pool).Write(0, line);
        }

        FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => StartAsync(path, Guid.NewGuid()));
        Assert.Equal(ErrorReason.MediaCorrupt, error.Reason);
        Assert.Contains($"--accept-loss {mount}", error.Message, StringComparison.Ordinal);
        Assert.Contains($"of host {_host.Host}", error.Message, StringComparison.Ordinal);

        Recovery.Result recovered = await StartAsync(path, mount);
        Recovery.LostRecords accepted = Assert.Single(recovered.Accepted);
        Assert.Equal((_host.Host, mount), (accepted.Host, accepted.Mount));
        await using (RunningMaster master = new(recovered))
            Assert.True(await master.RunAsync(new MountGone(new(accepted.Host, accepted.Mount, GoneEvidence.LossAccepted, accepted.Cause))));

        await using (RunningMaster again = new(await StartAsync(path)))
            Assert.Equal(GoneEvidence.LossAccepted, again.State.FindGone(_host.Host, mount, default)!.Value.Evidence);
    }

    /// <summary>A container has a node of the device of its own, which here is a copy of it: no lock on one is seen on the other (SAFETY S29).</summary>
    [Fact]
    public async Task A_second_master_of_a_host_is_refused_also_when_no_lock_on_the_device_is_between_them()
    {
        string path = Path.Combine(_directory, "0");
        using (FileStream file = File.Create(path))
            file.SetLength(16 << 20);
        using (DaxDevice device = DaxDevice.Open(path))
            NativeFormatter.Format([device], new() { Host = _host.Host, Clock = TimeProvider.System });
        File.Copy(path, path + " by another node");
        HostIdentity host = _host with { Locks = HostLocks.In(Path.Combine(_directory, "state")) };
        Task<Recovery.Result> Start(string at) => Recovery.RunAsync(
            TestFormats.All.Open([DaxDevice.Open(at)]), host, takeOver: true, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken);

        await using (RunningMaster first = new(await Start(path)))
        {
            FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => Start(path + " by another node"));
            Assert.Equal(ErrorReason.NotMaster, error.Reason);
            Assert.Contains("a master of this host is running (slot 0 is locked)", error.Message, StringComparison.Ordinal);
        }
        await using RunningMaster second = new(await Start(path + " by another node"));
    }

    private Task<Recovery.Result> StartAsync(string path, params Guid[] acceptLoss) => Recovery.RunAsync(
        TestFormats.All.Open([DaxDevice.Open(path)]), _host, takeOver: true, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken, new HashSet<Guid>(acceptLoss));
}
