using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Net.Security;
using System.Net.Sockets;
using System.Runtime.Versioning;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Famfs.Core.Interop;
using Famfs.Master.Changes;
using Famfs.Master.Rpc;
using Famfs.TestSupport;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Famfs.Master.Tests.Rpc;

/// <summary>Who a caller is, over each kind of connection that a master listens on, from the server's own endpoints.</summary>
[SupportedOSPlatform("linux")]
public sealed class CallerIdentityTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-caller-").FullName;
    private readonly X509Certificate2 _authority = MakeAuthority("authority");

    public void Dispose()
    {
        _authority.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public async Task A_process_is_known_by_the_kernels_word_about_its_unix_socket()
    {
        string path = Path.Combine(_directory, "socket");
        await using WebApplication server = await ServeAsync(Options("unix:" + path));
        using HttpClient client = new(new SocketsHttpHandler
        {
            ConnectCallback = async (_, cancel) =>
            {
                Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancel);
                return new NetworkStream(socket, ownsSocket: true);
            },
        });
        Caller caller = await AskAsync(client, "http://localhost/");
        Assert.Equal((CallerKind.Process, Environment.ProcessId, Own("Uid:"), Own("Gid:")), (caller.Kind, caller.Pid, caller.Uid, caller.Gid));
        Assert.Equal(("", "", 0), (caller.Subject, caller.Fingerprint, caller.AlternativeNames.Count));
        Assert.Equal(File.ReadLines("/proc/self/status").First(l => l.StartsWith("Groups:", StringComparison.Ordinal))[7..].Split(' ', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(uint.Parse), caller.Groups);
        // The user that the master runs as is no ordinary one.
        Assert.True(caller.IsPrivileged);
        Assert.Null(caller.User);
        Assert.Equal("rw-rw-rw-", ModeOf(path));
    }

    [Theory]
    [InlineData(3)]
    [InlineData(300)]
    public void All_groups_of_a_peer_are_read(int count)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "taking groups needs root");
        string path = Path.Combine(_directory, "socket");
        using Socket listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen();
        uint[] groups = [.. Enumerable.Range(5000, count).Select(g => (uint)g)];
        using Socket peer = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        OtherUser.Run(0, 0, groups, () => peer.Connect(new UnixDomainSocketEndPoint(path)));
        using Socket accepted = listener.Accept();
        Assert.Equal(groups, PeerCredentials.ReadGroups(accepted));
    }

    private static string ModeOf(string path)
    {
        UnixFileMode mode = File.GetUnixFileMode(path);
        return string.Concat(Enumerable.Range(0, 9).Select(i => ((int)mode >> (8 - i) & 1) == 1 ? "rwx"[i % 3] : '-'));
    }

    [Fact]
    public async Task A_caller_on_plain_TCP_is_nobody()
    {
        await using WebApplication server = await ServeAsync(Options("http://127.0.0.1:0"));
        using HttpClient client = new();
        Caller caller = await AskAsync(client, AddressOf(server));
        Assert.Equal((CallerKind.Unknown, "127.0.0.1", "address 127.0.0.1"), (caller.Kind, caller.Address, caller.Name));
    }

    [Fact]
    public async Task A_certificate_names_its_holder_and_each_connection_has_its_own()
    {
        await using WebApplication server = await ServeAsync(Secure(clientCertificates: true));
        foreach (string name in (string[])["host-a", "host-b"])
        {
            using X509Certificate2 own = Issue(name, names =>
            {
                names.AddDnsName(name + ".lab");
                names.AddIpAddress(IPAddress.Parse("10.0.0.7"));
                names.AddIpAddress(IPAddress.Parse("fd00::7"));
                names.AddUri(new Uri($"spiffe://lab/{name}"));
                names.AddEmailAddress("root@lab");
                names.AddUserPrincipalName("someone");
            });
            using HttpClient client = Client(own);
            Caller caller = await AskAsync(client, AddressOf(server));
            Assert.Equal((CallerKind.Certificate, $"CN={name}"), (caller.Kind, caller.Subject));
            Assert.Equal(Convert.ToHexString(SHA256.HashData(own.RawData)), caller.Fingerprint);
            Assert.Equal([$"dns:{name}.lab", "ip:10.0.0.7", "ip:fd00::7", $"uri:spiffe://lab/{name}", "email:root@lab"], caller.AlternativeNames);
            // The next call of the same connection has the same caller.
            Assert.Equal(caller.Fingerprint, (await AskAsync(client, AddressOf(server))).Fingerprint);
        }
    }

    [Fact]
    public async Task A_certificate_that_nobody_asked_for_is_not_believed_and_one_of_a_stranger_not_served()
    {
        using X509Certificate2 own = Issue("host-a", _ => { });
        await using (WebApplication server = await ServeAsync(Secure(clientCertificates: false)))
        {
            using HttpClient client = Client(own);
            Assert.Equal(CallerKind.Unknown, (await AskAsync(client, AddressOf(server))).Kind);
        }
        await using WebApplication strict = await ServeAsync(Secure(clientCertificates: true));
        using X509Certificate2 other = MakeAuthority("other");
        using X509Certificate2 strange = Issue("host-a", _ => { }, other);
        using HttpClient stranger = Client(strange);
        await Assert.ThrowsAnyAsync<HttpRequestException>(() => AskAsync(stranger, AddressOf(strict)));
    }

    [Fact]
    public void A_certificate_without_alternative_names_or_with_unreadable_ones_has_none()
    {
        using X509Certificate2 without = Issue("host-a", null);
        Assert.Empty(CallerIdentity.Of(without).AlternativeNames);
        SubjectAlternativeNameBuilder names = new();
        names.AddDnsName("host-a");
        names.AddDnsName("host-b");
        byte[] whole = names.Build().RawData;
        for (int i = 0; i < whole.Length; i++)
        {
            // A tag, a length or a character of another kind; the name before it is not taken either.
            byte[] damaged = [.. whole];
            damaged[i] = 0xFF;
            using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            CertificateRequest request = new("CN=host-a", key, HashAlgorithmName.SHA256);
            request.CertificateExtensions.Add(new X509Extension("2.5.29.17", damaged, critical: false));
            using X509Certificate2 own = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
            Assert.Empty(CallerIdentity.Of(own).AlternativeNames);
        }
    }

    private MasterOptions Secure(bool clientCertificates)
    {
        using X509Certificate2 server = Issue("server", names => names.AddIpAddress(IPAddress.Loopback));
        string certificate = Path.Combine(_directory, "server.pem");
        string key = Path.Combine(_directory, "server.key");
        string authority = Path.Combine(_directory, "authority.pem");
        File.WriteAllText(certificate, server.ExportCertificatePem());
        File.WriteAllText(key, server.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem());
        File.WriteAllText(authority, _authority.ExportCertificatePem());
        return Options("https://127.0.0.1:0") with { CertificateFile = certificate, KeyFile = key, ClientCaFile = clientCertificates ? authority : null };
    }

    private static MasterOptions Options(string listen) => new() { Devices = [], Listen = [listen], Formats = TestFormats.All, SystemUuidFile = "", Service = new(_ => null, 0) };

    /// <summary>A server with a master's endpoints that answers who calls.</summary>
    private static async Task<WebApplication> ServeAsync(MasterOptions options)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions { Args = ["--hostBuilder:reloadConfigOnChange=false"] });
        builder.WebHost.UseKestrelHttpsConfiguration();
        builder.WebHost.UseSockets(sockets => sockets.CreateBoundListenSocket = ListenAddresses.Bind);
        builder.Logging.ClearProviders();
        builder.Services.AddSingleton(new ConnectionGate(TimeProvider.System)).AddSingleton<CallBudget>().AddSingleton<BufferLimit>();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.ConfigureEndpointDefaults(endpoint => endpoint.Protocols = HttpProtocols.Http2);
            foreach (Action<KestrelServerOptions> endpoint in ListenAddresses.Parse(options))
                endpoint(kestrel);
        });
        WebApplication server = builder.Build();
        server.Run(context => context.Response.WriteAsJsonAsync(CallerIdentity.Of(context)));
        await server.StartAsync(TestContext.Current.CancellationToken);
        return server;
    }

    private static string AddressOf(WebApplication server) => Assert.Single(server.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses);

    private static async Task<Caller> AskAsync(HttpClient client, string address)
    {
        using HttpRequestMessage request = new(HttpMethod.Get, address) { Version = HttpVersion.Version20, VersionPolicy = HttpVersionPolicy.RequestVersionExact };
        using HttpResponseMessage response = await client.SendAsync(request, TestContext.Current.CancellationToken);
        return (await response.Content.ReadFromJsonAsync<Caller>(TestContext.Current.CancellationToken))!;
    }

    private HttpClient Client(X509Certificate2 own) => new(new SocketsHttpHandler
    {
        SslOptions = new SslClientAuthenticationOptions
        {
            LocalCertificateSelectionCallback = (_, _, _, _, _) => own,
            CertificateChainPolicy = new() { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck, CustomTrustStore = { _authority } },
        },
    });

    private static X509Certificate2 MakeAuthority(string name)
    {
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        CertificateRequest request = new($"CN={name}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        return request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
    }

    private X509Certificate2 Issue(string name, Action<SubjectAlternativeNameBuilder>? alternatives, X509Certificate2? authority = null)
    {
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        CertificateRequest request = new($"CN={name}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        if (alternatives is not null)
        {
            SubjectAlternativeNameBuilder names = new();
            alternatives(names);
            request.CertificateExtensions.Add(names.Build());
        }
        using X509Certificate2 issued = request.Create(authority ?? _authority, DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddHours(12), RandomNumberGenerator.GetBytes(8));
        return issued.CopyWithPrivateKey(key);
    }

    private static uint Own(string field) =>
        uint.Parse(File.ReadLines("/proc/self/status").First(l => l.StartsWith(field, StringComparison.Ordinal)).Split('\t')[2], CultureInfo.InvariantCulture);
}
