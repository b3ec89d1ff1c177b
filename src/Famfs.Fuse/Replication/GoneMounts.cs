using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Fuse.Replication;

/// <summary>
/// Which mounts of this host are gone, and by which evidence (SAFETY S14): the one place of a daemon that decides it. Of
/// this kernel the evidence is that a superblock's connection has disappeared; of any mount, what the log and the host table
/// say.
/// <para>The kernel gives the lowest free number, so this very mount often has the number of the one before: that is
/// evidence too, because no two superblocks have one. A number that lives again elsewhere only delays the report.</para>
/// </summary>
internal sealed class GoneMounts : IDisposable
{
    // What a master takes of one Hello (docs/protocol.md).
    private const int MaxOlder = 256;

    private readonly string _stateDirectory;
    private readonly Guid _fileSystem;
    private readonly FuseConnections _connections;
    private readonly MountReceipt _own;
    private bool _hasLeft;

    private GoneMounts(string stateDirectory, Guid fileSystem, MountReceipt own, FuseConnections connections)
    {
        _stateDirectory = stateDirectory;
        _fileSystem = fileSystem;
        _own = own;
        _connections = connections;
    }

    /// <summary>Begins with a mount of this process, whose connection lives.</summary>
    public static GoneMounts Begin(string stateDirectory, Guid fileSystem, HostIdentity host, Guid mount, uint connection) =>
        new(stateDirectory, fileSystem, MountReceipt.Of(stateDirectory, fileSystem, host.Boot, mount, connection), FuseConnections.Open(connection));

    /// <summary>Leaves the receipt of this mount, once: from now on a successor can prove that it is gone. One thread; throws
    /// IOException.</summary>
    public void LeaveReceipt()
    {
        if (_hasLeft)
            return;
        // A mount that was taken over has left it.
        if (!_own.IsLeft)
            _own.Leave();
        _hasLeft = true;
    }

    /// <summary>A mount whose line says that it has ended, or of which the log says that it is gone. Its entry may be another's.</summary>
    public static bool IsOver(MountLine line, ReplayState state) => line.State == MountState.Ended || IsProvedGone(state, line.Host, line.Mount, line.ReplayedSequence);

    /// <summary>Takes away the receipts of older mounts of which the log says that they are gone: nobody has to prove it
    /// again.</summary>
    public void ForgetRecorded(ReplayState state, Guid host)
    {
        foreach (MountReceipt receipt in MountReceipt.ReadAll(_stateDirectory, _fileSystem))
        {
            if (receipt.Mount != _own.Mount && IsProvedGone(state, host, receipt.Mount, new(ulong.MaxValue)))
                receipt.Delete();
        }
    }

    /// <summary>Older mounts of this boot whose superblock is gone, at most as many as a Hello may name. The others come when
    /// these are recorded.</summary>
    public IReadOnlyList<OlderMount> FindOlder()
    {
        List<OlderMount> gone = [];
        foreach (MountReceipt receipt in MountReceipt.ReadAll(_stateDirectory, _fileSystem))
        {
            if (receipt.Mount == _own.Mount)
                continue;
            if (gone.Count == MaxOlder)
                break;
            bool isOurs = receipt.Connection == _own.Connection;
            if (receipt.Boot != _own.Boot)
                receipt.Delete(); // another boot's mounts are gone with it; the new boot id says so
            else if (isOurs || _connections.IsGone(receipt.Connection))
                gone.Add(new() { MountId = receipt.Mount.ToByteString(), Evidence = GoneEvidence.SuperblockGone, Detail = $"connection {receipt.Connection} disappeared{(isOurs ? " and is another mount's now" : "")}" });
        }
        return gone;
    }

    /// <summary>Mounts of this boot, but for this one, of which there is a receipt: each may have a line.</summary>
    public IReadOnlyCollection<Guid> FindReceipts() =>
        [.. MountReceipt.ReadAll(_stateDirectory, _fileSystem).Where(r => r.Mount != _own.Mount && r.Boot == _own.Boot).Select(r => r.Mount)];

    // Who went on without a mount's records has not proved that it is gone: it may have files open for as long as its kernel has it.
    private static bool IsProvedGone(ReplayState state, Guid host, Guid mount, LogSequence replayed) =>
        state.FindGone(host, mount, replayed) is { Evidence: not GoneEvidence.LossAccepted };

    /// <summary>Takes away the receipts of older mounts that nothing is left to be said of.</summary>
    public void Forget(IReadOnlyCollection<Guid> over)
    {
        foreach (MountReceipt receipt in over.Count == 0 ? [] : MountReceipt.ReadAll(_stateDirectory, _fileSystem))
        {
            if (receipt.Mount != _own.Mount && over.Contains(receipt.Mount))
                receipt.Delete();
        }
    }

    /// <summary>This mount's superblock is gone. Where connections cannot be seen, only an end that
    /// <paramref name="endedByKernel"/> came from the kernel itself proves it.</summary>
    public bool IsOwnGone(bool endedByKernel) => _connections.Visible ? _connections.IsGone(_own.Connection) : endedByKernel;

    /// <summary>The end of this mount is in the host table, or it never had a line: no successor has to prove it. Takes its receipt
    /// away.</summary>
    public void Forget() => _own.Delete();

    /// <inheritdoc/>
    public void Dispose() => _connections.Dispose();
}
