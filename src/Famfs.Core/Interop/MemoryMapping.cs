using Microsoft.Win32.SafeHandles;

namespace Famfs.Core.Interop;

/// <summary>A range of this process's addresses, unmapped when the last user has let go: whoever copies
/// from or to it holds a reference, so a concurrent Dispose never pulls addresses from under a copy.</summary>
internal sealed class MemoryMapping : SafeHandleMinusOneIsInvalid
{
    private readonly nuint _lengthBytes;

    private MemoryMapping(nint address, nuint lengthBytes)
        : base(ownsHandle: true)
    {
        SetHandle(address);
        _lengthBytes = lengthBytes;
    }

    public nint Address => handle;

    /// <summary>Maps <paramref name="length"/> bytes of a file from <paramref name="offset"/> on, shared, at an
    /// address that is a multiple of <paramref name="alignment"/> (a power of two, so that the kernel can use
    /// pages of that size). Null and the error number when the kernel refuses.</summary>
    public static MemoryMapping? TryMapShared(OpenFile file, long offset, long length, long alignment, bool readOnly, out int errno)
    {
        // Reserve more addresses than needed, put the file at the aligned place in them, give the rest back.
        nuint bytes = (nuint)length;
        nuint reserved = bytes + (nuint)alignment;
        nint reservation = Libc.mmap(0, reserved, Libc.PROT_NONE, Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS | Libc.MAP_NORESERVE, -1, 0);
        if (reservation == Libc.MAP_FAILED)
        {
            errno = Errno.Last;
            return null;
        }

        nint aligned = (reservation + (nint)alignment - 1) & ~((nint)alignment - 1);
        int protection = readOnly ? Libc.PROT_READ : Libc.PROT_READ | Libc.PROT_WRITE;
        nint address = Libc.mmap(aligned, bytes, protection, Libc.MAP_SHARED | Libc.MAP_FIXED, file.Descriptor, offset);
        if (address == Libc.MAP_FAILED)
        {
            errno = Errno.Last;
            _ = Libc.munmap(reservation, reserved);
            return null;
        }

        nuint pageMask = (nuint)Environment.SystemPageSize - 1;
        nint end = (nint)(((nuint)aligned + bytes + pageMask) & ~pageMask);
        if (aligned > reservation)
            _ = Libc.munmap(reservation, (nuint)(aligned - reservation));
        nint reservedEnd = (nint)((nuint)reservation + ((reserved + pageMask) & ~pageMask));
        if (reservedEnd > end)
            _ = Libc.munmap(end, (nuint)(reservedEnd - end));

        // Advice only: a core dump must not read terabytes of device, a child has no business with it.
        _ = Libc.madvise(aligned, bytes, Libc.MADV_DONTDUMP);
        _ = Libc.madvise(aligned, bytes, Libc.MADV_DONTFORK);
        errno = 0;
        return new MemoryMapping(aligned, bytes);
    }

    /// <summary>Maps [0, fileBytes) of a file shared and right behind it anonymous memory, which starts at a multiple of
    /// <paramref name="hugePageBytes"/> and is a multiple of it, and for which huge pages are asked.
    /// <paramref name="fileBytes"/> is a multiple of the page size. Null and the error number when the kernel refuses.</summary>
    public static MemoryMapping? TryMapFileAndHugePages(OpenFile file, int fileBytes, int anonymousBytes, int hugePageBytes, out int errno)
    {
        nuint reserved = (nuint)(fileBytes + anonymousBytes + hugePageBytes);
        nint reservation = Libc.mmap(0, reserved, Libc.PROT_NONE, Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS | Libc.MAP_NORESERVE, -1, 0);
        if (reservation == Libc.MAP_FAILED)
        {
            errno = Errno.Last;
            return null;
        }

        nint huge = (reservation + fileBytes + hugePageBytes - 1) & ~((nint)hugePageBytes - 1);
        nint start = huge - fileBytes;
        const int Protection = Libc.PROT_READ | Libc.PROT_WRITE;
        if (Libc.mmap(start, (nuint)fileBytes, Protection, Libc.MAP_SHARED | Libc.MAP_FIXED, file.Descriptor, 0) == Libc.MAP_FAILED
            || Libc.mmap(huge, (nuint)anonymousBytes, Protection, Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS | Libc.MAP_FIXED, -1, 0) == Libc.MAP_FAILED)
        {
            errno = Errno.Last;
            _ = Libc.munmap(reservation, reserved);
            return null;
        }

        nint end = huge + anonymousBytes;
        nint reservedEnd = reservation + (nint)reserved;
        if (start > reservation)
            _ = Libc.munmap(reservation, (nuint)(start - reservation));
        if (reservedEnd > end)
            _ = Libc.munmap(end, (nuint)(reservedEnd - end));
        _ = Libc.madvise(huge, (nuint)anonymousBytes, Libc.MADV_HUGEPAGE); // without them it is only slower
        errno = 0;
        return new MemoryMapping(start, (nuint)(end - start));
    }

    /// <summary>Maps a page holding machine code: written first, then made executable and no longer
    /// writable. Null and the error number where executable pages are forbidden.</summary>
    public static MemoryMapping? TryMapCode(ReadOnlySpan<byte> code, out int errno)
    {
        nuint bytes = (nuint)Environment.SystemPageSize;
        nint address = Libc.mmap(0, bytes, Libc.PROT_READ | Libc.PROT_WRITE, Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS, -1, 0);
        if (address == Libc.MAP_FAILED)
        {
            errno = Errno.Last;
            return null;
        }

        var page = new MemoryMapping(address, bytes);
        unsafe
        {
            code.CopyTo(new Span<byte>((void*)address, (int)bytes));
        }

        if (Libc.mprotect(address, bytes, Libc.PROT_READ | Libc.PROT_EXEC) != 0)
        {
            errno = Errno.Last;
            page.Dispose();
            return null;
        }

        errno = 0;
        return page;
    }

    protected override bool ReleaseHandle() => Libc.munmap(handle, _lengthBytes) == 0;
}
