using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Famfs.EndToEnd;

/// <summary>A certificate authority of a test, with what it has issued as PEM files in a directory.</summary>
internal sealed class Authority
{
    private readonly string _directory;
    private readonly X509Certificate2 _own;

    public Authority(string directory)
    {
        _directory = directory;
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        CertificateRequest request = new($"CN={Path.GetFileName(directory)}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        _own = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        File = Path.Combine(directory, "ca.pem");
        System.IO.File.WriteAllText(File, _own.ExportCertificatePem());
    }

    public string File { get; }

    public (string Certificate, string Key) Issue(string name, IPAddress? address)
    {
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        CertificateRequest request = new($"CN={name}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        if (address is not null)
        {
            SubjectAlternativeNameBuilder names = new();
            names.AddIpAddress(address);
            request.CertificateExtensions.Add(names.Build());
        }
        using X509Certificate2 issued = request.Create(_own, DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddHours(12), RandomNumberGenerator.GetBytes(8));
        string certificate = Path.Combine(_directory, name + ".pem");
        string keyFile = Path.Combine(_directory, name + ".key");
        System.IO.File.WriteAllText(certificate, issued.ExportCertificatePem());
        System.IO.File.WriteAllText(keyFile, key.ExportPkcs8PrivateKeyPem());
        return (certificate, keyFile);
    }
}
