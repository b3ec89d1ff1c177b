using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log.Native;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Replication;
using Famfs.TestSupport;
using Xunit;

namespace Famfs.Fuse.Tests.Replication;

/// <summary>A mount's line, over the memory of a file system that was just made.</summary>
public sealed class MountRegistrationTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-registration-").FullName;
    private readonly HostIdentity _host = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "test");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData(0u)]
    [InlineData(3u)]
    public void The_line_says_what_the_mount_speaks_from_its_first_write_to_its_last(uint dialect)
    {
        string path = Path.Combine(_directory, "0");
        using (FileStream file = File.Create(path))
            file.SetLength(16 << 20);
        using (DaxDevice device = DaxDevice.Open(path))
            NativeFormatter.Format([device], new() { Host = _host.Host, Clock = TimeProvider.System });
        using Replica replica = new(TestFormats.All.Open([DaxDevice.Open(path)]), _host.Host, default, TimeProvider.System);
        Assert.Null(replica.Bootstrap());
        MountLineTable table = new(replica.Pool);
        MountRegistration registration = new(replica, _host, Guid.NewGuid()) { DialectNumber = dialect, GrantedSlot = 0 };
        Assert.Equal(OpenVerdict.HostDown, registration.Admit(InodeNumber.Root));

        registration.Advance();

        // Both copies are the mount's before anything is opened.
        Assert.Equal(2UL, Assert.Single(table.ReadBlock(0)).Line!.Counter);
        MountLine line = Assert.Single(table.ReadBlock(0)).Line!;
        Assert.Equal((dialect, MountState.Live, OpenVerdict.Open), (line.Dialect, line.State, registration.Admit(InodeNumber.Root)));
        registration.End(replica.Pool);
        line = Assert.Single(table.ReadBlock(0)).Line!;
        Assert.Equal((dialect, MountState.Ended, OpenVerdict.HostDown), (line.Dialect, line.State, registration.Admit(InodeNumber.Root)));
    }
}
