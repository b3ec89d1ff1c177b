using System.Text;
using Famfs.Core;
using Famfs.Master.Changes;
using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;

namespace Famfs.Master.Rpc;

/// <summary>Domain error → gRPC status, with an ErrorDetail in the trailers. The one place.</summary>
internal static class StatusMap
{
    /// <summary>Trailer that carries the serialized <see cref="ErrorDetail"/>.</summary>
    public const string DetailTrailer = "famfs-error-bin";

    // Text and trailer travel as metadata, of which libraries take 8 KiB. What is sent: the text percent-encoded, the detail
    // in base64 (4/3 of its bytes); the rest is for the names and for what the server adds.
    private const int MaxTextBytes = 1024;
    private const int MaxDetailBytes = 4608;
    private const int MaxPathBytes = 3072;
    private const int MaxNameBytes = 128;

    /// <summary>The status of a reason.</summary>
    public static StatusCode CodeOf(ErrorReason reason) => reason switch
    {
        ErrorReason.Exists or ErrorReason.ExistsDifferent => StatusCode.AlreadyExists,
        ErrorReason.NotFound => StatusCode.NotFound,
        ErrorReason.NotADirectory or ErrorReason.IsADirectory or ErrorReason.NotEmpty => StatusCode.FailedPrecondition,
        ErrorReason.NoSpace or ErrorReason.LogFull or ErrorReason.Quota or ErrorReason.Overloaded => StatusCode.ResourceExhausted,
        ErrorReason.BadPath or ErrorReason.BadSize or ErrorReason.BadLayout or ErrorReason.BadRequest => StatusCode.InvalidArgument,
        ErrorReason.NotSupportedByFormat or ErrorReason.NotImplemented => StatusCode.Unimplemented,
        ErrorReason.NotMaster or ErrorReason.StaleGeneration or ErrorReason.WrongFilesystem or ErrorReason.RequestExpired or ErrorReason.ReadOnly => StatusCode.FailedPrecondition,
        ErrorReason.HostGone or ErrorReason.HostConflict or ErrorReason.NotPermitted => StatusCode.PermissionDenied,
        ErrorReason.DeviceMissing => StatusCode.Unavailable,
        ErrorReason.MediaCorrupt => StatusCode.DataLoss,
        ErrorReason.Timeout => StatusCode.DeadlineExceeded,
        _ => StatusCode.Internal,
    };

    /// <summary>The exception that a service method throws.</summary>
    public static RpcException ToRpc(Exception error)
    {
        if (error is RpcException already)
            return already;
        if (error is OperationCanceledException)
            return new(new Status(StatusCode.Cancelled, "the call was cancelled"));
        ErrorDetail detail = Trim(ErrorDetails.Of(error));
        StatusCode code = CodeOf(detail.Reason);
        // The cause stays in this process, for its log.
        return new(new Status(code, detail.Message, code == StatusCode.Internal ? error : null), new Metadata { { DetailTrailer, detail.ToByteArray() } });
    }

    /// <summary>Makes a detail small enough for a trailer, whatever a caller, a host or the size of the cluster put into it.</summary>
    private static ErrorDetail Trim(ErrorDetail detail)
    {
        detail.Message = Cut(detail.Message, MaxTextBytes);
        foreach (HostStatus host in detail.Lagging)
        {
            host.Name = Cut(host.Name);
            host.MountPoint = Cut(host.MountPoint);
            host.Dialect = Cut(host.Dialect);
            host.Version = Cut(host.Version);
        }
        // The caller knows which path it sent; half a path would be another one.
        if (Encoding.UTF8.GetByteCount(detail.Path) > MaxPathBytes)
            detail.Path = "";
        while (detail.Lagging.Count > 0 && detail.CalculateSize() > MaxDetailBytes)
            detail.Lagging.RemoveAt(detail.Lagging.Count - 1);
        return detail;
    }

    /// <summary>At most as much of a name as an error carries.</summary>
    public static string Cut(string name) => Cut(name, MaxNameBytes);

    /// <summary>At most <paramref name="bytes"/> bytes of <paramref name="text"/> when percent-encoded as gRPC does it: three for each
    /// byte of UTF-8 that is not printable ASCII.</summary>
    private static string Cut(string text, int bytes)
    {
        const string Ellipsis = "...";
        int used = 0;
        int fits = 0;
        int at = 0;
        foreach (Rune rune in text.EnumerateRunes())
        {
            used += rune.Value is >= 0x20 and <= 0x7e and not '%' ? 1 : 3 * rune.Utf8SequenceLength;
            at += rune.Utf16SequenceLength;
            if (used <= bytes - Ellipsis.Length)
                fits = at;
            if (used > bytes)
                return string.Concat(text.AsSpan(0, fits), Ellipsis);
        }
        return text;
    }
}
