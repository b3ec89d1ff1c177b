using Famfs.Fuse.Protocol;
using Famfs.V1;

namespace Famfs.Fuse.Operations;

/// <summary>The one place where an error of the domain becomes an error number.</summary>
public static class ErrnoTable
{
    /// <summary>The error number of a reason; EIO for one this version does not know.</summary>
    public static Errno Translate(ErrorReason reason) => reason switch
    {
        ErrorReason.Exists or ErrorReason.ExistsDifferent => Errno.EEXIST,
        ErrorReason.NotFound => Errno.ENOENT,
        ErrorReason.NotADirectory => Errno.ENOTDIR,
        ErrorReason.IsADirectory => Errno.EISDIR,
        ErrorReason.NotEmpty => Errno.ENOTEMPTY,
        ErrorReason.NoSpace or ErrorReason.LogFull => Errno.ENOSPC,
        ErrorReason.Quota => Errno.EDQUOT,
        ErrorReason.BadPath or ErrorReason.BadSize or ErrorReason.BadLayout or ErrorReason.BadRequest => Errno.EINVAL,
        ErrorReason.NotSupportedByFormat or ErrorReason.NotImplemented => Errno.EOPNOTSUPP,
        ErrorReason.NotMaster or ErrorReason.HostGone or ErrorReason.HostConflict => Errno.EHOSTDOWN,
        ErrorReason.StaleGeneration or ErrorReason.WrongFilesystem => Errno.ESTALE,
        ErrorReason.Timeout or ErrorReason.RequestExpired => Errno.ETIMEDOUT,
        ErrorReason.Overloaded => Errno.EAGAIN,
        ErrorReason.ReadOnly => Errno.EROFS,
        ErrorReason.DeviceMissing => Errno.ENXIO,
        ErrorReason.MediaCorrupt => Errno.EIO,
        _ => Errno.EIO,
    };
}
