using Famfs.Core;
using Famfs.Master.Queries;
using Famfs.V1;

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

/// <summary>Who asks, and what it may do. An ordinary process of this host has the rights of its user. Root, the user that the
/// master runs as, and the holder of a certificate may do everything; whoever is not known at all may, too, but for set-id
/// bits.</summary>
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

    /// <summary>Process: supplementary groups when it connected.</summary>
    public IReadOnlyList<uint> Groups { get; init; } = [];

    /// <summary>Process: it is root's, or of the user that the master runs as, who could write the memory itself.</summary>
    public bool IsPrivileged { get; init; }

    /// <summary>Whose rights in the tree it has; null: nothing there is refused.</summary>
    public Credentials? User => Kind == CallerKind.Process && !IsPrivileged ? new(Uid, Gid, Groups) : null;

    /// <summary>Whether it may give set-id bits where the tree's rules allow it: nobody knows who is behind an open port.</summary>
    public bool MayGiveSetId => Kind != CallerKind.Unknown;

    /// <summary>Throws NOT_PERMITTED for an ordinary user. <paramref name="what"/> is what it wanted to do.</summary>
    public void RequireAdministrator(string what)
    {
        if (User is { } user)
            throw new FamfsException(ErrorReason.NotPermitted, $"{what} needs root or a certificate; the caller is user {user.Uid}");
    }

    /// <summary>Process: its id when it connected; another process may have the socket or the number by now. 0: of another pid
    /// namespace.</summary>
    public int Pid { get; init; }
}
