using System.Runtime.InteropServices;
using Famfs.V1;

namespace Famfs.Core.Interop;

/// <summary>The library that .NET has TLS and certificates from. It is loaded when the first of these is touched, and a process that
/// finds none is ended by SIGABRT; so it is looked for before.</summary>
public static class TlsLibrary
{
    /// <summary>Names that .NET tries, newest first.</summary>
    private static readonly string[] s_names = ["libssl.so.3", "libssl.so.1.1", "libssl.so.1.0.2", "libssl.so.1.0.0", "libssl.so.10"];

    /// <summary>Throws one line with the name of the package where it cannot be loaded.</summary>
    public static void Require()
    {
        if (!s_names.Any(name => NativeLibrary.TryLoad(name, out _)))
            throw new FamfsException(ErrorReason.Unspecified, "TLS and certificates need libssl, which cannot be loaded here: install libssl3 (Debian, Ubuntu), openssl-libs (Fedora, RHEL) or libopenssl3 (SUSE)");
    }
}
