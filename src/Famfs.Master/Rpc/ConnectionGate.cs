using System.Buffers;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Connections;

namespace Famfs.Master.Rpc;

/// <summary>
/// Lets a connection in when it has said that it speaks HTTP/2. One that says nothing for <see cref="CallLimits.Announcement"/>
/// is closed. When too many have said nothing, each further one closes the oldest of them: whoever speaks at once is let in,
/// however many only connect. Any thread.
/// </summary>
internal sealed class ConnectionGate(TimeProvider clock, int limit = CallLimits.Unannounced)
{
    // PRI * HTTP/2.0, two empty lines, SM, two empty lines: RFC 9113, 3.4. What it says is for the server to read.
    private const int PrefaceBytes = 24;

    private readonly Lock _gate = new();

    // Guarded by _gate. Oldest first.
    private readonly LinkedList<ConnectionContext> _silent = new();

    /// <summary>Connections that have said nothing yet.</summary>
    public int SilentCount
    {
        get
        {
            lock (_gate)
                return _silent.Count;
        }
    }

    /// <summary>Waits for a connection to speak, then serves it.</summary>
    public async Task RunAsync(ConnectionContext connection, ConnectionDelegate next)
    {
        if (await SpeaksAsync(connection).ConfigureAwait(false))
            await next(connection).ConfigureAwait(false);
    }

    private async Task<bool> SpeaksAsync(ConnectionContext connection)
    {
        LinkedListNode<ConnectionContext> own = Add(connection);
        using CancellationTokenSource patience = new(CallLimits.Announcement, clock);
        using CancellationTokenSource over = CancellationTokenSource.CreateLinkedTokenSource(patience.Token, connection.ConnectionClosed);
        PipeReader input = connection.Transport.Input;
        try
        {
            while (true)
            {
                ReadResult result = await input.ReadAsync(over.Token).ConfigureAwait(false);
                bool enough = result.Buffer.Length >= PrefaceBytes;
                // What was looked at stays to be read.
                input.AdvanceTo(result.Buffer.Start, enough ? result.Buffer.Start : result.Buffer.End);
                if (enough)
                    return true;
                if (result.IsCompleted || result.IsCanceled)
                    return false;
            }
        }
        catch (OperationCanceledException)
        {
            connection.Abort(new ConnectionAbortedException($"no HTTP/2 preface within {CallLimits.Announcement.TotalSeconds} s"));
            return false;
        }
        catch (Exception error) when (error is IOException or ConnectionAbortedException)
        {
            // The other side has gone, or was the oldest of too many.
            return false;
        }
        finally
        {
            lock (_gate)
            {
                if (own.List is not null)
                    _silent.Remove(own);
            }
        }
    }

    private LinkedListNode<ConnectionContext> Add(ConnectionContext connection)
    {
        ConnectionContext? oldest = null;
        LinkedListNode<ConnectionContext> own;
        lock (_gate)
        {
            own = _silent.AddLast(connection);
            if (_silent.Count > limit)
            {
                oldest = _silent.First!.Value;
                _silent.RemoveFirst();
            }
        }
        oldest?.Abort(new ConnectionAbortedException($"more than {limit} connections have not spoken"));
        return own;
    }
}
