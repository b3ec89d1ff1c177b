using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Famfs.Core;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Famfs.Master.Rpc;

/// <summary>What a master shows at its https addresses, and whom it takes there. PEM files; those that have changed are read again
/// for the next connection, and those that cannot be used leave what was read before.</summary>
internal sealed class ServerTls
{
    /// <summary>Purpose that a caller's certificate must have, if it names any (RFC 5280, 4.2.1.12).</summary>
    private const string ClientAuthentication = "1.3.6.1.5.5.7.3.2";

    private readonly RenewedFiles<Content> _files;

    /// <summary>Reads the files. Errors: BAD_REQUEST, one line with the file.</summary>
    /// <param name="certificateFile">What is shown; the rest of its chain may follow in it.</param>
    /// <param name="keyFile">Its private key.</param>
    /// <param name="clientCaFile">The authorities that callers' certificates must come from; null: callers need none.</param>
    public ServerTls(string certificateFile, string keyFile, string? clientCaFile)
    {
        string[] paths = [.. new[] { certificateFile, keyFile, clientCaFile }.OfType<string>()];
        _files = new(paths, () => Read(certificateFile, keyFile, clientCaFile));
    }

    /// <summary>Encrypts the connections of an endpoint.</summary>
    public void Protect(ListenOptions listen)
    {
        ILogger log = listen.ApplicationServices.GetRequiredService<ILoggerFactory>().CreateLogger("Famfs.Master");
        _files.Refused = cause => MasterLog.CertificatesKept(log, cause);
        _files.Renewed = () => MasterLog.CertificatesRenewed(log);
        listen.UseHttps(new TlsHandshakeCallbackOptions { OnConnection = _ => ValueTask.FromResult(CreateOptions(_files.Current)) });
    }

    private static SslServerAuthenticationOptions CreateOptions(Content content)
    {
        SslServerAuthenticationOptions options = new() { ServerCertificateContext = content.Own };
        if (content.Callers is { } callers)
        {
            options.ClientCertificateRequired = true;
            options.RemoteCertificateValidationCallback = (_, certificate, sent, _) => certificate is X509Certificate2 shown && IsFrom(callers, shown, sent);
        }
        return options;
    }

    private static bool IsFrom(X509ChainPolicy callers, X509Certificate2 certificate, X509Chain? sent)
    {
        X509ChainPolicy policy = callers.Clone();
        policy.ExtraStore.AddRange(sent?.ChainPolicy.ExtraStore ?? []);
        using X509Chain judged = new() { ChainPolicy = policy };
        return judged.Build(certificate);
    }

    private static Content Read(string certificateFile, string keyFile, string? clientCaFile)
    {
        X509Certificate2 certificate = PemFiles.LoadCertificate(certificateFile, keyFile, out X509Certificate2Collection chain);
        X509ChainPolicy? callers = null;
        if (clientCaFile is not null)
        {
            callers = PemFiles.TrustOnly(PemFiles.LoadAuthorities(clientCaFile));
            callers.ApplicationPolicy.Add(new Oid(ClientAuthentication));
        }
        return new(SslStreamCertificateContext.Create(certificate, chain, offline: true), callers);
    }

    private sealed record Content(SslStreamCertificateContext Own, X509ChainPolicy? Callers);
}
