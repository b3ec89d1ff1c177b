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
        ErrorReason.HostGone or ErrorReason.HostConflict => StatusCode.PermissionDenied,
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
        ErrorDetail detail = ErrorDetails.Of(error);
        return new(new Status(CodeOf(detail.Reason), detail.Message), new Metadata { { DetailTrailer, detail.ToByteArray() } });
    }
}
