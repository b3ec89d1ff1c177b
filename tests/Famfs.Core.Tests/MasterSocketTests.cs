using Famfs.Core;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests;

/// <summary>Where the socket of a host's master is.</summary>
public sealed class MasterSocketTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-socket-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData(true, null, null, "/run/famfs/master.sock")]
    [InlineData(false, null, null, "/run/famfs/master.sock")]
    [InlineData(true, null, "/run/user/7", "/run/famfs/master.sock /run/user/7/famfs/master.sock")]
    [InlineData(false, null, "/run/user/7", "/run/user/7/famfs/master.sock /run/famfs/master.sock")]
    [InlineData(false, null, "relative", "/run/famfs/master.sock")]
    [InlineData(true, "/x", "/run/user/7", "/x/master.sock")]
    [InlineData(false, "/x", "/run/user/7", "/x/master.sock")]
    [InlineData(false, "", "", "/run/famfs/master.sock")]
    public void A_said_directory_is_the_only_one_and_a_user_prefers_its_own(bool privileged, string? said, string? own, string places)
    {
        string? Variable(string name) => name switch { "FAMFS_RUN_DIR" => said, "XDG_RUNTIME_DIR" => own, _ => null };
        Assert.Equal(places.Split(' '), MasterSocket.FindPlaces(Variable, privileged));
    }

    [Fact]
    public void The_first_place_that_can_be_used_is_chosen_and_nothing_is_made_by_that()
    {
        string fits = Path.Combine(_directory, "run", "master.sock");
        string tooLong = Path.Combine(_directory, new string('l', 100), "master.sock");
        string nowhere = Path.Combine(_directory, "none", "none", "master.sock");
        Assert.Equal("unix:" + fits, MasterSocket.Choose([tooLong, nowhere, fits]));
        Assert.False(Directory.Exists(Path.GetDirectoryName(fits)));
        FamfsException none = Assert.Throws<FamfsException>(() => MasterSocket.Choose([tooLong, nowhere]));
        Assert.Equal(ErrorReason.NotPermitted, none.Reason);
        Assert.Contains("say --listen or set FAMFS_RUN_DIR", none.Message, StringComparison.Ordinal);
        MasterSocket.MakeDirectory("unix:" + fits);
        MasterSocket.MakeDirectory("unix:" + fits);
        Assert.Null(MasterSocket.FindAddress([nowhere, fits]));
        File.WriteAllText(fits, "");
        Assert.Equal("unix:" + fits, MasterSocket.FindAddress([nowhere, fits]));
    }
}
