using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using Famfs.Core.Dax;

namespace Famfs.TestSupport.Dax;

/// <summary>
/// Coherent memory of this process, without accidents, for tests that damage bytes and not the order of stores: an access costs
/// a copy. What was stored since the last <see cref="Restore"/> can be taken back. Handles may be used from any thread; two
/// writers of one range, and restoring beside a writer, are the caller's mistake.
/// </summary>
public sealed class PlainMemory
{
    private readonly byte[] _bytes;
    private readonly byte[] _sound;

    // Guards the two below.
    private readonly Lock _guard = new();
    private readonly List<(long Offset, long Length)> _stored = [];
    private readonly HashSet<long> _locks = [];

    /// <summary>Zeroed memory.</summary>
    public PlainMemory(long lengthBytes)
        : this(new byte[lengthBytes])
    {
    }

    /// <summary>Memory that begins as <paramref name="sound"/>, which it keeps to restore from and does not change.</summary>
    public PlainMemory(byte[] sound)
    {
        _sound = sound;
        _bytes = [.. sound];
    }

    /// <summary>Called before each read; may throw.</summary>
    public Action? Reading { get; set; }

    /// <summary>A handle.</summary>
    public DaxDevice Attach() => new Device(this);

    /// <summary>Takes back everything that was stored since the last time, and lets all locks go.</summary>
    public void Restore()
    {
        lock (_guard)
        {
            foreach ((long offset, long length) in _stored)
                _sound.AsSpan((int)offset, (int)length).CopyTo(_bytes.AsSpan((int)offset));
            _stored.Clear();
            _locks.Clear();
        }
    }

    private void Stores(long offset, long length)
    {
        lock (_guard)
            _stored.Add((offset, length));
    }

    private sealed class Device(PlainMemory memory) : DaxDevice
    {
        private bool _disposed;

        public override string Path => "plain";

        public override long LengthBytes => memory._bytes.Length;

        public override bool Coherent { get; set; } = true;

        public override void Read(long offset, Span<byte> destination)
        {
            RequireUsable(offset, destination.Length);
            memory.Reading?.Invoke();
            memory._bytes.AsSpan((int)offset, destination.Length).CopyTo(destination);
        }

        public override void Write(long offset, ReadOnlySpan<byte> source)
        {
            RequireUsable(offset, source.Length);
            memory.Stores(offset, source.Length);
            source.CopyTo(memory._bytes.AsSpan((int)offset));
        }

        public override void Zero(long offset, long length)
        {
            RequireUsable(offset, length);
            memory.Stores(offset, length);
            memory._bytes.AsSpan((int)offset, (int)length).Clear();
        }

        public override ulong ReadWord(long offset)
        {
            RequireWord(offset);
            RequireUsable(offset, sizeof(ulong));
            memory.Reading?.Invoke();
            ulong word = Volatile.Read(ref Unsafe.As<byte, ulong>(ref memory._bytes[offset]));
            return BitConverter.IsLittleEndian ? word : BinaryPrimitives.ReverseEndianness(word);
        }

        public override void WriteWord(long offset, ulong value)
        {
            RequireWord(offset);
            RequireUsable(offset, sizeof(ulong));
            memory.Stores(offset, sizeof(ulong));
            Volatile.Write(ref Unsafe.As<byte, ulong>(ref memory._bytes[offset]), BitConverter.IsLittleEndian ? value : BinaryPrimitives.ReverseEndianness(value));
        }

        public override void WriteBack(long offset, long length) => RequireUsable(offset, length);

        public override void Invalidate(long offset, long length) => RequireUsable(offset, length);

        public override void Fence() => FenceMemory();

        public override bool TryGetAddress(long offset, long length, out nint address)
        {
            RequireUsable(offset, length);
            address = 0;
            return false;
        }

        public override bool TryLockByte(long index, [NotNullWhen(true)] out IDisposable? held)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(index);
            RequireUsable(0, 0);
            lock (memory._guard)
                held = memory._locks.Add(index) ? new HeldLock(memory, index) : null;
            return held is not null;
        }

        protected override void Dispose(bool disposing) => _disposed = true;

        private void RequireUsable(long offset, long length)
        {
            RequireRange(offset, length);
            ObjectDisposedException.ThrowIf(_disposed, this);
        }
    }

    private sealed class HeldLock(PlainMemory memory, long index) : IDisposable
    {
        private bool _disposed;

        public void Dispose()
        {
            lock (memory._guard)
            {
                if (!_disposed)
                    memory._locks.Remove(index);
                _disposed = true;
            }
        }
    }
}
