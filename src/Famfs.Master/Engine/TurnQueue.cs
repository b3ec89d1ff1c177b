using System.Diagnostics.CodeAnalysis;
using Famfs.Master.Changes;

namespace Famfs.Master.Engine;

/// <summary>
/// The operations that wait for the engine. Those that make many files, and all others, are two lines. While both wait, each has
/// half of the time, and others come first: a lone request waits for the operation at hand and no longer, also beside bulk
/// streams of its own connection. In a line the connections take turns, each in its order. A connection that had nothing waiting
/// comes before those that always have, for one turn (as flows do in fq_codel, RFC 8290); so nobody starves. Connections are told
/// apart by the identity of their <see cref="Caller"/>. Any thread adds, one takes.
/// </summary>
/// <param name="capacity">Most operations that wait, in all.</param>
internal sealed class TurnQueue(int capacity)
{
    /// <summary>What an operation takes of a turn at least, in files (chosen: a turn has 250 of the smallest).</summary>
    private const int LeastFiles = 4;

    /// <summary>How long a turn may take (chosen: what a lone request waits for at most).</summary>
    private static readonly TimeSpan s_turnTime = TimeSpan.FromMilliseconds(20);

    /// <summary>An operation of more files is one of many (chosen: it takes less than 0.1 ms).</summary>
    private const int FewFiles = 16;

    /// <summary>How often the taker looks before it sleeps (chosen: some tens of microseconds, as long as a caller that has its answer
    /// takes for its next request. To be woken takes as long again).</summary>
    private const int Looks = 140;

    // Guards everything, but a look at _count; pulsed when an operation comes and when no more will.
    private readonly object _gate = new();
    private readonly Line _few = new(hasFresh: true);

    // A stream that was idle for a moment gets nothing for it: its parts are always more than a moment's work.
    private readonly Line _many = new(hasFresh: false);

    // Files that operations of few files took since those of many had as much, at most a turn's.
    private int _fewTaken;
    private volatile int _count;
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
            LineOf(operation).EndTurn(operation);
            _count++;
        }
    }

    /// <summary>The taker: the operation that was taken last took so long. What takes longer than its files do is more of a turn.</summary>
    public void Charge(EngineOperation operation, TimeSpan time)
    {
        double files = time / s_turnTime * ChangeContext.FilesPerTurn;
        int beyond = (int)Math.Min(files, ChangeContext.FilesPerTurn) - Math.Max(operation.Files, LeastFiles);
        if (beyond <= 0)
            return;
        lock (_gate)
        {
            LineOf(operation).Charge(operation.Caller, beyond);
            if (LineOf(operation) == _few)
                _fewTaken = Math.Min(_fewTaken + beyond, ChangeContext.FilesPerTurn);
        }
    }

    /// <summary>The taker: the next operation; waits for one at most <paramref name="patience"/>.</summary>
    public bool TryTake([NotNullWhen(true)] out EngineOperation? operation, TimeSpan patience)
    {
        if (patience > TimeSpan.Zero)
            LookForSome();
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

    private void LookForSome()
    {
        SpinWait spin = default;
        for (int i = 0; i < Looks && _count == 0; i++)
            spin.SpinOnce(sleep1Threshold: -1);
    }

    private void Append(EngineOperation operation)
    {
        LineOf(operation).Add(operation);
        _count++;
        Monitor.Pulse(_gate);
    }

    private Line LineOf(EngineOperation operation) => operation.Files > FewFiles ? _many : _few;

    private bool TryTake([NotNullWhen(true)] out EngineOperation? operation)
    {
        operation = null;
        if (_count == 0)
            return false;
        bool few = _many.IsEmpty || (!_few.IsEmpty && _fewTaken < ChangeContext.FilesPerTurn);
        (operation, int files) = (few ? _few : _many).Take();
        if (few)
            _fewTaken = Math.Min(_fewTaken + files, ChangeContext.FilesPerTurn);
        else
            _fewTaken = Math.Max(_fewTaken - files, 0);
        _count--;
        return true;
    }

    /// <summary>Connections that take turns.</summary>
    private sealed class Line(bool hasFresh)
    {
        private readonly Dictionary<Caller, Flow> _flows = new(ReferenceEqualityComparer.Instance);
        private readonly Queue<Flow> _fresh = new();
        private readonly Queue<Flow> _served = new();
        private int _count;

        public bool IsEmpty => _count == 0;

        public void Add(EngineOperation operation)
        {
            FlowOf(operation.Caller).Waiting.Enqueue(operation);
            _count++;
        }

        public void EndTurn(EngineOperation operation)
        {
            Flow flow = FlowOf(operation.Caller);
            flow.Begun.Push(operation);
            flow.Served = ChangeContext.FilesPerTurn;
            _count++;
        }

        public void Charge(Caller caller, int files)
        {
            if (_flows.TryGetValue(caller, out Flow? flow))
                flow.Served += files;
        }

        /// <summary>The next operation, and the files that it takes of a turn. There is one.</summary>
        public (EngineOperation Operation, int Files) Take()
        {
            while (true)
            {
                Queue<Flow> turns = _fresh.Count > 0 ? _fresh : _served;
                Flow flow = turns.Peek();
                if (flow.Served >= ChangeContext.FilesPerTurn)
                {
                    flow.Served = 0;
                    _served.Enqueue(turns.Dequeue());
                }
                else if (flow.Begun.TryPop(out EngineOperation? operation) || flow.Waiting.TryDequeue(out operation))
                {
                    int files = Math.Max(operation.Files, LeastFiles);
                    flow.Served += files;
                    _count--;
                    return (operation, files);
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
        }

        private Flow FlowOf(Caller caller)
        {
            if (!_flows.TryGetValue(caller, out Flow? flow))
            {
                _flows.Add(caller, flow = new(caller));
                (hasFresh ? _fresh : _served).Enqueue(flow);
            }
            return flow;
        }
    }

    private sealed class Flow(Caller caller)
    {
        public Caller Caller { get; } = caller;

        /// <summary>Has had turns already; the one begun last is asked first.</summary>
        public Stack<EngineOperation> Begun { get; } = new();

        public Queue<EngineOperation> Waiting { get; } = new();

        /// <summary>Files taken in the turn at hand.</summary>
        public int Served { get; set; }
    }
}
