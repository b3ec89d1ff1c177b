using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using Grpc.Core;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace Grpc.Net.Client;

/// <summary>
/// Leads to one server over HTTP/2. Connections are made by the handler when calls need them, and shared by all calls
/// of the channel. Safe for concurrent use.
/// </summary>
public sealed class GrpcChannel : ChannelBase, IDisposable
{
    private const string UnixScheme = "unix:";

    private readonly HttpMessageInvoker _http;
    private readonly bool _disposeHttp;
    private readonly ConcurrentDictionary<IMethod, Uri> _uris = new(ReferenceEqualityComparer.Instance);
    private readonly CancellationTokenSource _shutdown = new();
    private readonly bool _secure;

    private GrpcChannel(Uri address, string target, GrpcChannelOptions options, string? unixPath)
        : base(target)
    {
        if (options.HttpClient is not null && options.HttpHandler is not null)
        {
            throw new ArgumentException($"{nameof(options.HttpClient)} and {nameof(options.HttpHandler)} exclude each other.", nameof(options));
        }

        _secure = address.Scheme == Uri.UriSchemeHttps;
        if (options.Credentials is { } credentials && credentials.IsSecure != _secure)
        {
            throw new InvalidOperationException($"The channel credentials do not fit the address '{address}': {(credentials.IsSecure ? "https" : "http")} is needed.");
        }

        Address = address;
        MaxSendMessageSize = options.MaxSendMessageSize;
        MaxReceiveMessageSize = options.MaxReceiveMessageSize;
        ThrowOperationCanceledOnCancellation = options.ThrowOperationCanceledOnCancellation;
        HttpVersion = options.HttpVersion ?? System.Net.HttpVersion.Version20;
        HttpVersionPolicy = options.HttpVersionPolicy ?? System.Net.Http.HttpVersionPolicy.RequestVersionExact;
        CallCredentials = options.Credentials?.CallCredentials;
        MayUseCallCredentials = _secure || options.UnsafeUseInsecureChannelCallCredentials;
        Logger = options.LoggerFactory?.CreateLogger<GrpcChannel>() ?? (ILogger)NullLogger.Instance;
        if (options.HttpClient is { } client)
        {
            _http = client;
            _disposeHttp = options.DisposeHttpClient;
        }
        else
        {
            _disposeHttp = true;
            _http = options.HttpHandler is { } handler
                ? new HttpMessageInvoker(handler, options.DisposeHttpClient)
                : new HttpMessageInvoker(CreateHandler(unixPath), disposeHandler: true);
        }
    }

    internal Uri Address { get; }

    internal int? MaxSendMessageSize { get; }

    internal int? MaxReceiveMessageSize { get; }

    internal bool ThrowOperationCanceledOnCancellation { get; }

    internal Version HttpVersion { get; }

    internal HttpVersionPolicy HttpVersionPolicy { get; }

    internal CallCredentials? CallCredentials { get; }

    internal bool MayUseCallCredentials { get; }

    internal ILogger Logger { get; }

    internal CancellationToken Shutdown => _shutdown.Token;

    /// <summary>A channel to <c>http://host:port</c>, <c>https://host:port</c> or <c>unix:/path</c>.</summary>
    /// <exception cref="ArgumentException">The address is none of these.</exception>
    public static GrpcChannel ForAddress(string address) => ForAddress(address, new GrpcChannelOptions());

    /// <inheritdoc cref="ForAddress(string)"/>
    public static GrpcChannel ForAddress(string address, GrpcChannelOptions channelOptions)
    {
        ArgumentNullException.ThrowIfNull(address);
        ArgumentNullException.ThrowIfNull(channelOptions);
        if (!address.StartsWith(UnixScheme, StringComparison.Ordinal))
        {
            return Uri.TryCreate(address, UriKind.Absolute, out Uri? uri)
                ? ForAddress(uri, channelOptions)
                : throw new ArgumentException($"'{address}' is not an address: http://host:port, https://host:port or unix:/path is.", nameof(address));
        }

        // unix:/path and unix:///path name the same socket, as elsewhere in gRPC.
        string path = address[UnixScheme.Length..];
        path = path.StartsWith("//", StringComparison.Ordinal) ? path[2..] : path;
        if (path.Length == 0)
        {
            throw new ArgumentException("The address names no socket.", nameof(address));
        }

        if (channelOptions.HttpHandler is not null || channelOptions.HttpClient is not null)
        {
            throw new ArgumentException("A handler of its own connects where it wants: give its channel an http address.", nameof(channelOptions));
        }

        return new GrpcChannel(new Uri("http://localhost"), address, channelOptions, path);
    }

    /// <inheritdoc cref="ForAddress(string)"/>
    public static GrpcChannel ForAddress(Uri address) => ForAddress(address, new GrpcChannelOptions());

    /// <inheritdoc cref="ForAddress(string)"/>
    public static GrpcChannel ForAddress(Uri address, GrpcChannelOptions channelOptions)
    {
        ArgumentNullException.ThrowIfNull(address);
        ArgumentNullException.ThrowIfNull(channelOptions);
        if (address.Scheme == "unix")
        {
            return ForAddress(address.OriginalString, channelOptions);
        }

        if (address.Scheme != Uri.UriSchemeHttp && address.Scheme != Uri.UriSchemeHttps)
        {
            throw new ArgumentException($"'{address}' is not an address: http://host:port, https://host:port or unix:/path is.", nameof(address));
        }

        return new GrpcChannel(address, address.Authority, channelOptions, null);
    }

    /// <inheritdoc/>
    public override CallInvoker CreateCallInvoker()
    {
        ObjectDisposedException.ThrowIf(_shutdown.IsCancellationRequested, this);
        return new HttpCallInvoker(this);
    }

    /// <summary>Cancels the calls under way and closes the connections.</summary>
    public void Dispose()
    {
        if (_shutdown.IsCancellationRequested)
        {
            return;
        }

        _shutdown.Cancel();
        if (_disposeHttp)
        {
            _http.Dispose();
        }
    }

    internal Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
        _http is HttpClient client
            ? client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken)
            : _http.SendAsync(request, cancellationToken);

    internal Uri UriOf(IMethod method) => _uris.GetOrAdd(method, static (method, address) => new Uri(address, method.FullName), Address);

    /// <inheritdoc/>
    protected override Task ShutdownAsyncCore()
    {
        Dispose();
        return Task.CompletedTask;
    }

    // Connections stay open while idle: a call after a pause would pay for a new one. A second connection is made only
    // when the server's limit of concurrent streams is reached.
    private static SocketsHttpHandler CreateHandler(string? unixPath)
    {
        SocketsHttpHandler handler = new()
        {
            EnableMultipleHttp2Connections = true,
            PooledConnectionIdleTimeout = Timeout.InfiniteTimeSpan,
            UseCookies = false,
            UseProxy = unixPath is null,
            AllowAutoRedirect = false,
            InitialHttp2StreamWindowSize = 1024 * 1024,
        };
        if (unixPath is not null)
        {
            handler.ConnectCallback = async (_, cancellationToken) =>
            {
                Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                try
                {
                    await socket.ConnectAsync(new UnixDomainSocketEndPoint(unixPath), cancellationToken).ConfigureAwait(false);
                    return new NetworkStream(socket, ownsSocket: true);
                }
                catch
                {
                    socket.Dispose();
                    throw;
                }
            };
        }

        return handler;
    }
}
