using System.Net;
using Famfs.Client;
using Famfs.Core;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>What this project relies on in the gRPC libraries, on each transport: a real master, our client, and a client of
/// another language that knows only what reflection tells.</summary>
public sealed class GrpcContractTests
{
    private const long DeviceBytes = 96L << 30; // sparse; 65,536 files of one unit
    private const string Python = "/usr/bin/python3";

    /// <summary>How a master is reached.</summary>
    public enum Transport
    {
        Tcp,
        Unix,
        Tls,
    }

    public static TheoryData<Transport> Transports => [.. Enum.GetValues<Transport>()];

    [Theory]
    [MemberData(nameof(Transports))]
    public void A_python_client_needs_only_reflection(Transport transport)
    {
        RequireGrpcio();
        using Served served = new(transport);
        served.RunPython("reflection", "health", "detail", "long_path", "timeout_of_many", "cancelled_stream", "too_large", "compressed", "malformed");
        // Fifty messages that could not be parsed are one line for the operator.
        Assert.Single(served.Master.Output.Split('\n'), line => line.Contains("could not be parsed", StringComparison.Ordinal));
        Assert.DoesNotContain("   at ", served.Master.Output, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Transports))]
    public void Answers_to_the_largest_message_fit_the_default_limits_of_a_client(Transport transport)
    {
        RequireGrpcio();
        using Served served = new(transport);
        served.RunPython("bulk", "bad_ack");
    }

    [Fact]
    public void A_subscriber_that_does_not_read_holds_no_stopping_master()
    {
        RequireGrpcio();
        using Served served = new(Transport.Tcp);
        using ServerProcess deaf = served.StartPython("deaf");
        deaf.Await("subscribed");
        served.RunPython("bulk");
        served.Master.Signal("TERM");
        Assert.Equal(0, served.Master.AwaitExit());
    }

    [Theory]
    [MemberData(nameof(Transports))]
    public async Task Errors_reach_the_library_with_their_detail(Transport transport)
    {
        using Served served = new(transport);
        using FamfsClient client = served.Connect(Cluster.Patience);
        CreateFileRequest request = new() { Path = "f", SizeBytes = 1 };
        await client.CreateFileAsync(request, cancel: TestContext.Current.CancellationToken);
        FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => client.CreateFileAsync(new() { Path = "f", SizeBytes = 1 }, cancel: TestContext.Current.CancellationToken));
        Assert.Equal((ErrorReason.Exists, "f"), (error.Reason, error.Path.TrimStart('/')));
    }

    [Theory]
    [MemberData(nameof(Transports))]
    public async Task A_stopped_master_costs_a_caller_its_time_and_no_more(Transport transport)
    {
        using Served served = new(transport);
        using FamfsClient client = served.Connect(TimeSpan.FromSeconds(2));
        await client.GetStatusAsync(cancel: TestContext.Current.CancellationToken);
        served.Master.Signal("STOP");
        FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => client.GetStatusAsync(cancel: TestContext.Current.CancellationToken));
        Assert.Equal(ErrorReason.Timeout, error.Reason);
        // A connection that is new is taken by the kernel, and never answered.
        (int exit, string output) = served.TryFamfs("status", "--timeout", "2");
        Assert.True(exit is 6 or 9, $"{exit}: {output}");
        Assert.Single(output.Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }

    [Theory]
    [MemberData(nameof(Transports))]
    public async Task A_master_killed_within_a_call_is_a_master_that_does_not_answer(Transport transport)
    {
        using Served served = new(transport);
        using FamfsClient client = served.Connect(TimeSpan.FromSeconds(20));
        await client.GetStatusAsync(cancel: TestContext.Current.CancellationToken);
        Task waiting = client.BarrierAsync(new() { MountIds = { ByteString.CopyFrom(Guid.NewGuid().ToByteArray()) } }, cancel: TestContext.Current.CancellationToken);
        served.Master.Signal("KILL");
        FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => waiting);
        Assert.Equal(ErrorReason.NotMaster, error.Reason);
        Assert.Contains("no master answers at", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Transports))]
    public void An_absent_master_is_exit_code_6_and_one_line_with_the_cause(Transport transport)
    {
        using Served served = new(transport);
        served.Master.Signal("KILL");
        served.Master.AwaitExit();
        (int exit, string output) = served.TryFamfs("status", "--timeout", "5");
        Assert.Equal(6, exit);
        Assert.Equal($"famfs: no master answers at {served.Address} within 5 s: Connection refused", output.TrimEnd());
    }

    [Fact]
    public void What_is_no_grpc_server_is_a_master_that_does_not_answer()
    {
        using Cluster cluster = Cluster.Create(64L << 20);
        string page = cluster.NewDirectory("page");
        using ServerProcess web = new(Python, ["-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", page, "0"]);
        web.Await("Serving HTTP on ");
        string port = web.Output.Split(" port ")[1].Split(' ')[0];
        foreach (string address in (string[])[$"http://127.0.0.1:{port}", $"https://127.0.0.1:{port}"])
        {
            (int exit, string output) = cluster.TryFamfs("status", "--timeout", "2", "--master", address);
            Assert.True(exit == 6, $"{address}: {exit}: {output}");
            Assert.Single(output.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        }
    }

    private static void RequireGrpcio()
    {
        Assert.SkipUnless(File.Exists(Python), $"{Python} is not there");
        using ServerProcess probe = new(Python, ["-c", "import grpc, google.protobuf"]);
        Assert.SkipUnless(probe.AwaitExit() == 0, "python3-grpcio is not installed");
    }

    /// <summary>A master that is reached in one way.</summary>
    private sealed class Served : IDisposable
    {
        private readonly Cluster _cluster = Cluster.Create(DeviceBytes);
        private readonly string? _authority;

        public Served(Transport transport)
        {
            try
            {
                switch (transport)
                {
                    case Transport.Tcp:
                        (Master, Address) = _cluster.LaunchMaster("a");
                        break;
                    case Transport.Unix:
                        Address = $"unix:{Path.Combine(_cluster.NewDirectory("run"), "s")}";
                        Master = _cluster.StartMasterAt("a", Address);
                        break;
                    default:
                        Authority ours = new(_cluster.NewDirectory("ours"));
                        (string certificate, string key) = ours.Issue("master", IPAddress.Loopback);
                        (Master, Address) = _cluster.LaunchSecureMaster("a", "--certificate-file", certificate, "--key-file", key);
                        _authority = ours.File;
                        break;
                }
                Master.Await("listening on");
            }
            catch
            {
                _cluster.Dispose();
                throw;
            }
        }

        public ServerProcess Master { get; }

        public string Address { get; }

        public FamfsClient Connect(TimeSpan timeout) => new(new FamfsClientOptions { Addresses = [Address], Timeout = timeout, Tls = ClientTls.Load(_authority, null, null) });

        public (int Exit, string Output) TryFamfs(params string[] arguments) =>
            _cluster.TryFamfs([.. arguments, "--master", Address, .. _authority is null ? [] : (string[])["--ca-file", _authority]]);

        public ServerProcess StartPython(params string[] scenarios) => new(
            Python,
            [Path.Combine(AppContext.BaseDirectory, "Python", "contract.py"), Address.StartsWith("unix:", StringComparison.Ordinal) ? Address : new Uri(Address).Authority, _authority ?? "-", .. scenarios],
            redirectInput: true);

        public void RunPython(params string[] scenarios)
        {
            using ServerProcess python = StartPython(scenarios);
            int exit = python.AwaitExit();
            Assert.True(exit == 0, $"{python.Output}\n{Master.Output}");
            Assert.Equal(scenarios.Select(s => s + " ok"), python.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Order(Comparer<string>.Create((a, b) => Array.IndexOf(scenarios, a.Split(' ')[0]) - Array.IndexOf(scenarios, b.Split(' ')[0]))));
        }

        public void Dispose() => _cluster.Dispose();
    }
}
