using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Famfs.Core;
using Famfs.V1;

namespace Famfs.Client;

/// <summary>Whom a client trusts at <c>https</c> addresses, and as whom it shows itself. Nothing of it concerns
/// <c>http</c> and <c>unix</c> addresses. Files that have changed are read again for the next connection; those that cannot be
/// used leave what was read before. Thread safe.</summary>
public sealed class ClientTls
{
    /// <summary>Variables that name the files where no option does.</summary>
    public const string CaFileVariable = "FAMFS_CA_FILE";

    /// <inheritdoc cref="CaFileVariable"/>
    public const string CertificateFileVariable = "FAMFS_CERTIFICATE_FILE";

    /// <inheritdoc cref="CaFileVariable"/>
    public const string KeyFileVariable = "FAMFS_KEY_FILE";

    private readonly RenewedFiles<Content> _files;

    private ClientTls(RenewedFiles<Content> files) => _files = files;

    /// <summary>Trusts what this host trusts, and shows no certificate.</summary>
    public static ClientTls OfSystem { get; } = new(new([], static () => new(null, null)));

    /// <summary>Called with the cause, on any thread, when files have changed and cannot be used. Nothing by default.</summary>
    public Action<string> Refused
    {
        get => _files.Refused;
        init => _files.Refused = value;
    }

    /// <summary>Reads PEM files. <paramref name="caFile"/>: the authorities that a master's certificate must come from
    /// (null: those of this host). <paramref name="certificateFile"/> and <paramref name="keyFile"/>: what this
    /// client shows to a master that asks; both or neither. <paramref name="refused"/>: <see cref="Refused"/>.
    /// Errors: BAD_REQUEST, one line with the file.</summary>
    public static ClientTls Load(string? caFile, string? certificateFile, string? keyFile, Action<string>? refused = null)
    {
        if ((certificateFile is null) != (keyFile is null))
            throw new FamfsException(ErrorReason.BadRequest, "a certificate file and a key file are given together or not at all");
        string[] paths = [.. new[] { caFile, certificateFile, keyFile }.OfType<string>()];
        return new(new(paths, () => Read(caFile, certificateFile, keyFile))) { Refused = refused ?? (static _ => { }) };
    }

    /// <summary>Makes a connection that is encrypted of one that is not; owns that. Names are checked in any case. Errors:
    /// <see cref="AuthenticationException"/>, also when the other side ends the connection before it is encrypted.</summary>
    internal async ValueTask<Stream> EncryptAsync(Stream plain, string host, CancellationToken cancel)
    {
        Content content = _files.Current;
        SslStream encrypted = new(plain);
        try
        {
            await encrypted.AuthenticateAsClientAsync(
                new()
                {
                    TargetHost = host,
                    ApplicationProtocols = [SslApplicationProtocol.Http2],
                    CertificateChainPolicy = content.Authorities is null ? null : PemFiles.TrustOnly(content.Authorities),
                    ClientCertificateContext = content.Own,
                }, cancel).ConfigureAwait(false);
            return encrypted;
        }
        catch (Exception error)
        {
            await encrypted.DisposeAsync().ConfigureAwait(false);
            // A master that refuses this client's certificate ends the connection.
            if (error is IOException)
                throw new AuthenticationException(error.Message, error);
            throw;
        }
    }

    private static Content Read(string? caFile, string? certificateFile, string? keyFile)
    {
        SslStreamCertificateContext? own = null;
        if (certificateFile is not null)
        {
            X509Certificate2 certificate = PemFiles.LoadCertificate(certificateFile, keyFile!, out X509Certificate2Collection chain);
            own = SslStreamCertificateContext.Create(certificate, chain, offline: true);
        }
        return new(caFile is null ? null : PemFiles.LoadAuthorities(caFile), own);
    }

    private sealed record Content(X509Certificate2Collection? Authorities, SslStreamCertificateContext? Own);
}
