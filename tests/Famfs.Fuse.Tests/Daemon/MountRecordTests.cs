using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Fuse.Daemon;
using Famfs.Fuse.Tests.Session;
using Famfs.V1;
using Xunit;

namespace Famfs.Fuse.Tests.Daemon;

/// <summary>What a daemon reports about older mounts, from what they left in the state directory.</summary>
public sealed class MountRecordTests : IDisposable
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
        Guid unknown = Guid.NewGuid();
        Guid own = Guid.NewGuid();
        MountRecord.Create(_directory, _fileSystem, _host, killed, Living);
        MountRecord.Create(_directory, _fileSystem, _host, unknown, Gone);
        MountRecord.Create(_directory, _fileSystem, _host, own, Living);
        using FuseConnections connections = FuseConnections.Open(living: Living);
        Assert.False(connections.Visible);
        OlderMount gone = Assert.Single(MountRecord.FindGone(_directory, _fileSystem, _host, own, connections, Living));
        Assert.Equal(killed, gone.MountId.ToGuid("mount_id"));
        Assert.Equal(GoneEvidence.SuperblockGone, gone.Evidence);
    }

    [Fact]
    public void Mount_whose_connection_disappeared_is_gone_and_one_of_another_boot_is_forgotten()
    {
        using TestFileSystem system = new();
        using RealMount mount = RealMount.Start(system);
        uint living = mount.Mount.ConnectionNumber;
        Guid disappeared = Guid.NewGuid();
        Guid otherBoot = Guid.NewGuid();
        MountRecord.Create(_directory, _fileSystem, _host, disappeared, Gone);
        MountRecord.Create(_directory, _fileSystem, new(_host.Host, Guid.NewGuid(), new byte[32], "test"), otherBoot, Gone);
        using FuseConnections connections = FuseConnections.Open(living);
        Assert.SkipUnless(connections.Visible, "FUSE connections cannot be seen here");
        OlderMount gone = Assert.Single(MountRecord.FindGone(_directory, _fileSystem, _host, Guid.NewGuid(), connections, living));
        Assert.Equal(disappeared, gone.MountId.ToGuid("mount_id"));
        Assert.False(File.Exists(Path.Combine(_directory, "mounts", _fileSystem.ToString(), otherBoot.ToString())));
    }
}
