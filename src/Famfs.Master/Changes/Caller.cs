namespace Famfs.Master.Changes;

/// <summary>How a caller is known.</summary>
internal enum CallerKind
{
    /// <summary>Not at all: whoever reaches the port.</summary>
    Unknown,

    /// <summary>The master itself.</summary>
    Master,

    /// <summary>A process of this host, by the kernel's word about the unix socket that it connected through.</summary>
    Process,

    /// <summary>The holder of a certificate that one of the master's authorities has signed.</summary>
    Certificate,
}

/// <summary>Who asks for a change. Nothing is allowed or refused by it yet.</summary>
internal sealed record Caller(CallerKind Kind)
{
    /// <summary>A caller that nobody vouches for.</summary>
    public static Caller Unknown { get; } = new(CallerKind.Unknown);

    /// <summary>The master itself.</summary>
    public static Caller Master { get; } = new(CallerKind.Master);

    /// <summary>Certificate: its subject, as in RFC 4514; else empty.</summary>
    public string Subject { get; init; } = "";

    /// <summary>Certificate: its alternative names, each as "dns:NAME", "ip:ADDRESS", "uri:URI" or "email:ADDRESS".</summary>
    public IReadOnlyList<string> AlternativeNames { get; init; } = [];

    /// <summary>Certificate: SHA-256 over its DER bytes, in capital hexadecimal digits; else empty.</summary>
    public string Fingerprint { get; init; } = "";

    /// <summary>Unknown: the address that it connected from, without a port; empty when that is not known.</summary>
    public string Address { get; init; } = "";

    /// <summary>What stays the same when it connects again: the certificate's subject, the user, or the address.</summary>
    public string Name => Kind switch
    {
        CallerKind.Certificate => $"certificate {Subject}",
        CallerKind.Process => $"user {Uid}",
        CallerKind.Unknown => $"address {Address}",
        _ => "",
    };

    /// <summary>Process: effective user id when it connected.</summary>
    public uint Uid { get; init; }

    /// <summary>Process: effective group id when it connected.</summary>
    public uint Gid { get; init; }

    /// <summary>Process: its id when it connected; another process may have the socket or the number by now. 0: of another pid
    /// namespace.</summary>
    public int Pid { get; init; }
}
