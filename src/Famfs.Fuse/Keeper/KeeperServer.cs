using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Fuse.Keeper;

/// <summary>
/// The keeper of a host: holds open files for daemons that may die, and knows nothing of what they are. It serves processes of its
/// own user alone. One thread; it waits for nobody: who does not take its answer is cut off.
/// <para>What has had no holder for too long, or when this keeper ends, it gives up: it lets go of it in order, if it knows how, and
/// closes it.</para>
/// </summary>
internal sealed class KeeperServer : IDisposable
{
    /// <summary>Most keys (chosen: mounts of one host).</summary>
    public const int MaxEntries = 64;

    /// <summary>Most connections (chosen: twice as many).</summary>
    public const int MaxConnections = 128;

    // Chosen: how soon it sees that it is told to end.
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(250);

    // Chosen: how soon it sees that a process which was killed, and cannot die, is as good as dead. Nothing but /proc shows that.
    private static readonly TimeSpan PauseWhileAwaited = TimeSpan.FromMilliseconds(10);

    private readonly Socket _listener;
    private readonly string _path;
    private readonly FileStream _lock;
    private readonly Action<string> _say;
    private readonly Func<string, string?> _letGo;
    private readonly TimeSpan _patience;
    private readonly TimeSpan _lastPatience;
    private readonly List<Connection> _connections = [];
    private readonly Dictionary<string, Entry> _entries = [];
    private readonly byte[] _message = new byte[KeeperMessage.MaxBytes];

    private KeeperServer(Socket listener, string path, FileStream held, Action<string> say, Func<string, string?> letGo, TimeSpan patience, TimeSpan lastPatience) =>
        (_listener, _path, _lock, _say, _letGo, _patience, _lastPatience) = (listener, path, held, say, letGo, patience, lastPatience);

    /// <summary>Begins to listen. Throws <see cref="FamfsException"/> with the path where another keeper is, or where it cannot.</summary>
    /// <param name="path">Of the socket; its directory is made, for its owner alone.</param>
    /// <param name="say">Takes a line for the operator.</param>
    /// <param name="letGo">Given a key that is given up, before its files are closed; gives what did not work, or null.</param>
    /// <param name="patience">How long something may be without a holder; zero: for any time.</param>
    /// <param name="lastPatience">How long it may be so before this keeper ends: who restarts both lets the holder go first.</param>
    public static KeeperServer Start(string path, Action<string> say, Func<string, string?> letGo, TimeSpan patience = default, TimeSpan lastPatience = default)
    {
        const int Backlog = 16;
        const UnixFileMode OwnerAlone = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        if (OperatingSystem.IsWindows())
            throw new PlatformNotSupportedException("a keeper keeps descriptors of Linux");
        if (Encoding.UTF8.GetByteCount(path) > MasterSocket.MaxPathBytes)
            throw new FamfsException(ErrorReason.BadPath, $"{path}: is longer than {MasterSocket.MaxPathBytes} bytes") { Path = path, Limit = MasterSocket.MaxPathBytes };
        string directory = Path.GetDirectoryName(path)!;
        FileStream? held = null;
        Socket? listener = null;
        try
        {
            Directory.CreateDirectory(directory, OwnerAlone);
            File.SetUnixFileMode(directory, OwnerAlone);
            held = TryLock(Path.Combine(directory, "lock")) ?? throw new FamfsException(ErrorReason.Exists, $"{path}: another keeper runs here") { Path = path };
            File.Delete(path); // of one that has died
            listener = new(AddressFamily.Unix, SocketType.Seqpacket, ProtocolType.Unspecified);
            listener.Bind(new UnixDomainSocketEndPoint(path));
            listener.Listen(Backlog);
            return new(listener, path, held, say, letGo, patience, lastPatience);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or SocketException)
        {
            listener?.Dispose();
            held?.Dispose();
            throw new FamfsException(ErrorReason.BadPath, $"{path}: {error.Message}", error) { Path = path };
        }
    }

    /// <summary>Keys that are kept.</summary>
    public int EntryCount => _entries.Count;

    /// <summary>Serves until it is told to end. What it holds is closed by <see cref="Dispose"/>.</summary>
    public void Run(CancellationToken cancel)
    {
        while (!cancel.IsCancellationRequested)
            ServeTurn();
        // Who has just left is known when its socket is read.
        ServeTurn();
        long told = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(told) < _lastPatience && _entries.Values.Any(e => HolderOf(e) is null && (e.AloneSince is not { } since || Stopwatch.GetElapsedTime(since) < _lastPatience)))
            ServeTurn();
        foreach ((string key, Entry entry) in _entries.Where(e => HolderOf(e.Value) is null).ToList())
            GiveUp(key, entry, "this keeper ends");
    }

    private void ServeTurn()
    {
        List<Socket> ready = [_listener, .. _connections.Select(c => c.Socket)];
        Socket.Select(ready, null, null, _entries.Values.Any(e => e.Awaiting.Count > 0) ? PauseWhileAwaited : Pause);
        foreach (Socket socket in ready)
        {
            if (socket == _listener)
                Accept();
            else if (_connections.Find(c => c.Socket == socket) is { } connection)
                Serve(connection);
        }
        TellWhoWaits();
        GiveUpWhatIsOld();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Connection connection in _connections)
            connection.Socket.Dispose();
        foreach (Entry entry in _entries.Values)
            entry.Close();
        _listener.Dispose();
        File.Delete(_path);
        _lock.Dispose();
    }

    private static FileStream? TryLock(string path)
    {
        try
        {
            return new(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException) when (File.Exists(path))
        {
            return null;
        }
    }

    private void Accept()
    {
        Socket socket;
        try
        {
            socket = _listener.Accept();
        }
        catch (SocketException)
        {
            return; // it has gone again, or there is no descriptor left
        }
        try
        {
            PeerCredentials peer = PeerCredentials.Read(socket);
            Connection connection = new(socket, peer.Pid);
            string? refusal = peer.Uid != ProcessOwner.Uid ? $"user {peer.Uid} may not use this keeper, only user {ProcessOwner.Uid}"
                : _connections.Count >= MaxConnections ? $"this keeper has {MaxConnections} connections, the limit"
                : null;
            if (refusal is null)
            {
                _connections.Add(connection);
                return;
            }
            _ = TrySend(connection, new(KeeperMessage.Refused, refusal), []);
        }
        catch (SocketException)
        {
            // It has gone again.
        }
        socket.Dispose();
    }

    private void Serve(Connection connection)
    {
        SafeFileHandle[] descriptors = [];
        KeeperMessage answer;
        IReadOnlyList<SafeHandle> given = [];
        try
        {
            int length = DescriptorSocket.Receive(connection.Socket, _message, out descriptors, wait: false);
            if (length == 0)
            {
                Close(connection);
                return;
            }
            KeeperMessage request = KeeperMessage.Parse(_message.AsSpan(0, length));
            answer = Perform(connection, request, ref descriptors, out given);
        }
        catch (SocketException error) when (error.SocketErrorCode == SocketError.MessageSize)
        {
            answer = new(KeeperMessage.Refused, $"a message has at most {KeeperMessage.MaxBytes} bytes and {DescriptorSocket.MaxDescriptors} files, or this keeper can open no more");
        }
        catch (SocketException error)
        {
            if (error.SocketErrorCode != SocketError.TimedOut)
                Close(connection);
            return;
        }
        catch (FamfsException error)
        {
            answer = new(KeeperMessage.Refused, error.Message);
        }
        foreach (SafeFileHandle unused in descriptors)
            unused.Dispose();
        if (!TrySend(connection, answer, given))
            Close(connection);
    }

    private KeeperMessage Perform(Connection connection, KeeperMessage request, ref SafeFileHandle[] descriptors, out IReadOnlyList<SafeHandle> given)
    {
        given = [];
        if (request.Word == KeeperMessage.List)
            return new(KeeperMessage.Ok, string.Join('\n', _entries.OrderBy(e => e.Key, StringComparer.Ordinal).Select(e =>
                string.Create(CultureInfo.InvariantCulture, $"{(HolderOf(e.Value) is { } held ? held.Pid == 0 ? int.MaxValue : held.Pid : 0)} {e.Value.Descriptors.Length} {e.Key}"))));
        if (request.Word is not (KeeperMessage.Put or KeeperMessage.Get or KeeperMessage.Drop))
            return new(KeeperMessage.Refused, "a keeper knows put, get, drop and list");
        if (KeeperMessage.FindKeyFault(request.Rest) is { } fault)
            return new(KeeperMessage.Refused, fault);
        string key = request.Rest;
        _entries.TryGetValue(key, out Entry? entry);
        if (entry is not null && HolderOf(entry) is { } holder && holder != connection)
        {
            if (request.Word == KeeperMessage.Get)
            {
                _ = TrySend(holder, new(KeeperMessage.Leave, key), []); // one that takes nothing is asked again
                entry.Awaiting.Add(connection);
            }
            return new(KeeperMessage.Busy, holder.Pid.ToString(CultureInfo.InvariantCulture));
        }
        switch (request.Word)
        {
            case KeeperMessage.Put when descriptors.Length == 0:
                return new(KeeperMessage.Refused, "nothing was given to be kept");
            case KeeperMessage.Put when entry is null && _entries.Count >= MaxEntries:
                return new(KeeperMessage.Refused, $"this keeper has {MaxEntries} keys, the limit");
            case KeeperMessage.Put:
                Replace(key, entry, new(descriptors) { Holder = connection });
                _say($"keeps {descriptors.Length} files of {key} for process {connection.Pid}");
                descriptors = [];
                return new(KeeperMessage.Ok, "");
            case KeeperMessage.Get when entry is null:
                return new(KeeperMessage.Absent, "");
            case KeeperMessage.Get:
                entry!.Holder = connection;
                given = entry.Descriptors;
                _say($"gave {key} to process {connection.Pid}");
                return new(KeeperMessage.Ok, "");
            default:
                if (entry is null)
                    return new(KeeperMessage.Absent, "");
                Replace(key, entry, null);
                _say($"dropped {key}");
                return new(KeeperMessage.Ok, "");
        }
    }

    private void GiveUpWhatIsOld()
    {
        foreach ((string key, Entry entry) in _entries.ToList())
        {
            // Not one that is about to die: only a connection that has ended is asked for here, again and again.
            bool isAlone = entry.Holder is null or { IsClosed: true };
            entry.AloneSince = isAlone ? entry.AloneSince ?? Stopwatch.GetTimestamp() : null;
            if (_patience > TimeSpan.Zero && entry.AloneSince is { } since && Stopwatch.GetElapsedTime(since) >= _patience)
                GiveUp(key, entry, string.Create(CultureInfo.InvariantCulture, $"no process has had it for {_patience.TotalSeconds:0} s"));
        }
    }

    private void GiveUp(string key, Entry entry, string why)
    {
        string? fault = _letGo(key);
        Replace(key, entry, null);
        _say($"gave up {key}: {why}{(fault is null ? "" : $"; {fault}")}");
    }

    private void Replace(string key, Entry? former, Entry? next)
    {
        former?.Close();
        foreach (Connection waiting in former?.Awaiting ?? [])
        {
            if (next is not null)
                next.Awaiting.Add(waiting);
            else if (!waiting.IsClosed)
                _ = TrySend(waiting, new(KeeperMessage.Left, key), []);
        }
        if (next is null)
            _entries.Remove(key);
        else
            _entries[key] = next;
    }

    // All of them: who asks first is the next holder, and the others are told so.
    private void TellWhoWaits()
    {
        foreach ((string key, Entry entry) in _entries)
        {
            if (entry.Awaiting.Count == 0 || HolderOf(entry) is not null)
                continue;
            foreach (Connection connection in entry.Awaiting.Where(c => !c.IsClosed))
                _ = TrySend(connection, new(KeeperMessage.Left, key), []); // one that takes nothing asks again by itself
            entry.Awaiting.Clear();
        }
    }

    // A process that is about to die may be kept by a call that only its successor can end.
    private static Connection? HolderOf(Entry entry) =>
        entry.Holder is { IsClosed: false } holder && !HolderProcess.IsDying(holder.Pid) ? holder : null;

    private static bool TrySend(Connection connection, KeeperMessage message, IReadOnlyList<SafeHandle> descriptors)
    {
        try
        {
            DescriptorSocket.Send(connection.Socket, message.Format(), descriptors, wait: false);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    private void Close(Connection connection)
    {
        connection.IsClosed = true;
        connection.Socket.Dispose();
        _connections.Remove(connection);
        foreach (Entry entry in _entries.Values)
            entry.Awaiting.Remove(connection);
    }

    private sealed class Connection(Socket socket, int pid)
    {
        public Socket Socket => socket;

        public int Pid => pid;

        public bool IsClosed { get; set; }
    }

    private sealed class Entry(SafeFileHandle[] descriptors)
    {
        public SafeFileHandle[] Descriptors => descriptors;

        public Connection? Holder { get; set; }

        public long? AloneSince { get; set; }

        public HashSet<Connection> Awaiting { get; } = [];

        public void Close()
        {
            foreach (SafeFileHandle descriptor in descriptors)
                descriptor.Dispose();
        }
    }
}
