using System.IO.Pipelines;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Master.Changes;
using Famfs.Master.Role;
using Famfs.Master.Rpc;
using Famfs.TestSupport;
using Famfs.V1;
using Grpc.Core;
using Microsoft.AspNetCore.Http;
using Xunit;

namespace Famfs.Master.Tests.Rpc;

/// <summary>What a stream of CreateFiles is charged for.</summary>
public sealed class BulkCallTests : IDisposable
{
    private const int Devices = 4;
    private const int Files = 3;

    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-bulk-").FullName;
    private readonly HostIdentity _host = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "test");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task A_result_that_nobody_takes_is_charged_with_its_extents_and_given_back_when_it_is_taken()
    {
        using DevicePool pool = MakePool();
        Recovery.Result recovered = await Recovery.RunAsync(pool, _host, takeOver: false, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken);
        await using RunningMaster master = new(recovered);
        CallBudget budget = new();
        CallBudget.Connection connection = budget.Open("caller");
        using PatientWriter patient = new(budget, TimeProvider.System);
        using MeteredBody body = new(new Pipe().Reader, connection, "CreateFiles", CallLimits.BulkMessageBytes);
        long call = budget.Held;
        Requests requests = new(new CreateFilesRequest
        {
            Files = { Enumerable.Range(0, Files).Select(i => new CreateFileRequest { Path = $"f{i}", SizeBytes = Devices * (2UL << 20), Layout = new() { Kind = LayoutKind.Interleaved, Strips = Devices } }) },
        });
        Results results = new();
        Task serving = new BulkCall(master.Engine, patient, Caller.Unknown, connection, body, new Call()).RunAsync(requests, results);

        CreateFilesReply reply = await results.Given.Task.WaitAsync(TimeSpan.FromMinutes(3), TestContext.Current.CancellationToken);
        Assert.All(reply.Results, result => Assert.Equal(Devices, result.Reply.File.Map.Extents.Count));
        Assert.Equal(Files, reply.Results.Count);
        Assert.Equal(call + (Files * (CallLimits.RequestBytes + CallLimits.FileBytes + (Devices * CallLimits.ExtentBytes))), budget.Held);

        results.Taken.SetResult();
        requests.End.SetResult();
        await serving;
        Assert.Equal(call, budget.Held);
    }

    private DevicePool MakePool()
    {
        string[] paths = [.. Enumerable.Range(0, Devices).Select(i => Path.Combine(_directory, $"device{i}"))];
        foreach (string path in paths)
        {
            using FileStream file = File.Create(path);
            file.SetLength(32L << 20);
        }
        DaxDevice[] devices = [.. paths.Select(path => DaxDevice.Open(path))];
        NativeFormatter.Format(devices, new() { Host = _host.Host, Clock = TimeProvider.System });
        foreach (DaxDevice device in devices)
            device.Dispose();
        return TestFormats.All.Open([.. paths.Select(path => DaxDevice.Open(path))]);
    }

    /// <summary>One message, and no end before the test says so.</summary>
    private sealed class Requests(CreateFilesRequest only) : IAsyncStreamReader<CreateFilesRequest>
    {
        private bool _isRead;

        public TaskCompletionSource End { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public CreateFilesRequest Current => only;

        public async Task<bool> MoveNext(CancellationToken cancellationToken)
        {
            if (!_isRead)
                return _isRead = true;
            await End.Task.WaitAsync(cancellationToken);
            return false;
        }
    }

    /// <summary>Takes nothing before the test says so.</summary>
    private sealed class Results : IServerStreamWriter<CreateFilesReply>
    {
        public TaskCompletionSource<CreateFilesReply> Given { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public TaskCompletionSource Taken { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public WriteOptions? WriteOptions { get; set; }

        public Task WriteAsync(CreateFilesReply message)
        {
            Given.TrySetResult(message);
            return Taken.Task;
        }

        public Task WriteAsync(CreateFilesReply message, CancellationToken cancellationToken) => WriteAsync(message);
    }

    private sealed class Call : ServerCallContext
    {
        private readonly Dictionary<object, object> _state = new() { ["__HttpContext"] = new DefaultHttpContext() };

        protected override string MethodCore => "CreateFiles";
        protected override string HostCore => "";
        protected override string PeerCore => "";
        protected override DateTime DeadlineCore => DateTime.MaxValue;
        protected override Metadata RequestHeadersCore { get; } = [];
        protected override CancellationToken CancellationTokenCore => TestContext.Current.CancellationToken;
        protected override Metadata ResponseTrailersCore { get; } = [];
        protected override Status StatusCore { get; set; }
        protected override WriteOptions? WriteOptionsCore { get; set; }
        protected override AuthContext AuthContextCore { get; } = new("", []);
        protected override IDictionary<object, object> UserStateCore => _state;

        protected override ContextPropagationToken CreatePropagationTokenCore(ContextPropagationOptions? options) => throw new NotSupportedException();

        protected override Task WriteResponseHeadersAsyncCore(Metadata responseHeaders) => Task.CompletedTask;
    }
}
