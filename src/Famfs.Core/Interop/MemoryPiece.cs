using System.Runtime.InteropServices;

namespace Famfs.Core.Interop;

/// <summary>A range of this process's address space that the kernel is asked to copy from
/// (struct iovec: iov_base, iov_len). Nobody loads from it here, so a bad page is the kernel's EFAULT and
/// not a signal.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly struct MemoryPiece(nint address, nint lengthBytes)
{
    /// <summary>iov_base.</summary>
    public readonly nint Address = address;

    /// <summary>iov_len.</summary>
    public readonly nint LengthBytes = lengthBytes;
}
