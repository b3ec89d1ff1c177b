using System.Globalization;

namespace Famfs.Fuse.Keeper;

/// <summary>Tells whether a process will never do anything again although its files are still open: it was killed, and a thread of it
/// waits in the kernel for an answer that only its successor can give.</summary>
internal static class HolderProcess
{
    // SIGKILL is signal 9; the kernel shows masks in hexadecimal, bit 0 for signal 1.
    private const ulong Kill = 1UL << 8;

    /// <summary>Every thread has ended, or has been killed and sleeps where no signal wakes it. False also where it cannot be seen: for
    /// a process of another pid namespace, whose number is 0.</summary>
    public static bool IsDying(int process, string proc = "/proc")
    {
        if (process == 0)
            return false;
        try
        {
            foreach (string thread in Directory.EnumerateDirectories(Path.Combine(proc, process.ToString(CultureInfo.InvariantCulture), "task")))
            {
                if (!IsThreadDying(thread))
                    return false;
            }
            return true;
        }
        catch (DirectoryNotFoundException)
        {
            return true;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    private static bool IsThreadDying(string thread)
    {
        char state = '?';
        bool killed = false;
        try
        {
            foreach (string line in File.ReadLines(Path.Combine(thread, "status")))
            {
                if (line.StartsWith("State:\t", StringComparison.Ordinal) && line.Length > 7)
                    state = line[7];
                else if (line.StartsWith("SigPnd:\t", StringComparison.Ordinal))
                    killed = ulong.TryParse(line.AsSpan(8), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong pending) && (pending & Kill) != 0;
            }
        }
        catch (Exception error) when (error is IOException)
        {
            return true; // it has ended meanwhile
        }
        return state is 'Z' or 'X' || (killed && state == 'D');
    }
}
