using Xunit;

namespace Famfs.EndToEnd;

/// <summary>Two network namespaces with a cable between them, which can be cut. Programs in them see the files and mounts of all others.</summary>
internal sealed class NetworkPair : IDisposable
{
    /// <summary>Address of the first.</summary>
    public const string FirstAddress = "10.78.0.1";

    private readonly ServerProcess _first;
    private readonly ServerProcess _second;

    private NetworkPair()
    {
        // A namespace lives as long as a process in it.
        _first = new("unshare", ["-n", "sleep", "infinity"]);
        _second = new("unshare", ["-n", "sleep", "infinity"]);
    }

    /// <summary>Makes them, or skips the test where they cannot be made.</summary>
    public static NetworkPair Create()
    {
        Assert.SkipUnless(File.Exists("/usr/sbin/ip") || File.Exists("/sbin/ip"), "ip is not on this host (iproute2)");
        using (ServerProcess probe = new("unshare", ["-n", "ip", "link", "add", "probe", "type", "veth"]))
            Assert.SkipUnless(probe.AwaitExit() == 0, $"network namespaces with a cable cannot be made here: {probe.Output.Trim()}");
        NetworkPair pair = new();
        try
        {
            string? own = LinkOf("self");
            Cluster.Await("the namespaces", () => LinkOf($"{pair._first.Id}") != own && LinkOf($"{pair._second.Id}") != own);
            Run(pair._first, "ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", $"{pair._second.Id}");
            Run(pair._first, "ip", "addr", "add", $"{FirstAddress}/24", "dev", "cable");
            Run(pair._second, "ip", "addr", "add", "10.78.0.2/24", "dev", "cable");
            Run(pair._second, "ip", "link", "set", "cable", "up");
            pair.SetCable("up");
            return pair;
        }
        catch
        {
            pair.Dispose();
            throw;
        }
    }

    /// <summary>What a program is started with to be in the first: a program and its arguments.</summary>
    public string[] First => Enter(_first);

    /// <summary>What a program is started with to be in the second.</summary>
    public string[] Second => Enter(_second);

    /// <summary>Nothing goes from one to the other any more, and neither is told.</summary>
    public void Cut() => SetCable("down");

    /// <summary>It is as it was.</summary>
    public void Mend() => SetCable("up");

    public void Dispose()
    {
        _first.Dispose();
        _second.Dispose();
    }

    private void SetCable(string state) => Run(_first, "ip", "link", "set", "cable", state);

    private static string[] Enter(ServerProcess of) => ["nsenter", $"--net=/proc/{of.Id}/ns/net", "--"];

    private static string? LinkOf(string process) => File.ResolveLinkTarget($"/proc/{process}/ns/net", false)?.Name;

    private static void Run(ServerProcess there, params string[] command)
    {
        using ServerProcess process = new("nsenter", [.. Enter(there).Skip(1), .. command]);
        Assert.True(process.AwaitExit() == 0, $"{string.Join(' ', command)}: {process.Output}");
    }
}
