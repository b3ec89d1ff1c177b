using System.Diagnostics;
using System.Globalization;
using Famfs.Core;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Xunit;

namespace Famfs.Fuse.Tests.Session;

/// <summary>Requests that are answered later than they were read, by the real kernel and real programs.</summary>
public sealed class PendingOnRealMountTests : IDisposable
{
    private static readonly TimeSpan Hang = TimeSpan.FromSeconds(60);
    private static readonly InodeNumber Root = InodeNumber.Root;
    private readonly HeldMutations _port = new();
    private readonly TestFileSystem _system = new();
    private readonly RealMount _mount;

    public PendingOnRealMountTests()
    {
        _system.Mutations = _port;
        _mount = RealMount.Start(_system, workers: 2);
    }

    public void Dispose()
    {
        _mount.Dispose();
        _system.Dispose();
    }

    private Task<ShellResult> Shell(string script) => Task.Run(() => _mount.Shell(script));

    private static Task<ShellResult> Await(Task<ShellResult> program) => program.WaitAsync(Hang, TestContext.Current.CancellationToken);

    [Fact]
    public async Task Programs_change_the_tree_in_every_way_and_wait_while_others_go_on()
    {
        // The kernel holds the lock of a directory that is being changed, so who looks a new name up there waits too.
        InodeNumber other = _system.AddDirectory(Root, "other");
        InodeNumber work = _system.AddDirectory(Root, "work");
        _system.AddFile(other, "f", 10);
        Task<ShellResult> mkdir = Shell("cd work && mkdir d && stat -c '%F %a' d");
        HeldMutation change = _port.Take();
        Assert.Equal("MKDIR d", change.What);
        for (int i = 0; i < 5; i++)
            Assert.Equal("f", _mount.Require("ls other && stat other/f > /dev/null"));
        Assert.False(mkdir.IsCompleted);
        Assert.True(change.Reply.Complete(_system.AddDirectory(work, "d")));
        Assert.Equal("directory 755", (await Await(mkdir)).Output);

        await Require("ln -s ../x l && readlink l", "SYMLINK l ../x", () => _system.AddSymlink(Root, "l", "../x"), "../x");
        await Require("chmod 600 other/f && echo done", "SETATTR 600", () => default, "done");
        await Require("rmdir work/d && ls work", "RMDIR d", () => Remove(work, "d"), "");
        await Require("rm l && ls", "UNLINK l", () => Remove(Root, "l"), "other\nwork");
        await Require("python3 -c 'import os; os.rename(\"other/f\", \"g\")' && echo done", "RENAME 0 f g", () => default, "done");
        await Require("mv --no-clobber g h && echo done", "RENAME 1 g h", () => default, "done");
        await Require("python3 -c 'import os; os.setxattr(\"other\", \"user.a\", b\"v\"); print(\"done\")'", "SETXATTR user.a v", () => default, "done");
        await Require("python3 -c 'import os; os.removexattr(\"other\", \"user.a\"); print(\"done\")'", "REMOVEXATTR user.a", () => default, "done");
        await Require("python3 -c 'import os; print(os.fstat(os.open(\"new\", os.O_CREAT | os.O_RDWR)).st_size)'", "CREATE new", () => _system.AddFile(Root, "new", 7), "7");
        Assert.Equal(0, _mount.Mount.Statistics.Failures);

        async Task Require(string script, string what, Func<InodeNumber> change, string output)
        {
            Task<ShellResult> program = Shell(script);
            HeldMutation held = _port.Take();
            Assert.Equal(what, held.What);
            Assert.True(held.Reply.Complete(change()));
            ShellResult result = await Await(program);
            Assert.Equal((0, output), (result.ExitCode, result.Output));
        }

        InodeNumber Remove(InodeNumber parent, string name)
        {
            using Core.Namespace.TreeReader reader = _system.Tree.RegisterReader();
            using Core.Namespace.TreeScope scope = reader.Enter();
            Assert.True(scope.TryLookup(parent, System.Text.Encoding.UTF8.GetBytes(name), out Core.Namespace.InodeAttributes attributes));
            _system.Tree.Delete(attributes.Inode, TestFileSystem.StartTimeNs, null);
            return default;
        }
    }

    [Fact]
    public async Task An_error_of_a_change_reaches_the_program()
    {
        Task<ShellResult> mkdir = Shell("mkdir d");
        Assert.True(_port.Take().Reply.Fail(Errno.EDQUOT));
        Assert.Contains("quota", (await Await(mkdir)).Error, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public void A_signal_ends_the_wait_of_a_program()
    {
        using Process program = StartWaiting();
        HeldMutation change = _port.Take();
        Signal(program, "USR1");
        Assert.Equal("interrupted", program.StandardOutput.ReadLine());
        Assert.Equal(1, change.Signals);
        Assert.False(change.Reply.Complete());
        RequireExit(program);
    }

    [Fact]
    public void A_program_that_is_killed_waits_for_a_change_that_cannot_be_taken_back_and_for_no_other()
    {
        using (Process program = StartWaiting())
        {
            HeldMutation change = _port.Take();
            Signal(program, "KILL");
            RequireExit(program);
            Assert.Equal(1, change.Signals);
        }
        _port.Withdraws = false;
        using (Process program = StartWaiting())
        {
            HeldMutation change = _port.Take();
            Signal(program, "KILL");
            Assert.True(SpinWait.SpinUntil(() => change.Signals == 1, Hang));
            Assert.False(program.HasExited);
            Assert.True(change.Reply.Fail(Errno.EEXIST));
            RequireExit(program);
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_end_of_the_mount_ends_what_waits_also_when_the_notifier_waits_for_it(bool abort)
    {
        Task<ShellResult> mkdir = Shell("mkdir d");
        HeldMutation change = _port.Take();

        // The kernel holds the directory's lock for the MKDIR, and the notification wants it.
        _system.AddFile(Root, "new", 1);
        _mount.Mount.Notifier.EntryChanged(Root, "new"u8);
        _mount.Mount.Notifier.Applied(new LogSequence(1));
        Task ending = Task.Run(abort ? _mount.Mount.Abort : _mount.Mount.Stop);
        await ending.WaitAsync(Hang, TestContext.Current.CancellationToken);
        Assert.Contains("connection abort", (await Await(mkdir)).Error, StringComparison.OrdinalIgnoreCase);
        change.RequireAbandoned();
        Assert.False(change.Reply.Complete());
    }

    [Fact]
    public async Task A_notification_waits_for_a_change_in_its_directory_and_comes_after_it()
    {
        Task<ShellResult> mkdir = Shell("mkdir d && ls");
        HeldMutation change = _port.Take();
        _system.AddFile(Root, "new", 1);
        _mount.Mount.Notifier.EntryChanged(Root, "new"u8);
        _mount.Mount.Notifier.Applied(new LogSequence(1));
        InodeNumber made = _system.AddDirectory(Root, "d");
        Assert.True(change.Reply.Complete(made));
        Assert.Equal("d\nnew", (await Await(mkdir)).Output);
        Assert.True(SpinWait.SpinUntil(() => _mount.Mount.Notifier.NotifiedUpTo.Value == 1, Hang));
    }

    private Process StartWaiting()
    {
        var start = new ProcessStartInfo("python3") { RedirectStandardOutput = true, RedirectStandardError = true };
        start.ArgumentList.Add("-c");
        start.ArgumentList.Add(
            """
            import os, signal, sys
            class Told(Exception): pass
            def tell(number, frame): raise Told()
            signal.signal(signal.SIGUSR1, tell)
            try:
                os.mkdir(sys.argv[1])
            except Told:
                print("interrupted", flush=True)
            """);
        start.ArgumentList.Add(Path.Combine(_mount.Path, "d"));
        return Process.Start(start)!;
    }

    private static void Signal(Process program, string signal)
    {
        using Process kill = Process.Start("kill", ["-" + signal, program.Id.ToString(CultureInfo.InvariantCulture)]);
        kill.WaitForExit();
        Assert.Equal(0, kill.ExitCode);
    }

    private static void RequireExit(Process program) => Assert.True(program.WaitForExit(Hang), "the program does not end");
}
