using System.Globalization;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Famfs.Core.Interop;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Core;

/// <summary>Files that a keeper has under one key.</summary>
/// <param name="Holder">Process that they belong to now; 0: none; <see cref="int.MaxValue"/>: one that the keeper cannot see.</param>
/// <param name="Count">How many.</param>
/// <param name="Key">For a mount: its place.</param>
public readonly record struct KeptFiles(int Holder, int Count, string Key);

/// <summary>A connection to the keeper of a host (<see cref="KeeperMessage"/>). One thread at a time. Errors of the calls:
/// <see cref="IOException"/>, in a line; the keeper is then gone, or has refused.</summary>
public sealed class KeeperConnection : IDisposable
{
    // Chosen: a keeper answers in microseconds.
    private const int PatienceMs = 5000;

    private readonly Socket _socket;
    private readonly byte[] _message = new byte[KeeperMessage.MaxBytes];
    private bool _leave;

    private KeeperConnection(Socket socket) => _socket = socket;

    /// <summary>Where the keeper of a host listens.</summary>
    public static string PathIn(string stateDirectory) => Path.Combine(Path.GetFullPath(stateDirectory), "keeper", "socket");

    /// <summary>Connects; null where no keeper of this user listens.</summary>
    public static KeeperConnection? TryConnect(string path)
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

    /// <summary>Sends a request and gives the answer that is none of the words <c>refused</c>, <c>leave</c>, <c>left</c>.</summary>
    /// <param name="request">What is asked.</param>
    /// <param name="given">Files that go with it; they stay open here.</param>
    /// <param name="descriptors">Files that came with the answer; the caller closes them.</param>
    public KeeperMessage Ask(KeeperMessage request, IReadOnlyList<SafeHandle> given, out SafeFileHandle[] descriptors)
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
                    case KeeperMessage.Left:
                        continue; // of a wait that is over
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

    /// <summary>All that it has.</summary>
    public IReadOnlyList<KeptFiles> List() =>
        [.. Ask(new(KeeperMessage.List, ""), [], out _).Rest.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(Parse)];

    /// <summary>Has what is kept under a key closed. False when another process holds it: nothing was done.</summary>
    public bool TryDrop(string key) => Ask(new(KeeperMessage.Drop, key), [], out _).Word != KeeperMessage.Busy;

    /// <summary>After the answer <c>busy</c>: waits until the keeper tells that the holder has left. False when it has not told within
    /// <paramref name="patience"/>.</summary>
    public bool AwaitLeft(TimeSpan patience)
    {
        try
        {
            if (!_socket.Poll(patience, SelectMode.SelectRead))
                return false;
            if (ReceiveAlone() is not { } told)
                throw new IOException("the keeper has ended");
            _leave |= told.Word == KeeperMessage.Leave;
            return told.Word == KeeperMessage.Left;
        }
        catch (Exception error) when (error is SocketException or FamfsException)
        {
            throw new IOException($"the keeper does not answer: {error.Message}", error);
        }
    }

    /// <summary>Takes what it has told without being asked. False: the keeper is gone. Does not wait.</summary>
    /// <param name="leave">Another waits for what this connection holds. Told once.</param>
    public bool TryPoll(out bool leave)
    {
        leave = false;
        try
        {
            while (!_leave && _socket.Poll(0, SelectMode.SelectRead))
            {
                if (ReceiveAlone() is not { } told)
                    return false;
                _leave |= told.Word == KeeperMessage.Leave;
            }
        }
        catch (Exception error) when (error is SocketException or FamfsException)
        {
            return false;
        }
        (leave, _leave) = (_leave, false);
        return true;
    }

    /// <inheritdoc/>
    public void Dispose() => _socket.Dispose();

    private static KeptFiles Parse(string line)
    {
        string[] parts = line.Split(' ', 3);
        return parts.Length == 3 && int.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out int holder)
            && int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out int count)
            ? new(holder, count, parts[2])
            : throw new IOException("the keeper's list has a line that is none");
    }

    private KeeperMessage? ReceiveAlone()
    {
        KeeperMessage? told = Receive(out SafeFileHandle[] unasked);
        foreach (SafeFileHandle descriptor in unasked)
            descriptor.Dispose();
        return told;
    }

    private KeeperMessage? Receive(out SafeFileHandle[] descriptors)
    {
        int length = DescriptorSocket.Receive(_socket, _message, out descriptors);
        return length == 0 ? null : KeeperMessage.Parse(_message.AsSpan(0, length));
    }
}
