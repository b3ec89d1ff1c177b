using System.Diagnostics.CodeAnalysis;
using Famfs.Master.Changes;

namespace Famfs.Master.Engine;

/// <summary>
/// The operations that wait for the engine: in order for each connection, and the connections take turns. A connection that had
/// nothing waiting comes before those that always have, for one turn; so a lone request waits for the turn at hand and no longer,
/// and nobody starves (as flows do in fq_codel, RFC 8290). Connections are told apart by the identity of their
/// <see cref="Caller"/>. Any thread adds, one takes.
/// </summary>
/// <param name="capacity">Most operations that wait, in all.</param>
internal sealed class TurnQueue(int capacity)
{
    /// <summary>Operations of one turn (chosen: a batch has room for the turns of many connections).</summary>
    public const int OperationsPerTurn = 256;

    // Guards everything; pulsed when an operation comes and when no more will.
    private readonly object _gate = new();
    private readonly Dictionary<Caller, Flow> _flows = new(ReferenceEqualityComparer.Instance);
    private readonly Queue<Flow> _fresh = new();
    private readonly Queue<Flow> _served = new();
    private int _count;
    private bool _complete;

    /// <summary>No more will be added, and all have been taken.</summary>
    public bool IsCompleted
    {
        get
        {
            lock (_gate)
                return _complete && _count == 0;
        }
    }

    /// <summary>Adds an operation behind those of its connection. False: the queue is full. Throws INVALID OPERATION after
    /// <see cref="CompleteAdding"/>.</summary>
    public bool TryAdd(EngineOperation operation)
    {
        lock (_gate)
        {
            if (_complete)
                throw new InvalidOperationException("the queue is closed");
            if (_count >= capacity)
                return false;
            Append(operation);
            return true;
        }
    }

    /// <summary>Adds an operation that had been taken before, whether or not the queue is full. False: it is closed.</summary>
    public bool TryReturn(EngineOperation operation)
    {
        lock (_gate)
        {
            if (_complete)
                return false;
            Append(operation);
            return true;
        }
    }

    /// <summary>The taker: the operation at hand has had its turn and is not finished. It stays before all others of its connection,
    /// which waits for its next turn.</summary>
    public void EndTurn(EngineOperation operation)
    {
        lock (_gate)
        {
            Flow flow = FlowOf(operation.Caller);
            flow.Begun.Push(operation);
            flow.Served = OperationsPerTurn;
            _count++;
        }
    }

    /// <summary>The taker: the next operation; waits for one at most <paramref name="patience"/>.</summary>
    public bool TryTake([NotNullWhen(true)] out EngineOperation? operation, TimeSpan patience)
    {
        lock (_gate)
        {
            if (TryTake(out operation))
                return true;
            if (_complete || patience == TimeSpan.Zero)
                return false;
            Monitor.Wait(_gate, patience);
            return TryTake(out operation);
        }
    }

    /// <summary>What is there is still taken, and nothing more is added.</summary>
    public void CompleteAdding()
    {
        lock (_gate)
        {
            _complete = true;
            Monitor.PulseAll(_gate);
        }
    }

    private void Append(EngineOperation operation)
    {
        FlowOf(operation.Caller).Waiting.Enqueue(operation);
        _count++;
        Monitor.Pulse(_gate);
    }

    private Flow FlowOf(Caller caller)
    {
        if (!_flows.TryGetValue(caller, out Flow? flow))
        {
            _flows.Add(caller, flow = new(caller));
            _fresh.Enqueue(flow);
        }
        return flow;
    }

    private bool TryTake([NotNullWhen(true)] out EngineOperation? operation)
    {
        operation = null;
        while (_count > 0)
        {
            Queue<Flow> turns = _fresh.Count > 0 ? _fresh : _served;
            Flow flow = turns.Peek();
            if (flow.Served >= OperationsPerTurn)
            {
                flow.Served = 0;
                _served.Enqueue(turns.Dequeue());
            }
            else if (flow.Begun.TryPop(out operation) || flow.Waiting.TryDequeue(out operation))
            {
                flow.Served++;
                _count--;
                return true;
            }
            else if (turns == _fresh)
            {
                // It comes again after those that wait, or it would be fresh as often as it likes.
                flow.Served = 0;
                _served.Enqueue(turns.Dequeue());
            }
            else
            {
                turns.Dequeue();
                _flows.Remove(flow.Caller);
            }
        }
        return false;
    }

    private sealed class Flow(Caller caller)
    {
        public Caller Caller { get; } = caller;

        /// <summary>Has had turns already; the one begun last is asked first.</summary>
        public Stack<EngineOperation> Begun { get; } = new();

        public Queue<EngineOperation> Waiting { get; } = new();

        /// <summary>Operations taken in the turn at hand.</summary>
        public int Served { get; set; }
    }
}
