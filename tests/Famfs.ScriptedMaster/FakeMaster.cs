using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Famfs.ScriptedMaster;

/// <summary>What a fake master answers; a test sets what it needs.</summary>
public sealed class Script
{
    public Func<CreateFileRequest, ServerCallContext, Task<CreateFileReply>>? CreateFile { get; set; }
    public Func<IAsyncStreamReader<CreateFilesRequest>, IServerStreamWriter<CreateFilesReply>, ServerCallContext, Task>? CreateFiles { get; set; }
    public Func<IAsyncStreamReader<SubscribeRequest>, IServerStreamWriter<SubscribeReply>, ServerCallContext, Task>? Subscribe { get; set; }
    public Func<ListDirectoryRequest, IServerStreamWriter<ListDirectoryReply>, Task>? ListDirectory { get; set; }

    /// <summary>Every other unary call.</summary>
    public Func<IMessage, ServerCallContext, Task<IMessage>>? Unary { get; set; }
}

/// <summary>The Master service with scripted answers, on a unix socket of its own.</summary>
public sealed class FakeMaster : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly string _directory;

    private FakeMaster(WebApplication app, Script script, string directory, string address)
    {
        _app = app;
        Script = script;
        _directory = directory;
        Address = address;
    }

    public Script Script { get; }

    public string Address { get; }

    public static async Task<FakeMaster> StartAsync(Script? script = null)
    {
        script ??= new();
        string directory = Directory.CreateTempSubdirectory("famfs-client-test-").FullName;
        string path = Path.Combine(directory, "s");
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(o => o.ListenUnixSocket(path, l => l.Protocols = HttpProtocols.Http2));
        builder.Services.AddGrpc();
        builder.Services.AddSingleton(script);
        builder.Services.AddSingleton<Service>();
        WebApplication app = builder.Build();
        app.MapGrpcService<Service>();
        await app.StartAsync();
        return new(app, script, directory, $"unix:{path}");
    }

    /// <summary>The error as the real master sends it.</summary>
    public static RpcException Error(StatusCode status, ErrorDetail detail) =>
        new(new Status(status, detail.Message), new Metadata { { "famfs-error-bin", detail.ToByteArray() } });

    /// <summary>What a master answers that made the file as inode 16.</summary>
    public static Task<CreateFileReply> Reply(CreateFileRequest request) =>
        Task.FromResult(new CreateFileReply { File = new V1.FileInfo { Path = request.Path, SizeBytes = request.SizeBytes, Inode = 16, Kind = FileKind.File } });

    public async ValueTask DisposeAsync()
    {
        using (CancellationTokenSource now = new())
        {
            await now.CancelAsync();
            await _app.StopAsync(now.Token);
        }
        await _app.DisposeAsync();
        Directory.Delete(_directory, recursive: true);
    }

    internal sealed class Service(Script script) : V1.Master.MasterBase
    {
        public override Task<CreateFileReply> CreateFile(CreateFileRequest request, ServerCallContext context) =>
            script.CreateFile is { } answer ? answer(request, context) : AnswerAsync<CreateFileReply>(request, context);

        public override Task CreateFiles(IAsyncStreamReader<CreateFilesRequest> requestStream, IServerStreamWriter<CreateFilesReply> responseStream, ServerCallContext context) =>
            script.CreateFiles!(requestStream, responseStream, context);

        public override Task Subscribe(IAsyncStreamReader<SubscribeRequest> requestStream, IServerStreamWriter<SubscribeReply> responseStream, ServerCallContext context) =>
            script.Subscribe!(requestStream, responseStream, context);

        public override Task ListDirectory(ListDirectoryRequest request, IServerStreamWriter<ListDirectoryReply> responseStream, ServerCallContext context) =>
            script.ListDirectory!(request, responseStream);

        public override Task<MutationReply> PublishFile(PublishFileRequest request, ServerCallContext context) => AnswerAsync<MutationReply>(request, context);

        public override Task<MakeDirectoryReply> MakeDirectory(MakeDirectoryRequest request, ServerCallContext context) => AnswerAsync<MakeDirectoryReply>(request, context);

        public override Task<MakeSymlinkReply> MakeSymlink(MakeSymlinkRequest request, ServerCallContext context) => AnswerAsync<MakeSymlinkReply>(request, context);

        public override Task<MutationReply> Remove(RemoveRequest request, ServerCallContext context) => AnswerAsync<MutationReply>(request, context);

        public override Task<MutationReply> Rename(RenameRequest request, ServerCallContext context) => AnswerAsync<MutationReply>(request, context);

        public override Task<MutationReply> SetAttributes(SetAttributesRequest request, ServerCallContext context) => AnswerAsync<MutationReply>(request, context);

        public override Task<AddDeviceReply> AddDevice(AddDeviceRequest request, ServerCallContext context) => AnswerAsync<AddDeviceReply>(request, context);

        public override Task<GrantMasterSlotReply> GrantMasterSlot(GrantMasterSlotRequest request, ServerCallContext context) => AnswerAsync<GrantMasterSlotReply>(request, context);

        public override Task<SetPolicyReply> SetPolicy(SetPolicyRequest request, ServerCallContext context) => AnswerAsync<SetPolicyReply>(request, context);

        public override Task<EvictHostReply> EvictHost(EvictHostRequest request, ServerCallContext context) => AnswerAsync<EvictHostReply>(request, context);

        public override Task<CompactReply> Compact(CompactRequest request, ServerCallContext context) => AnswerAsync<CompactReply>(request, context);

        public override Task<GetFileReply> GetFile(GetFileRequest request, ServerCallContext context) => AnswerAsync<GetFileReply>(request, context);

        public override Task<GetMapReply> GetMap(GetMapRequest request, ServerCallContext context) => AnswerAsync<GetMapReply>(request, context);

        public override Task<ListDevicesReply> ListDevices(ListDevicesRequest request, ServerCallContext context) => AnswerAsync<ListDevicesReply>(request, context);

        public override Task<GetStatusReply> GetStatus(GetStatusRequest request, ServerCallContext context) => AnswerAsync<GetStatusReply>(request, context);

        public override Task<ListHostsReply> ListHosts(ListHostsRequest request, ServerCallContext context) => AnswerAsync<ListHostsReply>(request, context);

        public override Task<BarrierReply> Barrier(BarrierRequest request, ServerCallContext context) => AnswerAsync<BarrierReply>(request, context);

        private async Task<T> AnswerAsync<T>(IMessage request, ServerCallContext context)
            where T : IMessage =>
            script.Unary is { } answer
                ? (T)await answer(request, context)
                : throw new RpcException(new Status(StatusCode.Internal, $"the test did not expect {request.Descriptor.Name}"));
    }
}
