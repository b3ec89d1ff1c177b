using System.Diagnostics.CodeAnalysis;

namespace Famfs.Core.Interop;

/// <summary>Descriptors 0, 1 and 2 of this process. Where the one who started it left them closed, the next files that are opened get
/// these numbers: a device, a socket or a pipe of the runtime itself, into which every log line would then be written.</summary>
public static unsafe class StandardDescriptors
{
    private const string Nothing = "/dev/null";

    /// <summary>Whether all three were given to this process.</summary>
    // What an execve closes cannot have come through one: then the runtime has taken the free number already.
    public static bool AreGiven => FindMissing().Length == 0;

    /// <summary>Opens those that were not given on nothing, and becomes the same program again with the same arguments: only so the
    /// runtime lets go of what it has opened there. Returns only when they are all given; ends with status 1 when that cannot be.</summary>
    public static void RequireGiven()
    {
        int[] missing = FindMissing();
        if (missing.Length == 0)
            return;
        if (Environment.ProcessPath is { } program && TryReadArguments() is { } arguments)
            BecomeAgain(program, arguments, missing);
        // There is nowhere to say so.
        ProcessEnd.AtOnce(1);
    }

    private static int[] FindMissing() => [.. Enumerable.Range(0, 3).Where(descriptor => Libc.fcntl_int(descriptor, LibcMap.F_GETFD, 0) is < 0 or LibcMap.FD_CLOEXEC)];

    // Bytes, not words: names of files need not be UTF-8.
    private static byte[]? TryReadArguments()
    {
        try
        {
            return File.ReadAllBytes("/proc/self/cmdline");
        }
        catch (IOException)
        {
            return null;
        }
    }

    private static void BecomeAgain(string program, byte[] arguments, int[] missing)
    {
        byte*[] vector = new byte*[arguments.AsSpan().Count((byte)0) + 1];
        fixed (byte* text = arguments)
        fixed (byte** first = vector)
        {
            int count = 0;
            for (int at = 0; count < vector.Length - 1; at += arguments.AsSpan(at).IndexOf((byte)0) + 1)
                vector[count++] = text + at;
            foreach (int descriptor in missing)
                OpenOnNothing(descriptor);
            // By its own name, which the kernel shows as that of the process; what was replaced meanwhile has none.
            _ = LibcMap.execv(program, first);
            _ = LibcMap.execv("/proc/self/exe", first);
        }
    }

    private static void OpenOnNothing(int descriptor)
    {
        int open = Libc.open(Nothing, Libc.O_RDWR, 0);
        if (open < 0)
            open = Libc.open("/", Libc.O_RDONLY, 0); // without /dev; nothing can be read or written there, either
        if (open < 0 || open == descriptor)
            return;
        _ = LibcMap.dup2(open, descriptor);
        if (open > 2)
            _ = Libc.close(open);
    }
}

/// <summary>Standard output or error. It asks nothing about a terminal and starts no thread, so that it works where little else does.
/// <para>A reader that is gone is no error. Others are <see cref="IOException"/>, with the stream's name.</para></summary>
public sealed unsafe class StandardStream : UnbufferedWriter
{
    private readonly int _descriptor;
    private readonly string _name;

    private StandardStream(int descriptor, string name) => (_descriptor, _name) = (descriptor, name);

    /// <summary>Standard output.</summary>
    public static StandardStream OpenOutput() => new(1, "standard output");

    /// <summary>Standard error.</summary>
    public static StandardStream OpenError() => new(2, "standard error");

    /// <inheritdoc/>
    public override void Write(ReadOnlySpan<byte> buffer)
    {
        fixed (byte* bytes = buffer)
        {
            for (int done = 0; done < buffer.Length;)
            {
                nint count = Libc.write(_descriptor, bytes + done, (nuint)(buffer.Length - done));
                if (count > 0)
                    done += (int)count;
                else if (!MayGoOn(count == 0 ? Errno.EIO : Errno.Last))
                    return;
            }
        }
    }

    private bool MayGoOn(int errno)
    {
        switch (errno)
        {
            case Errno.EINTR:
                return true;
            case Errno.EAGAIN:
                LibcMap.pollfd wish = new() { Descriptor = _descriptor, Events = LibcMap.POLLOUT };
                _ = LibcMap.poll(&wish, 1, -1);
                return true;
            case LibcMap.EPIPE:
                return false;
            default:
                throw new IOException($"{_name}: {Errno.Describe(errno)}");
        }
    }
}

/// <summary>Signals that end a process unless it says otherwise, where the failed call tells the same.</summary>
public static class ProcessSignals
{
    /// <summary>Writing beyond the limit of a file's size, or to a pipe that nobody reads, is an error of the call and nothing else.</summary>
    public static void IgnoreThoseOfWriting()
    {
        _ = LibcMap.signal(LibcMap.SIGXFSZ, LibcMap.SIG_IGN);
        _ = LibcMap.signal(LibcMap.SIGPIPE, LibcMap.SIG_IGN);
    }
}

/// <summary>Ends of this process.</summary>
public static class ProcessEnd
{
    /// <summary>Ends without anything else being done or waited for, also where no thread can be started any more.</summary>
    [DoesNotReturn]
    public static void AtOnce(int status)
    {
        LibcMap._exit(status);
        throw new InvalidOperationException("_exit(2) does not return");
    }
}
