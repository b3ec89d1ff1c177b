using System.Buffers;
using System.Collections.Concurrent;
using Famfs.Core;
using Famfs.V1;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;

namespace Famfs.Master.Rpc;

/// <summary>
/// What the server's buffers of all connections take: bytes that came and that nobody has read yet, answers that nobody has taken
/// yet. What was promised to a connection cannot be refused any more, so beyond the limit the connection that holds most is closed.
/// Any thread.
/// </summary>
internal sealed class BufferLimit(long limit = CallLimits.Buffers, Refusals? refusals = null)
{
    private readonly long _limit = limit;
    private readonly ConcurrentDictionary<Connection, bool> _open = new();
    private readonly Lock _choosing = new();
    private long _held;

    /// <summary>Bytes of connections that were not closed for them.</summary>
    public long Held => Volatile.Read(ref _held);

    /// <summary>Counts the buffers of a connection from here on. Dispose when it has ended.</summary>
    public Connection Open(ConnectionContext connection)
    {
        Connection part = new(this, connection, connection.Features.Get<IMemoryPoolFeature>()?.MemoryPool ?? MemoryPool<byte>.Shared);
        connection.Features.Set<IMemoryPoolFeature>(part);
        _open.TryAdd(part, true);
        return part;
    }

    private void CloseLargest()
    {
        Connection? largest = null;
        lock (_choosing)
        {
            if (Held <= _limit)
                return;
            foreach ((Connection part, _) in _open)
            {
                if (largest is null || part.Held > largest.Held)
                    largest = part;
            }
            if (largest is null || !_open.TryRemove(largest, out _))
                return;
            largest.Leave();
        }
        FamfsException refusal = new(ErrorReason.Overloaded, $"buffers of all connections take more than {_limit} bytes, the limit, and this one's most of them") { Limit = (ulong)_limit };
        refusals?.Count("a connection", refusal);
        largest.Abort(refusal.Message);
    }

    /// <summary>One connection's buffers.</summary>
    internal sealed class Connection(BufferLimit owner, ConnectionContext connection, MemoryPool<byte> inner) : MemoryPool<byte>, IMemoryPoolFeature
    {
        private readonly Lock _gate = new();
        private long _held; // guarded by _gate
        private bool _hasLeft; // guarded by _gate: what it holds is not counted in all

        /// <summary>Bytes that it holds.</summary>
        public long Held => Volatile.Read(ref _held);

        /// <inheritdoc/>
        public override int MaxBufferSize => inner.MaxBufferSize;

        MemoryPool<byte> IMemoryPoolFeature.MemoryPool => this;

        /// <inheritdoc/>
        public override IMemoryOwner<byte> Rent(int minBufferSize = -1)
        {
            IMemoryOwner<byte> block = inner.Rent(minBufferSize);
            if (Count(block.Memory.Length) > owner._limit)
                owner.CloseLargest();
            return new Block(this, block);
        }

        /// <summary>What it holds counts for nobody any more.</summary>
        public void Leave()
        {
            lock (_gate)
            {
                if (_hasLeft)
                    return;
                _hasLeft = true;
                Interlocked.Add(ref owner._held, -_held);
            }
        }

        /// <summary>Closes the connection.</summary>
        public void Abort(string cause) => connection.Abort(new ConnectionAbortedException(cause));

        protected override void Dispose(bool disposing)
        {
            // Blocks may come back later.
            owner._open.TryRemove(this, out _);
            Leave();
        }

        /// <summary>Counts bytes, negative ones that were given back. Gives what all hold.</summary>
        private long Count(int bytes)
        {
            lock (_gate)
            {
                _held += bytes;
                return _hasLeft ? 0 : Interlocked.Add(ref owner._held, bytes);
            }
        }

        private sealed class Block(Connection owner, IMemoryOwner<byte> inner) : IMemoryOwner<byte>
        {
            private IMemoryOwner<byte>? _inner = inner;

            public Memory<byte> Memory => _inner!.Memory;

            public void Dispose()
            {
                if (Interlocked.Exchange(ref _inner, null) is not { } block)
                    return;
                owner.Count(-block.Memory.Length);
                block.Dispose();
            }
        }
    }
}
