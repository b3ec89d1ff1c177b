using System.Text;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Session;
using Famfs.V1;

namespace Famfs.Fuse.Memory;

/// <summary>
/// The way to space that no file has, where the kernel holds the devices: a window of the daemon's own in its own mount, which the
/// kernel has let go of when the work is done. A kernel must never have two inodes over the same memory that were both mapped. So a
/// window is opened only when the kernel has none there any more, neither of this object nor of a master.
/// <para>Guard: <c>_gate</c>, held while the kernel is asked. Any thread but one that answers the mount or applies records.</para>
/// </summary>
/// <param name="windows">Those of the mount.</param>
/// <param name="notifier">Tells and asks the kernel.</param>
/// <param name="findRoot">A path of the mount's root for this process; null while or when there is none.</param>
internal sealed class SpaceWindows(WindowTable windows, KernelNotifier notifier, Func<string?> findRoot)
{
    // Chosen: some tenths of a second of flushing, after which whoever ends the mount is heard.
    private const long LongestBytes = 1L << 30;

    private readonly Lock _gate = new(); // guards the block below
    private readonly List<Window> _closed = []; // the kernel may have them

    /// <summary>Does <paramref name="use"/> with the memory of an extent, part by part. False when that is not possible yet, or when the
    /// kernel has not let go of it afterwards: then all of it is done again. Throws <see cref="FamfsException"/> where the
    /// mount has ended, <see cref="DeviceFaultException"/> where memory faults.</summary>
    /// <param name="extent">Space that no file has which the kernel may have open.</param>
    /// <param name="use">Is given the memory of a part.</param>
    public bool TryUse(MapExtent extent, Action<DaxDevice> use)
    {
        for (long done = 0; done < extent.LengthBytes; done += LongestBytes)
        {
            MapExtent part = new(extent.Device, extent.OffsetBytes + done, Math.Min(LongestBytes, extent.LengthBytes - done));
            lock (_gate)
            {
                if (!IsFree(part) || findRoot() is not { } root)
                    return false;
                Window window = windows.OpenOwn(part);
                try
                {
                    string path = Path.Combine(root, MetaNames.Directory, MetaNames.Windows, Encoding.UTF8.GetString(window.Name));
                    using MappedDaxDevice memory = MappedDaxDevice.OpenFile(path, $"device {part.Device} from {part.OffsetBytes}", readOnly: false, coherent: false);
                    use(memory);
                }
                catch (IOException error)
                {
                    throw new FamfsException(ErrorReason.HostGone, $"device {part.Device} from {part.OffsetBytes}: {error.Message}", error);
                }
                finally
                {
                    windows.CloseOwn(window);
                    notifier.DropEntry(new(WindowTable.DirectoryNode), window.Name);
                }
                if (!IsFree(part))
                    return false;
            }
        }
        return true;
    }

    // Neither a master's window is open there, nor has the kernel one that was closed.
    private bool IsFree(MapExtent extent)
    {
        _closed.AddRange(windows.TakeClosed());
        _closed.RemoveAll(window => notifier.Release(new(window.Node)) == InodePresence.Absent);
        foreach (Window open in windows.Open)
        {
            if (open.Extent.Overlaps(extent))
                return false;
        }
        return !_closed.Exists(window => window.Extent.Overlaps(extent));
    }
}
