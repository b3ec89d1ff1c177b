using Famfs.Core.Interop;
using static Famfs.Core.Interop.Libc;

namespace Famfs.Core.Dax;

/// <summary>
/// Memory of this process from which the kernel copies to a device cheaply, in calls whose faults are error numbers
/// (SAFETY S23). Why two kinds of memory: docs/decisions/0005.
/// <code>
///  0                                WindowBytes                            length
///  +--------------------------------+--------------------------------------+
///  | pages of a memory file (memfd) | anonymous memory in huge pages       |
///  +--------------------------------+--------------------------------------+
///    pread at the device's address    process_vm_readv (FaultSafeCopy)
/// </code>
/// <para>Threads: whoever owns it. <see cref="Dispose"/> only once nobody uses <see cref="Bytes"/>.</para>
/// </summary>
public sealed unsafe class StagingBuffer : IDisposable
{
    // Measured, copies from hot memory to a mapped file in /dev/shm, 6.18, per call: 4 KiB 0.7 µs by pread and 1.6 µs by
    // process_vm_readv; 64 KiB 7 µs by both; 1 MiB 84 µs by pread, 75 µs by process_vm_readv from huge pages, 116 µs
    // from small ones. So 64 KiB, and a page for what stands before the data of a request.
    private const int WindowBytes = (64 * 1024) + 4096;

    private const int HugePageBytes = 2 << 20;

    private readonly OpenFile _window;
    private readonly MemoryMapping _mapping;
    private readonly int _lengthBytes;

    /// <summary>Makes a buffer of zeros; its pages take memory when they are first used. Throws
    /// <see cref="IOException"/> when the kernel refuses.</summary>
    /// <param name="lengthBytes">1 byte to 1 GiB.</param>
    public StagingBuffer(int lengthBytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(lengthBytes);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(lengthBytes, 1 << 30);
        _lengthBytes = lengthBytes;
        int descriptor = memfd_create("famfs-staging", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (descriptor < 0)
            throw new IOException($"memfd_create: {Errno.Describe(Errno.Last)}");
        _window = new OpenFile(descriptor);
        try
        {
            // Sealed, because whoever may open /proc/PID/fd could cut the file short, and Bytes would then raise SIGBUS.
            if (ftruncate(descriptor, WindowBytes) != 0 || fcntl_int(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
                throw new IOException($"memory file of {WindowBytes} bytes: {Errno.Describe(Errno.Last)}");
            int hugeBytes = Math.Max(1, (lengthBytes - WindowBytes + HugePageBytes - 1) / HugePageBytes) * HugePageBytes;
            _mapping = MemoryMapping.TryMapFileAndHugePages(_window, WindowBytes, hugeBytes, HugePageBytes, out int errno)
                ?? throw new IOException($"mmap of {WindowBytes + hugeBytes} bytes: {Errno.Describe(errno)}");
        }
        catch
        {
            _window.Dispose();
            throw;
        }
    }

    /// <summary>The memory, at one address until <see cref="Dispose"/>.</summary>
    public Span<byte> Bytes
    {
        get
        {
            ObjectDisposedException.ThrowIf(_mapping.IsClosed, this);
            return new((void*)_mapping.Address, _lengthBytes);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _mapping.Dispose();
        _window.Dispose();
    }

    /// <summary>Where in this buffer <paramref name="bytes"/> begin; false when they are not all in it.</summary>
    internal bool TryLocate(ReadOnlySpan<byte> bytes, out int start) =>
        Bytes.Overlaps(bytes, out start) && start >= 0 && start <= _lengthBytes - bytes.Length;

    /// <summary>Copies [start, start + length) to mapped device memory; the number of bytes stored, less than
    /// <paramref name="length"/> exactly when the next one cannot be written. <paramref name="copy"/> does what is
    /// not in the window.</summary>
    internal long CopyToDevice(FaultSafeCopy copy, byte* device, int start, int length)
    {
        int fromWindow = Math.Clamp(WindowBytes - start, 0, length);
        int done = 0;
        while (done < fromWindow)
        {
            nint moved = pread(_window.Descriptor, device + done, (nuint)(fromWindow - done), start + done);
            if (moved > 0)
            {
                done += (int)moved;
                continue;
            }

            int errno = moved < 0 ? Errno.Last : 0;
            if (errno == Errno.EINTR)
                continue;
            if (errno is Errno.EFAULT or Errno.EIO or Errno.EHWPOISON)
                return done;
            throw new IOException($"pread of a memory file: {(moved == 0 ? "it ended" : Errno.Describe(errno))}");
        }

        return done == length ? done : done + copy.ToDevice(device + done, (byte*)_mapping.Address + start + done, length - done);
    }
}
