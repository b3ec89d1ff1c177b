using Famfs.Core;
using Famfs.V1;
using Xunit;

namespace Famfs.Client.Tests;

/// <summary>Which addresses are used, and in which order. Nobody is connected to.</summary>
public sealed class MasterConnectionsTests
{
    [Fact]
    public void A_given_socket_comes_first_then_where_the_log_says_then_the_others_each_once()
    {
        using MasterConnections connections = Make(["http://a:1", "unix:/s", "http://b:1"], found: "http://b:1");
        Assert.Equal("unix:/s, http://b:1, http://a:1", connections.Describe());
        Assert.Equal("unix:/s", connections.Current.Address);
        List<string> tried = [];
        for (int i = 0; i < 4; i++)
        {
            tried.Add(connections.Current.Address);
            connections.Leave(connections.Current);
        }
        Assert.Equal(["unix:/s", "http://b:1", "http://a:1", "unix:/s"], tried);
    }

    [Fact]
    public void Where_TLS_was_given_nobody_without_it_is_believed()
    {
        string? found = "http://elsewhere:1";
        using MasterConnections connections = Make(["https://a:1"], () => found);
        Assert.Equal("https://a:1", connections.Describe());
        // Neither who is found later, nor who is named by somebody.
        MasterEndpoint first = connections.Current;
        found = "HTTP://later:1";
        connections.Leave(first);
        Assert.False(connections.Follow(first, "http://named:1"));
        Assert.Equal("https://a:1", connections.Describe());
        Assert.Same(first, connections.Current);

        found = "https://later:1";
        connections.Leave(first);
        Assert.Equal("https://later:1", connections.Current.Address);
        // A socket has no network.
        Assert.True(connections.Follow(connections.Current, "unix:/s"));
        Assert.Equal("unix:/s", connections.Current.Address);
    }

    [Fact]
    public void Where_none_was_given_the_logs_is_used_whatever_it_is_and_else_the_socket_of_this_host()
    {
        using (MasterConnections found = Make([], "http://a:1", socket: "unix:/s"))
            Assert.Equal("http://a:1", found.Describe());
        using (MasterConnections alone = Make([], found: null, socket: "unix:/s"))
            Assert.Equal("unix:/s", alone.Describe());
        Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => Make([], found: "nonsense")).Reason);
        Assert.Contains("'nonsense' is not an address", Assert.Throws<FamfsException>(() => Make(["unix:/s", "nonsense"], found: null)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Only_so_many_are_learned_and_who_is_left_by_another_call_is_left_once()
    {
        using MasterConnections connections = Make(["http://a:1", "http://b:1"], found: null);
        MasterEndpoint first = connections.Current;
        connections.Leave(first);
        connections.Leave(first);
        Assert.Equal("http://b:1", connections.Current.Address);
        for (int i = 0; i < 2 * Term.SlotCount; i++)
            connections.Follow(connections.Current, $"http://learned-{i}:1");
        Assert.Equal(2 + Term.SlotCount, connections.Describe().Split(", ").Length);
    }

    private static MasterConnections Make(string[] addresses, string? found, string? socket = null) => Make(addresses, () => found, socket);

    private static MasterConnections Make(string[] addresses, Func<string?> find, string? socket = null) =>
        new(new FamfsClientOptions { Addresses = addresses, FindMaster = find, FindSocket = () => socket });
}
