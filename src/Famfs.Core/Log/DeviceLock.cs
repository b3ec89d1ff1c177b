using System.Diagnostics.CodeAnalysis;
using Famfs.Core.Dax;
using Famfs.V1;

namespace Famfs.Core.Log;

/// <summary>A lock of a file system on this host: on its device and in the host's state directory (SAFETY S29). Either alone would
/// miss somebody: the device one that has another node of it, the directory one that has another directory.</summary>
public sealed class DeviceLock : IDisposable
{
    private readonly IDisposable _onDevice;
    private readonly IDisposable _onHost;

    private DeviceLock(IDisposable onDevice, IDisposable onHost)
    {
        _onDevice = onDevice;
        _onHost = onHost;
    }

    /// <summary>Takes lock <paramref name="index"/> of the file system whose device 0 is <paramref name="device"/>. False while another
    /// has it. Errors: those of <see cref="DaxDevice.TryLockByte"/> and <see cref="HostLocks.TryLock"/>.</summary>
    public static bool TryTake(DaxDevice device, HostLocks locks, Guid fileSystem, long index, [NotNullWhen(true)] out IDisposable? held)
    {
        held = null;
        if (!device.TryLockByte(index, out IDisposable? onDevice))
            return false;
        try
        {
            if (locks.TryLock(fileSystem, index, 1, out IDisposable? onHost))
                held = new DeviceLock(onDevice, onHost);
        }
        finally
        {
            if (held is null)
                onDevice.Dispose();
        }
        return held is not null;
    }

    /// <summary>For whoever writes over file systems: takes all locks from <paramref name="first"/> on, in the state directory, of each file
    /// system that one of <paramref name="devices"/> belongs to, also as a later device. Adds to <paramref name="held"/>; throws EXISTS
    /// when a master or a mount of this host has one.</summary>
    public static void TakeAll(IReadOnlyList<DaxDevice> devices, MediaFormats formats, HostLocks locks, long first, List<IDisposable> held)
    {
        HashSet<Guid> taken = [];
        foreach (DaxDevice device in devices)
        {
            foreach (Guid fileSystem in formats.All.Select(f => f.ReadUuids(device)?.FileSystem).OfType<Guid>())
            {
                if (!taken.Add(fileSystem))
                    continue;
                if (!locks.TryLock(fileSystem, first, 0, out IDisposable? all))
                    throw new FamfsException(ErrorReason.Exists, $"{device.Path}: a master or a mount of its file system {fileSystem} is alive on this host ({locks.PathOf(fileSystem)} is locked)") { Path = device.Path };
                held.Add(all);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _onHost.Dispose();
        _onDevice.Dispose();
    }
}
