namespace Famfs.Fuse.Operations;

/// <summary>What one worker has done. Written by its thread only; others read approximate values.</summary>
public sealed class WorkerCounters
{
    /// <summary>Messages read, of any kind.</summary>
    public long Requests;

    /// <summary>Replies that carried an error.</summary>
    public long Errors;

    /// <summary>Replies of EPERM: what this mount does not let programs do.</summary>
    public long Forbidden;

    /// <summary>Messages that were no valid request.</summary>
    public long Rejected;

    /// <summary>Requests whose handler failed unexpectedly, or whose reply could not be sent; answered EIO.</summary>
    public long Failures;

    /// <summary>Reads and writes that met memory which could not be read or written.</summary>
    public long Faults;

    /// <summary>Reads and writes that met a device this host does not have.</summary>
    public long MissingDevice;

    /// <summary>Maps given to the kernel.</summary>
    public long Fmaps;

    /// <summary>Maps that were not given because they are bad or name a device this host does not have: the open
    /// failed with EIO.</summary>
    public long RefusedFmaps;

    /// <summary>Files whose map this kernel's dialect cannot express: the open failed with EOPNOTSUPP.</summary>
    public long InexpressibleFmaps;

    /// <summary>Requests for maps in the form of another dialect: this is not the kernel it was taken for.</summary>
    public long ForeignFmaps;

    /// <summary>Bytes given to readers.</summary>
    public long ReadBytes;

    /// <summary>Bytes taken from writers.</summary>
    public long WrittenBytes;

    /// <summary>Lookups the kernel has given back by FORGET.</summary>
    public long Forgotten;
}
