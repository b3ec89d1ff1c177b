using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Net.Sockets;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;

namespace Famfs.Master.Rpc;

/// <summary>Where a master listens, and with which TLS.</summary>
internal static class ListenAddresses
{
    private const string UnixPrefix = MasterSocket.Prefix;
    private const int MaxSocketPathBytes = MasterSocket.MaxPathBytes;

    /// <summary>What each --listen means to the server. Throws INVALID_ARGUMENT for one that means nothing, and for TLS that is not
    /// complete.</summary>
    public static List<Action<KestrelServerOptions>> Parse(MasterOptions options)
    {
        bool secure = options.Listen.Any(a => a.StartsWith("https:", StringComparison.Ordinal));
        bool named = options.CertificateFile is not null || options.KeyFile is not null || options.ClientCaFile is not null;
        if (secure && (options.CertificateFile is null || options.KeyFile is null))
            throw new FamfsException(ErrorReason.BadRequest, "--listen https://… needs --certificate-file and --key-file");
        if (named && !secure)
            throw new FamfsException(ErrorReason.BadRequest, "--certificate-file, --key-file and --client-ca-file need a --listen https://…; nothing else is protected by them");
        ServerTls? tls = secure ? new(options.CertificateFile!, options.KeyFile!, options.ClientCaFile) : null;
        return [.. options.Listen.Select(a => ParseEndpoint(a, tls, options.MakesSocketDirectory))];
    }

    /// <summary>The address that the log will name, or an empty one. It must be one that others can call, because they get it without
    /// being asked; a socket of this host is another one or nothing on theirs.</summary>
    public static string RequireRecorded(MasterOptions options)
    {
        string? address = options.Advertise ?? options.Listen.FirstOrDefault(a => !a.StartsWith(UnixPrefix, StringComparison.Ordinal));
        if (address is null)
            return "";
        bool callable = Uri.TryCreate(address, UriKind.Absolute, out Uri? uri) && uri.Scheme is "http" or "https" && uri.Host.Length > 0
            && !(IPAddress.TryParse(uri.Host.Trim('[', ']'), out IPAddress? ip) && (ip.Equals(IPAddress.Any) || ip.Equals(IPAddress.IPv6Any)));
        if (callable)
            return address;
        throw new FamfsException(ErrorReason.BadRequest, options.Advertise is null
            ? $"--listen {address}: is no address that others can call; say with --advertise which is"
            : $"--advertise {address}: must be http://HOST:PORT or https://HOST:PORT, of this host");
    }

    /// <summary>The addresses whose callers nobody knows.</summary>
    public static IEnumerable<string> FindOpen(MasterOptions options) => options.Listen.Where(a =>
        a.StartsWith("http:", StringComparison.Ordinal) || (a.StartsWith("https:", StringComparison.Ordinal) && options.ClientCaFile is null));

    /// <summary>Makes the socket of an endpoint. Everybody may connect to a unix socket: who calls is known there. Throws
    /// <see cref="SocketException"/> whose message names the endpoint.</summary>
    public static Socket Bind(EndPoint endpoint)
    {
        Socket socket;
        try
        {
            socket = SocketTransportOptions.CreateDefaultBoundListenSocket(endpoint);
        }
        catch (SocketException error)
        {
            // Of this type, because the server tries another family or names an address that is taken.
            throw new SocketException((int)error.SocketErrorCode, $"--listen {endpoint}: {error.Message}");
        }
        if (endpoint is not UnixDomainSocketEndPoint unix)
            return socket;
        try
        {
            // Nobody could connect so far: it does not listen yet.
            MasterSocket.Open(unix.ToString()!);
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Removes what a killed master left of a unix socket. One that somebody listens on stays, and so does what is no
    /// socket; the start fails then. Throws EXISTS for what is no socket.</summary>
    public static void RemoveDeadSocket(string address)
    {
        if (!address.StartsWith(UnixPrefix, StringComparison.Ordinal))
            return;
        string path = address[UnixPrefix.Length..];
        // A connection to any file is refused.
        RequireSocketOrNothing(address, path);
        using Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(path));
        }
        catch (SocketException error) when (error.SocketErrorCode == SocketError.ConnectionRefused)
        {
            File.Delete(path);
        }
        catch (SocketException)
        {
            // Not there, or not to be used: listening says what is wrong.
        }
    }

    private static void RequireSocketOrNothing(string address, string path)
    {
        if (FileStatus.TryRead(path, followLinks: false, out _) is { Type: not FileType.Socket })
            throw new FamfsException(ErrorReason.Exists, $"--listen {address}: {path} is there and is no socket; it stays as it is") { Path = path };
    }

    /// <summary>What is wrong with the text of one --listen; null when nothing is.</summary>
    public static string? FindFault(string address)
    {
        if (address.StartsWith(UnixPrefix, StringComparison.Ordinal))
        {
            string path = address[UnixPrefix.Length..];
            return Path.IsPathRooted(path) && System.Text.Encoding.UTF8.GetByteCount(path) <= MaxSocketPathBytes
                ? null
                : $"--listen {address}: the path must be absolute and at most {MaxSocketPathBytes} bytes long";
        }
        return TryParse(address, out _, out _)
            ? null
            : $"--listen {address}: must be http://IP:PORT, https://IP:PORT or unix:/PATH; localhost and * are good for IP";
    }

    private static bool TryParse(string address, [NotNullWhen(true)] out Uri? uri, out bool anywhere)
    {
        // A star is no host that the parser of addresses knows.
        anywhere = address.Contains("://*", StringComparison.Ordinal);
        return Uri.TryCreate(address.Replace("://*", "://localhost", StringComparison.Ordinal), UriKind.Absolute, out uri) && uri.Scheme is "http" or "https"
            && (uri.Host == "localhost" || IPAddress.TryParse(uri.Host.Trim('[', ']'), out _)) && SaysPort(address);
    }

    private static Action<KestrelServerOptions> ParseEndpoint(string address, ServerTls? tls, bool makesDirectory)
    {
        if (FindFault(address) is { } fault)
            throw new FamfsException(ErrorReason.BadRequest, fault);
        if (!TryParse(address, out Uri? uri, out bool anywhere))
        {
            string path = address[UnixPrefix.Length..];
            if (!makesDirectory && !Directory.Exists(Path.GetDirectoryName(path)))
                throw new FamfsException(ErrorReason.NotFound, $"--listen {address}: there is no directory {Path.GetDirectoryName(path)}");
            // Said before anything is done; what comes to be there meanwhile is looked at again.
            RequireSocketOrNothing(address, path);
            return kestrel => kestrel.ListenUnixSocket(path, listen => listen.Identify());
        }
        Action<ListenOptions> configure = listen =>
        {
            if (uri.Scheme == "https")
                tls!.Protect(listen);
            listen.Identify();
        };
        if (anywhere)
            return kestrel => kestrel.ListenAnyIP(uri.Port, configure);
        return IPAddress.TryParse(uri.Host.Trim('[', ']'), out IPAddress? ip)
            ? kestrel => kestrel.Listen(ip, uri.Port, configure)
            : kestrel => kestrel.ListenLocalhost(uri.Port, configure);
    }

    /// <summary>Whether the address has a port. One that has none would mean that of web servers.</summary>
    private static bool SaysPort(string address)
    {
        string authority = address[(address.IndexOf("://", StringComparison.Ordinal) + 3)..].TrimEnd('/');
        return authority.LastIndexOf(':') > authority.LastIndexOf(']') && char.IsAsciiDigit(authority[^1]);
    }
}
