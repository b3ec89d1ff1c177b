using System.Globalization;
using System.Runtime.InteropServices;
using Famfs.Core.Dax;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.TestSupport;
using Famfs.V1;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace Famfs.Core.Tests;

/// <summary>Locks in the state directory of a host. Another node of a device is played by a copy of its file: no lock on one excludes
/// anybody on the other.</summary>
public sealed class HostLocksTests : IDisposable
{
    private static readonly Guid s_first = new("11111111-1111-4111-8111-111111111111");
    private static readonly Guid s_second = new("22222222-2222-4222-8222-222222222222");

    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-locks-").FullName;

    private string State => Path.Combine(_directory, "state");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void A_lock_excludes_its_own_number_of_its_file_system_in_its_directory_and_nothing_else()
    {
        HostLocks locks = HostLocks.In(State);
        Assert.True(locks.TryLock(s_first, 3, 1, out IDisposable? held));
        Assert.False(HostLocks.In(State).TryLock(s_first, 3, 1, out _));
        Assert.False(HostLocks.OfTool(State).TryLock(s_first, 0, 64, out _));
        Assert.False(locks.TryLock(s_first, 0, 0, out _));
        foreach ((HostLocks others, Guid fileSystem, long index) in new[] { (locks, s_first, 4L), (locks, s_second, 3L), (HostLocks.In(Path.Combine(_directory, "other")), s_first, 3L) })
        {
            Assert.True(others.TryLock(fileSystem, index, 1, out IDisposable? other));
            other.Dispose();
        }
        Assert.True(locks.TryLock(s_first, 64, 0, out IDisposable? rest));
        rest.Dispose();
        held.Dispose();
        Assert.True(locks.TryLock(s_first, 0, 0, out IDisposable? all));
        all.Dispose();
        Assert.Equal(0b110_000_000u, FileStatus.Read(locks.PathOf(s_first)!, followLinks: true).Mode);
    }

    /// <summary>As a program has them that another thread is just starting.</summary>
    [Fact]
    public void A_lock_that_is_given_up_is_free_while_a_copy_of_its_descriptor_is_open()
    {
        string device = Path.Combine(_directory, "device");
        using (FileStream file = File.Create(device))
            file.SetLength(4 << 20);
        using DaxDevice other = DaxDevice.Open(device);
        HostLocks locks = HostLocks.In(State);
        using (DescriptorCopies copies = new())
        {
            using (DaxDevice formatting = DaxDevice.Open(device))
            {
                Assert.True(formatting.TryUse(alone: true));
                Assert.True(formatting.TryLockByte(3, out IDisposable? onDevice));
                Assert.True(locks.TryLock(s_first, 3, 1, out IDisposable? onHost));
                IDisposable turn = Assert.IsAssignableFrom<IDisposable>(DirectoryTurn.TryTake(_directory));
                Assert.True(copies.CopyAll(_directory) >= 4);
                Assert.False(other.TryUse(alone: false));
                onDevice.Dispose();
                onHost.Dispose();
                turn.Dispose();
            }
            Assert.True(other.TryUse(alone: false));
            Assert.True(other.TryLockByte(3, out IDisposable? again));
            again.Dispose();
            Assert.True(locks.TryLock(s_first, 3, 1, out again));
            again.Dispose();
            Assert.IsAssignableFrom<IDisposable>(DirectoryTurn.TryTake(_directory)).Dispose();
        }
    }

    [Fact]
    public void A_tool_finds_nobody_where_there_is_no_state_directory_and_makes_none()
    {
        foreach (HostLocks locks in new[] { HostLocks.OfTool(State), HostLocks.None })
        {
            for (int i = 0; i < 2; i++)
                Assert.True(locks.TryLock(s_first, 0, 1, out _));
        }
        Assert.False(Directory.Exists(State));
    }

    [Fact]
    public void Locks_that_cannot_be_kept_are_an_error_with_their_path()
    {
        Directory.CreateDirectory(State);
        File.WriteAllText(Path.Combine(State, "locks"), "");
        foreach (HostLocks locks in new[] { HostLocks.In(State), HostLocks.OfTool(State) })
            Assert.Contains(Path.Combine(State, "locks"), Assert.ThrowsAny<FamfsException>(() => locks.TryLock(s_first, 0, 1, out _)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_places_of_masters_and_mounts_exclude_those_with_another_node_of_the_device()
    {
        string first = Path.Combine(_directory, "0");
        string copy = Path.Combine(_directory, "0 by another node");
        using (FileStream file = File.Create(first))
            file.SetLength(16 << 20);
        using (DaxDevice device = DaxDevice.Open(first))
            NativeFormatter.Format([device], new() { Host = Guid.NewGuid(), Clock = TimeProvider.System });
        File.Copy(first, copy);
        using DevicePool here = TestFormats.All.Open([DaxDevice.Open(first)]);
        using DevicePool there = TestFormats.All.Open([DaxDevice.Open(copy)]);
        Guid fileSystem = here.Primary.FileSystem;
        HostLocks locks = HostLocks.In(State);

        // A mount's entry.
        Assert.True(new MountLineTable(here, locks).TryLock(0, out IDisposable? entry));
        Assert.False(new MountLineTable(there, locks).TryLock(0, out _));
        Assert.True(new MountLineTable(there).TryLock(0, out IDisposable? unlocked));
        unlocked.Dispose();
        List<IDisposable> held = [];
        FamfsException living = Assert.Throws<FamfsException>(() => DeviceLock.TakeAll([there.PrimaryDevice], TestFormats.All, locks, Term.SlotCount, held));
        Assert.Equal(ErrorReason.Exists, living.Reason);
        Assert.Contains($"is alive on this host ({locks.PathOf(fileSystem)} is locked)", living.Message, StringComparison.Ordinal);
        DeviceLock.TakeAll([there.PrimaryDevice], TestFormats.All, HostLocks.In(Path.Combine(_directory, "other")), 0, held);
        held.ForEach(h => h.Dispose());
        entry.Dispose();
        DeviceLock.TakeAll([there.PrimaryDevice], TestFormats.All, locks, Term.SlotCount, held = []);
        Assert.Single(held).Dispose();

        // A master's slot, and a tool that keeps masters away.
        CancellationToken cancel = TestContext.Current.CancellationToken;
        Task<MaintenanceLock> Maintain() => MaintenanceLock.HoldAsync([there.PrimaryDevice], TestFormats.All, new("no such file", TimeSpan.Zero, TimeProvider.System, locks), cancel);
        Assert.True(DeviceLock.TryTake(here.PrimaryDevice, locks, fileSystem, 5, out IDisposable? slot));
        Assert.False(DeviceLock.TryTake(there.PrimaryDevice, locks, fileSystem, 5, out _));
        Assert.Contains("is locked", (await Assert.ThrowsAsync<FamfsException>(Maintain)).Message, StringComparison.Ordinal);
        // What was refused has left nothing locked.
        Assert.True(there.PrimaryDevice.TryLockByte(5, out IDisposable? onDevice));
        onDevice.Dispose();
        slot.Dispose();
        using (await Maintain())
            Assert.False(DeviceLock.TryTake(here.PrimaryDevice, locks, fileSystem, 5, out _));
        Assert.True(DeviceLock.TryTake(here.PrimaryDevice, locks, fileSystem, 5, out slot));
        slot.Dispose();
    }

    /// <summary>Copies of this process's descriptors, as a new process has them until it executes.</summary>
    private sealed class DescriptorCopies : IDisposable
    {
        private readonly List<SafeFileHandle> _copies = [];

        /// <summary>Copies those whose file is in a directory, or is it. Gives how many.</summary>
        public int CopyAll(string directory)
        {
            foreach (string link in Directory.EnumerateFileSystemEntries("/proc/self/fd"))
            {
                if (new System.IO.FileInfo(link).LinkTarget is not { } target || !(target + "/").StartsWith(directory + "/", StringComparison.Ordinal))
                    continue;
                int copy = Dup(int.Parse(Path.GetFileName(link), CultureInfo.InvariantCulture));
                if (copy >= 0)
                    _copies.Add(new(copy, ownsHandle: true));
            }
            return _copies.Count;
        }

        public void Dispose()
        {
            foreach (SafeFileHandle copy in _copies)
                copy.Dispose();
        }

        [DllImport("libc", EntryPoint = "dup")]
        [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
        private static extern int Dup(int descriptor);
    }
}
