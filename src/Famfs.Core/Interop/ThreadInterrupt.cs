using System.Runtime.InteropServices;

namespace Famfs.Core.Interop;

/// <summary>
/// Makes a system call that another thread is blocked in return EINTR. A blocking read of /dev/fuse has
/// no other way out short of aborting the connection, and polling before each read would cost every
/// request a system call.
/// <para>The signal can come just before the thread enters its call and then interrupts nothing: the
/// caller repeats <see cref="Send"/> until the thread has left.</para>
/// </summary>
public sealed unsafe class ThreadInterrupt
{
    // Chosen: above SIGRTMIN (34), which CoreCLR uses, and its neighbours, which debuggers like.
    private const int Signal = 44;
    private readonly nint _thread;

    private ThreadInterrupt(nint thread) => _thread = thread;

    /// <summary>Makes the handle by which others interrupt the calling thread. Valid until that thread ends.
    /// Throws <see cref="IOException"/> when the signal's action cannot be set.</summary>
    public static ThreadInterrupt ForCurrentThread()
    {
        // The handler is a function of the C library that does nothing with its argument: no managed code
        // may run in a signal handler. No SA_RESTART, or the read would go on.
        nint libc = NativeLibrary.Load("libc", typeof(ThreadInterrupt).Assembly, null);
        var action = new LibcFuse.SignalAction { Handler = NativeLibrary.GetExport(libc, "abs"), Flags = 0 };
        if (LibcFuse.SetSignalAction(Signal, &action, null) != 0)
            throw new IOException($"sigaction: {Marshal.GetLastPInvokeErrorMessage()}", Marshal.GetLastPInvokeError());
        return new ThreadInterrupt(LibcFuse.ThreadSelf());
    }

    /// <summary>Interrupts the thread's current system call, if it is in one. The thread must not have ended.</summary>
    public void Send() => _ = LibcFuse.ThreadSignal(_thread, Signal);
}
