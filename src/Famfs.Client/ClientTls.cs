using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using Famfs.Core;
using Famfs.V1;

namespace Famfs.Client;

/// <summary>Whom a client trusts at <c>https</c> addresses, and as whom it shows itself. Nothing of it concerns
/// <c>http</c> and <c>unix</c> addresses.</summary>
public sealed class ClientTls
{
    /// <summary>Variables that name the files where no option does.</summary>
    public const string CaFileVariable = "FAMFS_CA_FILE";

    /// <inheritdoc cref="CaFileVariable"/>
    public const string CertificateFileVariable = "FAMFS_CERTIFICATE_FILE";

    /// <inheritdoc cref="CaFileVariable"/>
    public const string KeyFileVariable = "FAMFS_KEY_FILE";

    private readonly X509Certificate2Collection? _authorities;
    private readonly SslStreamCertificateContext? _own;

    private ClientTls(X509Certificate2Collection? authorities, SslStreamCertificateContext? own)
    {
        _authorities = authorities;
        _own = own;
    }

    /// <summary>Trusts what this host trusts, and shows no certificate.</summary>
    public static ClientTls OfSystem { get; } = new(null, null);

    /// <summary>Reads PEM files. <paramref name="caFile"/>: the authorities that a master's certificate must come from
    /// (null: those of this host). <paramref name="certificateFile"/> and <paramref name="keyFile"/>: what this
    /// client shows to a master that asks; both or neither. Errors: BAD_REQUEST, one line with the file.</summary>
    public static ClientTls Load(string? caFile, string? certificateFile, string? keyFile)
    {
        if ((certificateFile is null) != (keyFile is null))
            throw new FamfsException(ErrorReason.BadRequest, "a certificate file and a key file are given together or not at all");
        SslStreamCertificateContext? own = null;
        if (certificateFile is not null)
        {
            X509Certificate2 certificate = PemFiles.LoadCertificate(certificateFile, keyFile!, out X509Certificate2Collection chain);
            own = SslStreamCertificateContext.Create(certificate, chain, offline: true);
        }
        return new(caFile is null ? null : PemFiles.LoadAuthorities(caFile), own);
    }

    /// <summary>What a connection is made with. Names are checked in any case.</summary>
    internal SslClientAuthenticationOptions CreateOptions() => new()
    {
        CertificateChainPolicy = _authorities is null ? null : PemFiles.TrustOnly(_authorities),
        ClientCertificateContext = _own,
    };
}
