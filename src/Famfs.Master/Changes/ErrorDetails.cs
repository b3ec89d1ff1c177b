using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.V1;

namespace Famfs.Master.Changes;

/// <summary>Errors as callers are told them, in a reply or beside a status.</summary>
internal static class ErrorDetails
{
    /// <summary>The detail of an error.</summary>
    public static ErrorDetail Of(Exception error) => error switch
    {
        FamfsException famfs => new()
        {
            Lagging = { famfs.Lagging },
            LaggingCount = (uint)famfs.LaggingCount,
            Reason = famfs.Reason,
            Message = famfs.Message,
            Path = famfs.Path,
            Limit = famfs.Limit,
            MasterAddress = famfs.MasterAddress,
            MasterTimeMs = famfs.MasterTimeMs,
            PendingBytes = famfs.PendingBytes,
        },
        DeviceFaultException => new() { Reason = ErrorReason.MediaCorrupt, Message = error.Message },
        _ => new() { Message = error.Message },
    };
}
