using System.Text;
using Famfs.Core;

namespace Famfs.Client;

/// <summary>An address of a master: <c>http://HOST:PORT</c>, <c>https://HOST:PORT</c> or <c>unix:/PATH</c>.</summary>
public static class MasterAddress
{
    /// <summary>What is wrong with an address, in words that name it; null when a connection can be made for it. Nobody is asked.</summary>
    public static string? FindFault(string address)
    {
        if (address.StartsWith(MasterSocket.Prefix, StringComparison.Ordinal) && SocketPathOf(address) is ['/', ..] path)
        {
            return Encoding.UTF8.GetByteCount(path) > MasterSocket.MaxPathBytes
                ? $"'{address}': the path of a socket has at most {MasterSocket.MaxPathBytes} bytes"
                : null;
        }
        bool isNetwork = Uri.TryCreate(address, UriKind.Absolute, out Uri? uri)
            && (uri.Scheme == Uri.UriSchemeHttp || uri.Scheme == Uri.UriSchemeHttps) && uri.Host.Length != 0;
        return isNetwork ? null : $"'{address}' is not an address of a master; write http://host:port, https://host:port or unix:/path";
    }

    /// <summary>The path of a <c>unix:</c> address.</summary>
    internal static string SocketPathOf(string address)
    {
        string path = address[MasterSocket.Prefix.Length..];
        return path.StartsWith("//", StringComparison.Ordinal) ? path[2..] : path;
    }
}
