using System.Collections.Concurrent;
using System.Net.Sockets;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;
using Microsoft.Extensions.Logging;

namespace Famfs.Fuse.Daemon;

/// <summary>
/// Takes devices from an operator while the mount serves (<see cref="MountSocket"/>): from root and from this process's user, whom the
/// kernel names. One caller at a time on the thread pool; what is asked for is done by <see cref="Perform"/>, on upkeep.
/// </summary>
internal sealed class ControlSocket : IDisposable
{
    // Chosen: a request is a line.
    private static readonly TimeSpan RequestTime = TimeSpan.FromSeconds(5);

    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);

    private readonly Socket _socket;
    private readonly ILogger _log;
    private readonly CancellationTokenSource _ending = new();
    private readonly ConcurrentQueue<Request> _waiting = new();
    private readonly Task _serving;

    private ControlSocket(Socket socket, ILogger log)
    {
        (_socket, _log) = (socket, log);
        _serving = Task.Run(ServeAsync);
    }

    /// <summary>Listens for a mount. Null, which is logged, where that cannot be done: the mount serves without.</summary>
    public static ControlSocket? TryStart(Guid mount, ILogger log)
    {
        const int Backlog = 16;
        Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            socket.Bind(new UnixDomainSocketEndPoint(MountSocket.AddressOf(mount)));
            socket.Listen(Backlog);
            return new(socket, log);
        }
        catch (SocketException error)
        {
            socket.Dispose();
            DaemonLog.Problem(log, $"this mount takes no devices from `famfs devices attach`: {error.Message}");
            return null;
        }
    }

    /// <summary>Does what is asked for. Upkeep thread.</summary>
    public void Perform(Func<string, DeviceIndex> attach)
    {
        while (_waiting.TryDequeue(out Request? request))
        {
            try
            {
                request.Answer.TrySetResult(MountSocket.FormatDone(attach(request.Path)));
            }
            catch (Exception error)
            {
                request.Answer.TrySetResult(MountSocket.FormatRefusal(error as FamfsException ?? new(ErrorReason.DeviceMissing, $"{request.Path}: {error.Message}", error)));
            }
        }
    }

    /// <summary>Takes no more requests; those that wait are refused.</summary>
    public void Dispose()
    {
        _ending.Cancel();
        _socket.Dispose();
        Perform(path => throw new FamfsException(ErrorReason.HostGone, $"{path}: the mount is ending") { Path = path });
        _serving.GetAwaiter().GetResult();
        _ending.Dispose();
    }

    private async Task ServeAsync()
    {
        while (!_ending.IsCancellationRequested)
        {
            try
            {
                using Socket caller = await _socket.AcceptAsync(_ending.Token).ConfigureAwait(false);
                await AnswerAsync(caller).ConfigureAwait(false);
            }
            catch (Exception error) when (error is OperationCanceledException or ObjectDisposedException)
            {
                // Over, or a caller that said nothing in its time.
            }
            catch (SocketException error)
            {
                if (!_ending.IsCancellationRequested)
                    DaemonLog.Problem(_log, $"a request to this mount failed: {error.Message}");
                // What fails at once fails for long, as for want of descriptors.
                await Task.Delay(Pause, _ending.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    private async Task AnswerAsync(Socket caller)
    {
        uint uid = PeerCredentials.Read(caller).Uid;
        if (uid != 0 && uid != ProcessOwner.Uid)
        {
            await SendAsync(caller, MountSocket.FormatRefusal(new(ErrorReason.NotPermitted, $"user {uid} may not give devices to this mount; root and the user of its daemon may"))).ConfigureAwait(false);
            return;
        }
        byte[] bytes = new byte[MountSocket.MaxBytes];
        int length = 0;
        using (CancellationTokenSource over = CancellationTokenSource.CreateLinkedTokenSource(_ending.Token))
        {
            over.CancelAfter(RequestTime);
            while (length < bytes.Length && await caller.ReceiveAsync(bytes.AsMemory(length), over.Token).ConfigureAwait(false) is > 0 and int more)
                length += more;
        }
        Request request;
        try
        {
            request = new(MountSocket.ParseAttach(bytes.AsSpan(0, length)));
        }
        catch (FamfsException error)
        {
            await SendAsync(caller, MountSocket.FormatRefusal(error)).ConfigureAwait(false);
            return;
        }
        _waiting.Enqueue(request);
        await SendAsync(caller, await request.Answer.Task.WaitAsync(_ending.Token).ConfigureAwait(false)).ConfigureAwait(false);
    }

    private async Task SendAsync(Socket caller, byte[] answer) => await caller.SendAsync(answer, _ending.Token).ConfigureAwait(false);

    private sealed record Request(string Path)
    {
        public TaskCompletionSource<byte[]> Answer { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
