using Xunit;

namespace Famfs.EndToEnd;

/// <summary>What master and daemon log: what happens, who comes and goes, and what is refused.</summary>
public sealed class LogTests
{
    private const string Line = @"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (info|warning|error): \S.*$";

    [Fact]
    public void A_master_logs_what_an_operator_asks_afterwards_one_line_each()
    {
        using Cluster cluster = Cluster.Create(64L << 20);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        (ServerProcess daemon, string mount) = cluster.Mount("b", address);
        daemon.Await("locks of files");
        master.Await("is registered, with block");
        master.Await($"has subscribed from 127.0.0.1: {mount}, version ");
        cluster.Famfs("master-slot", "--host-state", cluster.StateOf("b"), "--master", address);
        master.Await("has master slot 1");
        for (int i = 0; i < 5; i++)
            cluster.TryFamfs("stat", "nothing", "--master", address);
        master.Await("GetFile was refused: NotFound: nothing: does not exist (1 for this reason since the start)");

        daemon.Signal("TERM");
        Assert.Equal(0, daemon.AwaitExit());
        master.Await("has ended");
        master.Signal("TERM");
        Assert.Equal(0, master.AwaitExit());
        master.Await("has ended in order");
        // At most one a minute; how long five commands take is the machine's business.
        Assert.InRange(master.Output.Split('\n').Count(line => line.Contains("was refused: NotFound", StringComparison.Ordinal)), 1, 4);

        (ServerProcess second, _) = cluster.StartMaster("a");
        second.Await($"follows one of slot 0 at {address}, which ended in order");
        second.Signal("KILL");
        second.AwaitExit();
        (ServerProcess third, _) = cluster.LaunchMaster("a", "--take-over");
        third.Await("take-over: term ");
        third.Await("listening on");

        foreach (string line in string.Join('\n', master.Output, second.Output, third.Output, daemon.Output).Split('\n', StringSplitOptions.RemoveEmptyEntries))
            Assert.Matches(Line, line);
    }
}
