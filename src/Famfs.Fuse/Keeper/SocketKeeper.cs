using System.Globalization;
using System.Runtime.InteropServices;
using Famfs.Core;
using Famfs.Core.Interop;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Fuse.Keeper;

/// <summary>A daemon's connection to <see cref="KeeperServer"/>. As long as it is open, what was put or taken is this process's.</summary>
internal sealed class SocketKeeper : IDescriptorKeeper
{
    private readonly KeeperConnection _connection;

    private SocketKeeper(KeeperConnection connection) => _connection = connection;

    /// <inheritdoc/>
    public string Name => KeeperProgram.Name;

    /// <summary>Connects; null where no keeper of this user listens.</summary>
    public static SocketKeeper? TryConnect(string path) => KeeperConnection.TryConnect(path) is { } connection ? new(connection) : null;

    /// <inheritdoc/>
    public TakeOutcome TryTake(string key, out SafeFileHandle[] descriptors, out int holder)
    {
        KeeperMessage answer = _connection.Ask(new(KeeperMessage.Get, key), [], out descriptors);
        holder = answer.Word == KeeperMessage.Busy && int.TryParse(answer.Rest, CultureInfo.InvariantCulture, out int process) ? process : 0;
        return answer.Word switch
        {
            KeeperMessage.Busy => TakeOutcome.Busy,
            KeeperMessage.Ok when descriptors.Length > 0 => TakeOutcome.Taken,
            _ => TakeOutcome.Absent,
        };
    }

    /// <inheritdoc/>
    public bool AwaitLeft(TimeSpan patience) => _connection.AwaitLeft(patience);

    /// <inheritdoc/>
    public void Keep(string key, IReadOnlyList<SafeHandle> descriptors)
    {
        if (descriptors.Count > DescriptorSocket.MaxDescriptors)
            throw new IOException($"a keeper takes {DescriptorSocket.MaxDescriptors} files of a mount, this one has {descriptors.Count}: use fewer --workers");
        KeeperMessage answer = _connection.Ask(new(KeeperMessage.Put, key), descriptors, out _);
        if (answer.Word != KeeperMessage.Ok)
            throw new IOException($"process {answer.Rest} has this mount point's place at the keeper");
    }

    /// <inheritdoc/>
    public void Drop(string key) => _ = _connection.TryDrop(key);

    /// <summary>What it keeps. Errors as of the others.</summary>
    public IReadOnlyList<KeptFiles> List() => _connection.List();

    /// <inheritdoc/>
    public KeeperNews Poll() => !_connection.TryPoll(out bool leave) ? KeeperNews.Lost : leave ? KeeperNews.Leave : KeeperNews.None;

    /// <inheritdoc/>
    public void Dispose() => _connection.Dispose();
}
