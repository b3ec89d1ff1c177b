using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Famfs2;
using Famfs.Core.Log;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Role;

/// <summary>From devices to the writer of a famfs-2 log: this host's lock, the system uuid, replay.</summary>
internal static class Famfs2Recovery
{
    /// <summary>Byte that a master of a famfs-2 file system locks on its host.</summary>
    private const long LockByte = 0;

    /// <summary>Becomes master, or throws why not; <paramref name="takeOver"/> adopts a file system of another system.</summary>
    public static Recovery.Result Run(DevicePool pool, string systemUuidFile, bool takeOver, TimeProvider clock, Random random)
    {
        Guid system = FindSystem(pool, systemUuidFile, takeOver);
        if (!pool.PrimaryDevice.TryLockByte(LockByte, out IDisposable? held))
            throw new FamfsException(ErrorReason.NotMaster, $"{pool.PrimaryDevice.Path}: a master of this host is running (byte {LockByte} is locked)");
        try
        {
            Famfs2Mastership mastership = Famfs2Mastership.Take(pool, system, takeOver);
            MasterState state = new(pool, clock, random);
            LogIndex index = new();
            Recovery.Replay(mastership.Reader, state.Replay, index);
            state.GoLive();
            return new(state, mastership.Activate(), index, Guid.NewGuid(), Slot: 0, held);
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    private static Guid FindSystem(DevicePool pool, string systemUuidFile, bool takeOver)
    {
        if (takeOver)
            return Famfs2SystemUuid.ReadOrMake(systemUuidFile);
        return Famfs2SystemUuid.Read(systemUuidFile) ?? throw new FamfsException(ErrorReason.NotMaster,
            $"{systemUuidFile}: is not there; the file system belongs to system {pool.Famfs2!.System}. Say --system-uuid-file where it is kept, or --take-over to become another system and adopt it");
    }
}
