using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using Famfs.Core.Dax;

namespace Famfs.TestSupport.Dax;

/// <summary>One host's handle on a <see cref="FakeSharedMemory"/>. Disposing it is the end of its process:
/// what it stored stays in its host's cache, locks taken through it stay until they are disposed.</summary>
public sealed class FakeDaxDevice : DaxDevice
{
    /// <summary>Stores a processor holds back at most. Chosen, near real ones.</summary>
    internal const int StoreBufferEntries = 56;

    private readonly FakeSharedMemory _memory;

    internal FakeDaxDevice(FakeSharedMemory memory, FakeSharedMemory.Host host)
    {
        _memory = memory;
        Host = host;
        host.Handles.Add(this);
    }

    /// <summary>The host it belongs to.</summary>
    public string HostName => Host.Name;

    /// <inheritdoc/>
    public override string Path => $"{_memory.Name}@{HostName}";

    /// <inheritdoc/>
    public override long LengthBytes => _memory.LengthBytes;

    /// <inheritdoc/>
    public override bool Coherent { get; set; }

    internal FakeSharedMemory.Host Host { get; }

    internal bool Disposed { get; private set; }

    /// <summary>Coherent: stores on their way, oldest first. Guarded by the memory.</summary>
    internal Queue<(long Offset, byte[] Bytes)> StoreBuffer { get; } = [];

    /// <summary>Non-coherent: lines whose write-back this handle has started. Guarded by the memory.</summary>
    internal LineSet Pending { get; } = new();

    /// <summary>Ranges that its user has let go of.</summary>
    public List<(long Offset, long Length)> Left { get; } = [];

    /// <inheritdoc/>
    public override void LetGo(long offset, long length)
    {
        RequireRange(offset, length);
        RequireOpen();
        Left.Add((offset, length));
    }

    /// <summary>Crashes the whole host.</summary>
    public void Crash() => _memory.Crash(HostName);

    /// <inheritdoc/>
    public override void Read(long offset, Span<byte> destination)
    {
        RequireRange(offset, destination.Length);
        RequireOpen();
        _memory.Load(this, offset, destination);
    }

    /// <inheritdoc/>
    public override void Write(long offset, ReadOnlySpan<byte> source)
    {
        RequireRange(offset, source.Length);
        RequireOpen();
        _memory.Store(this, offset, source);
    }

    /// <inheritdoc/>
    public override void Zero(long offset, long length)
    {
        RequireRange(offset, length);
        RequireOpen();
        _memory.Zero(this, offset, length);
    }

    /// <inheritdoc/>
    public override ulong ReadWord(long offset)
    {
        RequireWord(offset);
        Span<byte> word = stackalloc byte[sizeof(ulong)];
        _memory.LoadPart(this, offset, word);
        return BinaryPrimitives.ReadUInt64LittleEndian(word);
    }

    /// <inheritdoc/>
    public override void WriteWord(long offset, ulong value)
    {
        RequireWord(offset);
        Span<byte> word = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(word, value);
        _memory.StorePart(this, offset, word);
    }

    /// <inheritdoc/>
    public override void WriteBack(long offset, long length)
    {
        RequireRange(offset, length);
        RequireOpen();
        _memory.WriteBack(this, offset, length);
    }

    /// <inheritdoc/>
    public override void Invalidate(long offset, long length)
    {
        RequireRange(offset, length);
        RequireOpen();
        _memory.Invalidate(this, offset, length);
    }

    /// <inheritdoc/>
    public override void Fence() => _memory.Fence(this);

    /// <inheritdoc/>
    public override bool TryGetAddress(long offset, long length, out nint address)
    {
        RequireRange(offset, length);
        RequireOpen();
        address = 0;
        return false;
    }

    /// <inheritdoc/>
    public override bool TryLockByte(long index, [NotNullWhen(true)] out IDisposable? held)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        return _memory.TryLock(this, index, out held);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (Disposed)
            return;
        _memory.Detach(this);
        Disposed = true;
    }

    private void RequireOpen() => ObjectDisposedException.ThrowIf(Disposed, this);

    /// <summary>A set of line numbers from which a random one can be taken.</summary>
    internal sealed class LineSet
    {
        private readonly List<long> _numbers = [];
        private readonly Dictionary<long, int> _index = [];

        public int Count => _numbers.Count;

        public long this[int i] => _numbers[i];

        public void Add(long number)
        {
            if (_index.TryAdd(number, _numbers.Count))
                _numbers.Add(number);
        }

        public bool Remove(long number)
        {
            if (!_index.Remove(number, out int at))
                return false;
            long last = _numbers[^1];
            _numbers.RemoveAt(_numbers.Count - 1);
            if (last != number)
            {
                _numbers[at] = last;
                _index[last] = at;
            }

            return true;
        }

        public void Clear()
        {
            _numbers.Clear();
            _index.Clear();
        }
    }
}

/// <summary>What <see cref="FakeSharedMemory.BeforeAccess"/> is told.</summary>
public static class FakeOperation
{
    public const string Load = "load";
    public const string Store = "store";
    public const string WriteBack = "write-back";
    public const string Invalidate = "invalidate";
    public const string Fence = "fence";
    public const string Land = "land";
    public const string Zero = "zero";
    public const string Lock = "lock";
}

/// <summary>A crashed host's code ran on: the simulation must end it.</summary>
public sealed class FakeHostCrashedException(string hostName) : Exception($"host {hostName} has crashed");
