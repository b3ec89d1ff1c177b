using Famfs.Core.Dax;
using Famfs.V1;

namespace Famfs.Core.Log;

/// <summary>How a tool that changes a file system makes sure of being alone.</summary>
/// <param name="SystemUuidFile">File with the uuid of this system, in a format that knows its writer by one.</param>
/// <param name="Watch">How long a master elsewhere is watched for.</param>
/// <param name="Clock">The clock.</param>
/// <param name="Locks">The locks of this host.</param>
public sealed record MaintenanceRequest(string SystemUuidFile, TimeSpan Watch, TimeProvider Clock, HostLocks Locks);

/// <summary>Held by a tool that changes a file system: no master of this host can start meanwhile, and none that lives is
/// disturbed. Disposing lets it go.</summary>
public sealed class MaintenanceLock : IDisposable
{
    private readonly List<IDisposable> _locks = [];
    private readonly HashSet<Guid> _fileSystems = [];

    private MaintenanceLock()
    {
    }

    /// <summary>Takes the locks that masters of what is on the devices would hold, then lets each format look for a master that
    /// lives elsewhere. Throws EXISTS when there is one; READ_ONLY when this host may not write.</summary>
    public static async Task<MaintenanceLock> HoldAsync(IReadOnlyList<DaxDevice> devices, MediaFormats formats, MaintenanceRequest request, CancellationToken cancel)
    {
        MaintenanceLock held = new();
        try
        {
            IReadOnlyList<DaxDevice> first = formats.FindFirst(devices);
            foreach (DaxDevice device in devices)
            {
                if (formats.All.FirstOrDefault(f => f.Knows(device)) is not { } format)
                    continue;
                held.Lock(device, format, request.Locks);
                await format.RequireNoMasterAsync(device, first.Contains(device), request, cancel).ConfigureAwait(false);
            }
            return held;
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (IDisposable held in _locks)
            held.Dispose();
        _locks.Clear();
    }

    private void Lock(DaxDevice device, MediaFormat format, HostLocks locks)
    {
        int count = format.CountMasterLocks(device);
        for (int i = 0; i < count; i++)
        {
            if (!device.TryLockByte(i, out IDisposable? held))
                throw new FamfsException(ErrorReason.Exists, $"{device.Path}: a master of this host is running (slot {i} is locked)") { Path = device.Path };
            _locks.Add(held);
        }
        // Two first devices of one file system are copies of each other, and share these.
        if (count == 0 || format.ReadUuids(device) is not (Guid fileSystem, _) || !_fileSystems.Add(fileSystem))
            return;
        if (!locks.TryLock(fileSystem, 0, count, out IDisposable? onHost))
            throw new FamfsException(ErrorReason.Exists, $"{device.Path}: a master of this host is running ({locks.PathOf(fileSystem)} is locked)") { Path = device.Path };
        _locks.Add(onHost);
    }
}
