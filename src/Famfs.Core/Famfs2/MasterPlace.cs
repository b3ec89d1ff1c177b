using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Format.Famfs2;
using Famfs.Core.Log;
using Famfs.V1;

namespace Famfs.Core.Famfs2;

/// <summary>The place of the master of a file system, held by a tool that changes it: no master of this host can start
/// meanwhile, and none that lives is disturbed. Disposing lets it go.</summary>
public sealed class MasterPlace : IDisposable
{
    private readonly List<IDisposable> _locks = [];

    private MasterPlace()
    {
    }

    /// <summary>Takes the place. Native: every slot's lock on this host, and no heartbeat may move for
    /// <paramref name="window"/>. famfs-2: the lock, and this must be the system that may write. Throws EXISTS
    /// when a master lives here or, natively, anywhere; READ_ONLY on another system.</summary>
    public static async Task<MasterPlace> HoldAsync(IReadOnlyList<DaxDevice> devices, string systemUuidFile, TimeSpan window, TimeProvider clock, CancellationToken cancel)
    {
        MasterPlace place = new();
        try
        {
            IReadOnlyList<DaxDevice> first = DevicePool.FindFamfs2First(devices);
            foreach (DaxDevice device in devices)
            {
                if (Famfs2Media.ReadSuperblock(device, out Famfs2Superblock? famfs2, out _) == SuperblockVerdict.Famfs2)
                {
                    place.Lock(device, 1);
                    if (first.Contains(device) && Famfs2SystemUuid.Read(systemUuidFile) is var system && system != famfs2!.System)
                        throw new FamfsException(ErrorReason.ReadOnly, $"{device.Path}: the file system belongs to system {famfs2.System}, {(system is null ? $"and {systemUuidFile} is not there" : $"{systemUuidFile} says {system}")}; say --system-uuid-file where its uuid is kept") { Path = device.Path };
                }
                else if (DevicePool.ReadSuperblock(device, out Superblock? native, out _) == SuperblockVerdict.Native && native!.IsPrimary)
                {
                    place.Lock(device, Term.SlotCount);
                    // The pool is not disposed: the devices are the caller's.
                    if (await Mastership.DetectLiveMasterAsync(DevicePool.Open([device]), -1, window, clock, cancel).ConfigureAwait(false) is { } slot)
                        throw new FamfsException(ErrorReason.Exists, $"{device.Path}: the master of slot {slot} is running") { Path = device.Path };
                }
            }
            return place;
        }
        catch
        {
            place.Dispose();
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

    private void Lock(DaxDevice device, int count)
    {
        for (int i = 0; i < count; i++)
        {
            if (!device.TryLockByte(i, out IDisposable? held))
                throw new FamfsException(ErrorReason.Exists, $"{device.Path}: a master of this host is running (slot {i} is locked)") { Path = device.Path };
            _locks.Add(held);
        }
    }
}
