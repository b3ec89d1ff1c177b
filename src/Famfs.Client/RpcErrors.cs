using System.Net.Sockets;
using System.Security.Authentication;
using Famfs.Core;
using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;

namespace Famfs.Client;

/// <summary>What a failed call says: the error of the domain, and whether the same call may succeed later.</summary>
internal readonly record struct CallFailure(FamfsException Error, bool Repeatable, bool Unreachable, uint RetryAfterMs);

/// <summary>gRPC status → error of the domain: the one place on the client's side.</summary>
internal static class RpcErrors
{
    /// <summary>Trailer that carries an <see cref="ErrorDetail"/>.</summary>
    public const string DetailTrailer = "famfs-error-bin";

    /// <summary>Judges the failure of a call to <paramref name="address"/>.</summary>
    public static CallFailure Judge(RpcException error, string address)
    {
        if (DetailOf(error) is { } detail)
        {
            bool repeatable = detail.Reason is ErrorReason.NotMaster or ErrorReason.Overloaded
                || (error.StatusCode == StatusCode.Unavailable && detail.Reason == ErrorReason.Unspecified);
            return new(ToException(detail, error), repeatable, false, detail.RetryAfterMs);
        }
        StatusCode code = error.StatusCode;
        string message = error.Status.Detail.Length == 0 ? code.ToString() : OneLine(error.Status.Detail);
        // The library did not get as far as an answer. It calls some of these failures INTERNAL, and hides the cause in them.
        if (Find<HttpRequestException>(error.Status.DebugException) is { } request)
        {
            message = OneLine(Innermost(request).Message);
            // Neither side's certificates change by asking again.
            if (request.HttpRequestError == HttpRequestError.SecureConnectionError || Find<AuthenticationException>(request) is not null)
                return Final(ErrorReason.NotMaster, $"no master that can be trusted answers at {address}: {message}", error);
            // Nor do the permissions of a socket.
            if (Find<SocketException>(request) is { SocketErrorCode: SocketError.AccessDenied })
                return Final(ErrorReason.ReadOnly, NoAnswer(address) + message, error);
            if (code == StatusCode.Internal)
                code = StatusCode.Unavailable;
        }
        else if (code is StatusCode.Unavailable or StatusCode.Internal && Find<IOException>(error.Status.DebugException) is { } broken)
        {
            // The connection broke within the call.
            code = StatusCode.Unavailable;
            message = OneLine(Innermost(broken).Message);
        }
        else if (code == StatusCode.Cancelled)
        {
            // The caller did not: that is asked before. A connection was not made in time, or the other side gave up the call.
            code = StatusCode.Unavailable;
            message = error.Status.DebugException is { } cause ? OneLine(Innermost(cause).Message) : "the call was cancelled by the other side";
        }
        return code switch
        {
            StatusCode.Unavailable => new(new(ErrorReason.NotMaster, NoAnswer(address) + message, error), true, true, 0),
            StatusCode.DeadlineExceeded => Final(ErrorReason.Timeout, $"{address} did not answer in time", error),
            StatusCode.NotFound => Final(ErrorReason.NotFound, message, error),
            StatusCode.AlreadyExists => Final(ErrorReason.Exists, message, error),
            StatusCode.InvalidArgument or StatusCode.OutOfRange => Final(ErrorReason.BadRequest, message, error),
            StatusCode.Unimplemented => Final(ErrorReason.NotImplemented, message, error),
            StatusCode.DataLoss => Final(ErrorReason.MediaCorrupt, message, error),
            StatusCode.ResourceExhausted => Final(ErrorReason.Overloaded, message, error),
            StatusCode.PermissionDenied or StatusCode.Unauthenticated => Final(ErrorReason.NotPermitted, message, error),
            _ => Final(ErrorReason.Unspecified, $"{address}: {message}", error),
        };
    }

    /// <summary>The error of having tried <paramref name="addresses"/> for <paramref name="time"/>, the last time with
    /// <paramref name="last"/>.</summary>
    public static FamfsException NotReached(string addresses, TimeSpan time, FamfsException last)
    {
        // With one address, what was said of it is said once.
        string known = NoAnswer(addresses);
        string cause = last.Message.StartsWith(known, StringComparison.Ordinal) ? last.Message[known.Length..] : last.Message;
        return new(ErrorReason.NotMaster, string.Create(System.Globalization.CultureInfo.InvariantCulture, $"no master answers at {addresses} within {time.TotalSeconds:0.###} s: {cause}"), last);
    }

    /// <summary>The error that a detail describes.</summary>
    public static FamfsException ToException(ErrorDetail detail, Exception? inner = null) => new(
        detail.Reason,
        detail.Message.Length != 0 ? OneLine(detail.Message) : detail.Path.Length != 0 ? $"{detail.Path}: {detail.Reason}" : detail.Reason.ToString(),
        inner)
    {
        Path = detail.Path,
        Limit = detail.Limit,
        MasterAddress = detail.MasterAddress,
        MasterTimeMs = detail.MasterTimeMs,
        PendingBytes = detail.PendingBytes,
        Lagging = detail.Lagging,
        LaggingCount = (int)Math.Min(detail.LaggingCount, int.MaxValue),
    };

    /// <summary>The detail in a failed call's trailers; null when there is none or it cannot be read.</summary>
    public static ErrorDetail? DetailOf(RpcException error)
    {
        byte[]? bytes = error.Trailers.GetValueBytes(DetailTrailer);
        if (bytes is null)
            return null;
        try
        {
            return ErrorDetail.Parser.ParseFrom(bytes);
        }
        catch (InvalidProtocolBufferException)
        {
            // The status alone still tells what happened.
            return null;
        }
    }

    private static string NoAnswer(string addresses) => $"no master answers at {addresses}: ";

    private static T? Find<T>(Exception? error)
        where T : Exception
    {
        while (error is not null and not T)
            error = error.InnerException;
        return (T?)error;
    }

    private static Exception Innermost(Exception error)
    {
        while (error.InnerException is { } inner)
            error = inner;
        return error;
    }

    private static CallFailure Final(ErrorReason reason, string message, Exception inner) => new(new(reason, message, inner), false, false, 0);

    private static string OneLine(string text) => text.ReplaceLineEndings(" ");
}
