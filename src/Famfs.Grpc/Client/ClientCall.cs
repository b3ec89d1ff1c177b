using System.Buffers;
using System.Net;
using System.Net.Http.Headers;
using Grpc.Core;
using Grpc.Wire;

namespace Grpc.Net.Client;

/// <summary>
/// One call on the client, whatever its messages. It ends exactly once: with the status the server sent, or with what
/// stopped it here (deadline, cancellation, a broken connection); whoever comes later finds that status.
/// </summary>
internal abstract class ClientCall
{
    // Shared by all calls, which pass themselves as the state.
    public static readonly Func<object, Task<Metadata>> Headers = static state => ((ClientCall)state).ResponseHeadersAsync();
    public static readonly Func<object, Status> Status = static state => ((ClientCall)state).GetStatus();
    public static readonly Func<object, Metadata> Trailers = static state => ((ClientCall)state).GetTrailers();
    public static readonly Action<object> End = static state =>
        ((ClientCall)state).Abort(new Status(StatusCode.Cancelled, "The call was disposed."));

    private readonly CancellationTokenSource _cancellation = new();
    private readonly IMethod _method;
    private readonly string? _host;
    private readonly CallOptions _options;
    private readonly DateTime _deadline;

    // Guarded by _cancellation, as a lock.
    private bool _ended;
    private Status _status;
    private Metadata? _trailers;
    private HttpResponseMessage? _response;
    private bool _responseIsTrailersOnly;
    private TaskCompletionSource<Metadata>? _headers;
    private Timer? _deadlineTimer;
    private CancellationTokenRegistration _userRegistration;
    private CancellationTokenRegistration _propagatedRegistration;
    private CancellationTokenRegistration _shutdownRegistration;

    protected ClientCall(GrpcChannel channel, IMethod method, string? host, in CallOptions options)
    {
        Channel = channel;
        _method = method;
        _host = host;
        _options = options;
        _deadline = options.Deadline is { } deadline ? deadline.ToUniversalTime() : DateTime.MaxValue;
        if (options.PropagationToken is CallPropagationToken propagated && propagated.Deadline < _deadline)
        {
            _deadline = propagated.Deadline;
        }
    }

    public GrpcChannel Channel { get; }

    public CancellationToken CancellationToken => _cancellation.Token;

    public bool HasEnded => Volatile.Read(ref _ended);

    public WriteOptions? WriteOptions => _options.WriteOptions;

    /// <summary>Told once when the call ends, so that what waits inside the request can stop.</summary>
    public Action? Ended { private get; set; }

    public Status GetStatus()
    {
        lock (_cancellation)
        {
            return _ended ? _status : throw new InvalidOperationException("The call has not ended.");
        }
    }

    public Metadata GetTrailers()
    {
        lock (_cancellation)
        {
            return _ended ? _trailers ??= [] : throw new InvalidOperationException("The call has not ended.");
        }
    }

    public Task<Metadata> ResponseHeadersAsync()
    {
        lock (_cancellation)
        {
            if (_headers is null)
            {
                _headers = new TaskCompletionSource<Metadata>(TaskCreationOptions.RunContinuationsAsynchronously);
                CompleteHeaders();
            }

            return _headers.Task;
        }
    }

    /// <summary>What a caller is to see of a call that has ended badly.</summary>
    public Exception CreateException()
    {
        Status status = GetStatus();
        if (Channel.ThrowOperationCanceledOnCancellation && status.StatusCode is StatusCode.Cancelled or StatusCode.DeadlineExceeded)
        {
            return new OperationCanceledException(status.Detail, new RpcException(status, GetTrailers()), _options.CancellationToken);
        }

        return new RpcException(status, GetTrailers());
    }

    /// <summary>Ends the call from here: the stream is reset if it is still open.</summary>
    public void Abort(Status status)
    {
        if (TryEnd(status, null))
        {
            _cancellation.Cancel();
            Interlocked.Exchange(ref _response, null)?.Dispose();
        }
    }

    /// <summary>Ends the call because of an exception, unless it has ended already.</summary>
    public void Fail(Exception exception) => Abort(StatusOf(exception));

    /// <summary>Ends the call with what the server sent behind its last message.</summary>
    public void EndWithTrailers()
    {
        HttpResponseMessage? response = Volatile.Read(ref _response);
        if (response is not null)
        {
            EndWith(response.TrailingHeaders);
        }
    }

    /// <summary>
    /// Sends the request and waits for the response headers. The result is the stream of response messages, or null
    /// if the call has ended, well or badly.
    /// </summary>
    protected async Task<Stream?> OpenAsync(HttpContent content)
    {
        try
        {
            if (!TryArm())
            {
                return null;
            }

            HttpRequestMessage request = CreateRequest(content);
            if (Channel.CallCredentials is not null || _options.Credentials is not null)
            {
                await AddCredentialsAsync(request).ConfigureAwait(false);
            }

            HttpResponseMessage response = await Channel.SendAsync(request, _cancellation.Token).ConfigureAwait(false);
            return TryAccept(response) ? await response.Content.ReadAsStreamAsync(CancellationToken.None).ConfigureAwait(false) : null;
        }
        catch (Exception e)
        {
            Fail(e);
            return null;
        }
    }

    private bool TryEnd(in Status status, Metadata? trailers)
    {
        lock (_cancellation)
        {
            if (_ended)
            {
                return false;
            }

            _status = status;
            _trailers = trailers;
            _ended = true;
            CompleteHeaders();
        }

        Disarm();
        Ended?.Invoke();
        return true;
    }

    // Called under the lock. Without a response there are no headers: the caller gets the failure.
    private void CompleteHeaders()
    {
        if (_headers is null || _headers.Task.IsCompleted)
        {
            return;
        }

        if (_response is { } response)
        {
            try
            {
                _headers.SetResult(_responseIsTrailersOnly ? [] : ReadMetadata(response.Headers));
            }
            catch (FormatException e)
            {
                _headers.SetException(new RpcException(new Status(StatusCode.Internal, "A response header is not base64.", e)));
            }
        }
        else if (_ended)
        {
            _headers.SetException(new RpcException(_status, _trailers ?? Metadata.Empty));

            // Usually nobody awaits these headers; that is no fault.
            _ = _headers.Task.Exception;
        }
    }

    // Starts what can end the call from outside. False if it has ended thereby. Under the lock, so that whoever ends
    // the call finds every registration made; a token that has fired already ends it from inside this method.
    private bool TryArm()
    {
        lock (_cancellation)
        {
            if (_options.CancellationToken.CanBeCanceled)
            {
                _userRegistration = _options.CancellationToken.UnsafeRegister(
                    static state => ((ClientCall)state!).Abort(new Status(StatusCode.Cancelled, "The call was cancelled by the client.")), this);
            }

            if (_options.PropagationToken is CallPropagationToken { CancellationToken.CanBeCanceled: true } propagated)
            {
                _propagatedRegistration = propagated.CancellationToken.UnsafeRegister(
                    static state => ((ClientCall)state!).Abort(new Status(StatusCode.Cancelled, "The call this one belongs to was cancelled.")), this);
            }

            _shutdownRegistration = Channel.Shutdown.UnsafeRegister(
                static state => ((ClientCall)state!).Abort(new Status(StatusCode.Cancelled, "The channel was disposed.")), this);

            if (_deadline != DateTime.MaxValue)
            {
                TimeSpan left = _deadline - DateTime.UtcNow;
                if (left <= TimeSpan.Zero)
                {
                    AbortAtDeadline();
                }
                else if (left.TotalMilliseconds < uint.MaxValue - 1)
                {
                    // A timer holds at most 2^32-2 ms, 49 days.
                    _deadlineTimer = new Timer(static state => ((ClientCall)state!).AbortAtDeadline(), this, left, Timeout.InfiniteTimeSpan);
                }
            }

            if (_ended)
            {
                Disarm();
            }

            return !_ended;
        }
    }

    private void Disarm()
    {
        _deadlineTimer?.Dispose();
        _userRegistration.Unregister();
        _propagatedRegistration.Unregister();
        _shutdownRegistration.Unregister();
    }

    private void AbortAtDeadline() => Abort(new Status(StatusCode.DeadlineExceeded, "The deadline passed."));

    private HttpRequestMessage CreateRequest(HttpContent content)
    {
        HttpRequestMessage request = new(HttpMethod.Post, Channel.UriOf(_method))
        {
            Version = Channel.HttpVersion,
            VersionPolicy = Channel.HttpVersionPolicy,
            Content = content,
        };
        content.Headers.TryAddWithoutValidation("Content-Type", GrpcHeaders.ContentType);
        HttpRequestHeaders headers = request.Headers;
        headers.TryAddWithoutValidation("TE", "trailers");
        headers.TryAddWithoutValidation("User-Agent", "grpc-famfs/1");
        if (_host is not null)
        {
            headers.Host = _host;
        }

        if (_deadline != DateTime.MaxValue)
        {
            headers.TryAddWithoutValidation(GrpcHeaders.Timeout, GrpcTimeout.Encode(_deadline - DateTime.UtcNow));
        }

        if (_options.Headers is { } metadata)
        {
            AddMetadata(headers, metadata);
        }

        return request;
    }

    private static void AddMetadata(HttpRequestHeaders headers, Metadata metadata)
    {
        foreach (Metadata.Entry entry in metadata)
        {
            headers.TryAddWithoutValidation(entry.Key, MetadataCodec.Encode(entry));
        }
    }

    private async Task AddCredentialsAsync(HttpRequestMessage request)
    {
        if (!Channel.MayUseCallCredentials)
        {
            throw new RpcException(new Status(StatusCode.Unauthenticated, "Call credentials need an encrypted channel."));
        }

        Metadata metadata = [];
        AuthInterceptorContext context = new(new Uri(Channel.Address, _method.ServiceName).ToString(), _method.Name, _cancellation.Token);
        if (Channel.CallCredentials is { } ofChannel)
        {
            await ofChannel.ApplyAsync(context, metadata).ConfigureAwait(false);
        }

        if (_options.Credentials is { } ofCall)
        {
            await ofCall.ApplyAsync(context, metadata).ConfigureAwait(false);
        }

        AddMetadata(request.Headers, metadata);
    }

    // Looks at the response headers. False if they end the call.
    private bool TryAccept(HttpResponseMessage response)
    {
        bool hasStatus = response.Headers.NonValidated.Contains(GrpcHeaders.Status);
        lock (_cancellation)
        {
            _response = response;
            _responseIsTrailersOnly = hasStatus;
            CompleteHeaders();
        }

        if (HasEnded)
        {
            Interlocked.Exchange(ref _response, null)?.Dispose();
            return false;
        }

        if (hasStatus)
        {
            EndWith(response.Headers);
            response.Dispose();
            return false;
        }

        if (response.StatusCode != HttpStatusCode.OK)
        {
            Abort(new Status(StatusMapping.FromHttpStatus((int)response.StatusCode), $"The server answered with HTTP status {(int)response.StatusCode}."));
            return false;
        }

        string? contentType = response.Content.Headers.NonValidated.TryGetValues("Content-Type", out HeaderStringValues values) ? values.ToString() : null;
        if (contentType is null || !GrpcHeaders.IsGrpcContentType(contentType))
        {
            Abort(new Status(StatusCode.Unknown, $"The server answered with content type '{contentType}', which is not gRPC."));
            return false;
        }

        return true;
    }

    private void EndWith(HttpResponseHeaders headers)
    {
        HttpHeadersNonValidated fields = headers.NonValidated;
        if (!fields.TryGetValues(GrpcHeaders.Status, out HeaderStringValues code))
        {
            Abort(new Status(StatusCode.Unknown, "The server ended the call without a grpc-status."));
            return;
        }

        if (!int.TryParse(code.ToString(), System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out int number))
        {
            Abort(new Status(StatusCode.Unknown, $"The server sent '{code}' as grpc-status."));
            return;
        }

        string detail = fields.TryGetValues(GrpcHeaders.Message, out HeaderStringValues message) ? PercentEncoding.Decode(message.ToString()) : string.Empty;
        Metadata? trailers = null;
        try
        {
            // Nearly always the status is all there is.
            if (fields.Count > 1)
            {
                trailers = ReadMetadata(headers);
            }
        }
        catch (FormatException e)
        {
            Abort(new Status(StatusCode.Internal, "A response trailer is not base64.", e));
            return;
        }

        // Codes this version of the protocol does not know are errors of an unknown kind.
        StatusCode statusCode = number <= (int)StatusCode.Unauthenticated ? (StatusCode)number : StatusCode.Unknown;
        TryEnd(statusCode == StatusCode.OK && detail.Length == 0 ? Core.Status.DefaultSuccess : new Status(statusCode, detail), trailers);
    }

    private static Metadata ReadMetadata(HttpResponseHeaders headers)
    {
        Metadata metadata = [];
        foreach (KeyValuePair<string, HeaderStringValues> field in headers.NonValidated)
        {
            if (!GrpcHeaders.IsProtocolHeader(field.Key))
            {
                foreach (string value in field.Value)
                {
                    MetadataCodec.Decode(metadata, field.Key, value);
                }
            }
        }

        return metadata;
    }

    private Status StatusOf(Exception exception)
    {
        Status status = exception is RpcException rpc ? rpc.Status : TransportStatus(exception);

        // The server may notice the deadline first and reset the stream.
        return status.StatusCode == StatusCode.Cancelled && _deadline <= DateTime.UtcNow
            ? new Status(StatusCode.DeadlineExceeded, "The deadline passed.", exception)
            : status;
    }

    private static Status TransportStatus(Exception exception)
    {
        for (Exception? e = exception; e is not null; e = e.InnerException)
        {
            // The handler throws the same type, with an error code of its own, for a ping that was not answered; what the
            // peer sent is told by its number in the text only.
            if (e is HttpProtocolException protocol && protocol.Message.Contains($"0x{protocol.ErrorCode:x}", StringComparison.Ordinal))
            {
                return new Status(StatusMapping.FromHttp2Error(protocol.ErrorCode), $"The call was reset with HTTP/2 error 0x{protocol.ErrorCode:x}.", exception);
            }
        }

        return exception switch
        {
            // A handler gives up a connection attempt by a cancellation that nobody asked for.
            OperationCanceledException { InnerException: TimeoutException late } => new Status(StatusCode.Unavailable, $"The server cannot be reached: {late.Message}", exception),
            OperationCanceledException => new Status(StatusCode.Cancelled, "The call was cancelled.", exception),
            HttpRequestException or IOException => new Status(StatusCode.Unavailable, $"The server cannot be reached: {Innermost(exception).Message}", exception),
            _ => new Status(StatusCode.Internal, $"{exception.GetType().Name}: {exception.Message}", exception),
        };

        static Exception Innermost(Exception e) => e.InnerException is { } inner ? Innermost(inner) : e;
    }
}

/// <summary>One call with its message types.</summary>
internal sealed class ClientCall<TRequest, TResponse>(GrpcChannel channel, Method<TRequest, TResponse> method, string? host, in CallOptions options)
    : ClientCall(channel, method, host, options)
    where TRequest : class
    where TResponse : class
{
    // Chosen: what a unary response usually fits, one size class of the shared pool.
    private const int UnaryBufferBytes = 4096;

    private Task<Stream?>? _opening;

    public Method<TRequest, TResponse> Method { get; } = method;

    /// <summary>The response stream once its headers are here; null if the call has ended.</summary>
    public Task<Stream?> ResponseBody => _opening!;

    /// <summary>The one response, for a call that has one; else null.</summary>
    public Task<TResponse>? Response { get; private set; }

    public void Start(HttpContent content) => _opening = OpenAsync(content);

    /// <summary>Starts a call that has one response.</summary>
    public Task<TResponse> StartSingle(HttpContent content)
    {
        Start(content);
        return Response = ReadSingleAsync();
    }

    /// <summary>Starts a call that has one request. A request that cannot be serialized ends it before anything is sent.</summary>
    public void StartWith(TRequest request)
    {
        try
        {
            Start(new SingleMessageContent<TRequest, TResponse>(this, request));
        }
        catch (RpcException e)
        {
            Fail(e);
            _opening = Task.FromResult<Stream?>(null);
        }
    }

    public Task<TResponse> SendUnaryAsync(TRequest request)
    {
        StartWith(request);
        return Response = ReadSingleAsync();
    }

    /// <summary>Reads the one message of the response and the status behind it.</summary>
    private async Task<TResponse> ReadSingleAsync()
    {
        Stream? body = await _opening!.ConfigureAwait(false);
        TResponse? response = null;
        if (body is not null)
        {
            ResponseBuffer buffer = new(UnaryBufferBytes, Channel.MaxReceiveMessageSize);
            try
            {
                while (await buffer.ReadAsync(body, CancellationToken).ConfigureAwait(false))
                {
                    while (buffer.TryTake(Method.ResponseMarshaller, out TResponse? message))
                    {
                        response = response is null
                            ? message
                            : throw new RpcException(new Status(StatusCode.Internal, "More than one message was received for a call that has one."));
                    }
                }

                buffer.RequireEmpty();
                EndWithTrailers();
            }
            catch (Exception e)
            {
                Fail(e);
            }
            finally
            {
                buffer.Release();
            }
        }

        if (GetStatus().StatusCode != StatusCode.OK)
        {
            throw CreateException();
        }

        return response ?? throw new RpcException(new Status(StatusCode.Internal, "The server sent OK without a message."), GetTrailers());
    }
}
