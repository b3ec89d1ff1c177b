using Famfs.Core.Dax;
using Famfs.Core.Log;

namespace Famfs.Core.Famfs2;

/// <summary>The log of a file system, whatever its format.</summary>
public static class FileSystemLog
{
    /// <summary>Reads it from its start.</summary>
    public static ILogReader OpenReader(DevicePool pool) =>
        pool.Format == FileSystemFormat.Famfs2 ? new Famfs2LogReader(pool) : new LogReader(pool);
}
