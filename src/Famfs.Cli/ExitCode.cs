using Famfs.Core;
using Famfs.V1;

namespace Famfs.Cli;

/// <summary>What the command's exit code says. Frozen: scripts depend on it.</summary>
public enum ExitCode
{
    /// <summary>Done.</summary>
    Ok = 0,

    /// <summary>Failed in a way that has no code of its own; the line on stderr says how.</summary>
    Failed = 1,

    /// <summary>The command line, a path, a size or a layout is wrong.</summary>
    Usage = 2,

    /// <summary>The file, directory or device file is not there.</summary>
    NotFound = 3,

    /// <summary>The name is taken, or the device holds something or is in use.</summary>
    Exists = 4,

    /// <summary>No space, log full, quota exceeded.</summary>
    NoSpace = 5,

    /// <summary>No master was reached in time.</summary>
    MasterUnreachable = 6,

    /// <summary>Damaged media, missing device, or another file system than expected.</summary>
    BadMedia = 7,

    /// <summary>Not permitted, read-only, or this host's mount was declared gone.</summary>
    NotPermitted = 8,

    /// <summary>Something was waited for and did not come in time.</summary>
    Timeout = 9,

    /// <summary>The file system's format or this version does not support it.</summary>
    NotSupported = 10,
}

/// <summary>Error of the domain → exit code: the one place.</summary>
public static class ExitCodes
{
    /// <summary>The exit code of an error.</summary>
    public static ExitCode Of(ErrorReason reason) => reason switch
    {
        ErrorReason.Exists or ErrorReason.ExistsDifferent => ExitCode.Exists,
        ErrorReason.NotFound => ExitCode.NotFound,
        ErrorReason.NoSpace or ErrorReason.LogFull or ErrorReason.Quota => ExitCode.NoSpace,
        ErrorReason.BadPath or ErrorReason.BadSize or ErrorReason.BadLayout or ErrorReason.BadRequest => ExitCode.Usage,
        ErrorReason.NotSupportedByFormat or ErrorReason.NotImplemented => ExitCode.NotSupported,
        ErrorReason.NotMaster => ExitCode.MasterUnreachable,
        ErrorReason.WrongFilesystem or ErrorReason.DeviceMissing or ErrorReason.MediaCorrupt => ExitCode.BadMedia,
        ErrorReason.HostGone or ErrorReason.HostConflict or ErrorReason.ReadOnly or ErrorReason.NotPermitted => ExitCode.NotPermitted,
        ErrorReason.Timeout => ExitCode.Timeout,
        ErrorReason.Unspecified or ErrorReason.NotADirectory or ErrorReason.IsADirectory or ErrorReason.NotEmpty
            or ErrorReason.StaleGeneration or ErrorReason.RequestExpired or ErrorReason.Overloaded => ExitCode.Failed,
        // A reason of a newer master.
        _ => ExitCode.Failed,
    };

    /// <summary>The exit code of whatever a verb threw.</summary>
    public static ExitCode Of(Exception error) => error switch
    {
        FamfsException e => Of(e.Reason),
        FileNotFoundException or DirectoryNotFoundException => ExitCode.NotFound,
        UnauthorizedAccessException => ExitCode.NotPermitted,
        Famfs.Core.Dax.DeviceFaultException => ExitCode.BadMedia,
        // A file system that is mounted read-only: of the kernel's errors the one that has no exception of its own.
        IOException { HResult: Core.Interop.PathErrors.EROFS } => ExitCode.NotPermitted,
        // The mount's word for memory that cannot be read, or that this host lacks.
        IOException { HResult: Core.Interop.PathErrors.EIO } => ExitCode.BadMedia,
        _ => ExitCode.Failed,
    };
}
