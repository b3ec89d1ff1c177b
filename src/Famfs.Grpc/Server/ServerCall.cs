using System.Globalization;
using System.IO.Pipelines;
using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Grpc.Wire;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;

namespace Grpc.AspNetCore.Server;

/// <summary>
/// One call on the server: what its handler sees, and the only place that ends its response. The handler, the reader
/// of requests and the deadline timer may act at once; the response belongs to whoever holds the gate, and ends once.
/// </summary>
internal sealed class ServerCall : ServerCallContext
{
    // Chosen: messages written with BufferHint stay unflushed up to this many bytes, about what one HTTP/2 stream
    // window carries before the client has to answer.
    private const int UnflushedLimitBytes = 64 * 1024;

    // HTTP/2 error codes.
    private const int NoError = 0x0;
    private const int InternalError = 0x2;
    private const int Cancel = 0x8;

    private readonly Lock _gate = new();
    private readonly HttpContext _http;
    private readonly ServerMethod _method;
    private readonly PipeReader _requestBody;
    private readonly PipeWriter _responseBody;

    // Guarded by the gate.
    private MessageWriter? _writer;
    private Task _flush = Task.CompletedTask;
    private bool _flushIsWrite;
    private int _unflushed;
    private bool _wroteMessage;
    private bool _ended;
    private bool _deadlinePassed;
    private CancellationTokenSource? _cancellation;
    private Task _deadlineEnd = Task.CompletedTask;

    // Owned by the handler.
    private Metadata? _requestHeaders;
    private Metadata? _responseTrailers;
    private Status _status = Status.DefaultSuccess;
    private Dictionary<object, object>? _userState;
    private AuthContext? _authContext;

    // Set before the handler starts.
    private DateTime _deadline = DateTime.MaxValue;
    private ITimer? _deadlineTimer;
    private CancellationTokenRegistration _abortRegistration;

    public ServerCall(HttpContext http, ServerMethod method)
    {
        _http = http;
        _method = method;
        _requestBody = http.Request.BodyReader;
        _responseBody = http.Response.BodyWriter;
    }

    public HttpContext HttpContext => _http;

    public PipeReader RequestBody => _requestBody;

    public int? MaxReceiveMessageSize => _method.Options.MaxReceiveMessageSize;

    public bool DeadlinePassed => Volatile.Read(ref _deadlinePassed);

    protected override string MethodCore => _method.Description.FullName;

    protected override string HostCore => _http.Request.Host.Value ?? string.Empty;

    protected override string PeerCore
    {
        get
        {
            ConnectionInfo connection = _http.Connection;
            return connection.RemoteIpAddress switch
            {
                null => "unix:",
                { IsIPv4MappedToIPv6: true } address => string.Create(CultureInfo.InvariantCulture, $"ipv4:{address.MapToIPv4()}:{connection.RemotePort}"),
                { AddressFamily: System.Net.Sockets.AddressFamily.InterNetworkV6 } address => string.Create(CultureInfo.InvariantCulture, $"ipv6:[{address}]:{connection.RemotePort}"),
                { } address => string.Create(CultureInfo.InvariantCulture, $"ipv4:{address}:{connection.RemotePort}"),
            };
        }
    }

    protected override DateTime DeadlineCore => _deadline;

    protected override Metadata RequestHeadersCore => _requestHeaders ??= ReadRequestHeaders();

    protected override CancellationToken CancellationTokenCore =>
        _deadlineTimer is null ? _http.RequestAborted : LinkedCancellation().Token;

    protected override Metadata ResponseTrailersCore => _responseTrailers ??= [];

    protected override Status StatusCore
    {
        get => _status;
        set => _status = value;
    }

    protected override WriteOptions? WriteOptionsCore { get; set; }

    protected override AuthContext AuthContextCore => _authContext ??= ReadAuthContext();

    protected override IDictionary<object, object> UserStateCore => _userState ??= [];

    /// <summary>Starts the clock of a call whose client gave it a time-out.</summary>
    public void StartDeadline(TimeSpan timeout, TimeProvider clock)
    {
        DateTime now = clock.GetUtcNow().UtcDateTime;
        _deadline = timeout < DateTime.MaxValue - now ? now + timeout : DateTime.MaxValue;

        // A timer holds at most 2^32-2 ms, 49 days; a longer deadline is as good as none for the server.
        if (timeout.TotalMilliseconds < uint.MaxValue - 1)
        {
            _deadlineTimer = clock.CreateTimer(static state => ((ServerCall)state!).OnDeadline(), this, timeout, Timeout.InfiniteTimeSpan);
        }
    }

    /// <summary>Writes a message into the response, flushed unless the options say that more follow.</summary>
    public Task WriteMessageAsync<T>(Marshaller<T> marshaller, T message, WriteOptions? options, CancellationToken cancellationToken)
    {
        bool hold = options is not null && (options.Flags & WriteFlags.BufferHint) != 0;
        lock (_gate)
        {
            if (!_flush.IsCompletedSuccessfully)
            {
                if (_flushIsWrite && !_flush.IsCompleted)
                {
                    throw new InvalidOperationException("The message cannot be written, the previous write is in progress.");
                }

                return WriteAfterFlushAsync(_flush, marshaller, message, options, cancellationToken);
            }

            AppendMessage(marshaller, message);
            if (hold && _unflushed < UnflushedLimitBytes)
            {
                return Task.CompletedTask;
            }

            return StartFlush(isWrite: true, cancellationToken);
        }
    }

    /// <summary>Puts the only message of a response into the buffer; it leaves together with the trailers.</summary>
    public void AppendMessage<T>(Marshaller<T> marshaller, T message)
    {
        lock (_gate)
        {
            if (_ended)
            {
                throw new InvalidOperationException("The message cannot be written, the call has ended.");
            }

            _writer ??= new MessageWriter(_method.Options.MaxSendMessageSize);
            _unflushed += _writer.Write(_responseBody, marshaller, message);
            _wroteMessage = true;
        }
    }

    /// <summary>Sends what writes have left in the buffer: called by the reader of requests before it waits.</summary>
    public void FlushBeforeWaiting()
    {
        if (Volatile.Read(ref _unflushed) == 0)
        {
            return;
        }

        lock (_gate)
        {
            if (_unflushed != 0 && !_ended && _flush.IsCompletedSuccessfully)
            {
                // A failure stays in _flush, where the next write meets it.
                _ = StartFlush(isWrite: false, CancellationToken.None);
            }
        }
    }

    /// <summary>Ends the call as its handler decided.</summary>
    public void End(Status status, Metadata? moreTrailers)
    {
        lock (_gate)
        {
            if (_ended)
            {
                return;
            }

            _ended = true;
            if (_writer is { PrefixIsDangling: true })
            {
                _http.Features.Get<IHttpResetFeature>()?.Reset(InternalError);
                return;
            }

            WriteStatus(status, moreTrailers);
        }
    }

    /// <summary>Waits for whatever still uses the HTTP context; it is given to another call afterwards.</summary>
    public ValueTask ReleaseAsync()
    {
        if (_deadlineTimer is null)
        {
            return ValueTask.CompletedTask;
        }

        return ReleaseTimerAsync();
    }

    protected override async Task WriteResponseHeadersAsyncCore(Metadata responseHeaders)
    {
        ArgumentNullException.ThrowIfNull(responseHeaders);
        Task flush;
        lock (_gate)
        {
            if (_ended || _wroteMessage || _http.Response.HasStarted)
            {
                throw new InvalidOperationException("The response headers are sent already.");
            }

            AddEntries(_http.Response.Headers, responseHeaders);
            flush = StartFlush(isWrite: false, CancellationToken.None);
        }

        await flush;
    }

    protected override ContextPropagationToken CreatePropagationTokenCore(ContextPropagationOptions? options)
    {
        options ??= ContextPropagationOptions.Default;
        return new CallPropagationToken(
            options.IsPropagateDeadline ? _deadline : DateTime.MaxValue,
            options.IsPropagateCancellation ? CancellationToken : CancellationToken.None);
    }

    private static void AddEntries(IHeaderDictionary headers, Metadata metadata)
    {
        foreach (Metadata.Entry entry in metadata)
        {
            headers.Append(entry.Key, MetadataCodec.Encode(entry));
        }
    }

    private async Task WriteAfterFlushAsync<T>(Task flush, Marshaller<T> marshaller, T message, WriteOptions? options, CancellationToken cancellationToken)
    {
        await flush;
        await WriteMessageAsync(marshaller, message, options, cancellationToken);
    }

    // Called under the gate. PipeWriter allows one flush at a time, so a pending one is remembered.
    private Task StartFlush(bool isWrite, CancellationToken cancellationToken)
    {
        _flushIsWrite = isWrite;
        _unflushed = 0;
        ValueTask<FlushResult> flush = _responseBody.FlushAsync(cancellationToken);
        if (flush.IsCompletedSuccessfully)
        {
            _ = flush.Result;
            return Task.CompletedTask;
        }

        return _flush = flush.AsTask();
    }

    private void OnDeadline()
    {
        CancellationTokenSource? cancellation;
        lock (_gate)
        {
            if (_ended)
            {
                return;
            }

            _ended = true;
            _deadlinePassed = true;
            WriteStatus(new Status(StatusCode.DeadlineExceeded, "The deadline passed on the server."), null);
            _deadlineEnd = EndAtDeadlineAsync(_flush);
            cancellation = _cancellation;
        }

        cancellation?.Cancel();
    }

    private async Task EndAtDeadlineAsync(Task flush)
    {
        // Leaves the timer's thread and the gate before it touches the response.
        await Task.Yield();
        if (!flush.IsCompleted)
        {
            // The client reads so slowly that its window is closed: trailers would wait behind the messages.
            _http.Features.Get<IHttpResetFeature>()?.Reset(Cancel);
            return;
        }

        try
        {
            await flush;
            await _http.Response.CompleteAsync();
        }
        catch (Exception e) when (e is IOException or OperationCanceledException or InvalidOperationException)
        {
            // The client has gone; there is nobody to tell.
            return;
        }

        // The client need not send the rest of its requests.
        _http.Features.Get<IHttpResetFeature>()?.Reset(NoError);
    }

    private async ValueTask ReleaseTimerAsync()
    {
        await _deadlineTimer!.DisposeAsync();
        await _deadlineEnd;
        await _abortRegistration.DisposeAsync();
    }

    private CancellationTokenSource LinkedCancellation()
    {
        lock (_gate)
        {
            if (_cancellation is null)
            {
                _cancellation = new CancellationTokenSource();
                if (_deadlinePassed)
                {
                    _cancellation.Cancel();
                }
                else
                {
                    _abortRegistration = _http.RequestAborted.UnsafeRegister(static state => ((CancellationTokenSource)state!).Cancel(), _cancellation);
                }
            }

            return _cancellation;
        }
    }

    // Called under the gate. Before anything is sent the status goes into the headers, which makes the reply
    // trailers-only: one frame.
    private void WriteStatus(Status status, Metadata? moreTrailers)
    {
        IHeaderDictionary destination = _http.Response.Headers;
        if (_wroteMessage || _http.Response.HasStarted)
        {
            destination = _http.Features.Get<IHttpResponseTrailersFeature>()?.Trailers
                ?? throw new InvalidOperationException("The server cannot send trailers.");
        }

        destination[GrpcHeaders.Status] = GrpcHeaders.StatusText((int)status.StatusCode);
        if (!string.IsNullOrEmpty(status.Detail))
        {
            destination[GrpcHeaders.Message] = PercentEncoding.Encode(status.Detail);
        }

        if (_responseTrailers is { Count: > 0 } own)
        {
            AddEntries(destination, own);
        }

        if (moreTrailers is { Count: > 0 } && !ReferenceEquals(moreTrailers, _responseTrailers))
        {
            AddEntries(destination, moreTrailers);
        }
    }

    private Metadata ReadRequestHeaders()
    {
        Metadata metadata = [];
        foreach ((string name, Microsoft.Extensions.Primitives.StringValues values) in _http.Request.Headers)
        {
            if (GrpcHeaders.IsProtocolHeader(name))
            {
                continue;
            }

            foreach (string? value in values)
            {
                try
                {
                    MetadataCodec.Decode(metadata, name, value ?? string.Empty);
                }
                catch (FormatException e)
                {
                    throw new RpcException(new Status(StatusCode.Internal, $"Request header '{name}' is not base64.", e));
                }
            }
        }

        return metadata;
    }

    private AuthContext ReadAuthContext()
    {
        X509Certificate2? certificate = _http.Connection.ClientCertificate;
        if (certificate is null)
        {
            return new AuthContext(null, []);
        }

        const string CommonName = "x509_common_name";
        const string AlternativeName = "x509_subject_alternative_name";
        Dictionary<string, List<AuthProperty>> properties = [];
        string? identity = null;
        string[] alternatives = [.. certificate.Extensions.OfType<X509SubjectAlternativeNameExtension>().SelectMany(extension => extension.EnumerateDnsNames())];
        if (alternatives.Length != 0)
        {
            properties[AlternativeName] = [.. alternatives.Select(name => AuthProperty.Create(AlternativeName, System.Text.Encoding.UTF8.GetBytes(name)))];
            identity = AlternativeName;
        }

        string common = certificate.GetNameInfo(X509NameType.SimpleName, forIssuer: false);
        if (!string.IsNullOrEmpty(common))
        {
            properties[CommonName] = [AuthProperty.Create(CommonName, System.Text.Encoding.UTF8.GetBytes(common))];
            identity ??= CommonName;
        }

        return new AuthContext(identity, properties);
    }
}
