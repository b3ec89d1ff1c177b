using System.Text;
using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Session;
using Xunit;

namespace Famfs.Fuse.Tests.Session;

/// <summary>The kernel caches without limit of time; what is changed and notified it asks for again, and nothing
/// else.</summary>
public sealed class InvalidationTests : IDisposable
{
    private static readonly InodeNumber Root = InodeNumber.Root;
    private readonly SharedMemory _memory = new(16 * TestFileSystem.Unit);
    private readonly TestFileSystem _system = new();
    private ulong _sequence;

    public InvalidationTests() => _system.AddDevice(0, _memory.Open());

    public void Dispose()
    {
        _system.Dispose();
        _memory.Dispose();
    }

    [Fact]
    public void Without_a_notification_the_kernel_trusts_its_cache()
    {
        using RealMount mount = RealMount.Start(_system);
        Assert.Equal("", mount.Require("cat missing 2>/dev/null; ls"));
        _system.AddFile(Root, "missing", 1);
        Assert.Contains("No such file", mount.Shell("cat missing").Error, StringComparison.Ordinal);
        Assert.Equal("", mount.Require("ls"));
    }

    [Fact]
    public void Repeated_stat_and_listing_are_served_from_the_caches()
    {
        InodeNumber directory = _system.AddDirectory(Root, "d");
        _system.AddFile(directory, "f", 1);
        using RealMount mount = RealMount.Start(_system);
        mount.Require("ls -l d; stat d/f; ls missing; ls d; true");
        long before = mount.Mount.Statistics.Requests;
        mount.Require("for i in 1 2 3 4 5 6 7 8 9 10; do stat d/f; stat missing; done >/dev/null 2>&1; true");
        Assert.Equal(before, mount.Mount.Statistics.Requests);
    }

    [Fact]
    public void A_new_file_replaces_a_cached_negative_entry_and_a_cached_listing()
    {
        InodeNumber directory = _system.AddDirectory(Root, "d");
        using RealMount mount = RealMount.Start(_system);
        Assert.Equal("", mount.Require("stat d/new 2>/dev/null; ls d; ls d"));
        Assert.Equal("2", mount.Require("stat -c %h d"));
        _system.AddDirectory(directory, "new");
        Tell(mount, notifier =>
        {
            notifier.EntryChanged(directory, "new"u8);
            notifier.AttributesChanged(directory, Root);
        });
        Assert.Equal("new", mount.Require("ls d"));
        Assert.Equal("directory", mount.Require("stat -c %F d/new"));
        Assert.Equal("3", mount.Require("stat -c %h d"));
    }

    [Fact]
    public void A_new_name_that_nobody_asked_for_appears_in_a_cached_listing()
    {
        InodeNumber directory = _system.AddDirectory(Root, "d");
        _system.AddFile(directory, "old", 1);
        using RealMount mount = RealMount.Start(_system);
        Assert.Equal("old\nold", mount.Require("ls d; ls d"));
        _system.AddFile(directory, "new", 1, unit: 1);
        Tell(mount, notifier => notifier.EntryChanged(directory, "new"u8));
        Assert.Equal("new\nold", mount.Require("ls d"));
        Assert.Equal("2", mount.Require("stat -c %s d")); // entries
    }

    [Fact]
    public void Changed_attributes_are_seen_by_path_and_by_open_file()
    {
        InodeNumber file = _system.AddFile(Root, "f", 1);
        using RealMount mount = RealMount.Start(_system);
        using var open = new FileStream(Path.Combine(mount.Path, "f"), FileMode.Open, FileAccess.Read);
        Assert.Equal("644 0", mount.Require("stat -c '%a %u' f"));
        Assert.Equal("644", mount.Require($"stat -L -c %a /proc/{Environment.ProcessId}/fd/{open.SafeFileHandle.DangerousGetHandle()}"));
        _system.Tree.SetAttributes(file, 0x180, 7, null, null, 12_000_000_000, 13_000_000_000);
        Tell(mount, notifier => notifier.AttributesChanged(file, Root));
        Assert.Equal("600", mount.Require($"stat -L -c %a /proc/{Environment.ProcessId}/fd/{open.SafeFileHandle.DangerousGetHandle()}"));
        Assert.Equal("600 7 12 13", mount.Require("stat -c '%a %u %Y %Z' f"));
    }

    [Fact]
    public void A_deleted_file_is_gone_by_name_and_goes_on_where_it_is_open()
    {
        InodeNumber file = _system.AddFile(Root, "f", 5);
        _memory.Write(0, "hello"u8.ToArray());
        using RealMount mount = RealMount.Start(_system);
        InodePresence before = mount.Mount.Notifier.Probe(file);
        Assert.Equal(InodePresence.Absent, before);
        using (var open = new FileStream(Path.Combine(mount.Path, "f"), FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 0))
        {
            Assert.Equal("f", mount.Require("ls; stat f > /dev/null"));
            _system.Tree.Delete(file, 1, null);
            Tell(mount, notifier => notifier.EntryDeleted(Root, file, "f"u8));
            Assert.Equal("", mount.Require("ls"));
            Assert.Contains("No such file", mount.Shell("cat f").Error, StringComparison.Ordinal);
            byte[] data = new byte[5];
            open.ReadExactly(data);
            Assert.Equal("hello"u8.ToArray(), data);
            Assert.Equal(InodePresence.Present, mount.Mount.Notifier.Probe(file));
        }

        // The last close lets go of the inode; FORGET may take its time.
        Assert.True(SpinWait.SpinUntil(() => mount.Mount.Notifier.Probe(file) == InodePresence.Absent, TimeSpan.FromSeconds(60)), "the kernel keeps the inode");
    }

    [Fact]
    public void A_cached_inode_that_nobody_uses_is_released_on_demand()
    {
        InodeNumber file = _system.AddFile(Root, "f", 5);
        using RealMount mount = RealMount.Start(_system);
        Assert.SkipUnless(mount.Mount.Negotiated.HasPrune, $"kernel interface 7.{mount.Mount.Negotiated.Minor} cannot prune");
        mount.Require("stat f");
        Assert.Equal(InodePresence.Present, mount.Mount.Notifier.Probe(file));
        using (new FileStream(Path.Combine(mount.Path, "f"), FileMode.Open, FileAccess.Read))
            Assert.Equal(InodePresence.Present, mount.Mount.Notifier.Release(file));
        Assert.True(SpinWait.SpinUntil(() => mount.Mount.Notifier.Release(file) == InodePresence.Absent, TimeSpan.FromSeconds(60)), "the kernel keeps the inode");
    }

    [Fact]
    public void A_renamed_file_has_its_new_name_only()
    {
        InodeNumber directory = _system.AddDirectory(Root, "d");
        InodeNumber file = _system.AddFile(Root, "old", 5);
        using RealMount mount = RealMount.Start(_system);
        mount.Require("stat old; ls . d; stat d/new 2>/dev/null; true");
        _system.Tree.Rename(file, directory, "new"u8, InodeNumber.None, 9);
        Tell(mount, notifier =>
        {
            notifier.EntryChanged(Root, "old"u8);
            notifier.EntryChanged(directory, "new"u8);
            notifier.AttributesChanged(file, directory);
        });
        Assert.Equal("d", mount.Require("ls"));
        Assert.Equal(file.ToString(), mount.Require("stat -c %i d/new"));
        Assert.NotEqual(0, mount.Shell("stat old").ExitCode);
    }

    [Fact]
    public void A_deleted_directory_with_cached_children_is_gone()
    {
        InodeNumber directory = _system.AddDirectory(Root, "d");
        _system.AddFile(directory, "f", 5);
        using RealMount mount = RealMount.Start(_system);
        mount.Require("stat d/f; ls d");
        _system.Tree.Delete(directory, 9, null);
        Tell(mount, notifier => notifier.EntryDeleted(Root, directory, "d"u8));
        Assert.NotEqual(0, mount.Shell("stat d/f").ExitCode);
        Assert.NotEqual(0, mount.Shell("stat d").ExitCode);
        Assert.Equal("", mount.Require("ls"));
        Assert.Equal(0, mount.Mount.Notifier.Refused);
    }

    [Fact]
    public void A_directory_the_kernel_never_saw_is_not_notified()
    {
        InodeNumber directory = _system.AddDirectory(Root, "d");
        using RealMount mount = RealMount.Start(_system);
        _system.AddFile(directory, "f", 5);
        Tell(mount, notifier => notifier.EntryChanged(directory, "f"u8));
        Assert.Equal(0, mount.Mount.Notifier.Sent);
        Assert.Equal("f", mount.Require("ls d"));
        _system.AddFile(directory, "g", 5, unit: 1);
        Tell(mount, notifier => notifier.EntryChanged(directory, "g"u8));
        Assert.Equal(2, mount.Mount.Notifier.Sent);
        Assert.Equal("f\ng", mount.Require("ls d"));
    }

    [Fact]
    public void An_overflowing_queue_loses_nothing()
    {
        InodeNumber[] directories = [.. Enumerable.Range(0, 20).Select(i => _system.AddDirectory(Root, $"d{i}"))];
        InodeNumber file = _system.AddFile(directories[3], "there", 1);
        using RealMount mount = RealMount.Start(_system, adjust: options => options with { NotificationLimitBytes = 256 });
        Assert.SkipUnless(mount.Mount.Negotiated.HasEpoch, $"kernel interface 7.{mount.Mount.Negotiated.Minor} has no epochs; the queue grows instead");
        mount.Require("for i in $(seq 0 19); do ls d$i; stat d$i/new; done >/dev/null 2>&1; stat d3/there");
        using var open = new FileStream(Path.Combine(mount.Path, "d3", "there"), FileMode.Open, FileAccess.Read);
        Assert.Equal("644", mount.Require($"stat -L -c %a /proc/{Environment.ProcessId}/fd/{open.SafeFileHandle.DangerousGetHandle()}"));
        _system.Tree.SetAttributes(file, 0x180, null, null, null, null, 1);
        foreach (InodeNumber directory in directories)
            _system.AddFile(directory, "new", 1, unit: 1);
        Tell(mount, notifier =>
        {
            notifier.AttributesChanged(file, directories[3]);
            for (int round = 0; round < 100; round++)
            {
                foreach (InodeNumber directory in directories)
                    notifier.EntryChanged(directory, "new"u8);
            }
        });
        Assert.True(mount.Mount.Notifier.CoarseRounds > 0, "the queue did not overflow");
        Assert.Equal(string.Join('\n', Enumerable.Repeat("new", 20)), mount.Require("for i in $(seq 0 19); do ls d$i | grep new; stat d$i/new > /dev/null || echo missing; done"));
        Assert.Equal("600", mount.Require($"stat -L -c %a /proc/{Environment.ProcessId}/fd/{open.SafeFileHandle.DangerousGetHandle()}"));
    }

    [Fact]
    public void Everything_changed_refreshes_every_cache()
    {
        InodeNumber directory = _system.AddDirectory(Root, "d");
        InodeNumber file = _system.AddFile(directory, "f", 1);
        using RealMount mount = RealMount.Start(_system);
        Assert.SkipUnless(mount.Mount.Negotiated.HasEpoch, $"kernel interface 7.{mount.Mount.Negotiated.Minor} has no epochs");
        mount.Require("ls d; stat d/f; stat d/new 2>/dev/null; true");
        _system.Tree.Rename(file, Root, "moved"u8, InodeNumber.None, 2);
        _system.AddFile(directory, "new", 1, unit: 1);
        Tell(mount, notifier => notifier.EverythingChanged());
        Assert.Equal("d/new moved\nnew", mount.Require("echo $(ls -d moved d/*); ls d"));
        Assert.NotEqual(0, mount.Shell("stat d/f").ExitCode);
    }

    [Fact]
    public async Task Changes_race_with_lookups_and_in_the_end_the_caches_are_true()
    {
        InodeNumber directory = _system.AddDirectory(Root, "d");
        InodeNumber file = _system.AddFile(directory, "f0", 1);
        using RealMount mount = RealMount.Start(_system);
        using var stop = new CancellationTokenSource();
        string stopFile = Path.GetTempFileName();
        Task<ShellResult> load = Task.Run(() => mount.Shell(
            $"""
            while [ -e '{stopFile}' ]; do ls -l d; stat d/f0 d/f1 d/f2 d/f3 d; done > /dev/null 2>&1 &
            while [ -e '{stopFile}' ]; do stat d/f0 d/f1 d/f2 d/f3 d; ls d; done > /dev/null 2>&1 &
            wait
            """));
        try
        {
            int name = 0;
            for (int round = 1; round < 3000; round++)
            {
                byte[] from = Encoding.ASCII.GetBytes($"f{name}");
                name = round % 4;
                byte[] to = Encoding.ASCII.GetBytes($"f{name}");
                uint mode = (uint)(round % 8 * 8);
                _system.Tree.Rename(file, directory, to, InodeNumber.None, round);
                _system.Tree.SetAttributes(file, mode, null, null, null, null, round);
                Tell(mount, notifier =>
                {
                    notifier.EntryChanged(directory, from);
                    notifier.EntryChanged(directory, to);
                    notifier.AttributesChanged(file, directory);
                    notifier.AttributesChanged(directory, Root);
                }, wait: round % 100 == 0);
                if (round % 100 == 0)
                    Assert.Equal($"f{name} {Convert.ToString(mode, 8)} f{name}", mount.Require($"echo $(ls d) $(stat -c %a d/f{name}) $(cd d && stat -c %n f0 f1 f2 f3 2>/dev/null)"));
            }
        }
        finally
        {
            File.Delete(stopFile);
            Assert.Equal(0, (await load).ExitCode);
        }
        Assert.Equal(0, mount.Mount.Notifier.Refused);
        Assert.Null(mount.Mount.LastFailure);
    }

    private void Tell(RealMount mount, Action<KernelNotifier> changes, bool wait = true)
    {
        changes(mount.Mount.Notifier);
        var sequence = new LogSequence(++_sequence);
        mount.Mount.Notifier.Applied(sequence);
        if (wait)
            Assert.True(SpinWait.SpinUntil(() => mount.Mount.Notifier.NotifiedUpTo == sequence, TimeSpan.FromSeconds(60)), "the notifier does not get there");
    }
}
