using Famfs.Core;
using Famfs.Core.Interop;

namespace Famfs.Client;

/// <summary>Who keeps a mount from being taken away, as far as it can be known.</summary>
/// <param name="Holders">Processes that work in, have open or have mapped something of it.</param>
/// <param name="MountsOnIt">Places below it where something is mounted.</param>
public sealed record MountUse(IReadOnlyList<MountHolder> Holders, IReadOnlyList<string> MountsOnIt)
{
    private const int MaxNames = 8;

    /// <summary>Nobody was found.</summary>
    public bool IsUnknown => Holders.Count == 0 && MountsOnIt.Count == 0;

    /// <summary>" by fio (12), bash (7), the mount at /mnt/x/y": at most eight names, empty when nobody was found.</summary>
    public string Words
    {
        get
        {
            string[] names = [.. Holders.Select(h => h.ToString()), .. MountsOnIt.Select(m => $"the mount at {m}")];
            return names.Length switch
            {
                0 => "",
                <= MaxNames => $" by {string.Join(", ", names)}",
                _ => $" by {string.Join(", ", names[..MaxNames])} and {names.Length - MaxNames} more",
            };
        }
    }

    /// <summary>", used by …"; empty when nobody was found.</summary>
    public string Used => IsUnknown ? "" : $", used{Words}";
}

/// <summary>Takes mounts away that nobody uses.</summary>
public static class Unmounting
{
    /// <summary>How long a mount may be busy without a user that can be seen. Chosen: far above what a call on it takes.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    private static readonly TimeSpan s_poll = TimeSpan.FromMilliseconds(20);

    /// <summary>
    /// Unmounts, never lazily. Null when it is done, else who uses it. A call on a mount keeps it busy while it lasts, and so does a
    /// process that is ending; neither has a descriptor that could be found. So it is tried again while nobody is found, and for
    /// <paramref name="patience"/> at most. Errors other than EBUSY as of <see cref="PathErrors.Of"/>.
    /// </summary>
    /// <param name="mountPoint">Place of the mount, as the table has it.</param>
    /// <param name="tablePath">Table of mounts (proc_pid_mountinfo(5)).</param>
    /// <param name="clock">Clock of the wait.</param>
    /// <param name="cancel">Ends the wait.</param>
    /// <param name="patience"><see cref="Patience"/> unless given.</param>
    public static Task<MountUse?> TryAsync(string mountPoint, string tablePath, TimeProvider clock, CancellationToken cancel, TimeSpan? patience = null) =>
        TryAsync(mountPoint, () => MountCalls.Unmount(mountPoint, lazily: false), () => Find(mountPoint, tablePath), clock, patience ?? Patience, cancel);

    /// <summary>The same for who unmounts in a way of its own: <paramref name="unmount"/> gives 0, or an error number.</summary>
    public static Task<MountUse?> TryAsync(string mountPoint, Func<int> unmount, string tablePath, TimeProvider clock, CancellationToken cancel) =>
        TryAsync(mountPoint, unmount, () => Find(mountPoint, tablePath), clock, Patience, cancel);

    /// <inheritdoc cref="TryAsync(string, string, TimeProvider, CancellationToken, TimeSpan?)"/>
    internal static async Task<MountUse?> TryAsync(string mountPoint, Func<int> unmount, Func<MountUse> find, TimeProvider clock, TimeSpan patience, CancellationToken cancel)
    {
        long start = clock.GetTimestamp();
        while (true)
        {
            int errno = unmount();
            if (errno == 0)
                return null;
            if (errno != Errno.EBUSY)
                throw PathErrors.Of(mountPoint, errno);
            MountUse use = find();
            if (!use.IsUnknown || clock.GetElapsedTime(start) >= patience)
                return use;
            await Task.Delay(s_poll, clock, cancel).ConfigureAwait(false);
        }
    }

    private static MountUse Find(string mountPoint, string tablePath) =>
        new(MountCalls.FindHolders(mountPoint), [.. MountEntry.ReadTable(tablePath).Select(e => e.MountPoint).Where(p => p.StartsWith(mountPoint + "/", StringComparison.Ordinal))]);
}
