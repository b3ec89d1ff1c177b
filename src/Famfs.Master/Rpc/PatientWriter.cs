using Famfs.Core;
using Famfs.V1;
using Grpc.Core;
using Microsoft.AspNetCore.Http;

namespace Famfs.Master.Rpc;

/// <summary>Writes to callers who may take nothing: what waits for them is memory of the master. Any thread.</summary>
internal sealed class PatientWriter(CallBudget budget, TimeProvider clock) : IDisposable
{
    private readonly Lock _gate = new();

    // Guarded by _gate: who holds part of the budget while an answer waits, and since when. Oldest first.
    private readonly LinkedList<(long SinceTimestamp, HttpContext Call)> _waiting = new();
    private bool _watching; // guarded by _gate

    /// <summary>Writes a message that holds nothing of the budget. Resets the call and throws TIMEOUT when the caller takes nothing
    /// for <see cref="CallLimits.Deafness"/>.</summary>
    public async Task WriteAsync<T>(IServerStreamWriter<T> stream, T message, ServerCallContext context)
    {
        Task writing = stream.WriteAsync(message, context.CancellationToken);
        if (!writing.IsCompleted)
        {
            try
            {
                await writing.WaitAsync(CallLimits.Deafness, clock).ConfigureAwait(false);
                return;
            }
            catch (TimeoutException)
            {
                context.GetHttpContext().Abort();
                // It ends with the call; what it says is known.
                await writing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                throw new FamfsException(ErrorReason.Timeout, $"the caller has taken nothing for {CallLimits.Deafness.TotalSeconds} s");
            }
        }
        await writing.ConfigureAwait(false);
    }

    /// <summary>Writes an answer that is charged. A caller may take as long as it likes, unless others are refused for
    /// want of room: then calls whose answer has waited for <see cref="CallLimits.Deafness"/> are reset.</summary>
    public async Task WriteChargedAsync<T>(IServerStreamWriter<T> stream, T message, ServerCallContext context, CancellationToken cancel)
    {
        Task writing = stream.WriteAsync(message, cancel);
        if (writing.IsCompleted)
        {
            await writing.ConfigureAwait(false);
            return;
        }
        LinkedListNode<(long, HttpContext)> own;
        lock (_gate)
        {
            if (!_watching)
                budget.Refused += CutDeaf;
            _watching = true;
            own = _waiting.AddLast((clock.GetTimestamp(), context.GetHttpContext()));
        }
        try
        {
            await writing.ConfigureAwait(false);
        }
        finally
        {
            lock (_gate)
                _waiting.Remove(own);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => budget.Refused -= CutDeaf;

    private void CutDeaf()
    {
        List<HttpContext> deaf = [];
        lock (_gate)
        {
            foreach ((long since, HttpContext call) in _waiting)
            {
                if (clock.GetElapsedTime(since) < CallLimits.Deafness)
                    break;
                deaf.Add(call);
            }
        }
        foreach (HttpContext call in deaf)
            call.Abort();
    }
}
