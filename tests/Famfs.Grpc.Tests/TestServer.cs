using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Famfs.Testing.Rpc;
using Grpc.AspNetCore.Server;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Famfs.Grpc.Tests;

public enum Transport
{
    Tcp,
    Unix,
    Tls,
}

/// <summary>Kestrel on a free loopback port or a unix socket, with a <see cref="ScriptedService"/> or a bare delegate.</summary>
internal sealed class TestServer : IAsyncDisposable
{
    /// <summary>Generous: nothing here takes long unless it hangs.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly WebApplication _application;
    private readonly string? _directory;
    private readonly X509Certificate2? _certificate;
    private readonly List<IDisposable> _owned = [];

    private TestServer(WebApplication application, ScriptedService service, string address, string? directory, X509Certificate2? certificate)
    {
        _application = application;
        Service = service;
        Address = address;
        _directory = directory;
        _certificate = certificate;
    }

    public ScriptedService Service { get; }

    /// <summary>For <c>GrpcChannel.ForAddress</c>.</summary>
    public string Address { get; }

    public IServiceProvider Services => _application.Services;

    public static async Task<TestServer> StartAsync(
        Transport transport = Transport.Tcp,
        Action<GrpcServiceOptions>? grpc = null,
        Action<KestrelServerOptions>? kestrel = null,
        Action<IServiceCollection>? services = null,
        Action<WebApplication>? map = null,
        HttpProtocols protocols = HttpProtocols.Http2)
    {
        string? directory = transport == Transport.Unix ? Directory.CreateTempSubdirectory("famfs-grpc-").FullName : null;
        X509Certificate2? certificate = transport == Transport.Tls ? CreateCertificate() : null;
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(options =>
        {
            void Listen(ListenOptions listen)
            {
                listen.Protocols = protocols;
                if (certificate is not null)
                {
                    listen.UseHttps(certificate);
                }
            }

            if (directory is not null)
            {
                options.ListenUnixSocket(Path.Combine(directory, "s"), Listen);
            }
            else
            {
                options.Listen(IPAddress.Loopback, 0, Listen);
            }

            kestrel?.Invoke(options);
        });
        if (transport == Transport.Tls)
        {
            builder.WebHost.UseKestrelHttpsConfiguration();
        }

        ScriptedService service = new();
        builder.Services.AddGrpc(options => grpc?.Invoke(options));
        builder.Services.AddSingleton(service);
        services?.Invoke(builder.Services);
        WebApplication application = builder.Build();
        if (map is not null)
        {
            map(application);
        }
        else
        {
            application.MapGrpcService<ScriptedService>();
        }

        await application.StartAsync();
        string address = directory is not null
            ? "unix:" + Path.Combine(directory, "s")
            : application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single();
        return new TestServer(application, service, address, directory, certificate);
    }

    /// <summary>A server that answers every request with a delegate, for replies no gRPC server would send.</summary>
    public static Task<TestServer> StartRawAsync(RequestDelegate reply, Transport transport = Transport.Tcp, HttpProtocols protocols = HttpProtocols.Http2) =>
        StartAsync(transport, map: application => application.Run(reply), protocols: protocols);

    /// <summary>A channel that ends with the server.</summary>
    public GrpcChannel CreateChannel(GrpcChannelOptions? options = null)
    {
        options ??= new GrpcChannelOptions();
        if (_certificate is not null && options.HttpHandler is null)
        {
            options.HttpHandler = CreateHandler();
            options.DisposeHttpClient = true;
        }

        GrpcChannel channel = GrpcChannel.ForAddress(Address, options);
        _owned.Add(channel);
        return channel;
    }

    public Scripted.ScriptedClient CreateClient(GrpcChannelOptions? options = null) => new(CreateChannel(options));

    /// <summary>A client below gRPC, for requests no gRPC client would send; paths are relative to the server.</summary>
    public HttpClient CreateHttpClient()
    {
        HttpClient client = new(CreateHandler()) { BaseAddress = new Uri(Address.StartsWith("unix:", StringComparison.Ordinal) ? "http://localhost" : Address) };
        _owned.Add(client);
        return client;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (IDisposable owned in _owned)
        {
            owned.Dispose();
        }

        // Handlers that a test left waiting are cut off rather than waited for.
        using CancellationTokenSource now = new(TimeSpan.FromMilliseconds(100));
        await _application.StopAsync(now.Token);
        await _application.DisposeAsync();
        _certificate?.Dispose();
        if (_directory is not null)
        {
            Directory.Delete(_directory, recursive: true);
        }
    }

    private static X509Certificate2 CreateCertificate()
    {
        using RSA key = RSA.Create(2048);
        CertificateRequest request = new("CN=localhost", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        SubjectAlternativeNameBuilder names = new();
        names.AddDnsName("localhost");
        request.CertificateExtensions.Add(names.Build());
        using X509Certificate2 certificate = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        return X509CertificateLoader.LoadPkcs12(certificate.Export(X509ContentType.Pfx), null);
    }

    private SocketsHttpHandler CreateHandler()
    {
        SocketsHttpHandler handler = new() { UseProxy = false };
        if (_certificate is not null)
        {
            string expected = _certificate.Thumbprint;
            handler.SslOptions = new SslClientAuthenticationOptions
            {
                RemoteCertificateValidationCallback = (_, certificate, _, _) => (certificate as X509Certificate2)?.Thumbprint == expected,
            };
        }

        if (_directory is not null)
        {
            string path = Path.Combine(_directory, "s");
            handler.ConnectCallback = async (_, cancellationToken) =>
            {
                Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellationToken);
                return new NetworkStream(socket, ownsSocket: true);
            };
        }

        return handler;
    }
}
