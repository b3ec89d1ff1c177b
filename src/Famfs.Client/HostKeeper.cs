using Famfs.Core;
using Famfs.V1;

namespace Famfs.Client;

/// <summary>The keeper of this host (docs/keeping.md), as somebody sees it who serves no mount.</summary>
public static class HostKeeper
{
    /// <summary>What it keeps; null where no keeper of this user runs. Throws <see cref="IOException"/> when it does not answer.</summary>
    /// <param name="stateDirectory">Of this host's identity.</param>
    public static IReadOnlyList<KeptFiles>? TryList(string stateDirectory)
    {
        using KeeperConnection? keeper = KeeperConnection.TryConnect(KeeperConnection.PathIn(stateDirectory));
        return keeper?.List();
    }

    /// <summary>A mount is kept and has no daemon: who uses it waits for the next one. Where the keeper cannot be asked it is not known,
    /// which is false.</summary>
    /// <param name="stateDirectory">Of this host's identity.</param>
    /// <param name="mountPoint">As <see cref="MountEntry.PlaceOf"/> names it.</param>
    public static bool HasWithoutDaemon(string stateDirectory, string mountPoint)
    {
        try
        {
            return TryList(stateDirectory)?.Any(kept => kept.Key == mountPoint && kept.Holder == 0) == true;
        }
        catch (IOException)
        {
            return false;
        }
    }

    /// <summary>The mount is unmounted: what is kept of it is closed, which ends it for whoever still has a file open, and frees its devices.
    /// Throws EXISTS when a daemon has it now.</summary>
    /// <inheritdoc cref="HasWithoutDaemon" path="/param"/>
    public static void Drop(string stateDirectory, string mountPoint)
    {
        using KeeperConnection? keeper = KeeperConnection.TryConnect(KeeperConnection.PathIn(stateDirectory));
        if (keeper?.TryDrop(mountPoint) == false)
            throw new FamfsException(ErrorReason.Exists, $"{mountPoint}: a daemon has taken it over meanwhile") { Path = mountPoint };
    }
}
