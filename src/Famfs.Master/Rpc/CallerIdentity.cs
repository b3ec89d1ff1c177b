using System.Formats.Asn1;
using System.Net.Sockets;
using System.Net;
using System.Security.Cryptography.X509Certificates;
using System.Security.Cryptography;
using Famfs.Core.Interop;
using Famfs.Core;
using Famfs.Master.Changes;
using Famfs.V1;
using Grpc.Core;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace Famfs.Master.Rpc;

/// <summary>
/// Says who a caller is: once for each connection, when it is made. A unix socket's peer is known by the kernel's word, whoever
/// shows a certificate that was asked for and accepted by that, and everybody else not at all.
/// </summary>
internal static class CallerIdentity
{
    private const string AlternativeNames = "2.5.29.17"; // RFC 5280, 4.2.1.6

    // Choices of GeneralName, RFC 5280.
    private const int EmailName = 1;
    private const int DnsName = 2;
    private const int UriName = 6;
    private const int AddressName = 7;

    /// <summary>Identifies the callers of an endpoint, and gives each connection its parts of the budgets. After its TLS, if it has
    /// any.</summary>
    public static void Identify(this ListenOptions listen)
    {
        ConnectionGate gate = listen.ApplicationServices.GetRequiredService<ConnectionGate>();
        CallBudget budget = listen.ApplicationServices.GetRequiredService<CallBudget>();
        Refusals? refusals = listen.ApplicationServices.GetService<Refusals>();
        BufferLimit buffers = listen.ApplicationServices.GetRequiredService<BufferLimit>();
        listen.Use(next => connection => gate.RunAsync(connection, async admitted =>
        {
            // A caller of its own for each connection: connections take turns by it.
            Caller caller = Of(admitted) with { };
            if (budget.TryOpen(caller.Name, out int limit) is not { } part)
            {
                FamfsException refusal = new(ErrorReason.Overloaded, $"{caller.Name} has {limit} connections, the limit") { Limit = (ulong)limit };
                refusals?.Count("a connection", refusal);
                admitted.Abort(new ConnectionAbortedException(refusal.Message));
                return;
            }
            try
            {
                admitted.Features.Set(caller);
                admitted.Features.Set(part);
                using BufferLimit.Connection limited = buffers.Open(admitted);
                await next(admitted).ConfigureAwait(false);
            }
            finally
            {
                part.Close();
            }
        }));
    }

    /// <summary>The caller of a call.</summary>
    public static Caller Of(ServerCallContext context) => Of(context.GetHttpContext());

    /// <summary>Where a call comes from, without a port: an IP address, or "unix".</summary>
    public static string AddressOf(ServerCallContext context)
    {
        if (context.GetHttpContext().Connection.RemoteIpAddress is not { } address)
            return "unix";
        return (address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address).ToString();
    }

    /// <summary>The part of the budget that the connection of a call has.</summary>
    public static CallBudget.Connection BudgetOf(ServerCallContext context) => BodyOf(context).Budget;

    /// <summary>The meter of what a call receives. <see cref="CallGate"/> has put it there.</summary>
    public static MeteredBody BodyOf(ServerCallContext context) => context.GetHttpContext().Features.GetRequiredFeature<MeteredBody>();

    /// <summary>The caller of a request.</summary>
    public static Caller Of(HttpContext context) => context.Features.Get<Caller>() ?? Caller.Unknown;

    /// <summary>The caller that a certificate names. The certificate has been accepted.</summary>
    public static Caller Of(X509Certificate2 certificate) => new(CallerKind.Certificate)
    {
        Subject = certificate.Subject,
        AlternativeNames = ReadAlternativeNames(certificate),
        Fingerprint = certificate.GetCertHashString(HashAlgorithmName.SHA256),
    };

    private static Caller Of(ConnectionContext connection)
    {
        if (connection.Features.Get<ITlsConnectionFeature>()?.ClientCertificate is { } certificate)
            return Of(certificate);
        if (connection.Features.Get<IConnectionSocketFeature>()?.Socket is not { AddressFamily: AddressFamily.Unix } socket)
            return Caller.Unknown with { Address = (connection.RemoteEndPoint as IPEndPoint)?.Address.ToString() ?? "" };
        PeerCredentials peer = PeerCredentials.Read(socket);
        return new(CallerKind.Process)
        {
            Uid = peer.Uid,
            Gid = peer.Gid,
            Pid = peer.Pid,
            Groups = PeerCredentials.ReadGroups(socket),
            IsPrivileged = peer.Uid == 0 || peer.Uid == ProcessOwner.Uid,
        };
    }

    /// <summary>None when they cannot be read: a name that is only half understood is nobody's.</summary>
    private static IReadOnlyList<string> ReadAlternativeNames(X509Certificate2 certificate)
    {
        if (certificate.Extensions[AlternativeNames] is not { } extension)
            return [];
        try
        {
            return ReadAlternativeNames(new AsnReader(extension.RawData, AsnEncodingRules.DER).ReadSequence());
        }
        catch (AsnContentException)
        {
            return [];
        }
    }

    private static List<string> ReadAlternativeNames(AsnReader reader)
    {
        List<string> names = [];
        while (reader.HasData)
        {
            Asn1Tag tag = reader.PeekTag();
            string? name = tag.TagClass != TagClass.ContextSpecific ? null : tag.TagValue switch
            {
                EmailName => "email:" + reader.ReadCharacterString(UniversalTagNumber.IA5String, tag),
                DnsName => "dns:" + reader.ReadCharacterString(UniversalTagNumber.IA5String, tag),
                UriName => "uri:" + reader.ReadCharacterString(UniversalTagNumber.IA5String, tag),
                AddressName when reader.ReadOctetString(tag) is { Length: 4 or 16 } bytes => "ip:" + new IPAddress(bytes),
                AddressName => null,
                _ => Skip(reader),
            };
            if (name is not null)
                names.Add(name);
        }
        return names;
    }

    // Other kinds of names are nobody's here.
    private static string? Skip(AsnReader reader)
    {
        reader.ReadEncodedValue();
        return null;
    }
}
