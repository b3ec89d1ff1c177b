using System.Net.Sockets;
using System.Reflection;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Master.Changes;
using Famfs.Master.Engine;
using Famfs.Master.Holders;
using Famfs.Master.Role;
using Famfs.Master.Rpc;
using Famfs.Master.State;
using Famfs.V1;
using Grpc.AspNetCore.Server;
using Grpc.AspNetCore.Server.Model;
using Grpc.Health.V1;
using Grpc.HealthCheck;
using Grpc.Reflection;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Famfs.Master;

/// <summary>Composes a master: devices, recovery, engine, service; runs it until it is told to stop or is
/// deposed.</summary>
internal static class MasterProcess
{
    /// <summary>Exit status of a master that could not start or was deposed (docs/operations.md).</summary>
    private const int Failed = 1;

    /// <summary>Runs to the end; gives the exit status.</summary>
    public static async Task<int> RunAsync(MasterOptions options, CancellationToken cancel)
    {
        TimeProvider clock = TimeProvider.System;
        try
        {
            HostIdentity host = HostIdentity.Load(options.StateDirectory, new HostIdentitySources());
            if (options.Listen.Count == 0)
                options = options with { Listen = [MasterSocket.Choose(MasterSocket.FindPlaces())], MakesSocketDirectory = true };
            List<Action<KestrelServerOptions>> endpoints = ListenAddresses.Parse(options);
            string recorded = ListenAddresses.RequireRecorded(options);
            HashSet<Guid> acceptLoss = ParseMounts(options.AcceptLoss);
            DeviceSearch devices = new(options.Devices, options.Formats, clock, options.FileSystem);
            using DevicePool pool = devices.Open();
            MasterRole role = new(new AtOnce());
            Recovery.Result recovered = await role.BecomeActiveAsync(
                claiming => Recovery.RunAsync(pool, host, options.TakeOver, options.SystemUuidFile, clock, Random.Shared, claiming, acceptLoss), cancel).ConfigureAwait(false);
            using MasterClaim claim = recovered.Claim;
            return await ServeAsync(options, host, devices, role, recovered, endpoints, recorded, clock, cancel).ConfigureAwait(false);
        }
        catch (Exception error) when (error is FamfsException or DeviceFaultException or IOException or UnauthorizedAccessException)
        {
            await Console.Error.WriteLineAsync($"famfs-master: {error.Message}").ConfigureAwait(false);
            return Failed;
        }
        catch (OperationCanceledException) when (cancel.IsCancellationRequested)
        {
            return 0;
        }
    }

    /// <summary>What is told to whoever asks by grpc.health.v1, about this server as a whole and about its one service.</summary>
    private static void SetServing(HealthServiceImpl health, bool serves)
    {
        foreach (string service in (string[])["", V1.Master.Descriptor.FullName])
            health.SetStatus(service, serves ? HealthCheckResponse.Types.ServingStatus.Serving : HealthCheckResponse.Types.ServingStatus.NotServing);
    }

    private static HashSet<Guid> ParseMounts(IReadOnlyList<string> texts)
    {
        HashSet<Guid> mounts = [];
        foreach (string text in texts)
            mounts.Add(Guid.TryParseExact(text, "D", out Guid mount) && mount != Guid.Empty ? mount : throw new FamfsException(ErrorReason.BadRequest, $"--accept-loss {text}: is not the uuid of a mount"));
        return mounts;
    }

    private static async Task<int> ServeAsync(MasterOptions options, HostIdentity host, DeviceSearch devices, MasterRole role, Recovery.Result recovered, List<Action<KestrelServerOptions>> endpoints, string recorded, TimeProvider clock, CancellationToken cancel)
    {
        DevicePool pool = recovered.State.Pool;
        // Who asks this host over its socket can call there, too.
        string address = recorded.Length > 0 ? recorded : options.Listen[0];
        string version = typeof(MasterProcess).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "";
        SubscriptionHub hub = new(pool, recovered.Index, clock);
        MasterState state = recovered.State;
        hub.Recovered(state.Replay.Position, recovered.Writer.Tail);
        SpaceZeroing zeroing = new(pool, options.ZeroingRate is { } rate ? new ZeroingPace((long)rate << 20, clock) : null);
        MasterEngine engine = new(state, recovered.Writer, hub, zeroing, clock, Random.Shared);
        MountLineTable table = new(pool);
        MountRegistry mounts = new(state, table, clock);
        MasterInfo info = new(recovered.Claim.Master, host, address, version, clock.GetTimestamp(), table.HostCapacity);

        // The builder looks for a settings file in the working directory, and watches all below it for changes: started in /,
        // as services are, that is every file system of the host. Nothing is configured that way.
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions
        {
            ContentRootPath = AppContext.BaseDirectory,
            Args = ["--hostBuilder:reloadConfigOnChange=false"],
        });
        builder.WebHost.UseKestrelHttpsConfiguration();
        builder.WebHost.UseSockets(sockets => sockets.CreateBoundListenSocket = ListenAddresses.Bind);
        // A start that fails is said in one line, by the caller.
        builder.Logging.SetMinimumLevel(LogLevel.Warning).AddFilter("Famfs", LogLevel.Information).AddFilter("Microsoft.Extensions.Hosting", LogLevel.None)
            // A stack trace for each caller that breaks off; what a call of ours means is logged by ourselves.
            .AddFilter("Grpc", LogLevel.None)
            // One for each that is rejected; RejectedConnections counts them.
            .AddFilter("Microsoft.AspNetCore.Server.Kestrel.Connections", LogLevel.None);
        LogFormat.AddTo(builder.Logging, clock);
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.ConfigureEndpointDefaults(endpoint => endpoint.Protocols = HttpProtocols.Http2);
            kestrel.Limits.MaxConcurrentConnections = CallLimits.ConnectionsHere;
            kestrel.Limits.Http2.MaxStreamsPerConnection = CallLimits.CallsOfConnection;
            // A host that is cut off says no end; its connection and its streams would stay.
            kestrel.Limits.Http2.KeepAlivePingDelay = TimeSpan.FromSeconds(30);
            kestrel.Limits.Http2.KeepAlivePingTimeout = CallLimits.Deafness;
            kestrel.Limits.MaxRequestHeadersTotalSize = CallLimits.HeaderBytes;
            kestrel.Limits.RequestHeadersTimeout = CallLimits.Announcement;
            kestrel.Limits.Http2.InitialConnectionWindowSize = CallLimits.ConnectionWindow;
            kestrel.Limits.Http2.InitialStreamWindowSize = CallLimits.CallWindow;
            foreach (Action<KestrelServerOptions> endpoint in endpoints)
                endpoint(kestrel);
        });
        // A host that does not read holds up the end of its stream; then its connection is cut.
        builder.Services.Configure<HostOptions>(host => host.ShutdownTimeout = TimeSpan.FromSeconds(5));
        builder.Services.AddGrpc(grpc =>
        {
            grpc.MaxReceiveMessageSize = CallLimits.BulkMessageBytes;
        });
        // After the library's own set-up, which puts its own in where there is none. MeteredBody has the reason.
        builder.Services.PostConfigure<GrpcServiceOptions>(grpc => grpc.CompressionProviders.Clear());
        builder.Services.AddSingleton<IMemoryPoolFactory<byte>>(new BlockPool.Factory());
        builder.Services.AddSingleton<CallBudget>().AddSingleton<BufferLimit>().AddSingleton<CallGate>().AddSingleton<PatientWriter>().AddSingleton(new ConnectionGate(clock));
        builder.Services.AddHostedService(_ => new IdleMemory(clock)).AddHostedService<RejectedConnections>();
        // Reflection finds descriptors by the type of a service, which here is not that of the generated code.
        Google.Protobuf.Reflection.ServiceDescriptor[] described = [V1.Master.Descriptor, Health.Descriptor];
        builder.Services.AddSingleton(new ReflectionServiceImpl(described)).AddSingleton(new ReflectionV1ServiceImpl(described));
        builder.Services.AddGrpcReflection();
        builder.Services.AddSingleton<MalformedMessages>().AddSingleton<UnexpectedErrors>().AddSingleton<Refusals>().AddSingleton<MasterMethods>()
            .AddSingleton<IServiceMethodProvider<MasterMethods>>(services => services.GetRequiredService<MasterMethods>());
        bool stopping = false;
        HealthServiceImpl health = new();
        builder.Services.AddSingleton(health);
        builder.Services.AddSingleton(clock).AddSingleton(role).AddSingleton(engine).AddSingleton(state).AddSingleton(hub)
            .AddSingleton(mounts).AddSingleton(services => new LogCompaction(engine, recovered.Writer.Segments, pool, clock, Random.Shared, mounts.FindThoseThatStay, services.GetRequiredService<ILogger<LogCompaction>>()))
            .AddSingleton(new DevicePlaces([.. options.Devices, .. options.AllowedDevices])).AddSingleton(info).AddSingleton<MasterService>();
        builder.Services.AddHostedService(_ => new ServiceWatch(
            options.Service, () => engine.QueryAsync(Caller.Master, state => state.Position), serves => SetServing(health, serves && !stopping), clock));
        builder.Services.AddHostedService(services => new HostWatch(engine, state, mounts, () => hub.Published, devices, clock, services.GetRequiredService<ILogger<HostWatch>>()));
        if (options.CompactsByItself)
            builder.Services.AddHostedService(services => new CompactionWatch(engine, services.GetRequiredService<LogCompaction>(), recovered.Index, clock, services.GetRequiredService<ILogger<CompactionWatch>>()));
        if (options.FenceCommand is { } command)
        {
            FenceCommand fence = new(command, options.FenceTimeout, state.FileSystem, clock);
            builder.Services.AddHostedService(services => new FenceWatch(
                engine, state, mounts, host.Host, options.FenceAfter, fence.RunAsync, command, clock, services.GetRequiredService<ILogger<FenceWatch>>(), services.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping));
        }
        builder.Services.AddHostedService(services => new SpaceReclaimer(engine, state, mounts, zeroing, clock, services.GetRequiredService<ILogger<SpaceReclaimer>>()));

        await using WebApplication app = builder.Build();
        CallGate gate = app.Services.GetRequiredService<CallGate>();
        app.Use((context, next) => gate.RunAsync(context, next));
        app.MapGrpcService<MasterMethods>();
        app.MapGrpcService<HealthServiceImpl>();
        app.MapGrpcReflectionService();
        ILogger log = app.Services.GetRequiredService<ILoggerFactory>().CreateLogger("Famfs.Master");

        foreach (string path in pool.KeepOnly(state.Replay.Devices))
            MasterLog.UnknownDevice(log, path);
        // The engine stops it before its term ends, so it is made before the engine starts.
        LogCompaction compaction = app.Services.GetRequiredService<LogCompaction>();
        TermStarted? before = state.Replay.LastTermStarted;
        bool orderly = state.Replay.TermHasEnded;
        engine.Start(new TermStarted
        {
            Slot = (uint)recovered.Claim.Slot,
            HostId = host.Host.ToByteString(),
            BootId = host.Boot.ToByteString(),
            MasterId = recovered.Claim.Master.ToByteString(),
            Address = recorded,
            Version = version,
            AdoptedFrom = recovered.Claim.AdoptedFrom?.Value ?? 0,
        });
        int exit = 0;
        // A deposed or broken engine takes the process with it: the memory is the truth, this is only its writer.
        Task ended = engine.Completion.ContinueWith(
            end =>
            {
                role.End(end.Exception?.InnerException);
                if (end.IsFaulted)
                {
                    exit = Failed;
                    MasterLog.Ends(log, end.Exception!.InnerException!.Message);
                }
                app.Lifetime.StopApplication();
            }, CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
        // Streams last as long as their hosts; the server would wait for them.
        app.Lifetime.ApplicationStopping.Register(() =>
        {
            Volatile.Write(ref stopping, true);
            SetServing(health, false);
            options.Service.Stopping();
        });
        // Nor should the server wait for a call that waits for it.
        app.Lifetime.ApplicationStopping.Register(compaction.Cancel);
        FamfsException isStopping = new(ErrorReason.NotMaster, "the master is stopping");
        app.Lifetime.ApplicationStopping.Register(() => hub.End(isStopping));
        app.Lifetime.ApplicationStopping.Register(() => mounts.EndWaits(isStopping));
        try
        {
            foreach (Recovery.LostRecords lost in recovered.Accepted)
            {
                await engine.RunAsync(new MountGone(new(lost.Host, lost.Mount, GoneEvidence.LossAccepted, lost.Cause)), Caller.Master).ConfigureAwait(false);
                MasterLog.LossAccepted(log, lost.Cause);
            }
            if (options.MakesSocketDirectory)
                MasterSocket.MakeDirectory(options.Listen[0]);
            foreach (string listen in options.Listen)
                ListenAddresses.RemoveDeadSocket(listen);
            await app.StartAsync(cancel).ConfigureAwait(false);
        }
        catch (Exception error)
        {
            // Nobody was served: the term ends in order, and the next start need not watch for it.
            await engine.DisposeAsync().ConfigureAwait(false);
            await ended.ConfigureAwait(false);
            if (error is SocketException)
                throw new IOException(error.Message, error);
            // Deposed while it started: that has been said, and it is why the start was given up.
            if (error is OperationCanceledException && exit != 0)
                return exit;
            throw;
        }
        SetServing(health, true);
        // A master at a unix socket alone has no address for others.
        string where = before is { Address.Length: > 0 } ? $" at {before.Address}" : "";
        if (before is not null && orderly)
            MasterLog.Follows(log, engine.Term.Value, before.Slot, where);
        else if (before is not null)
            MasterLog.TakesOver(log, engine.Term.Value, before.Slot, where);
        MasterLog.Active(log, pool.Primary.FileSystem, engine.Term.Value, recovered.Claim.Slot, state.Replay.Tree.FileCount, string.Join(", ", options.Listen));
        string open = string.Join(", ", ListenAddresses.FindOpen(options));
        if (open.Length > 0)
            MasterLog.OpenAddress(log, open);
        if (options.FenceCommand is { } program && FenceCommand.FindFault(program) is { } fault)
            MasterLog.FenceCommandIsMissing(log, program, fault);
        if (options.FenceCommand is not null && !state.Format.HasHostTable)
            MasterLog.NobodyIsFenced(log);
        options.Service.Ready($"term {engine.Term.Value}, listening on {string.Join(", ", options.Listen)}");
        await app.WaitForShutdownAsync(cancel).ConfigureAwait(false);
        await engine.DisposeAsync().ConfigureAwait(false);
        await ended.ConfigureAwait(false);
        if (exit == 0)
            MasterLog.Ended(log, engine.Term.Value);
        return exit;
    }
}
