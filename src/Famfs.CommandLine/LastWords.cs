using System.ComponentModel;
using Famfs.Core.Interop;

namespace Famfs.CommandLine;

/// <summary>What a program says when an error ends it that nobody has caught: one line, and status 1. The runtime would print a page and
/// abort.</summary>
public static class LastWords
{
    /// <summary>From here on.</summary>
    public static void SayThemFor(string program) => AppDomain.CurrentDomain.UnhandledException += (_, ending) =>
    {
        Console.Error.WriteLine($"{program}: {Describe((Exception)ending.ExceptionObject)}");
        ProcessEnd.AtOnce(1);
    };

    /// <summary>The line: that the machine gave no memory or thread, or the error with all that helps to find its cause.</summary>
    public static string Describe(Exception error)
    {
        for (Exception? cause = error; cause is not null; cause = cause.InnerException)
        {
            if (cause is OutOfMemoryException or ThreadStartException or Win32Exception { NativeErrorCode: Errno.EAGAIN or Errno.ENOMEM })
                return "no more memory or threads; raise the limits (ulimit -v, -d, -u; MemoryMax= and TasksMax= of a systemd unit), or end what uses them";
        }
        return $"unexpected error, please report it: {string.Join(" | ", error.ToString().Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))}";
    }
}
