using System.Diagnostics;
using System.Net;
using Famfs.Client;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>A master behind TLS, with and without certificates of its callers. The authorities are made here.</summary>
[Trait("Programs", "Both")]
public sealed class TlsTests
{
    private const long DeviceBytes = 32L << 20;

    [Fact]
    public void Command_and_daemon_reach_a_master_that_their_authority_vouches_for_and_no_other()
    {
        using Cluster cluster = Cluster.Create(DeviceBytes);
        Authority ours = new(cluster.NewDirectory("ours"));
        Authority theirs = new(cluster.NewDirectory("theirs"));
        (string certificate, string key) = ours.Issue("master", IPAddress.Loopback);
        (ServerProcess process, string master) = cluster.LaunchSecureMaster("a", "--certificate-file", certificate, "--key-file", key);
        process.Await("listening on https://");

        Assert.Contains(master, cluster.Famfs("status", "--master", master, "--ca-file", ours.File), StringComparison.Ordinal);
        // Who cannot be trusted is not asked again until the time is over.
        Refused(cluster, 6, "trusted", "status", "--master", master);
        Refused(cluster, 6, "trusted", "status", "--master", master, "--ca-file", theirs.File);
        Refused(cluster, 6, "trusted", "status", "--master", master.Replace("127.0.0.1", "localhost", StringComparison.Ordinal), "--ca-file", ours.File);
        Refused(cluster, 6, "no master answers", "status", "--timeout", "10", "--master", master.Replace("https", "http", StringComparison.Ordinal));

        (ServerProcess daemon, string a) = cluster.Mount("a", master, "--ca-file", ours.File);
        daemon.Await($"subscribed to the master at {master}");
        (int exit, string output) = cluster.TryFamfs(new Dictionary<string, string> { ["FAMFS_CA_FILE"] = ours.File }, "creat", "--size", "1", Path.Combine(a, "f"));
        Assert.True(exit == 0, output);
        Assert.True(File.Exists(Path.Combine(a, "f")));
        // The command hands its files on to the daemon that it starts.
        string place = cluster.NewDirectory("place");
        cluster.Famfs(["mount", "--master", master, "--ca-file", ours.File, "--host-state", cluster.StateOf("a"), .. cluster.Devices, place]);
        Cluster.Await("the mount's master", () => FamfsMount.Require(place, out _).ReadMasterAddress() == master);
    }

    [Fact]
    public void A_master_that_asks_for_certificates_serves_only_callers_of_its_authority()
    {
        using Cluster cluster = Cluster.Create(DeviceBytes);
        Authority ours = new(cluster.NewDirectory("ours"));
        Authority callers = new(cluster.NewDirectory("callers"));
        (string certificate, string key) = ours.Issue("master", IPAddress.Loopback);
        (string caller, string callerKey) = callers.Issue("caller", null);
        (string stranger, string strangerKey) = ours.Issue("stranger", null);
        (ServerProcess process, string master) = cluster.LaunchSecureMaster("a", "--certificate-file", certificate, "--key-file", key, "--client-ca-file", callers.File);
        process.Await("listening on https://");

        cluster.Famfs("status", "--master", master, "--ca-file", ours.File, "--certificate-file", caller, "--key-file", callerKey);
        Refused(cluster, 6, "no master", "status", "--timeout", "10", "--master", master, "--ca-file", ours.File);
        Refused(cluster, 6, "no master", "status", "--timeout", "10", "--master", master, "--ca-file", ours.File, "--certificate-file", stranger, "--key-file", strangerKey);
        cluster.Mount("a", master, "--ca-file", ours.File, "--certificate-file", caller, "--key-file", callerKey).Process.Await("subscribed");
    }

    /// <summary>Master and daemon have their files through a link, which is moved, as Kubernetes does with the files of a Secret.</summary>
    [Fact]
    public void Certificates_that_are_replaced_are_used_without_a_restart_and_bad_ones_are_not()
    {
        using Cluster cluster = Cluster.Create(DeviceBytes);
        string live = cluster.NewDirectory("live");
        string current = Path.Combine(live, "..data");
        void Use(string directory)
        {
            File.CreateSymbolicLink(current + ".new", directory);
            // At once, which File.Move does not do with a link to a directory.
            using Process move = Process.Start("mv", ["-fT", current + ".new", current]);
            move.WaitForExit();
            Assert.Equal(0, move.ExitCode);
        }
        (Authority Authority, string Directory) Make(string name)
        {
            Authority authority = new(cluster.NewDirectory(name));
            authority.Issue("master", IPAddress.Loopback);
            authority.Issue("caller", null);
            return (authority, Path.GetDirectoryName(authority.File)!);
        }
        (Authority first, string firstPlace) = Make("first");
        (Authority second, string secondPlace) = Make("second");
        string bad = cluster.NewDirectory("bad");
        foreach (string file in Directory.EnumerateFiles(secondPlace))
            File.Copy(file, Path.Combine(bad, Path.GetFileName(file)));
        File.Copy(Path.Combine(firstPlace, "master.key"), Path.Combine(bad, "master.key"), overwrite: true);
        Use(firstPlace);
        string Live(string name) => Path.Combine(current, name);
        string[] masterFiles = ["--certificate-file", Live("master.pem"), "--key-file", Live("master.key"), "--client-ca-file", Live("ca.pem")];
        (ServerProcess process, string master) = cluster.LaunchSecureMaster("a", masterFiles);
        process.Await("listening on https://");
        (ServerProcess daemon, string a) = cluster.Mount("a", master, "--ca-file", Live("ca.pem"), "--certificate-file", Live("caller.pem"), "--key-file", Live("caller.key"));
        daemon.Await("subscribed to the master at");
        string[] By(Authority authority, string place) => ["status", "--timeout", "20", "--master", master, "--ca-file", authority.File, "--certificate-file", Path.Combine(place, "caller.pem"), "--key-file", Path.Combine(place, "caller.key")];

        cluster.Famfs(By(first, firstPlace));
        Use(secondPlace);
        cluster.Famfs(By(second, secondPlace));
        process.Await("changed certificate files are used from now on");
        Refused(cluster, 6, "trusted", By(first, firstPlace));
        Use(bad);
        for (int i = 0; i < 2; i++)
            cluster.Famfs(By(second, secondPlace));
        process.Await($"changed certificate files are not used, the former ones stay in use: {Live("master.key")}: is not the unencrypted private key of {Live("master.pem")}");
        Assert.Equal(2, process.Output.Split("are not used, the former ones").Length);
        Use(secondPlace);

        // The daemon's next connection is to a master that its first certificate and authority are nothing to.
        process.Signal("TERM");
        Assert.Equal(0, process.AwaitExit());
        ServerProcess again = cluster.LaunchSecureMasterAt("a", master, masterFiles);
        again.Await("listening on https://");
        again.Await("has subscribed from");
        Cluster.Await("the mount's master", () => FamfsMount.Require(a, out _).ReadMasterAddress() == master);
    }

    [Fact]
    public void Files_that_cannot_be_used_are_named_in_one_line()
    {
        using Cluster cluster = Cluster.Create(DeviceBytes);
        Authority ours = new(cluster.NewDirectory("ours"));
        (string certificate, string key) = ours.Issue("master", IPAddress.Loopback);
        (_, string otherKey) = ours.Issue("other", null);
        string noise = Path.Combine(cluster.NewDirectory("noise"), "noise.pem");
        File.WriteAllText(noise, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");

        foreach ((string says, string[] arguments) in ((string, string[])[])
        [
            ("needs --certificate-file and --key-file", []),
            ("nowhere.pem: is not there", ["--certificate-file", certificate, "--key-file", "/nowhere.pem"]),
            ("nowhere.pem: is not there", ["--certificate-file", "/nowhere.pem", "--key-file", key]),
            ($"{otherKey}: is not the unencrypted private key of {certificate}", ["--certificate-file", certificate, "--key-file", otherKey]),
            ($"{noise}: holds a damaged certificate", ["--certificate-file", noise, "--key-file", key]),
            ($"{key}: holds no certificate", ["--certificate-file", certificate, "--key-file", key, "--client-ca-file", key]),
        ])
        {
            ServerProcess process = cluster.LaunchSecureMaster("a", arguments).Process;
            Assert.Equal(1, process.AwaitExit());
            Assert.Contains(says, process.Output, StringComparison.Ordinal);
            Assert.Single(process.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        }
        ServerProcess plain = cluster.LaunchMaster("a", "--certificate-file", certificate, "--key-file", key).Process;
        Assert.Equal(1, plain.AwaitExit());
        Assert.Contains("need a --listen https://", plain.Output, StringComparison.Ordinal);

        Refused(cluster, 2, "nowhere.pem: is not there", "status", "--master", "https://127.0.0.1:1", "--ca-file", "/nowhere.pem");
        Refused(cluster, 2, $"{noise}: holds a damaged certificate", "status", "--master", "https://127.0.0.1:1", "--ca-file", noise);
        Refused(cluster, 2, "together", "status", "--master", "https://127.0.0.1:1", "--certificate-file", certificate);
        ServerProcess daemon = cluster.LaunchDaemon("a", ["--device", cluster.Devices[0], "--ca-file", noise]).Process;
        Assert.Equal(1, daemon.AwaitExit());
        Assert.Contains($"famfsd: {noise}: holds a damaged certificate", daemon.Output, StringComparison.Ordinal);
    }

    private static void Refused(Cluster cluster, int expected, string says, params string[] arguments)
    {
        (int exit, string output) = cluster.TryFamfs(arguments);
        Assert.True(exit == expected && output.Contains(says, StringComparison.Ordinal), $"famfs {string.Join(' ', arguments)} exited with {exit}: {output}");
        Assert.Single(output.Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }
}
