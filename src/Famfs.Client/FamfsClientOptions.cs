using System.Text;
using Famfs.Core;

namespace Famfs.Client;

/// <summary>How to reach the master of a file system, and how long to try.</summary>
public sealed record FamfsClientOptions
{
    /// <summary>Time-out of a call that says none: 30 s (PROTOCOL).</summary>
    public static readonly TimeSpan DefaultTimeout = TimeSpan.FromSeconds(30);

    /// <summary>Where masters may be: <c>http://host:port</c>, <c>https://host:port</c>, <c>unix:/path</c>.
    /// Tried in turn; whoever is not the master says who is. When empty, and nobody is found otherwise, the socket of a master of
    /// this host.</summary>
    public required IReadOnlyList<string> Addresses { get; init; }

    /// <summary>What is wrong with an address of a master, in words that name it; null when a connection can be made for it. Nobody is
    /// asked.</summary>
    public static string? FindAddressFault(string address)
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

    /// <summary>Says where a master may be by now, or null: asked at the start, and when one does not answer. Must not take long.
    /// Who is found in this way, or named by another, must serve <see cref="FileSystem"/> before it is told anything.</summary>
    public Func<string?>? FindMaster { get; init; }

    /// <summary>Finds the socket of a master of this host; null when there is none.</summary>
    public Func<string?> FindSocket { get; init; } = MasterSocket.FindAddress;

    /// <summary>The file system that is meant, when it is known.</summary>
    public Guid? FileSystem { get; init; }

    /// <summary>Masters at <see cref="Addresses"/> are known to serve it, so they are not asked.</summary>
    public bool TrustAddresses { get; init; } = true;

    /// <summary>Told once that no master answers, while calls go on trying.</summary>
    public Action<FamfsException>? OnUnreachable { get; init; }

    /// <summary>Trust and identity at <c>https</c> addresses.</summary>
    public ClientTls Tls { get; init; } = ClientTls.OfSystem;

    /// <summary>Time-out of every call that says none.</summary>
    public TimeSpan Timeout { get; init; } = DefaultTimeout;

    /// <summary>Attempts of a call; without limit when not said, then only its time-out ends it.</summary>
    public int MaxAttempts { get; init; } = int.MaxValue;

    /// <summary>Time to give a connection attempt before the next address is tried. Chosen.</summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>How much longer a call that waits for mounts may take than the wait that it asks for, so that the answer, which names
    /// who is behind, is not overtaken by the call's own end. Chosen.</summary>
    public TimeSpan WaitGrace { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>First pause before a repeat; doubles with each. Chosen.</summary>
    public TimeSpan RetryDelay { get; init; } = TimeSpan.FromMilliseconds(20);

    /// <summary>Longest pause before a repeat. Chosen: a takeover takes about a second.</summary>
    public TimeSpan MaxRetryDelay { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>Largest message accepted, bytes: a batch of records and its envelope.</summary>
    public int MaxReceiveBytes { get; init; } = 16 << 20;

    /// <summary>Clock of deadlines and pauses.</summary>
    public TimeProvider Clock { get; init; } = TimeProvider.System;

    /// <summary>Numbers in [0, 1) that spread the repeats of many clients.</summary>
    public Func<double> Jitter { get; init; } = Random.Shared.NextDouble;
}
