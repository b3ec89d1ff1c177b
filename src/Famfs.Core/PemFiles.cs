using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Core;

/// <summary>Certificates and keys as operators keep them: PEM files. Errors: <see cref="FamfsException"/> BAD_REQUEST,
/// one line with the file.</summary>
public static class PemFiles
{
    /// <summary>Reads a certificate with its private key (not encrypted), and what else of its chain is in the
    /// certificate's file.</summary>
    public static X509Certificate2 LoadCertificate(string certificatePath, string keyPath, out X509Certificate2Collection chain)
    {
        TlsLibrary.Require();
        string key = Read(keyPath);
        chain = LoadAll(certificatePath);
        try
        {
            X509Certificate2 certificate = X509Certificate2.CreateFromPem(Read(certificatePath), key);
            chain.RemoveAt(0);
            return certificate;
        }
        catch (Exception error) when (error is CryptographicException or ArgumentException)
        {
            throw Bad(keyPath, $"is not the unencrypted private key of {certificatePath}", error);
        }
    }

    /// <summary>Reads the certificates of authorities, one at least.</summary>
    public static X509Certificate2Collection LoadAuthorities(string path) => LoadAll(path);

    /// <summary>The policy that trusts <paramref name="authorities"/> and nobody else.</summary>
    public static X509ChainPolicy TrustOnly(X509Certificate2Collection authorities)
    {
        // A private authority has no place that could be asked for revocations.
        X509ChainPolicy policy = new() { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
        policy.CustomTrustStore.AddRange(authorities);
        return policy;
    }

    private static X509Certificate2Collection LoadAll(string path)
    {
        TlsLibrary.Require();
        X509Certificate2Collection certificates = [];
        try
        {
            certificates.ImportFromPem(Read(path));
        }
        catch (CryptographicException error)
        {
            throw Bad(path, "holds a damaged certificate", error);
        }
        return certificates.Count > 0 ? certificates : throw Bad(path, "holds no certificate in PEM form", null);
    }

    private static string Read(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw Bad(path, error is FileNotFoundException or DirectoryNotFoundException ? "is not there" : error.Message, error);
        }
    }

    private static FamfsException Bad(string path, string what, Exception? inner) => new(ErrorReason.BadRequest, $"{path}: {what}", inner) { Path = path };
}
