using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using System.Text;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.Master.Queries;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Master.Tests.Changes;

/// <summary>The rules of rights against the kernel's: the same steps of the same users, decided here and done on tmpfs. Both must
/// allow and refuse the same, and what is made or changed must have the same mode and owner.</summary>
[SupportedOSPlatform("linux")]
public sealed partial class KernelRightsTests
{
    private const int Rounds = 60;
    private const int Steps = 60;
    private const int CLONE_FS = 0x200;

    private static readonly Caller[] s_users =
    [
        new(CallerKind.Process) { Uid = 0, Gid = 0, IsPrivileged = true },
        new(CallerKind.Process) { Uid = 1001, Gid = 2001, Groups = [2002] },
        new(CallerKind.Process) { Uid = 1002, Gid = 2002 },
        new(CallerKind.Process) { Uid = 1003, Gid = 2003, Groups = [2001, 2002, 2004] },
    ];

    // What trees have is likely to matter: one class of bits, all of them, none.
    private static readonly uint[] s_modes = [0x1FF, 0x1C0, 0x1ED, 0x1F8, 0x1C7, 0x1F7, 0x16D, 0xDB, 0x1B6, 0x180, 0x38, 0x7, 0x0];

    private static readonly string[] s_paths = ["a", "b", "a/a", "a/b", "b/a", "b/b", "a/a/a", "a/a/b", "b/a/a", "b/b/a"];

    public static TheoryData<int> Seeds => [.. Enumerable.Range(1, Rounds)];

    [Theory]
    [MemberData(nameof(Seeds))]
    public void What_the_kernel_allows_and_makes_is_allowed_and_made(int seed)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "being other users needs root");
        Assert.SkipUnless(Directory.Exists("/dev/shm"), "/dev/shm is not there");
        string place = Directory.CreateDirectory($"/dev/shm/famfs-rights-{Guid.NewGuid():N}").FullName;
        ExceptionHolder failed = new();
        try
        {
            // Its own thread: it becomes other users and ends as one.
            Thread thread = new(() => failed.Catch(() => Compare(seed, place)));
            thread.Start();
            thread.Join();
        }
        finally
        {
            Directory.Delete(place, recursive: true);
        }
        failed.Throw();
    }

    private static void Compare(int seed, string place)
    {
        Random random = new(seed);
        using Deciding on = new();
        // What is made gets the bits that are asked for; the umask of other threads stays.
        Assert.Equal(0, unshare(CLONE_FS));
        umask(0);
        (uint rootMode, uint rootUid, uint rootGid) = (Pick(random, s_modes) | 0x40, Pick(random, s_users).Uid, Pick(random, s_users).Gid);
        on.Context.Caller = s_users[0];
        on.Decide(new AttributeChange(new() { Path = "", Mode = rootMode, Uid = rootUid, Gid = rootGid }));
        Assert.Equal(0, chown(place, rootUid, rootGid) | chmod(place, rootMode));
        List<string> history = [$"seed {seed}, root {Convert.ToString(rootMode, 8)} {rootUid}:{rootGid}"];
        for (int i = 0; i < Steps; i++)
        {
            Caller user = Pick(random, s_users);
            Step step = Step.Draw(random, user);
            history.Add($"{i}: user {user.Uid}: {step}");
            string kernel = NameOf(DoAs(user, step, place));
            on.Begin();
            on.Context.Caller = user;
            string ours = Decide(on, step, user);
            Assert.True(kernel == ours, $"kernel: {kernel}, here: {ours}\n{string.Join('\n', history)}");
            foreach (string path in s_paths)
            {
                string there = Stat($"{place}/{path}");
                on.Context.Caller = s_users[0];
                string here = Describe(on, path);
                Assert.True(there == here, $"{path}: kernel: {there}, here: {here}\n{string.Join('\n', history)}");
            }
        }
    }

    private static int DoAs(Caller user, Step step, string place)
    {
        string path = $"{place}/{step.Path}";
        // What runs as another user calls nothing that may have to load a file.
        OtherUser.Become(user.Uid, user.Gid, user.Groups.ToArray());
        int errno = step.Do(path);
        OtherUser.Become(0, 0, []);
        return errno;
    }

    private static string Decide(Deciding on, Step step, Caller user)
    {
        try
        {
            step.Decide(on, user);
            return "done";
        }
        catch (FamfsException error)
        {
            return error.Reason.ToString();
        }
    }

    private static string NameOf(int errno) => errno switch
    {
        0 => "done",
        1 or 13 => nameof(ErrorReason.NotPermitted), // EPERM, EACCES
        2 => nameof(ErrorReason.NotFound),
        17 => nameof(ErrorReason.Exists),
        20 => nameof(ErrorReason.NotADirectory),
        21 => nameof(ErrorReason.IsADirectory),
        22 => nameof(ErrorReason.BadPath),
        39 => nameof(ErrorReason.NotEmpty),
        _ => $"error {errno}",
    };

    private static string Stat(string path)
    {
        if (!Path.Exists(path))
            return "none";
        FileStatus status = FileStatus.Read(path, followLinks: false);
        return $"{(Directory.Exists(path) ? "d" : "f")} {Convert.ToString(status.Mode, 8)} {status.Uid}:{status.Gid}";
    }

    private static string Describe(Deciding on, string path)
    {
        try
        {
            InodeAttributes found = FileQueries.Find(on.Context.Reader, path, 0);
            return $"{(found.Kind == InodeKind.Directory ? "d" : "f")} {Convert.ToString(found.Mode, 8)} {found.Uid}:{found.Gid}";
        }
        catch (FamfsException)
        {
            return "none";
        }
    }

    private static T Pick<T>(Random random, IReadOnlyList<T> from) => from[random.Next(from.Count)];

    private enum Kind
    {
        MakeDirectory,
        Create,
        ChangeMode,
        ChangeOwner,
        SetTimes,
        SetAttribute,
        Look,
        Read,
        Remove,
        Rename,
    }

    /// <summary>One step: what is done on tmpfs, and what is decided.</summary>
    private sealed record Step(Kind Kind, string Path, uint Mode, uint? Uid, uint? Gid, string To, bool Replace)
    {
        public static Step Draw(Random random, Caller user)
        {
            uint mode = Pick(random, s_modes) | (random.Next(3) == 0 ? (uint)random.Next(8) << 9 : 0);
            uint? uid = random.Next(3) == 0 ? Pick(random, s_users).Uid : random.Next(2) == 0 ? user.Uid : null;
            uint? gid = random.Next(2) == 0 ? Pick(random, (uint[])[0, 2001, 2002, 2003, 2004]) : null;
            return new((Kind)random.Next(10), Pick(random, s_paths), mode, uid, uid is null ? gid ?? user.Gid : gid, Pick(random, s_paths), random.Next(3) > 0);
        }

        /// <summary>The error number, or 0.</summary>
        public int Do(string path)
        {
            string to = $"{path[..^Path.Length]}{To}";
            int result = Kind switch
            {
                Kind.MakeDirectory => mkdir(path, Mode & 0x3FF),
                Kind.Create => CloseIfOpen(open(path, 0x1 | 0x40 | 0x80, Mode)), // O_WRONLY | O_CREAT | O_EXCL
                Kind.ChangeMode => chmod(path, Mode),
                Kind.ChangeOwner => chown(path, Uid ?? uint.MaxValue, Gid ?? uint.MaxValue),
                Kind.SetTimes => utimensat(-100, path, [5, 0, 7, 0], 0),
                Kind.SetAttribute => setxattr(path, "user.kind", "x", 1, 0),
                Kind.Read => CloseIfOpen(open(path, 0, 0)),
                Kind.Remove => remove(path),
                Kind.Rename => renameat2(-100, path, -100, to, Replace ? 0u : 1u), // RENAME_NOREPLACE
                _ => CloseIfOpen(open(path, 0x200000, 0)), // O_PATH; access(2) would ask for the process's user
            };
            return result == 0 ? 0 : Marshal.GetLastPInvokeError();
        }

        public void Decide(Deciding on, Caller user)
        {
            switch (Kind)
            {
                case Kind.MakeDirectory:
                    on.Decide(new DirectoryCreation(new() { Path = Path, Mode = Mode & 0x3FF, ModeSet = true, Uid = user.Uid, Gid = user.Gid }));
                    break;
                case Kind.Create:
                    on.Decide(new FileCreation(new() { Path = Path, SizeBytes = 1, Mode = Mode, ModeSet = true, Uid = user.Uid, Gid = user.Gid }));
                    break;
                case Kind.ChangeMode:
                    on.Decide(new AttributeChange(new() { Path = Path, Mode = Mode }));
                    break;
                case Kind.ChangeOwner:
                    SetAttributesRequest request = new() { Path = Path };
                    if (Uid is { } uid)
                        request.Uid = uid;
                    if (Gid is { } gid)
                        request.Gid = gid;
                    on.Decide(new AttributeChange(request));
                    break;
                case Kind.SetTimes:
                    on.Decide(new AttributeChange(new() { Path = Path, AccessTimeNs = 5_000_000_000, ModifyTimeNs = 7_000_000_000 }));
                    break;
                case Kind.SetAttribute:
                    on.Decide(new AttributeChange(new() { Path = Path, Attributes = { new ExtendedAttribute { Name = ByteString.CopyFromUtf8("user.kind"), Value = ByteString.CopyFromUtf8("x") } } }));
                    break;
                case Kind.Remove:
                    on.Decide(new Removal(new() { Path = Path }));
                    break;
                case Kind.Rename:
                    on.Decide(new Renaming(new() { OldPath = Path, NewPath = To, Replace = Replace }));
                    break;
                case Kind.Read:
                    Permissions.Require(user.User, FileQueries.Find(on.Context.Reader, Path, 0, user.User), Access.Read, Path);
                    break;
                default:
                    FileQueries.Find(on.Context.Reader, Path, 0, user.User);
                    break;
            }
        }

        public override string ToString()
        {
            StringBuilder text = new($"{Kind} {Path}");
            if (Kind <= Kind.ChangeMode)
                text.Append(' ').Append(Convert.ToString(Mode, 8));
            if (Kind == Kind.ChangeOwner)
                text.Append($" {Uid}:{Gid}");
            if (Kind == Kind.Rename)
                text.Append($" to {To}{(Replace ? "" : ", which must be free")}");
            return text.ToString();
        }

        private static int CloseIfOpen(int fd) => fd < 0 ? fd : close(fd);
    }

    /// <summary>Carries an exception from a thread to the one that waits for it.</summary>
    private sealed class ExceptionHolder
    {
        private System.Runtime.ExceptionServices.ExceptionDispatchInfo? _caught;

        public void Catch(Action action)
        {
            try
            {
                action();
            }
            catch (Exception error)
            {
                _caught = System.Runtime.ExceptionServices.ExceptionDispatchInfo.Capture(error);
            }
        }

        public void Throw() => _caught?.Throw();
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int unshare(int flags);

    [LibraryImport("libc")]
    private static partial uint umask(uint mask);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int mkdir(string path, uint mode);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int open(string path, int flags, uint mode);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int remove(string path);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int renameat2(int oldDirectory, string oldPath, int newDirectory, string newPath, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int close(int fd);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int chmod(string path, uint mode);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int chown(string path, uint uid, uint gid);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int utimensat(int directory, string path, long[] times, int flags);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int setxattr(string path, string name, string value, nuint size, int flags);
}
