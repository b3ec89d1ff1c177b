using Famfs.Core;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Rpc;

/// <summary>
/// What the requests and results of callers take that wait in this process, in bytes: of one connection, and of all. What is
/// beyond is refused. Charges are estimates above what the objects take. Any thread.
/// </summary>
/// <param name="total">Most in all.</param>
/// <param name="small">What small charges may take beyond that.</param>
/// <param name="ofConnection">Most of one connection.</param>
/// <param name="connections">Most connections of one caller; 0: as <see cref="CallLimits.ConnectionsOfCaller"/>.</param>
internal sealed class CallBudget(long total = CallLimits.Held, long small = CallLimits.HeldBySmall, long ofConnection = CallLimits.HeldOfConnection, int connections = 0)
{
    /// <summary>A charge up to this is small (chosen: a change with the longest path).</summary>
    private const int SmallBytes = 16 << 10;

    private readonly long _total = total;
    private readonly long _small = small;
    private readonly long _ofConnection = ofConnection;
    private readonly int _connections = connections > 0 ? connections : CallLimits.ConnectionsOfCaller;
    private readonly int[] _callsOf = new int[RecentRequests.ShareCount];
    private readonly int[] _connectionsOf = new int[RecentRequests.ShareCount];
    private long _held;
    private int _calls;

    /// <summary>Bytes held now.</summary>
    public long Held => Volatile.Read(ref _held);

    /// <summary>Raised when a charge was refused: whoever holds much and takes no answers may be ended.</summary>
    public event Action? Refused;

    /// <summary>The part of one connection of a caller. Callers with one share of <see cref="RecentRequests.ShareOf"/> count as
    /// one.</summary>
    public Connection Open(string caller) => new(this, RecentRequests.ShareOf(caller));

    /// <summary>As <see cref="Open"/>, counted until <see cref="Connection.Close"/>. Null: the caller has
    /// <paramref name="limit"/> connections already.</summary>
    public Connection? TryOpen(string caller, out int limit)
    {
        limit = _connections;
        Connection connection = Open(caller);
        return connection.TryCount() ? connection : null;
    }

    /// <summary>One connection's part.</summary>
    internal sealed class Connection(CallBudget budget, int share)
    {
        private long _held;
        private int _refusals;

        /// <summary>Counts this one among the caller's. False: there are too many, and it is not counted.</summary>
        public bool TryCount()
        {
            if (Interlocked.Increment(ref budget._connectionsOf[share]) <= budget._connections)
                return true;
            Close();
            return false;
        }

        /// <summary>A connection that was counted has ended.</summary>
        public void Close() => Interlocked.Decrement(ref budget._connectionsOf[share]);

        /// <summary>Begins a call. False: there are too many, of <paramref name="limit"/>: in all, or of this caller.</summary>
        public bool TryBeginCall(out int limit)
        {
            limit = CallLimits.CallsOfCaller;
            if (Interlocked.Increment(ref budget._callsOf[share]) <= limit)
            {
                limit = CallLimits.Calls;
                if (Interlocked.Increment(ref budget._calls) <= limit)
                    return true;
                Interlocked.Decrement(ref budget._calls);
            }
            Interlocked.Decrement(ref budget._callsOf[share]);
            return false;
        }

        /// <summary>Ends a call that was begun.</summary>
        public void EndCall()
        {
            Interlocked.Decrement(ref budget._calls);
            Interlocked.Decrement(ref budget._callsOf[share]);
        }

        /// <summary>Counts a refusal whose answer the caller takes, or does not. False: too many wait to be taken.</summary>
        public bool TryBeginRefusal() => Interlocked.Increment(ref _refusals) <= CallLimits.RefusalsOfConnection;

        /// <summary>A refusal is answered.</summary>
        public void EndRefusal() => Interlocked.Decrement(ref _refusals);

        /// <summary>Charges. Throws OVERLOADED, and charges nothing.</summary>
        public void Take(long bytes)
        {
            long limit = budget._ofConnection;
            if (Interlocked.Add(ref _held, bytes) > limit)
            {
                Interlocked.Add(ref _held, -bytes);
                throw Refuse("this connection's", limit);
            }
            long all = budget._total + (bytes <= SmallBytes ? budget._small : 0);
            if (Interlocked.Add(ref budget._held, bytes) > all)
            {
                Return(bytes);
                throw Refuse("all callers'", budget._total);
            }
        }

        /// <summary>Charges what is there already, whatever the limits: the next to ask is refused.</summary>
        public void Add(long bytes)
        {
            Interlocked.Add(ref _held, bytes);
            Interlocked.Add(ref budget._held, bytes);
        }

        /// <summary>As <see cref="Take"/>; when that is refused, <paramref name="before"/> is given back, too.</summary>
        public void TakeOrReturn(long bytes, long before)
        {
            try
            {
                Take(bytes);
            }
            catch
            {
                Return(before);
                throw;
            }
        }

        /// <summary>Gives back what was charged.</summary>
        public void Return(long bytes)
        {
            Interlocked.Add(ref _held, -bytes);
            Interlocked.Add(ref budget._held, -bytes);
        }

        private FamfsException Refuse(string whose, long limit)
        {
            budget.Refused?.Invoke();
            return new(ErrorReason.Overloaded, $"{whose} requests and results that wait take more than {limit} bytes, the limit") { Limit = (ulong)limit };
        }
    }
}
