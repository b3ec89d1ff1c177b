using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;

namespace Famfs.Master.Tests;

/// <summary>Runs something as another user, on a thread of its own, which ends with it. The process must be root's.</summary>
internal static partial class OtherUser
{
    private static readonly nint s_setgroups = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 159 : 116;

    /// <summary>Runs <paramref name="action"/> as a user of these groups. Its file system ids are that user's; a file that it loads
    /// by itself is looked for with its rights.</summary>
    public static void Run(uint uid, uint gid, ReadOnlyMemory<uint> groups, Action action)
    {
        ExceptionDispatchInfo? error = null;
        Thread thread = new(() =>
        {
            try
            {
                Become(uid, gid, groups.Span);
                action();
            }
            catch (Exception e)
            {
                error = ExceptionDispatchInfo.Capture(e);
            }
        });
        thread.Start();
        thread.Join();
        error?.Throw();
    }

    /// <summary>Gives the calling thread, and it alone, these ids for file systems.</summary>
    public static unsafe void Become(uint uid, uint gid, ReadOnlySpan<uint> groups)
    {
        // The library's own function would change all threads.
        fixed (uint* list = groups)
        {
            // Only root may; who was another user before is root again first.
            setfsuid(0);
            if (syscall(s_setgroups, groups.Length, (nint)list) != 0)
                throw new IOException($"setgroups: error {Marshal.GetLastPInvokeError()}");
        }
        setfsgid(gid);
        setfsuid(uid);
        if ((uint)setfsuid(uint.MaxValue) != uid || (uint)setfsgid(uint.MaxValue) != gid)
            throw new IOException($"this thread cannot become user {uid} of group {gid}");
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint syscall(nint number, nint first, nint second);

    [LibraryImport("libc")]
    private static partial int setfsuid(uint uid);

    [LibraryImport("libc")]
    private static partial int setfsgid(uint gid);
}
