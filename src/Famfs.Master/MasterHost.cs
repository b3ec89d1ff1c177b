using System.Net;
using System.Net.Sockets;
using System.Reflection;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Master.Rpc;
using Famfs.V1;
using Grpc.AspNetCore.Server.Model;
using Grpc.HealthCheck;
using Grpc.Reflection;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Famfs.Master;

/// <summary>Composes a master: devices, recovery, engine, service; runs it until it is told to stop or is
/// deposed.</summary>
internal static class MasterHost
{
    /// <summary>Exit status of a master that could not start or was deposed (docs/operations.md).</summary>
    private const int Failed = 1;

    private const string UnixPrefix = "unix:";

    /// <summary>sun_path of sys/un.h without its NUL.</summary>
    private const int MaxSocketPathBytes = 107;

    /// <summary>Purpose that a caller's certificate must have, if it names any (RFC 5280, 4.2.1.12).</summary>
    private const string ClientAuthentication = "1.3.6.1.5.5.7.3.2";

    /// <summary>Runs to the end; gives the exit status.</summary>
    public static async Task<int> RunAsync(MasterOptions options, CancellationToken cancel)
    {
        TimeProvider clock = TimeProvider.System;
        try
        {
            HostIdentity host = HostIdentity.Load(options.StateDirectory, new HostIdentitySources());
            List<Action<KestrelServerOptions>> endpoints = ParseEndpoints(options);
            RequireCallable(options);
            DeviceSearch devices = new(options.Devices, clock);
            using DevicePool pool = devices.Open();
            Recovery.Result recovered = pool.Format == FileSystemFormat.Famfs2
                ? Famfs2Recovery.Run(pool, options.SystemUuidFile, options.TakeOver, clock, Random.Shared)
                : await Recovery.RunAsync(pool, host, options.TakeOver, clock, Random.Shared, cancel).ConfigureAwait(false);
            using IDisposable slotLock = recovered.SlotLock;
            return await ServeAsync(options, host, devices, recovered, endpoints, clock, cancel).ConfigureAwait(false);
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

    private static async Task<int> ServeAsync(MasterOptions options, HostIdentity host, DeviceSearch devices, Recovery.Result recovered, List<Action<KestrelServerOptions>> endpoints, TimeProvider clock, CancellationToken cancel)
    {
        DevicePool pool = recovered.State.Pool;
        string address = options.Advertise ?? options.Listen[0];
        string version = typeof(MasterHost).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "";
        SubscriptionHub hub = new(pool, recovered.Index);
        hub.Recovered(recovered.State.State.Position, recovered.Writer.Tail);
        MasterEngine engine = new(recovered.State, recovered.Writer, hub, clock, Random.Shared);
        HostTable table = new(pool);
        MountTable mounts = new(table, clock);
        MasterInfo info = new(recovered.Master, host, address, version, clock.GetTimestamp(), table.HostCapacity);
        MasterOperations operations = new(engine);

        // The builder looks for a settings file in the working directory, and watches all below it for changes: started in /,
        // as services are, that is every file system of the host. Nothing is configured that way.
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions
        {
            ContentRootPath = AppContext.BaseDirectory,
            Args = ["--hostBuilder:reloadConfigOnChange=false"],
        });
        builder.WebHost.UseKestrelHttpsConfiguration();
        // A start that fails is said in one line, by the caller.
        builder.Logging.SetMinimumLevel(LogLevel.Warning).AddFilter("Famfs", LogLevel.Information).AddFilter("Microsoft.Extensions.Hosting", LogLevel.None)
            // A stack trace for each caller that breaks off; what a call of ours means is logged by ourselves.
            .AddFilter("Grpc", LogLevel.None);
        builder.Logging.AddSimpleConsole(console => console.SingleLine = true);
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.ConfigureEndpointDefaults(endpoint => endpoint.Protocols = HttpProtocols.Http2);
            kestrel.Limits.Http2.MaxStreamsPerConnection = 1000;
            kestrel.Limits.Http2.InitialConnectionWindowSize = 4 << 20;
            kestrel.Limits.Http2.InitialStreamWindowSize = 1 << 20;
            foreach (Action<KestrelServerOptions> endpoint in endpoints)
                endpoint(kestrel);
        });
        // A host that does not read holds up the end of its stream; then its connection is cut.
        builder.Services.Configure<HostOptions>(host => host.ShutdownTimeout = TimeSpan.FromSeconds(5));
        builder.Services.AddGrpc(grpc => grpc.MaxReceiveMessageSize = 16 << 20);
        // Reflection finds descriptors by the type of a service, which here is not that of the generated code.
        Google.Protobuf.Reflection.ServiceDescriptor[] described = [V1.Master.Descriptor, Grpc.Health.V1.Health.Descriptor];
        builder.Services.AddSingleton(new ReflectionServiceImpl(described)).AddSingleton(new ReflectionV1ServiceImpl(described));
        builder.Services.AddGrpcReflection();
        builder.Services.AddSingleton<MalformedMessages>().AddSingleton<MasterMethods>()
            .AddSingleton<IServiceMethodProvider<MasterMethods>>(services => services.GetRequiredService<MasterMethods>());
        HealthServiceImpl health = new();
        builder.Services.AddSingleton(health);
        builder.Services.AddSingleton(clock).AddSingleton(engine).AddSingleton(operations).AddSingleton(hub)
            .AddSingleton(mounts).AddSingleton(info).AddSingleton<MasterService>();
        builder.Services.AddHostedService(services => new HostWatch(engine, operations, mounts, devices, clock, services.GetRequiredService<ILogger<HostWatch>>()));

        await using WebApplication app = builder.Build();
        app.MapGrpcService<MasterMethods>();
        app.MapGrpcService<HealthServiceImpl>();
        app.MapGrpcReflectionService();
        ILogger log = app.Services.GetRequiredService<ILoggerFactory>().CreateLogger("Famfs.Master");

        foreach (string path in pool.KeepOnly(recovered.State.State.Devices))
            MasterLog.UnknownDevice(log, path);
        engine.Start(new TermStarted
        {
            TimeNs = engine.NowNs,
            Slot = (uint)recovered.Slot,
            HostId = host.Host.ToByteString(),
            BootId = host.Boot.ToByteString(),
            MasterId = recovered.Master.ToByteString(),
            Address = address,
            Version = version,
        });
        int exit = 0;
        // A deposed or broken engine takes the process with it: the memory is the truth, this is only its writer.
        Task stopping = engine.Completion.ContinueWith(
            ended =>
            {
                if (ended.IsFaulted)
                {
                    exit = Failed;
                    MasterLog.Ends(log, ended.Exception!.InnerException!.Message);
                }
                app.Lifetime.StopApplication();
            }, CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
        // Streams last as long as their hosts; the server would wait for them.
        app.Lifetime.ApplicationStopping.Register(() => hub.End(new FamfsException(ErrorReason.NotMaster, "the master is stopping")));
        try
        {
            foreach (string listen in options.Listen)
                RemoveDeadSocket(listen);
            await app.StartAsync(cancel).ConfigureAwait(false);
        }
        catch (Exception error)
        {
            // Nobody was served: the term ends in order, and the next start need not watch for it.
            await engine.DisposeAsync().ConfigureAwait(false);
            await stopping.ConfigureAwait(false);
            if (error is SocketException)
                throw new IOException($"--listen {string.Join(", ", options.Listen)}: {error.Message}", error);
            throw;
        }
        health.SetStatus("", Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus.Serving);
        health.SetStatus("famfs.v1.Master", Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus.Serving);
        MasterLog.Active(log, pool.Primary.FileSystem, engine.Term.Value, recovered.Slot, engine.State.Tree.FileCount, string.Join(", ", options.Listen));
        await app.WaitForShutdownAsync(cancel).ConfigureAwait(false);
        await engine.DisposeAsync().ConfigureAwait(false);
        await stopping.ConfigureAwait(false);
        return exit;
    }

    private static List<Action<KestrelServerOptions>> ParseEndpoints(MasterOptions options)
    {
        bool secure = options.Listen.Any(a => a.StartsWith("https:", StringComparison.Ordinal));
        bool named = options.CertificateFile is not null || options.KeyFile is not null || options.ClientCaFile is not null;
        if (secure && (options.CertificateFile is null || options.KeyFile is null))
            throw new FamfsException(ErrorReason.BadRequest, "--listen https://… needs --certificate-file and --key-file");
        if (named && !secure)
            throw new FamfsException(ErrorReason.BadRequest, "--certificate-file, --key-file and --client-ca-file need a --listen https://…; nothing else is protected by them");
        HttpsConnectionAdapterOptions? tls = secure ? CreateTls(options) : null;
        return [.. options.Listen.Select(a => ParseEndpoint(a, tls))];
    }

    /// <summary>The address that the log will name must be one that others can call: they get it without being asked.</summary>
    private static void RequireCallable(MasterOptions options)
    {
        string address = options.Advertise ?? options.Listen[0];
        bool callable = address.StartsWith(UnixPrefix, StringComparison.Ordinal)
            ? Path.IsPathRooted(address[UnixPrefix.Length..])
            : Uri.TryCreate(address, UriKind.Absolute, out Uri? uri) && uri.Scheme is "http" or "https" && uri.Host.Length > 0
                && !(IPAddress.TryParse(uri.Host.Trim('[', ']'), out IPAddress? ip) && (ip.Equals(IPAddress.Any) || ip.Equals(IPAddress.IPv6Any)));
        if (!callable)
        {
            throw new FamfsException(ErrorReason.BadRequest, options.Advertise is null
                ? $"--listen {address}: is no address that others can call; say with --advertise which is"
                : $"--advertise {address}: must be http://HOST:PORT, https://HOST:PORT or unix:/PATH, of this host");
        }
    }

    /// <summary>Removes what a killed master left of a unix socket. One that somebody listens on stays, and the start
    /// fails.</summary>
    private static void RemoveDeadSocket(string address)
    {
        if (!address.StartsWith(UnixPrefix, StringComparison.Ordinal))
            return;
        string path = address[UnixPrefix.Length..];
        using Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(path));
        }
        catch (SocketException error) when (error.SocketErrorCode == SocketError.ConnectionRefused && File.ResolveLinkTarget(path, returnFinalTarget: false) is null)
        {
            File.Delete(path);
        }
        catch (SocketException)
        {
            // Not there, or not to be used: listening says what is wrong.
        }
    }

    private static HttpsConnectionAdapterOptions CreateTls(MasterOptions options)
    {
        HttpsConnectionAdapterOptions tls = new()
        {
            ServerCertificate = PemFiles.LoadCertificate(options.CertificateFile!, options.KeyFile!, out X509Certificate2Collection chain),
            ServerCertificateChain = chain,
        };
        if (options.ClientCaFile is not null)
        {
            X509ChainPolicy policy = PemFiles.TrustOnly(PemFiles.LoadAuthorities(options.ClientCaFile));
            policy.ApplicationPolicy.Add(new Oid(ClientAuthentication));
            tls.ClientCertificateMode = ClientCertificateMode.RequireCertificate;
            tls.ClientCertificateValidation = (certificate, sent, _) =>
            {
                X509ChainPolicy own = policy.Clone();
                own.ExtraStore.AddRange(sent?.ChainPolicy.ExtraStore ?? []);
                using X509Chain judged = new() { ChainPolicy = own };
                return judged.Build(certificate);
            };
        }
        return tls;
    }

    private static Action<KestrelServerOptions> ParseEndpoint(string address, HttpsConnectionAdapterOptions? tls)
    {
        if (address.StartsWith(UnixPrefix, StringComparison.Ordinal))
        {
            string path = address[UnixPrefix.Length..];
            if (!Path.IsPathRooted(path) || System.Text.Encoding.UTF8.GetByteCount(path) > MaxSocketPathBytes)
                throw new FamfsException(ErrorReason.BadRequest, $"--listen {address}: the path must be absolute and at most {MaxSocketPathBytes} bytes long") { Limit = MaxSocketPathBytes };
            if (!Directory.Exists(Path.GetDirectoryName(path)))
                throw new FamfsException(ErrorReason.NotFound, $"--listen {address}: there is no directory {Path.GetDirectoryName(path)}");
            return kestrel => kestrel.ListenUnixSocket(path);
        }
        // A star is no host that the parser of addresses knows.
        bool anywhere = address.Contains("://*", StringComparison.Ordinal);
        if (Uri.TryCreate(address.Replace("://*", "://localhost", StringComparison.Ordinal), UriKind.Absolute, out Uri? uri) && uri.Scheme is "http" or "https")
        {
            Action<ListenOptions> configure = uri.Scheme == "https" ? listen => listen.UseHttps(tls!) : _ => { };
            if (anywhere)
                return kestrel => kestrel.ListenAnyIP(uri.Port, configure);
            if (IPAddress.TryParse(uri.Host.Trim('[', ']'), out IPAddress? ip))
                return kestrel => kestrel.Listen(ip, uri.Port, configure);
            if (uri.Host == "localhost")
                return kestrel => kestrel.ListenLocalhost(uri.Port, configure);
        }
        throw new FamfsException(ErrorReason.BadRequest, $"--listen {address}: must be http://IP:PORT, https://IP:PORT or unix:/PATH; localhost and * are good for IP");
    }
}
