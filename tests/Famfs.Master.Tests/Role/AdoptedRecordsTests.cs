using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Master.Role;
using Famfs.TestSupport;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Master.Tests.Role;

/// <summary>What a start does with whole records that nobody has published (SAFETY S26).</summary>
public sealed class AdoptedRecordsTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-adopted-").FullName;
    private readonly HostIdentity _host = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "test");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    /// <summary>Such a record does not end the log: the start is refused, and nothing is stored over it.</summary>
    [Theory]
    [InlineData("sound", null)]
    [InlineData("of an unknown type", ErrorReason.NotSupportedByFormat)]
    [InlineData("against replay", ErrorReason.MediaCorrupt)]
    public async Task A_record_that_replay_does_not_take_stops_a_start(string what, ErrorReason? refused)
    {
        string path = Path.Combine(_directory, "0");
        using (FileStream file = File.Create(path))
            file.SetLength(16 << 20);
        using (DaxDevice device = DaxDevice.Open(path))
            NativeFormatter.Format([device], new() { Host = _host.Host, Clock = TimeProvider.System });
        using DevicePool pool = Open(path);
        TestMaster dead = TestMaster.Start(pool, 0, _host.Host);
        RecordBatch batch = dead.StartBatch();
        DirectoryMade directory = new() { Inode = 1000, Parent = what == "against replay" ? 999 : InodeNumber.Root.Value, Name = ByteString.CopyFromUtf8("d"), Mode = 0x1ED };
        batch.Add(what == "of an unknown type" ? (RecordType)250 : RecordType.DirectoryMade, directory);
        byte[] stored = batch.Frames.ToArray();
        long place = dead.Writer.Segment.DeviceOffsetOf(dead.Writer.Tail);
        pool.PrimaryDevice.Write(place, stored);
        pool.PrimaryDevice.WriteBack(place, stored.Length);

        if (refused is null)
        {
            Recovery.Result recovered = await StartAsync(path);
            Assert.Equal(dead.Writer.Position.Sequence.Next, recovered.Claim.AdoptedFrom);
            await using RunningMaster master = new(recovered);
            Assert.Equal("d", (await master.DescribeAsync("d")).Path);
            return;
        }
        for (int attempt = 0; attempt < 2; attempt++)
            Assert.Equal(refused, (await Assert.ThrowsAsync<FamfsException>(() => StartAsync(path))).Reason);
        byte[] now = new byte[stored.Length];
        pool.PrimaryDevice.Read(place, now);
        Assert.Equal(stored, now);
    }

    private static DevicePool Open(string path) => TestFormats.All.Open([DaxDevice.Open(path)]);

    private Task<Recovery.Result> StartAsync(string path) =>
        Recovery.RunAsync(Open(path), _host, takeOver: true, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken);
}
