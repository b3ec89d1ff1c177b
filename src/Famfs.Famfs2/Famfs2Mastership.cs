using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Famfs2.Codec;
using Famfs.V1;

namespace Famfs.Famfs2;

/// <summary>
/// Becoming the writer of a famfs-2 log. The format has no terms: the one system whose uuid is in the superblock may
/// append, and that no other does so at the same time is the operator's business. The caller holds lock 0 of
/// the first device on its host from before <see cref="Take"/> for as long as it may write, and replays
/// <see cref="Reader"/> to its end before <see cref="Activate"/>.
/// </summary>
public sealed class Famfs2Mastership
{
    private readonly DevicePool _pool;
    private readonly Guid _system;

    private Famfs2Mastership(DevicePool pool, Guid system)
    {
        _pool = pool;
        _system = system;
        Reader = new(pool);
    }

    /// <summary>Reads the log as it stands behind the adoption.</summary>
    public Famfs2LogReader Reader { get; }

    /// <summary>Requires that the superblock names <paramref name="system"/>, or makes it do so: before anything of the
    /// log is read, so that the former writer finds itself replaced at its next append. Throws NOT_MASTER.</summary>
    public static Famfs2Mastership Take(DevicePool pool, Guid system, bool takeOver)
    {
        DaxDevice device = pool.PrimaryDevice;
        if (Famfs2Media.ReadSuperblock(device, out Famfs2Superblock? superblock, out string cause) != SuperblockVerdict.Good)
            throw Famfs2Media.Corrupt(device, cause);
        if (superblock!.System == system)
            return new(pool, system);
        if (!takeOver)
            throw new FamfsException(ErrorReason.NotMaster, $"{device.Path}: the file system belongs to system {superblock.System}, this is {system}; --take-over adopts it, when nothing there writes any more") { Path = device.Path };
        // Uuid and checksum share a cache line.
        Famfs2Formatter.WriteSuperblock(device, superblock with { System = system });
        if (Famfs2Media.ReadSuperblock(device, out Famfs2Superblock? written, out _) != SuperblockVerdict.Good || written!.System != system)
            throw new FamfsException(ErrorReason.NotMaster, $"{device.Path}: the superblock is written by somebody else at the same time") { Path = device.Path };
        return new(pool, system);
    }

    /// <summary>The writer that goes on behind what <see cref="Reader"/> has read.</summary>
    public Famfs2LogWriter Activate()
    {
        if (!Reader.CaughtUp)
            throw new InvalidOperationException("the log is not replayed to its end");
        // Counters that differ cover entries of which nobody knows whether they count.
        if (Famfs2Media.ReadHeader(_pool.PrimaryDevice, Famfs2Format.SuperblockOf(_pool), out _, out string cause) != Famfs2HeaderVerdict.Good)
            throw new FamfsException(ErrorReason.MediaCorrupt, $"{_pool.PrimaryDevice.Path}: {cause}; run `famfs check --repair`") { Path = _pool.PrimaryDevice.Path };
        Famfs2LogWriter writer = new(_pool, _system, Reader.Translator, Reader.Position);
        writer.Check();
        return writer;
    }
}
