using System.Net;
using System.Net.Sockets;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;
using Grpc.Health.V1;
using Grpc.Net.Client;

namespace Famfs.Client;

/// <summary>One address with its channel.</summary>
/// <param name="Address">Where.</param>
/// <param name="Master">Calls there.</param>
/// <param name="Health">Asks there whether it serves.</param>
/// <param name="IsGiven">The caller named it; who is found otherwise has to say which file system it serves.</param>
internal sealed record MasterEndpoint(string Address, Master.MasterClient Master, Health.HealthClient Health, bool IsGiven)
{
    // Set once, by whichever call asked first; asking twice does no harm.
    private volatile bool _served;

    /// <summary>It has said that it serves the file system that is meant.</summary>
    public bool IsRight
    {
        get => IsGiven || _served;
        set => _served = value;
    }
}

/// <summary>
/// The addresses at which a master may answer, and the one believed to be it. Channels are made when first
/// used and live as long as the client. Thread safe.
/// </summary>
internal sealed class MasterConnections : IDisposable
{
    /// <summary>Most addresses that redirections may add (chosen: one for each master slot).</summary>
    private const int MaxLearned = Term.SlotCount;

    private readonly FamfsClientOptions _options;
    private readonly Lock _guard = new();

    // An address with TLS was given.
    private readonly bool _isEncrypted;

    // Guarded by _guard: configured addresses first, then those learned from standbys.
    private readonly List<string> _addresses = [];
    private readonly Dictionary<string, (GrpcChannel Channel, MasterEndpoint Endpoint)> _channels = [];
    private bool _disposed;
    private string? _found;

    // Read without the guard, replaced under it.
    private volatile MasterEndpoint _current;

    public MasterConnections(FamfsClientOptions options)
    {
        _options = options;
        _isEncrypted = options.Addresses.Any(address => address.StartsWith("https:", StringComparison.OrdinalIgnoreCase));
        // A socket that is given comes first: there the master knows who calls, and nobody else can have it. The log names none.
        foreach (string address in options.Addresses.Where(address => address.StartsWith(MasterSocket.Prefix, StringComparison.Ordinal)))
            Add(RequireAddress(address));
        if (options.FindMaster?.Invoke() is { } newest && IsUsable(newest))
            Add(_found = newest);
        foreach (string address in options.Addresses)
            Add(RequireAddress(address));
        if (_addresses.Count == 0 && options.FindSocket() is { } socket)
            _addresses.Add(socket);
        if (_addresses.Count == 0)
            throw new FamfsException(ErrorReason.BadRequest, "no address of a master is known; use --master or a path on a mount");
        _current = Open(_addresses[0]);
    }

    private void Add(string address)
    {
        if (!_addresses.Contains(address))
            _addresses.Add(address);
    }

    /// <summary>Whether an address that nobody gave is used: not without TLS where one with TLS was given.</summary>
    private bool IsUsable(string address) => IsAddress(address) && !(_isEncrypted && address.StartsWith("http:", StringComparison.OrdinalIgnoreCase));

    /// <summary>Where the next call goes.</summary>
    public MasterEndpoint Current => _current;

    /// <summary>All addresses, for messages.</summary>
    public string Describe()
    {
        lock (_guard)
            return string.Join(", ", _addresses);
    }

    /// <summary>There are other places to look for a master, now or later.</summary>
    public bool HasOthers
    {
        get
        {
            lock (_guard)
                return _addresses.Count > 1 || _options.FindMaster is not null;
        }
    }

    /// <summary>The master could not be reached there: goes on to where it is newly said to be, else to the next address, unless
    /// another call has.</summary>
    public void Leave(MasterEndpoint failed)
    {
        string? newest = ReferenceEquals(_current, failed) ? _options.FindMaster?.Invoke() : null;
        lock (_guard)
        {
            if (_disposed || !ReferenceEquals(_current, failed))
                return;
            if (newest is not null && newest != _found && IsUsable(newest))
            {
                _found = newest;
                if (newest != failed.Address && TryLearn(newest))
                {
                    _current = Open(newest);
                    return;
                }
            }
            if (_addresses.Count == 1)
                return;
            int next = (_addresses.IndexOf(failed.Address) + 1) % _addresses.Count;
            _current = Open(_addresses[next]);
        }
    }

    /// <summary>Somebody who is not the master says where it is. False when that is no usable address or the
    /// one that said so; then the next address is tried.</summary>
    public bool Follow(MasterEndpoint from, string address)
    {
        lock (_guard)
        {
            if (!_disposed && address != from.Address && IsUsable(address))
            {
                if (!ReferenceEquals(_current, from))
                    return true;
                if (TryLearn(address))
                {
                    _current = Open(address);
                    return true;
                }
            }
        }
        Leave(from);
        return false;
    }

    public void Dispose()
    {
        lock (_guard)
        {
            _disposed = true;
            foreach ((GrpcChannel channel, _) in _channels.Values)
                channel.Dispose();
            _channels.Clear();
        }
    }

    /// <summary>True for an address that a channel can be made for.</summary>
    public static bool IsAddress(string address) => FamfsClientOptions.FindAddressFault(address) is null;

    /// <summary>Under the guard. False when so many are known that this one is not taken.</summary>
    private bool TryLearn(string address)
    {
        if (_addresses.Contains(address))
            return true;
        if (_addresses.Count >= _options.Addresses.Count + MaxLearned)
            return false;
        _addresses.Add(address);
        return true;
    }

    private static string RequireAddress(string address) => FamfsClientOptions.FindAddressFault(address) is { } fault
        ? throw new FamfsException(ErrorReason.BadRequest, fault)
        : address;

    private static async ValueTask<Stream> ConnectAsync(EndPoint place, CancellationToken cancel)
    {
        Socket socket = place is UnixDomainSocketEndPoint
            ? new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified)
            : new(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync(place, cancel).ConfigureAwait(false);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch (Exception error)
        {
            socket.Dispose();
            // The words for a socket file that is not there are those of a wrong network address. The innermost error is
            // the one that is told.
            if (place is UnixDomainSocketEndPoint && error is SocketException { SocketErrorCode: SocketError.AddressNotAvailable })
                throw new IOException("No such socket");
            throw;
        }
    }

    private MasterEndpoint Open(string address)
    {
        if (_channels.TryGetValue(address, out (GrpcChannel Channel, MasterEndpoint Endpoint) known))
            return known.Endpoint;
        bool unix = address.StartsWith(MasterSocket.Prefix, StringComparison.Ordinal);
        bool encrypted = address.StartsWith(Uri.UriSchemeHttps, StringComparison.OrdinalIgnoreCase);
        if (encrypted)
            TlsLibrary.Require();
        SocketsHttpHandler handler = new()
        {
            EnableMultipleHttp2Connections = true,
            PooledConnectionIdleTimeout = System.Threading.Timeout.InfiniteTimeSpan,
            ConnectTimeout = _options.ConnectTimeout,
            // A peer that vanished without a word, or was stopped, is noticed while calls wait on it, and left.
            KeepAlivePingDelay = TimeSpan.FromSeconds(2),
            KeepAlivePingTimeout = TimeSpan.FromSeconds(3),
            KeepAlivePingPolicy = HttpKeepAlivePingPolicy.WithActiveRequests,
            UseProxy = false,
            UseCookies = false,
            AllowAutoRedirect = false,
            InitialHttp2StreamWindowSize = 1 << 20,
        };
        // One way to connect for all kinds of address. With a callback the channel does no connecting of its own, whose errors
        // would hide the cause, and each connection has the certificates that the files hold by then.
        EndPoint? socketFile = unix ? new UnixDomainSocketEndPoint(FamfsClientOptions.SocketPathOf(address)) : null;
        handler.ConnectCallback = async (context, cancel) =>
        {
            Stream plain = await ConnectAsync(socketFile ?? context.DnsEndPoint, cancel).ConfigureAwait(false);
            return encrypted ? await _options.Tls.EncryptAsync(plain, context.DnsEndPoint.Host, cancel).ConfigureAwait(false) : plain;
        };
        GrpcChannel channel = GrpcChannel.ForAddress(unix ? "http://localhost" : address, new GrpcChannelOptions
        {
            HttpHandler = handler,
            DisposeHttpClient = true,
            MaxReceiveMessageSize = _options.MaxReceiveBytes,
        });
        MasterEndpoint endpoint = new(address, new Master.MasterClient(channel), new Health.HealthClient(channel), _options.FileSystem is null || (_options.TrustAddresses && _options.Addresses.Contains(address)));
        _channels.Add(address, (channel, endpoint));
        return endpoint;
    }
}
