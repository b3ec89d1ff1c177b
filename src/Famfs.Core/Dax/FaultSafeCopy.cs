using Famfs.Core.Interop;
using static Famfs.Core.Interop.Libc;

namespace Famfs.Core.Dax;

/// <summary>Copies between mapped device memory and this process's own memory in which a page that cannot
/// be reached is an answer, not a signal: the kernel does every load and store of the device (SAFETY S23).
/// <para>The device is always the side that the kernel copies "from user" or "to user", never the side it
/// pins. Only those copies survive a page that vanished (exception table, EFAULT) and, for loads, a line
/// of poison that nobody had met before (the machine check is recovered in copy_from_user; in a copy out
/// of a pinned page it would stop the kernel).</para></summary>
internal abstract unsafe class FaultSafeCopy : IDisposable
{
    /// <summary>Copies from the device; the number of bytes that arrived, less than
    /// <paramref name="length"/> exactly when the next one cannot be read.</summary>
    public abstract long FromDevice(byte* device, byte* destination, long length);

    /// <summary>Copies to the device; the number of bytes stored, less than <paramref name="length"/>
    /// exactly when the next one cannot be written.</summary>
    public abstract long ToDevice(byte* device, byte* source, long length);

    /// <summary>Copies up to IOV_MAX pieces of the device one after the other to
    /// <paramref name="destination"/>; the number of bytes that arrived.</summary>
    public virtual long Gather(iovec* pieces, int count, byte* destination)
    {
        long done = 0;
        for (int i = 0; i < count; i++)
        {
            long length = (long)pieces[i].Length;
            long arrived = FromDevice(pieces[i].Base, destination + done, length);
            done += arrived;
            if (arrived < length)
                break;
        }

        return done;
    }

    public abstract void Dispose();

    /// <summary>process_vm_* where the kernel lets a process use it on itself, the bounce file elsewhere.</summary>
    public static FaultSafeCopy Detect()
    {
        ulong source = 0x0123456789ABCDEF;
        ulong target = 0;
        var copy = new ProcessVmCopy();
        try
        {
            if (copy.FromDevice((byte*)&source, (byte*)&target, 8) == 8 && target == source)
                return copy;
        }
        catch (PlatformNotSupportedException)
        {
            // seccomp filters of container runtimes answer EPERM or ENOSYS: what follows needs neither call.
        }

        return new BounceFileCopy();
    }
}

/// <summary>One call of process_vm_writev (loads) or process_vm_readv (stores) on this very process.
/// "Local" is the device, "remote" the buffer: see <see cref="FaultSafeCopy"/>.</summary>
internal sealed unsafe class ProcessVmCopy : FaultSafeCopy
{
    // One call moves at most this much, so that a copy of a whole device stays interruptible. Chosen.
    private const long MaxCallBytes = 1L << 30;

    public override long FromDevice(byte* device, byte* destination, long length)
    {
        long done = 0;
        while (done < length)
        {
            nuint bytes = (nuint)Math.Min(length - done, MaxCallBytes);
            var local = new iovec { Base = device + done, Length = bytes };
            var remote = new iovec { Base = destination + done, Length = bytes };
            nint moved = process_vm_writev(Environment.ProcessId, &local, 1, &remote, 1, 0);
            if (moved <= 0)
            {
                RequireFault("process_vm_writev");
                break;
            }

            done += moved;
        }

        return done;
    }

    public override long ToDevice(byte* device, byte* source, long length)
    {
        long done = 0;
        while (done < length)
        {
            nuint bytes = (nuint)Math.Min(length - done, MaxCallBytes);
            var local = new iovec { Base = device + done, Length = bytes };
            var remote = new iovec { Base = source + done, Length = bytes };
            nint moved = process_vm_readv(Environment.ProcessId, &local, 1, &remote, 1, 0);
            if (moved <= 0)
            {
                RequireFault("process_vm_readv");
                break;
            }

            done += moved;
        }

        return done;
    }

    public override long Gather(iovec* pieces, int count, byte* destination)
    {
        long total = 0;
        for (int i = 0; i < count; i++)
            total += (long)pieces[i].Length;
        var remote = new iovec { Base = destination, Length = (nuint)total };
        nint moved = process_vm_writev(Environment.ProcessId, pieces, (nuint)count, &remote, 1, 0);
        if (moved == total)
            return total;
        if (moved < 0)
        {
            RequireFault("process_vm_writev");
            moved = 0;
        }

        // The call stops at the page that faults; the piece it stopped in is tried alone, so that the
        // answer is exact.
        long start = 0;
        int index = 0;
        while (index < count && start + (long)pieces[index].Length <= moved)
            start += (long)pieces[index++].Length;
        if (index == count)
            return start;
        long within = moved - start;
        long rest = (long)pieces[index].Length - within;
        long more = FromDevice(pieces[index].Base + within, destination + moved, rest);
        if (more < rest || index + 1 == count)
            return moved + more;
        return moved + more + Gather(pieces + index + 1, count - index - 1, destination + moved + more);
    }

    public override void Dispose()
    {
    }

    private static void RequireFault(string call)
    {
        int errno = Errno.Last;
        if (errno is Errno.EPERM or Errno.ENOSYS)
            throw new PlatformNotSupportedException($"{call} on this process: {Errno.Describe(errno)}");
        if (errno == Errno.ENOMEM)
            throw new InsufficientMemoryException($"{call}: {Errno.Describe(errno)}");
        if (errno is not (Errno.EFAULT or Errno.EIO or Errno.EHWPOISON))
            throw new IOException($"{call} on this process: {Errno.Describe(errno)}");
    }
}

/// <summary>Two copies through a small in-memory file (memfd): pwrite loads from the device, pread stores
/// to it. For sandboxes that forbid process_vm_*.</summary>
internal sealed unsafe class BounceFileCopy : FaultSafeCopy
{
    // A call's share of the bounce file. Chosen: stays in the second-level cache.
    private const int BounceBytes = 256 * 1024;

    // Guards _idle and _disposed.
    private readonly Lock _guard = new();
    private readonly Stack<OpenFile> _idle = new();
    private bool _disposed;

    public override long FromDevice(byte* device, byte* destination, long length)
    {
        OpenFile bounce = Take();
        try
        {
            long done = 0;
            while (done < length)
            {
                nint loaded = pwrite(bounce.Descriptor, device + done, (nuint)Math.Min(length - done, BounceBytes), 0);
                if (loaded <= 0)
                {
                    if (RequireFault(loaded, "pwrite"))
                        break;
                    continue;
                }

                done += RequireWhole(Pull(bounce, destination + done, loaded), loaded);
            }

            return done;
        }
        finally
        {
            Give(bounce);
        }
    }

    public override long ToDevice(byte* device, byte* source, long length)
    {
        OpenFile bounce = Take();
        try
        {
            long done = 0;
            while (done < length)
            {
                nint filled = pwrite(bounce.Descriptor, source + done, (nuint)Math.Min(length - done, BounceBytes), 0);
                if (filled <= 0)
                {
                    if (RequireFault(filled, "pwrite"))
                        throw new IOException("the source of a copy cannot be read");
                    continue;
                }

                long stored = Pull(bounce, device + done, filled);
                done += stored;
                if (stored < filled)
                    break;
            }

            return done;
        }
        finally
        {
            Give(bounce);
        }
    }

    public override void Dispose()
    {
        lock (_guard)
        {
            _disposed = true;
            while (_idle.TryPop(out OpenFile? file))
                file.Dispose();
        }
    }

    private static long Pull(OpenFile bounce, byte* destination, long length)
    {
        long done = 0;
        while (done < length)
        {
            nint moved = pread(bounce.Descriptor, destination + done, (nuint)(length - done), done);
            if (moved <= 0)
            {
                if (RequireFault(moved, "pread"))
                    break;
                continue;
            }

            done += moved;
        }

        return done;
    }

    private static long RequireWhole(long moved, long expected) =>
        moved == expected ? moved : throw new IOException("the destination of a copy cannot be written");

    /// <summary>True when the memory faulted, false when the call was merely interrupted.</summary>
    private static bool RequireFault(nint result, string call)
    {
        if (result == 0)
            return true;
        int errno = Errno.Last;
        if (errno == Errno.EINTR)
            return false;
        if (errno is Errno.EFAULT or Errno.EIO or Errno.EHWPOISON)
            return true;
        throw new IOException($"{call} of the bounce file: {Errno.Describe(errno)}");
    }

    private OpenFile Take()
    {
        lock (_guard)
        {
            if (_idle.TryPop(out OpenFile? idle))
                return idle;
        }

        int descriptor = memfd_create("famfs-bounce", MFD_CLOEXEC);
        if (descriptor < 0)
            throw new IOException($"memfd_create: {Errno.Describe(Errno.Last)}");
        return new OpenFile(descriptor);
    }

    private void Give(OpenFile bounce)
    {
        lock (_guard)
        {
            if (!_disposed)
            {
                _idle.Push(bounce);
                return;
            }
        }

        bounce.Dispose();
    }
}
