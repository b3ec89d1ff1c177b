using Microsoft.Win32.SafeHandles;

namespace Famfs.Core.Interop;

/// <summary>Memory that is a file without a name (memfd): it outlives its process as long as another has the descriptor. Its length
/// never changes. Read and written by calls, so what another process does to it is no fault here. Any thread.</summary>
public sealed class MemoryFile : IDisposable
{
    private readonly SafeFileHandle _file;

    private MemoryFile(SafeFileHandle file, long lengthBytes) => (_file, LengthBytes) = (file, lengthBytes);

    /// <summary>The open file, for a process that keeps it.</summary>
    public SafeFileHandle Descriptor => _file;

    /// <summary>Bytes; stays.</summary>
    public long LengthBytes { get; }

    /// <summary>Makes one of zeros. Throws <see cref="IOException"/>.</summary>
    public static MemoryFile Create(string name, long lengthBytes)
    {
        int descriptor = Libc.memfd_create(name, Libc.MFD_CLOEXEC | Libc.MFD_ALLOW_SEALING);
        if (descriptor < 0)
            throw new IOException($"memfd_create: {Errno.Describe(Errno.Last)}");
        SafeFileHandle file = new(descriptor, ownsHandle: true);
        if (Libc.ftruncate(descriptor, lengthBytes) == 0 && Libc.fcntl_int(descriptor, Libc.F_ADD_SEALS, Libc.F_SEAL_SHRINK | Libc.F_SEAL_GROW | Libc.F_SEAL_SEAL) == 0)
            return new(file, lengthBytes);
        string cause = Errno.Describe(Errno.Last);
        file.Dispose();
        throw new IOException($"memory file of {lengthBytes} bytes: {cause}");
    }

    /// <summary>Goes on with one that another process made; <paramref name="file"/> is this object's from then on. Throws
    /// <see cref="IOException"/> for what is no file with a length.</summary>
    public static MemoryFile Adopt(SafeFileHandle file) => new(file, RandomAccess.GetLength(file));

    /// <summary>Bytes from <paramref name="offset"/> on. Throws <see cref="IOException"/> when there are fewer.</summary>
    public void Read(long offset, Span<byte> bytes)
    {
        if (RandomAccess.Read(_file, bytes, offset) != bytes.Length)
            throw new IOException($"memory file: {bytes.Length} bytes at {offset} are not there");
    }

    /// <summary>Stores bytes inside the length. Throws <see cref="IOException"/>.</summary>
    public void Write(long offset, ReadOnlySpan<byte> bytes) => RandomAccess.Write(_file, bytes, offset);

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();
}
