using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.V1;
using Xunit;

namespace Famfs.Master.Tests;

public sealed class MountTableTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-mounts-").FullName;
    private readonly DevicePool _pool;
    private readonly MountTable _mounts;
    private readonly HostTable _table;

    public MountTableTests()
    {
        string path = Path.Combine(_directory, "0");
        using (FileStream file = File.Create(path))
            file.SetLength(16 << 20);
        using (DaxDevice device = DaxDevice.Open(path))
            FileSystemFormatter.Format([device], new() { Host = Guid.NewGuid(), Clock = TimeProvider.System });
        _pool = DevicePool.Open([DaxDevice.Open(path)]);
        _table = new(_pool);
        _mounts = new(_table, TimeProvider.System);
    }

    public void Dispose()
    {
        _pool.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public void A_mount_that_connects_anew_stays_subscribed_when_its_older_stream_ends_later()
    {
        (Guid mount, Guid host) = (Guid.NewGuid(), Guid.NewGuid());
        _mounts.Subscribed(mount, host, Guid.NewGuid(), "stock", "1");
        _mounts.Subscribed(mount, host, Guid.NewGuid(), "stock", "1");
        _mounts.Unsubscribed(mount);
        Assert.True(_mounts.IsOf(mount, host));
        _mounts.Unsubscribed(mount);
        Assert.False(_mounts.IsOf(mount, host));
    }

    [Fact]
    public async Task A_wait_for_all_counts_the_lines_of_granted_slots_with_and_without_a_stream()
    {
        HostLine line = new() { Counter = 1, State = MountState.Live, Host = Guid.NewGuid(), Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };
        _table.Write(MediaLayout.EntriesPerHost, line); // of host slot 1
        _mounts.Scan(_pool.Primary.FileSystem, hostSlots: 1);
        Assert.Equal(0, await _mounts.WaitAsync(new(5), [], _ => false, TestContext.Current.CancellationToken));
        Assert.Single(_mounts.Scan(_pool.Primary.FileSystem, hostSlots: 2));
        Task<int> waiting = _mounts.WaitAsync(new(5), [], _ => false, TestContext.Current.CancellationToken);
        Assert.Equal([line.Mount], _mounts.Missing(new(5), [], _ => false));
        Assert.False(waiting.IsCompleted);
        _table.Write(MediaLayout.EntriesPerHost, line with { Counter = 2, ReplayedSequence = new(5) });
        _mounts.Scan(_pool.Primary.FileSystem, hostSlots: 2);
        Assert.Equal(1, await waiting.WaitAsync(TimeSpan.FromMinutes(1), TestContext.Current.CancellationToken));
    }
}
