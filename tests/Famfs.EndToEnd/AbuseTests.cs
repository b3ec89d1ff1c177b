using Xunit;

namespace Famfs.EndToEnd;

/// <summary>A master under hostile callers, in seconds: <c>make test-abuse</c> does the same for minutes, with limits for times.</summary>
public sealed class AbuseTests
{
    private const string Python = "/usr/bin/python3";

    [Fact]
    public void Hostile_callers_cost_a_master_little_memory_and_others_nothing()
    {
        Assert.SkipUnless(File.Exists(Python), $"{Python} is not there");
        Assert.SkipUnless(Directory.Exists("/dev/shm"), "/dev/shm is not there");
        using (ServerProcess probe = new(Python, ["-c", "import grpc, google.protobuf"]))
            Assert.SkipUnless(probe.AwaitExit() == 0, "python3-grpcio is not installed");
        string script = Path.Combine(AppContext.BaseDirectory, "Python", "abuse.py");
        using ServerProcess abuse = new(Python, [script, "--short", "--famfs", Cluster.Program("Famfs.Cli", "famfs"), "--master", Cluster.Program("Famfs.Master", "famfs-master")]);
        // Each of its steps has a limit of its own.
        Cluster.Await("the end of the attacks", () => abuse.HasExited, TimeSpan.FromMinutes(15));
        Assert.True(abuse.AwaitExit() == 0, abuse.Output);
    }
}
