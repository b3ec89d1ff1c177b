using System.Collections;
using System.Globalization;
using System.Runtime.InteropServices;
using Famfs.V1;

namespace Famfs.Core.Interop;

/// <summary>Starts other programs in the two ways that the runtime's own Process does not offer: in place of
/// this one, and detached from its terminal and session.</summary>
public static unsafe class ProgramStart
{
    private const int DescriptorOfOutput = 1;
    private const int DescriptorOfError = 2;

    /// <summary>Becomes another program: same process id, descriptors and terminal. Returns only by throwing.</summary>
    public static void Replace(string path, IReadOnlyList<string> arguments)
    {
        // What buffered output holds would be lost with this program.
        Console.Out.Flush();
        Console.Error.Flush();
        using StringVector vector = new([path, .. arguments]);
        _ = LibcMap.execv(path, vector.Pointer);
        throw PathErrors.Of(path, Errno.Last);
    }

    /// <summary>Starts a program in a session of its own and in <c>/</c>, its output appended to <paramref name="log"/>, its input empty.
    /// It gets no other descriptor of this process: one would keep a file system busy that somebody wants to unmount. (A C library
    /// before glibc 2.34 leaves it those that are not closed on exec.) <paramref name="path"/> is absolute. Errors as of
    /// <see cref="PathErrors.Of"/>, of the program.</summary>
    /// <param name="path">The program.</param>
    /// <param name="arguments">Its arguments.</param>
    /// <param name="log">Takes its output.</param>
    /// <param name="keepsGroup">It stays in this process's session and process group.</param>
    public static DetachedProgram StartDetached(string path, IReadOnlyList<string> arguments, AppendedFile log, bool keepsGroup = false)
    {
        byte* attributes = stackalloc byte[LibcMap.SpawnObjectBytes];
        byte* actions = stackalloc byte[LibcMap.SpawnObjectBytes];
        _ = LibcMap.posix_spawnattr_init(attributes);
        _ = LibcMap.posix_spawn_file_actions_init(actions);
        try
        {
            // A zeroed signal mask: the daemon must get SIGTERM whatever this thread blocks.
            Require(path, LibcMap.posix_spawnattr_setflags(attributes, (short)((keepsGroup ? 0 : LibcMap.POSIX_SPAWN_SETSID) | LibcMap.POSIX_SPAWN_SETSIGMASK)));
            Require(path, LibcMap.posix_spawn_file_actions_addopen(actions, 0, "/dev/null", Libc.O_RDONLY, 0));
            Require(path, LibcMap.posix_spawn_file_actions_adddup2(actions, log.Descriptor, DescriptorOfOutput));
            Require(path, LibcMap.posix_spawn_file_actions_adddup2(actions, log.Descriptor, DescriptorOfError));
            Require(path, LibcMap.posix_spawn_file_actions_addchdir_np(actions, "/"));
            CloseOthers(path, actions);
            using StringVector vector = new([path, .. arguments]);
            using StringVector environment = new([.. Environment.GetEnvironmentVariables().Cast<DictionaryEntry>().Select(e => $"{e.Key}={e.Value}")]);
            int pid;
            Require(path, LibcMap.posix_spawn(&pid, path, actions, attributes, vector.Pointer, environment.Pointer));
            return new(pid);
        }
        finally
        {
            _ = LibcMap.posix_spawn_file_actions_destroy(actions);
            _ = LibcMap.posix_spawnattr_destroy(attributes);
        }
    }

    private static void CloseOthers(string path, byte* actions)
    {
        try
        {
            Require(path, LibcMap.posix_spawn_file_actions_addclosefrom_np(actions, DescriptorOfError + 1));
        }
        catch (EntryPointNotFoundException)
        {
            // An older C library: the program has what this one was given.
        }
    }

    private static void Require(string path, int errno)
    {
        if (errno != 0)
            throw PathErrors.Of(path, errno);
    }

    /// <summary>A NULL-terminated array of C strings.</summary>
    private sealed class StringVector : IDisposable
    {
        private readonly nint[] _strings;
        private readonly nint _array;

        public StringVector(string[] strings)
        {
            if (strings.Any(s => s.Contains('\0', StringComparison.Ordinal)))
                throw new FamfsException(ErrorReason.BadRequest, "an argument contains a NUL character");
            _strings = [.. strings.Select(Marshal.StringToCoTaskMemUTF8)];
            _array = Marshal.AllocCoTaskMem((strings.Length + 1) * sizeof(nint));
            for (int i = 0; i < _strings.Length; i++)
                ((nint*)_array)[i] = _strings[i];
            ((nint*)_array)[_strings.Length] = 0;
        }

        public byte** Pointer => (byte**)_array;

        public void Dispose()
        {
            foreach (nint s in _strings)
                Marshal.FreeCoTaskMem(s);
            Marshal.FreeCoTaskMem(_array);
        }
    }
}

/// <summary>A program started by <see cref="ProgramStart.StartDetached"/>.</summary>
public sealed class DetachedProgram
{
    private int? _status;

    internal DetachedProgram(int processId) => ProcessId = processId;

    /// <summary>Its process id.</summary>
    public int ProcessId { get; }

    /// <summary>Tells it to end, in order.</summary>
    public void Terminate() => _ = LibcMap.kill(ProcessId, LibcMap.SIGTERM);

    /// <summary>The exit code when it has ended (128 + number of the signal that killed it), null while it runs.</summary>
    public unsafe int? ReadExitCode()
    {
        if (_status is null)
        {
            int status;
            if (LibcMap.waitpid(ProcessId, &status, LibcMap.WNOHANG) == ProcessId)
                _status = (status & 0x7F) == 0 ? (status >> 8) & 0xFF : 128 + (status & 0x7F);
        }
        return _status;
    }
}

/// <summary>A process that uses a mount.</summary>
/// <param name="ProcessId">Its id.</param>
/// <param name="Name">Its name, as the kernel has it.</param>
public sealed record MountHolder(int ProcessId, string Name)
{
    /// <summary>"name (pid)".</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Name} ({ProcessId})");
}

/// <summary>Takes mounts away.</summary>
public static class MountCalls
{
    /// <summary>Unmounts. <paramref name="lazily"/>: the mount leaves the tree now, and ends when its last
    /// user has. Returns 0 or the error number.</summary>
    public static int Unmount(string mountPoint, bool lazily) =>
        LibcMap.umount2(mountPoint, LibcMap.UMOUNT_NOFOLLOW | (lazily ? LibcMap.MNT_DETACH : 0)) == 0 ? 0 : Errno.Last;

    /// <summary>Makes a famfs mount and its file system read-only, or writable. The kernel keeps what a remount does not name of times, and forgets
    /// the rest, so that is named. Returns 0 or the error number: EBUSY while files are open for writing.</summary>
    public static int Remount(string mountPoint, bool readOnly, bool forbidsPrograms) =>
        LibcMap.mount("none", mountPoint, null, (nuint)(LibcMap.MS_REMOUNT | LibcMap.MS_NOSUID | LibcMap.MS_NODEV | (readOnly ? LibcMap.MS_RDONLY : 0) | (forbidsPrograms ? LibcMap.MS_NOEXEC : 0)), null) == 0 ? 0 : Errno.Last;

    /// <summary>Processes that work in, have open or have mapped something below a mount point, as far as this process may look. The
    /// mount itself is not asked, nor any other: links are read and not followed.</summary>
    public static IReadOnlyList<MountHolder> FindHolders(string mountPoint, string proc = "/proc")
    {
        List<MountHolder> holders = [];
        bool IsBelow(string? path) => path is not null && (path == mountPoint || path.StartsWith(mountPoint + "/", StringComparison.Ordinal));
        foreach (string process in Directory.EnumerateDirectories(proc))
        {
            if (!int.TryParse(Path.GetFileName(process), NumberStyles.None, CultureInfo.InvariantCulture, out int id))
                continue;
            try
            {
                bool holds = IsBelow(new System.IO.FileInfo(Path.Combine(process, "cwd")).LinkTarget)
                    || IsBelow(new System.IO.FileInfo(Path.Combine(process, "root")).LinkTarget)
                    || Directory.EnumerateFiles(Path.Combine(process, "fdinfo")).Any(fd => IsBelow(new System.IO.FileInfo(Path.Combine(process, "fd", Path.GetFileName(fd))).LinkTarget))
                    || File.ReadLines(Path.Combine(process, "maps")).Any(line => line.IndexOf('/', StringComparison.Ordinal) is >= 0 and int at && IsBelow(line[at..]));
                if (holds)
                    holders.Add(new(id, File.ReadAllText(Path.Combine(process, "comm")).Trim()));
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                // It ended, or belongs to somebody whom this process may not look at.
            }
        }
        return holders;
    }
}

/// <summary>Names of files.</summary>
public static class FileNames
{
    /// <summary>Gives a file a second name in one step. False when the name is taken; errors as of <see cref="PathErrors.Of"/>.</summary>
    public static bool TryLink(string file, string name) => Libc.link(file, name) == 0
        || (Errno.Last == Errno.EEXIST ? false : throw PathErrors.Of(name, Errno.Last));
}

/// <summary>Takes turns of processes at a directory.</summary>
public static class DirectoryTurn
{
    /// <summary>Takes the lock of a directory until the result is disposed or this process ends; null when another process
    /// of this host has it. Errors as of <see cref="PathErrors.Of"/>.</summary>
    public static IDisposable? TryTake(string directory)
    {
        int descriptor = Libc.open(directory, Libc.O_RDONLY | Libc.O_CLOEXEC, 0);
        if (descriptor < 0)
            throw PathErrors.Of(directory, Errno.Last);
        OpenFile file = new(descriptor);
        if (FileLock.TryTakeWhole(file, out int errno))
            return new FileLock(file);
        file.Dispose();
        return errno == 0 ? null : throw PathErrors.Of(directory, errno);
    }
}

/// <summary>Who this process acts as.</summary>
public static class ProcessOwner
{
    /// <summary>Effective user id.</summary>
    public static uint Uid => LibcMap.geteuid();

    /// <summary>Effective group id.</summary>
    public static uint Gid => LibcMap.getegid();

    /// <summary>Whether these are the process's own.</summary>
    public static bool Is(uint uid, uint gid) => uid == Uid && gid == Gid;

    /// <summary>The groups that this process is in beside it; none where they cannot be read.</summary>
    public static IReadOnlyList<uint> Groups
    {
        get
        {
            const string Field = "Groups:";
            try
            {
                string? line = File.ReadLines("/proc/self/status").FirstOrDefault(l => l.StartsWith(Field, StringComparison.Ordinal));
                return [.. (line?[Field.Length..] ?? "").Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Select(g => uint.Parse(g, System.Globalization.CultureInfo.InvariantCulture))];
            }
            catch (IOException)
            {
                return []; // Without /proc.
            }
        }
    }

    /// <summary>Bits that files of this process do not have, octal 022 where they cannot be read. Reading does not change them, as
    /// umask(2) would.</summary>
    public static uint Umask
    {
        get
        {
            const uint Usual = 0x12;
            try
            {
                foreach (string line in File.ReadLines("/proc/self/status"))
                {
                    if (line.StartsWith("Umask:", StringComparison.Ordinal))
                        return Convert.ToUInt32(line["Umask:".Length..].Trim(), 8) & 0x1FF;
                }
            }
            catch (IOException)
            {
                // Without /proc.
            }
            return Usual;
        }
    }
}
