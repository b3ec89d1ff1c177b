using Grpc.Core;
using Microsoft.Extensions.Logging;

namespace Grpc.Net.Client;

/// <summary>How a channel reaches its server.</summary>
public sealed class GrpcChannelOptions
{
    internal const int DefaultMaxReceiveMessageSize = 4 * 1024 * 1024;

    /// <summary>Encryption and credentials; decided by the address when null.</summary>
    public ChannelCredentials? Credentials { get; set; }

    /// <summary>Largest message sent, in bytes; null for no limit.</summary>
    public int? MaxSendMessageSize { get; set; }

    /// <summary>Largest message accepted, in bytes; null for no limit. 4 MiB unless set.</summary>
    public int? MaxReceiveMessageSize { get; set; } = DefaultMaxReceiveMessageSize;

    /// <summary>Where the channel logs; nowhere when null.</summary>
    public ILoggerFactory? LoggerFactory { get; set; }

    /// <summary>The client that carries calls; excludes <see cref="HttpHandler"/>.</summary>
    public HttpClient? HttpClient { get; set; }

    /// <summary>
    /// The handler that carries calls, usually a <see cref="SocketsHttpHandler"/> whose ConnectCallback chooses the
    /// socket and whose keep-alive pings and window sizes are set. When null the channel makes its own.
    /// </summary>
    public HttpMessageHandler? HttpHandler { get; set; }

    /// <summary>Whether disposing the channel disposes the client or handler that was given.</summary>
    public bool DisposeHttpClient { get; set; }

    /// <summary>Whether a cancelled call, or one past its deadline, throws <see cref="OperationCanceledException"/> instead of <see cref="RpcException"/>.</summary>
    public bool ThrowOperationCanceledOnCancellation { get; set; }

    /// <summary>Whether call credentials may travel unencrypted.</summary>
    public bool UnsafeUseInsecureChannelCallCredentials { get; set; }

    /// <summary>HTTP version of requests; 2.0 when null.</summary>
    public Version? HttpVersion { get; set; }

    /// <summary>How the version is negotiated; exact when null, so that <c>http</c> addresses use prior knowledge.</summary>
    public HttpVersionPolicy? HttpVersionPolicy { get; set; }
}
