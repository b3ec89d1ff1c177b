using System.Globalization;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Famfs.Core;
using Famfs.Core.Interop;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Fuse.Keeper;

/// <summary>A daemon's connection to <see cref="KeeperServer"/>. As long as it is open, what was put or taken is this process's.</summary>
internal sealed class SocketKeeper : IDescriptorKeeper
{
    // Chosen: a keeper answers in microseconds.
    private const int PatienceMs = 5000;

    private readonly Socket _socket;
    private readonly byte[] _message = new byte[KeeperMessage.MaxBytes];
    private bool _leave;

    private SocketKeeper(Socket socket) => _socket = socket;

    /// <summary>Where the keeper of a host listens.</summary>
    public static string PathIn(string stateDirectory) => Path.Combine(stateDirectory, "keeper", "socket");

    /// <summary>Connects; null where no keeper of this user listens.</summary>
    public static SocketKeeper? TryConnect(string path)
    {
        if (!File.Exists(path))
            return null;
        Socket socket = new(AddressFamily.Unix, SocketType.Seqpacket, ProtocolType.Unspecified) { ReceiveTimeout = PatienceMs, SendTimeout = PatienceMs };
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(path));
            if (PeerCredentials.Read(socket).Uid == ProcessOwner.Uid)
                return new(socket);
        }
        catch (Exception error) when (error is SocketException or ArgumentException)
        {
            // Nobody listens, or the path is too long for anybody to.
        }
        socket.Dispose();
        return null;
    }

    /// <inheritdoc/>
    public TakeOutcome TryTake(string key, out SafeFileHandle[] descriptors, out int holder)
    {
        KeeperMessage answer = Ask(new(KeeperMessage.Get, key), [], out descriptors);
        holder = answer.Word == KeeperMessage.Busy && int.TryParse(answer.Rest, CultureInfo.InvariantCulture, out int process) ? process : 0;
        return answer.Word switch
        {
            KeeperMessage.Busy => TakeOutcome.Busy,
            KeeperMessage.Ok when descriptors.Length > 0 => TakeOutcome.Taken,
            _ => TakeOutcome.Absent,
        };
    }

    /// <inheritdoc/>
    public void Keep(string key, IReadOnlyList<SafeHandle> descriptors)
    {
        if (descriptors.Count > DescriptorSocket.MaxDescriptors)
            throw new IOException($"a keeper takes {DescriptorSocket.MaxDescriptors} files of a mount, this one has {descriptors.Count}: use fewer --workers");
        KeeperMessage answer = Ask(new(KeeperMessage.Put, key), descriptors, out _);
        if (answer.Word != KeeperMessage.Ok)
            throw new IOException($"process {answer.Rest} has this mount point's place at the keeper");
    }

    /// <inheritdoc/>
    public void Drop(string key) => _ = Ask(new(KeeperMessage.Drop, key), [], out _);

    /// <summary>What it keeps, a line each (<see cref="KeeperMessage"/>). Errors as of the others.</summary>
    public string List() => Ask(new(KeeperMessage.List, ""), [], out _).Rest;

    /// <inheritdoc/>
    public KeeperNews Poll()
    {
        try
        {
            while (!_leave && _socket.Poll(0, SelectMode.SelectRead))
            {
                if (Receive(out SafeFileHandle[] unasked) is not { } told)
                    return KeeperNews.Lost;
                foreach (SafeFileHandle descriptor in unasked)
                    descriptor.Dispose();
                _leave |= told.Word == KeeperMessage.Leave;
            }
        }
        catch (Exception error) when (error is SocketException or FamfsException)
        {
            return KeeperNews.Lost;
        }
        bool leave = _leave;
        _leave = false;
        return leave ? KeeperNews.Leave : KeeperNews.None;
    }

    /// <inheritdoc/>
    public void Dispose() => _socket.Dispose();

    private KeeperMessage Ask(KeeperMessage request, IReadOnlyList<SafeHandle> given, out SafeFileHandle[] descriptors)
    {
        try
        {
            DescriptorSocket.Send(_socket, request.Format(), given);
            while (true)
            {
                if (Receive(out descriptors) is not { } answer)
                    throw new IOException("the keeper has ended");
                switch (answer.Word)
                {
                    case KeeperMessage.Leave:
                        _leave = true;
                        continue;
                    case KeeperMessage.Refused:
                        throw new IOException($"the keeper refused: {answer.Rest}");
                    default:
                        return answer;
                }
            }
        }
        catch (Exception error) when (error is SocketException or FamfsException)
        {
            throw new IOException($"the keeper does not answer: {error.Message}", error);
        }
    }

    private KeeperMessage? Receive(out SafeFileHandle[] descriptors)
    {
        int length = DescriptorSocket.Receive(_socket, _message, out descriptors);
        return length == 0 ? null : KeeperMessage.Parse(_message.AsSpan(0, length));
    }
}
