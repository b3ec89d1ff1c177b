using System.Diagnostics.CodeAnalysis;
using System.Runtime.Intrinsics.X86;

namespace Famfs.Core.Dax;

/// <summary>
/// Memory that several hosts can address, as one host sees it. Offsets are bytes from the start of
/// the device, lengths are bytes.
/// <para>Ordering: <see cref="Write(long, ReadOnlySpan{byte})"/> and <see cref="WriteWord"/> become visible to other hosts no later
/// than the return of <see cref="Fence"/> after <see cref="WriteBack"/> of their range.
/// <see cref="Invalidate"/> (which includes the barrier that later loads need) must precede a read that
/// is to see what another host wrote back. On a coherent device both are fences only.</para>
/// <para>Errors: a range outside the device throws <see cref="ArgumentOutOfRangeException"/>; memory that
/// cannot be read or written (poisoned, truncated, gone) throws <see cref="DeviceFaultException"/>. No
/// method lets a fault reach the process as a signal (SAFETY S23).</para>
/// <para>Threads: all methods may be called from any thread; two writers of one range are the caller's
/// mistake.</para>
/// </summary>
public abstract class DaxDevice : IDisposable
{
    /// <summary>Bytes of a cache line; what is written back or invalidated at least.</summary>
    public const int LineBytes = 64;

    /// <summary>Where the device is on this host, or a name for messages.</summary>
    public abstract string Path { get; }

    /// <summary>The same for two devices of this host exactly if they are the same memory, by whatever paths.</summary>
    public virtual string MemoryIdentity => Path;

    /// <summary>Usable bytes of the device on this host.</summary>
    public abstract long LengthBytes { get; }

    /// <summary>Stores of one host are seen by loads of the others with fences alone. Declared when the
    /// device is added to a pool (SAFETY S18); before that, by kind: regular file yes, devdax no.</summary>
    public abstract bool Coherent { get; set; }

    /// <summary>Copies from the device.</summary>
    public abstract void Read(long offset, Span<byte> destination);

    /// <summary>Copies many equal-sized pieces: piece i of <paramref name="pieceBytes"/> from
    /// <paramref name="offsets"/>[i] to <paramref name="destination"/>[i · pieceBytes ..].</summary>
    public virtual void ReadPieces(ReadOnlySpan<long> offsets, int pieceBytes, Span<byte> destination)
    {
        for (int i = 0; i < offsets.Length; i++)
            Read(offsets[i], destination.Slice(i * pieceBytes, pieceBytes));
    }

    /// <summary>Copies to the device.</summary>
    public abstract void Write(long offset, ReadOnlySpan<byte> source);

    /// <summary>Copies to the device from a part of <paramref name="staging"/>, which may be cheaper than from any
    /// memory. The outcome is that of <see cref="Write(long, ReadOnlySpan{byte})"/>.</summary>
    public virtual void Write(long offset, ReadOnlySpan<byte> source, StagingBuffer staging) => Write(offset, source);

    /// <summary>Fills a range with zeros by stores that do not stay in the cache, ending with a fence.</summary>
    public abstract void Zero(long offset, long length);

    /// <summary>Loads one little-endian word as a single access. <paramref name="offset"/> is a multiple of 8.</summary>
    public abstract ulong ReadWord(long offset);

    /// <summary>Stores one little-endian word as a single access. <paramref name="offset"/> is a multiple of 8.</summary>
    public abstract void WriteWord(long offset, ulong value);

    /// <summary>Starts the write-back of every dirty line of the range. Complete after <see cref="Fence"/>.</summary>
    public abstract void WriteBack(long offset, long length);

    /// <summary>Drops this host's copies of the lines of the range, dirty ones written back first, and orders
    /// later loads after that.</summary>
    public abstract void Invalidate(long offset, long length);

    /// <summary>Orders everything before it, write-backs included, before everything after it.</summary>
    public abstract void Fence();

    /// <summary>True when the device was opened for loads only: stores throw
    /// <see cref="FamfsException"/> READ_ONLY.</summary>
    public virtual bool ReadOnly => false;

    /// <summary>Takes the exclusive lock number <paramref name="index"/> of this device among the processes
    /// of this host (never among hosts). False while anybody on this host holds it, this process included.
    /// Disposing <paramref name="held"/> releases it, as does the death of the process. Errors:
    /// <see cref="FamfsException"/> READ_ONLY, <see cref="NotSupportedException"/> where there is nothing to
    /// lock.</summary>
    public virtual bool TryLockByte(long index, [NotNullWhen(true)] out IDisposable? held) =>
        throw new NotSupportedException($"{Path}: this kind of device has no locks");

    /// <summary>Says to the other processes of this host (never to other hosts) that the device is in use, until it is
    /// disposed: <paramref name="alone"/> for whoever formats it, together with others as a device of a pool. May be called
    /// again to change from one to the other. False when another process, or another opening of the device, stands against
    /// it. True where there is nothing to say it on.</summary>
    public virtual bool TryUse(bool alone) => true;

    /// <summary>Closes what this object has open of a range alone, where it opens parts: a mount lets go of a file only when nobody has it
    /// open. What is used of the range later is opened anew. Nobody uses the range, or lists what is open, meanwhile.</summary>
    public virtual void LetGo(long offset, long length)
    {
    }

    /// <summary>Opens a devdax character device or a regular file, whole.</summary>
    /// <param name="path">Where it is on this host; for a regular file also <c>PATH:offset=BYTES</c> (with K, M, G
    /// or T), when the device starts behind the file's start.</param>
    /// <param name="readOnly">For loads only.</param>
    /// <param name="coherent">As declared (SAFETY S18); by kind when null.</param>
    /// <exception cref="FamfsException">NOT_FOUND; READ_ONLY: not permitted; DEVICE_MISSING: not to be opened or mapped;
    /// BAD_REQUEST: something that cannot be a device. One line with the path and the cause.</exception>
    public static DaxDevice Open(string path, bool readOnly = false, bool? coherent = null) =>
        MappedDaxDevice.Open(path, readOnly, coherent);

    /// <summary>Gives the address of a range that is mapped, for a kernel that copies from or to it
    /// (never for loads and stores of our own). False when the implementation has no mapping.</summary>
    public abstract bool TryGetAddress(long offset, long length, out nint address);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>MFENCE on x86-64: completes CLWB and CLFLUSHOPT, and keeps later loads behind them, which
    /// SFENCE does not.</summary>
    protected static void FenceMemory()
    {
        if (Sse2.IsSupported)
            Sse2.MemoryFence();
        else
            Interlocked.MemoryBarrier();
    }

    /// <summary>Releases the mapping and descriptors.</summary>
    protected abstract void Dispose(bool disposing);

    /// <summary>Throws unless [offset, offset + length) is inside the device.</summary>
    protected void RequireRange(long offset, long length)
    {
        if (offset < 0 || length < 0 || offset > LengthBytes - length)
            throw new ArgumentOutOfRangeException(nameof(offset), $"{Path}: range {offset}+{length} is outside the device's {LengthBytes} bytes");
    }

    /// <summary>Throws unless <paramref name="offset"/> is a word inside the device.</summary>
    protected void RequireWord(long offset)
    {
        RequireRange(offset, sizeof(ulong));
        if (offset % sizeof(ulong) != 0)
            throw new ArgumentOutOfRangeException(nameof(offset), $"{Path}: word offset {offset} is not a multiple of 8");
    }
}

/// <summary>Memory of a device that could not be read or written: poisoned, truncated or gone. EIO.</summary>
public sealed class DeviceFaultException(string message, Exception? inner = null) : Exception(message, inner);
