using Microsoft.Extensions.Logging;

namespace Famfs.Fuse.Daemon;

/// <summary>What a daemon tells its operator.</summary>
internal static partial class DaemonLog
{
    [LoggerMessage(Level = LogLevel.Information, Message = "mounted file system {FileSystem} at {MountPoint} (mount {Mount}, dialect {Dialect}, position {Position})")]
    public static partial void Mounted(ILogger logger, Guid fileSystem, string mountPoint, Guid mount, string dialect, string position);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Remark}")]
    public static partial void Remark(ILogger logger, string remark);

    [LoggerMessage(Level = LogLevel.Warning, Message = "nobody sees to it that the mount ends if this daemon is killed while the kernel waits for it: {Cause}")]
    public static partial void Unguarded(ILogger logger, string cause);

    [LoggerMessage(Level = LogLevel.Information, Message = "locks of files (flock, fcntl) exclude programs of this host only, not those of others; with -o locks=refuse they fail")]
    public static partial void LocksAreLocal(ILogger logger);

    [LoggerMessage(Level = LogLevel.Information, Message = "locks of files (flock, fcntl) fail with ENOLCK, as -o locks=refuse has it")]
    public static partial void LocksRefused(ILogger logger);

    [LoggerMessage(Level = LogLevel.Information, Message = "this kernel reads and writes files without this daemon, so writing moves no times that other hosts see; famfs touch does")]
    public static partial void WritingIsTheKernels(ILogger logger);

    [LoggerMessage(Level = LogLevel.Warning, Message = "the times of {Count} written files wait for the log, the limit; writing others moves no times until a master has recorded these")]
    public static partial void TooManyWritten(ILogger logger, int count);

    [LoggerMessage(Level = LogLevel.Information, Message = "registered in the host table; files can be opened")]
    public static partial void Registered(ILogger logger);

    [LoggerMessage(Level = LogLevel.Information, Message = "this host is not registered yet: names are served, files can be opened when a master has registered it")]
    public static partial void Unregistered(ILogger logger);

    [LoggerMessage(Level = LogLevel.Warning, Message = "the format of this file system has no host table: files can be opened, and nobody can tell which hosts hold them")]
    public static partial void NoHostTable(ILogger logger);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Count} entries of the log have no effect here, though other tools may show files for them; `famfs check` says why")]
    public static partial void Ignored(ILogger logger, long count);

    [LoggerMessage(Level = LogLevel.Error, Message = "mounting read-only with what comes before the damage: {Cause}")]
    public static partial void ReadOnly(ILogger logger, string cause);

    [LoggerMessage(Level = LogLevel.Error, Message = "read-only from now on, with what comes before the damage: {Cause}")]
    public static partial void ReadOnlyNow(ILogger logger, string cause);

    [LoggerMessage(Level = LogLevel.Information, Message = "the log is whole again: writing is allowed")]
    public static partial void WritableAgain(ILogger logger);

    [LoggerMessage(Level = LogLevel.Information, Message = "device {Index} is {Path}")]
    public static partial void DeviceAttached(ILogger logger, ushort index, string path);

    [LoggerMessage(Level = LogLevel.Warning, Message = "device {Index} ({Device}) is not on this host: {Cause}; files on it answer EIO until it is found")]
    public static partial void DeviceMissing(ILogger logger, uint index, Guid device, string cause);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Path} is not used: the log does not have this device (yet)")]
    public static partial void UnknownDevice(ILogger logger, string path);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Cause}")]
    public static partial void Problem(ILogger logger, string cause);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Count} opens failed; the last: {Cause}")]
    public static partial void RefusedMaps(ILogger logger, long count, string cause);

    [LoggerMessage(Level = LogLevel.Error, Message = "this kernel does not ask for maps as dialect {Dialect} does, so no file can be opened: name another by --dialect (D needs --push-ioctl)")]
    public static partial void ForeignMaps(ILogger logger, string dialect);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Count} requests failed by a mistake of this daemon, or could not be answered; the last: {Kind}: {Cause}")]
    public static partial void Failures(ILogger logger, long count, string kind, string cause, Exception exception);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Count} reads or writes met memory that cannot be read or written: EIO (poisoned or gone, or a device that is a file on a full file system)")]
    public static partial void Faults(ILogger logger, long count);

    [LoggerMessage(Level = LogLevel.Warning, Message = "reads, writes or opens of files on device {Index} ({Device}) answer EIO: it is not on this host; `famfs devices attach DEVICE {MountPoint}` gives it to this mount")]
    public static partial void MissingDevice(ILogger logger, int index, string device, string mountPoint);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Count} calls through the mount were refused with EPERM: files are made by famfs creat and famfs cp, and keep their size; write or mmap what is there")]
    public static partial void Forbidden(ILogger logger, long count);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Count} messages of the kernel were no valid requests")]
    public static partial void Rejected(ILogger logger, long count);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Count} notifications were refused by the kernel, which may show old names or attributes; the last: {Cause}")]
    public static partial void RefusedNotifications(ILogger logger, long count, string cause);

    [LoggerMessage(Level = LogLevel.Warning, Message = "changed certificate files are not used, the former ones stay in use: {Cause}")]
    public static partial void CertificatesKept(ILogger logger, string cause);

    [LoggerMessage(Level = LogLevel.Information, Message = "took over {MountPoint} (mount {Mount}, {Generation} daemons before) at position {Position}")]
    public static partial void TookOver(ILogger logger, string mountPoint, Guid mount, uint generation, string position);

    [LoggerMessage(Level = LogLevel.Information, Message = "process {Process} serves {MountPoint} and is asked to leave it to this one")]
    public static partial void AsksToLeave(ILogger logger, int process, string mountPoint);

    [LoggerMessage(Level = LogLevel.Information, Message = "left {MountPoint} to another daemon")]
    public static partial void Left(ILogger logger, string mountPoint);

    [LoggerMessage(Level = LogLevel.Information, Message = "{MountPoint} is kept: it outlives this daemon")]
    public static partial void Kept(ILogger logger, string mountPoint);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{MountPoint} is not kept, it ends with this daemon: {Cause}")]
    public static partial void NotKept(ILogger logger, string mountPoint, string cause);

    [LoggerMessage(Level = LogLevel.Information, Message = "what was kept of {MountPoint} is over ({Cause}): mounting again")]
    public static partial void KeptIsOver(ILogger logger, string mountPoint, string cause);

    [LoggerMessage(Level = LogLevel.Warning, Message = "this kernel does not send requests again (Linux 6.9 does): a call that waits while a daemon dies fails with ECONNABORTED")]
    public static partial void NoResend(ILogger logger);

    [LoggerMessage(Level = LogLevel.Information, Message = "unmounted {MountPoint}")]
    public static partial void Unmounted(ILogger logger, string mountPoint);
}
