using Famfs.V1;
using Microsoft.Extensions.Logging;

namespace Famfs.Master;

/// <summary>What a master tells its operator.</summary>
internal static partial class MasterLog
{
    [LoggerMessage(Level = LogLevel.Information, Message = "master of file system {FileSystem}: term {Term}, slot {Slot}, {Files} files, listening on {Address}")]
    public static partial void Active(ILogger logger, Guid fileSystem, ulong term, int slot, long files, string address);

    [LoggerMessage(Level = LogLevel.Warning, Message = "whoever reaches {Addresses} may change the file system: callers there are not known; use a unix socket, or https with --client-ca-file")]
    public static partial void OpenAddress(ILogger logger, string addresses);

    [LoggerMessage(Level = LogLevel.Information, Message = "changed certificate files are used from now on")]
    public static partial void CertificatesRenewed(ILogger logger);

    [LoggerMessage(Level = LogLevel.Warning, Message = "changed certificate files are not used, the former ones stay in use: {Cause}")]
    public static partial void CertificatesKept(ILogger logger, string cause);

    [LoggerMessage(Level = LogLevel.Information, Message = "term {Term} follows one of slot {Slot}{Address}, which ended in order")]
    public static partial void Follows(ILogger logger, ulong term, uint slot, string address);

    [LoggerMessage(Level = LogLevel.Warning, Message = "take-over: term {Term} follows one of slot {Slot}{Address}, which did not end in order")]
    public static partial void TakesOver(ILogger logger, ulong term, uint slot, string address);

    [LoggerMessage(Level = LogLevel.Information, Message = "mount {Mount} of host {Host} has subscribed from {Address}: {MountPoint}, version {Version}, dialect {Dialect}")]
    public static partial void MountCame(ILogger logger, Guid mount, string host, string address, string mountPoint, string version, string dialect);

    [LoggerMessage(Level = LogLevel.Information, Message = "the stream of mount {Mount} of host {Host} has ended")]
    public static partial void MountWent(ILogger logger, Guid mount, string host);

    [LoggerMessage(Level = LogLevel.Information, Message = "a reader without a mount has subscribed from {Address}")]
    public static partial void ReaderCame(ILogger logger, string address);

    [LoggerMessage(Level = LogLevel.Information, Message = "the stream of a reader from {Address} has ended")]
    public static partial void ReaderWent(ILogger logger, string address);

    [LoggerMessage(Level = LogLevel.Information, Message = "host {Host} ('{Name}') is registered, with block {Block} of the host table")]
    public static partial void HostRegistered(ILogger logger, Guid host, string name, int block);

    [LoggerMessage(Level = LogLevel.Information, Message = "host {Host} ('{Name}') was forgotten, block {Block} of the host table may be another's")]
    public static partial void HostForgotten(ILogger logger, Guid host, string name, int block);

    [LoggerMessage(Level = LogLevel.Information, Message = "host {Host} has master slot {Slot}")]
    public static partial void SlotGranted(ILogger logger, Guid host, int slot);

    [LoggerMessage(Level = LogLevel.Information, Message = "device {Index} ({Device}) of {Bytes} bytes is part of the file system")]
    public static partial void DeviceAdded(ILogger logger, uint index, Guid device, ulong bytes);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Method} was refused: {Reason}: {Cause} ({Total} for this reason since the start)")]
    public static partial void Refused(ILogger logger, string method, ErrorReason reason, string cause, long total);

    [LoggerMessage(Level = LogLevel.Warning, Message = "a connection was rejected: there are {Limit}, the limit ({Total} since the start)")]
    public static partial void Rejected(ILogger logger, int limit, long total);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Count} entries about streams of callers that are not known were left out")]
    public static partial void StreamsLeftOut(ILogger logger, long count);

    [LoggerMessage(Level = LogLevel.Information, Message = "told to stop: term {Term} has ended in order")]
    public static partial void Ended(ILogger logger, ulong term);

    [LoggerMessage(Level = LogLevel.Information, Message = "mount {Mount} of host {Host} is gone: {Detail}")]
    public static partial void MountGone(ILogger logger, Guid mount, Guid host, string detail);

    [LoggerMessage(Level = LogLevel.Warning, Message = "host {Host} has been silent for {Seconds:0} s, and space of removed files waits for it ({Mounts} of its mounts are fenced): running {Command}")]
    public static partial void FenceBegins(ILogger logger, string host, double seconds, int mounts, string command);

    [LoggerMessage(Level = LogLevel.Information, Message = "fence command for host {Host}: {Line}")]
    public static partial void FenceTells(ILogger logger, string host, string line);

    [LoggerMessage(Level = LogLevel.Warning, Message = "host {Host} is not fenced: the fence command {Cause}; it is run again in {Seconds:0} s if it is still needed")]
    public static partial void FenceFails(ILogger logger, string host, string cause, double seconds);

    [LoggerMessage(Level = LogLevel.Error, Message = "host {Host} came back: the fence command ended with 0, and mount {Mount} has moved since it began, or its line cannot be read. Nothing is recorded; it is run again in {Seconds:0} s if it is still needed")]
    public static partial void FencedCameBack(ILogger logger, string host, Guid mount, double seconds);

    [LoggerMessage(Level = LogLevel.Warning, Message = "host {Host} is silent, and space of removed files waits for it; the fence command is not run for it, because this master runs there")]
    public static partial void FenceIsNotForOwn(ILogger logger, string host);

    [LoggerMessage(Level = LogLevel.Warning, Message = "--fence-command {Command} {Cause}; it is tried all the same when a host is to be fenced")]
    public static partial void FenceCommandIsMissing(ILogger logger, string command, string cause);

    [LoggerMessage(Level = LogLevel.Warning, Message = "--fence-command: this format has no host table, so nobody is fenced")]
    public static partial void NobodyIsFenced(ILogger logger);

    [LoggerMessage(Level = LogLevel.Warning, Message = "--accept-loss: {Cause}; this is recorded, and the mount must be made anew")]
    public static partial void LossAccepted(ILogger logger, string cause);

    [LoggerMessage(Level = LogLevel.Warning, Message = "the host table was not looked at: {Cause}")]
    public static partial void WatchFails(ILogger logger, string cause);

    [LoggerMessage(Level = LogLevel.Information, Message = "log compacted to generation {Generation}: {RecordsBefore} records of {BytesBefore} bytes before, {RecordsAfter} of {BytesAfter} bytes after")]
    public static partial void Compacted(ILogger logger, ulong generation, ulong recordsBefore, ulong bytesBefore, ulong recordsAfter, ulong bytesAfter);

    [LoggerMessage(Level = LogLevel.Warning, Message = "the log is due for a compaction, which fails, and is tried again: {Cause}")]
    public static partial void CompactionFails(ILogger logger, string cause);

    [LoggerMessage(Level = LogLevel.Warning, Message = "space of removed files is not free yet: {Cause}")]
    public static partial void ReclaimFails(ILogger logger, string cause);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Gap}; `famfs policy --dialect-floor` keeps creators within reach of all")]
    public static partial void DialectGap(ILogger logger, string gap);

    [LoggerMessage(Level = LogLevel.Information, Message = "device {Index} is {Path}")]
    public static partial void DeviceAttached(ILogger logger, ushort index, string path);

    [LoggerMessage(Level = LogLevel.Warning, Message = "device {Index} ({Device}) is not on this host: {Cause}")]
    public static partial void DeviceMissing(ILogger logger, uint index, Guid device, string cause);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Absence}")]
    public static partial void DeviceAbsent(ILogger logger, string absence);

    [LoggerMessage(Level = LogLevel.Information, Message = "new files use device {Index} from now on")]
    public static partial void DeviceUsed(ILogger logger, int index);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Path} is not used: the log does not have this device; an addition that did not finish can be repeated with --force")]
    public static partial void UnknownDevice(ILogger logger, string path);

    [LoggerMessage(Level = LogLevel.Warning, Message = "a message of {Method} could not be parsed: {Cause} ({Total} such messages since the start)")]
    public static partial void Malformed(ILogger logger, string method, string cause, long total);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Method} failed by a fault of the master, {Kind} ({Total} of this kind since the start)")]
    public static partial void Unexpected(ILogger logger, string method, string kind, long total, Exception error);

    [LoggerMessage(Level = LogLevel.Error, Message = "master ends: {Cause}")]
    public static partial void Ends(ILogger logger, string cause);
}
