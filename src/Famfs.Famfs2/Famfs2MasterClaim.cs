using Famfs.Core;
using Famfs.Core.Log;
using Famfs.V1;

namespace Famfs.Famfs2;

/// <summary>The place of the master of a famfs-2 file system: this host's lock, and the system uuid in the superblock.</summary>
internal sealed class Famfs2MasterClaim : MasterClaim
{
    /// <summary>Byte that a master locks on its host.</summary>
    private const long LockByte = 0;

    private readonly Famfs2Mastership _mastership;
    private readonly IDisposable _lock;

    private Famfs2MasterClaim(Famfs2Mastership mastership, IDisposable held)
    {
        _mastership = mastership;
        _lock = held;
    }

    /// <inheritdoc/>
    public override ILogReader Reader => _mastership.Reader;

    /// <summary>Takes the place, or throws why not; a take-over adopts a file system of another system.</summary>
    public static Famfs2MasterClaim Take(DevicePool pool, ClaimRequest request)
    {
        Guid system = FindSystem(pool, request.SystemUuidFile, request.TakeOver);
        if (!DeviceLock.TryTake(pool.PrimaryDevice, request.Host.Locks, pool.Primary.FileSystem, LockByte, out IDisposable? held))
            throw new FamfsException(ErrorReason.NotMaster, $"{pool.PrimaryDevice.Path}: a master of this host is running (byte {LockByte} is locked)");
        try
        {
            return new(Famfs2Mastership.Take(pool, system, request.TakeOver), held) { Master = Guid.NewGuid(), Slot = 0 };
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override ILogWriter Activate(IReadOnlyDictionary<int, Guid> slots, IReadOnlyList<(int Slot, SegmentSpace Space)> segments) => _mastership.Activate();

    /// <inheritdoc/>
    public override void Dispose() => _lock.Dispose();

    private static Guid FindSystem(DevicePool pool, string systemUuidFile, bool takeOver)
    {
        if (takeOver)
            return Famfs2SystemUuid.ReadOrMake(systemUuidFile);
        return Famfs2SystemUuid.Read(systemUuidFile) ?? throw new FamfsException(ErrorReason.NotMaster,
            $"{systemUuidFile}: is not there; the file system belongs to system {Famfs2Format.SuperblockOf(pool).System}. Say --system-uuid-file where it is kept, or --take-over to become another system and adopt it");
    }
}
