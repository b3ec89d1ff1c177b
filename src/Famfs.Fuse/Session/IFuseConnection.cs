using System.Runtime.InteropServices;
using Famfs.Core.Interop;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Protocol;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Session;

/// <summary>One connection with a kernel: what a session needs of it. The kernel itself, or a test's double. Disposing it
/// ends the use of all its transports, and happens only once no thread is inside one.</summary>
public interface IFuseConnection : IDisposable
{
    /// <summary>Carries INIT, and then notifications.</summary>
    IFuseTransport First { get; }

    /// <summary>Another transport with a queue of its own, for one worker. After INIT. Throws
    /// <see cref="IOException"/>.</summary>
    IFuseTransport AddTransport();

    /// <summary>Gives devices to a kernel of dialect D; null where no ioctl number for that is known.</summary>
    IDevicePush? Push { get; }
}

/// <summary>Descriptors of /dev/fuse. Owns them.</summary>
/// <param name="channel">The mounted one.</param>
/// <param name="pushIoctl">Number of the ioctl that pushes a device; null: unknown.</param>
/// <param name="clones">Descriptors of the same connection that there are already.</param>
public sealed class DeviceConnection(FuseChannel channel, uint? pushIoctl, IReadOnlyList<FuseChannel>? clones = null) : IFuseConnection, IDevicePush
{
    private readonly List<FuseChannel> _clones = [.. clones ?? []];
    private int _used; // of the clones

    /// <inheritdoc/>
    public IFuseTransport First { get; } = new DeviceTransport(channel);

    /// <inheritdoc/>
    public IDevicePush? Push => pushIoctl is null ? null : this;

    /// <inheritdoc/>
    public IFuseTransport AddTransport()
    {
        if (_used == _clones.Count)
            _clones.Add(channel.Clone());
        return new DeviceTransport(_clones[_used++]);
    }

    /// <summary>The kernel still serves it.</summary>
    public bool IsConnected => channel.IsConnected;

    /// <summary>Copies of all its descriptors for a process that keeps them, the mounted one first. All, because the kernel ends what
    /// was read from one when nobody has that any more. Throws <see cref="IOException"/>.</summary>
    public IReadOnlyList<SafeHandle> Duplicate()
    {
        List<SafeHandle> copies = [];
        try
        {
            copies.Add(channel.Duplicate());
            foreach (FuseChannel clone in _clones)
                copies.Add(clone.Duplicate());
            return copies;
        }
        catch
        {
            foreach (SafeHandle copy in copies)
                copy.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    Errno IDevicePush.Push(string path, uint index)
    {
        // Read and write, as the kernel will. Sharing is stated so that the runtime takes no lock.
        try
        {
            using Microsoft.Win32.SafeHandles.SafeFileHandle device = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
            var map = new BackingMap { Descriptor = (int)device.DangerousGetHandle(), DeviceIndex = index };
            int result = channel.Control(pushIoctl!.Value, MemoryMarshal.AsBytes(new Span<BackingMap>(ref map)));
            return result >= 0 ? Errno.None : (Errno)(-result);
        }
        catch (FileNotFoundException)
        {
            return Errno.ENOENT;
        }
        catch (UnauthorizedAccessException)
        {
            return Errno.EACCES;
        }
        catch (IOException error)
        {
            return error.HResult is > 0 and < 4096 ? (Errno)error.HResult : Errno.EIO;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (FuseChannel clone in _clones)
            clone.Dispose();
        channel.Dispose();
    }
}
