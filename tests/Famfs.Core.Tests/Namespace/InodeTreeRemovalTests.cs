using Famfs.Core.Namespace;
using Xunit;

namespace Famfs.Core.Tests.Namespace;

/// <summary>Directories that are removed with all below them, and taken apart later.</summary>
public sealed class InodeTreeRemovalTests : IDisposable
{
    private readonly InodeTree _tree = new(5);
    private readonly TreeReader _reader;

    public InodeTreeRemovalTests()
    {
        _tree.MakeRoot(InodeNumber.Root, 0x1ED, 0, 0, 1);
        _reader = _tree.RegisterReader();
    }

    public void Dispose()
    {
        _reader.Dispose();
        _tree.Dispose();
    }

    /// <summary>d (10) has e (11), f (12) and link (13); e has g (14) and an empty directory h (15); "outside" is 16.</summary>
    private void MakeTree()
    {
        MakeDirectory(10, 1, "d");
        MakeDirectory(11, 10, "e");
        MakeFile(12, 10, "f");
        _tree.MakeSymlink(new(13), new(10), "link"u8, "target"u8, 0, 0, 3);
        MakeFile(14, 11, "g");
        MakeDirectory(15, 11, "h");
        MakeFile(16, 1, "outside");
    }

    [Fact]
    public void From_the_removal_on_nothing_below_is_found_and_files_there_are_deleted_before_any_is_taken_apart()
    {
        MakeTree();
        _tree.Remove(new(10), 9);
        Assert.Equal(1, _tree.RemovedDirectoryCount);
        using (TreeScope scope = _reader.Enter())
        {
            foreach ((ulong parent, string name) in (ReadOnlySpan<(ulong, string)>)[(1, "d"), (10, "e"), (10, "f"), (10, "link"), (11, "g"), (11, "h")])
                Assert.False(scope.TryLookup(new(parent), TreeModel.Bytes(name), out _), name);
            foreach (ulong directory in (ReadOnlySpan<ulong>)[10, 11, 15])
            {
                Assert.False(scope.List(new(directory), 0).MoveNext());
                Assert.True(scope.TryGet(new(directory), out InodeAttributes found));
                Assert.Equal((InodeStatus.Deleted, 0u), (found.Status, found.LinkCount));
            }
            foreach (ulong file in (ReadOnlySpan<ulong>)[12, 14])
            {
                Assert.True(scope.TryGet(new(file), out InodeAttributes found));
                Assert.Equal((InodeStatus.Deleted, 0u, 4096UL), (found.Status, found.LinkCount, found.SizeBytes));
                Assert.True(scope.TryGetMap(new(file), out MapView map));
                Assert.Equal(1, map.ExtentCount);
            }
            Assert.True(scope.TryLookup(InodeNumber.Root, "outside"u8, out InodeAttributes outside));
            Assert.Equal((InodeStatus.Published, 1u), (outside.Status, outside.LinkCount));
            Assert.True(scope.TryGet(InodeNumber.Root, out InodeAttributes root));
            Assert.Equal((1UL, 2u, 9L), (root.SizeBytes, root.LinkCount, root.ModifyTimeNs));
        }

        // What would be below it is refused, whatever is left there.
        TreeModel.AssertCorrupt(() => MakeFile(20, 10, "new"));
        TreeModel.AssertCorrupt(() => MakeFile(20, 15, "new"));
        TreeModel.AssertCorrupt(() => _tree.Rename(new(12), new(1), "f"u8, default, 9));
        TreeModel.AssertCorrupt(() => _tree.Rename(new(16), new(11), "o"u8, default, 9));
        TreeModel.AssertCorrupt(() => _tree.Remove(new(14), 9));
        TreeModel.AssertCorrupt(() => _tree.Remove(new(10), 9));

        // The name is free at once.
        MakeDirectory(30, 1, "d");
        List<string> told = [];
        Assert.Equal(6, _tree.TakeApart(int.MaxValue, (parent, inode, kind, name) => told.Add($"{parent}/{System.Text.Encoding.UTF8.GetString(name)} {inode} {kind}")));
        Assert.Equal(0, _tree.RemovedDirectoryCount);
        Assert.Equal(["10/e 11 Directory", "11/g 14 File", "11/h 15 Directory", "10/f 12 File", "10/link 13 Symlink"], told);
        Assert.Equal([14UL, 12UL], _tree.EnumerateDeleted().Select(i => i.Value));
        Assert.Equal((1L, 2L, 5L), (_tree.FileCount, _tree.DirectoryCount, _tree.InodeCount));
        using TreeScope after = _reader.Enter();
        Assert.True(after.TryLookup(InodeNumber.Root, "d"u8, out InodeAttributes again));
        Assert.Equal(new InodeNumber(30), again.Inode);
        Assert.False(after.TryGet(new(10), out _));
    }

    /// <summary>Any number of steps at any time between other changes leads to the same as all at once.</summary>
    [Fact]
    public void It_does_not_matter_when_a_removed_directory_is_taken_apart()
    {
        for (int seed = 0; seed < 40; seed++)
        {
            using InodeTree slow = new(7);
            using InodeTree fast = new(7);
            using TreeReader slowReader = slow.RegisterReader();
            using TreeReader fastReader = fast.RegisterReader();
            Random random = new(seed);
            Random steps = new(seed + 1000);
            foreach (InodeTree tree in (InodeTree[])[slow, fast])
                tree.MakeRoot(InodeNumber.Root, 0x1ED, 0, 0, 1);
            ulong next = 10;
            for (int step = 0; step < 400; step++)
            {
                Change(random, ref next, step, [slow, fast], fastReader);
                fast.TakeApart(int.MaxValue, null);
                if (steps.Next(3) == 0)
                    slow.TakeApart(steps.Next(4), null);
                if (step % 20 == 0)
                    Assert.Equal(Describe(fastReader, InodeNumber.Root, ""), Describe(slowReader, InodeNumber.Root, ""));
            }
            while (slow.RemovedDirectoryCount != 0)
                slow.TakeApart(1 + steps.Next(3), null);
            Assert.Equal(Describe(fastReader, InodeNumber.Root, ""), Describe(slowReader, InodeNumber.Root, ""));
            Assert.Equal((fast.FileCount, fast.DirectoryCount, fast.InodeCount, fast.DeletedCount), (slow.FileCount, slow.DirectoryCount, slow.InodeCount, slow.DeletedCount));
            Assert.Equal(fast.EnumerateDeleted().Select(i => i.Value).Order(), slow.EnumerateDeleted().Select(i => i.Value).Order());
        }
    }

    /// <summary>A reader that begins after a removal finds nothing below it, while the writer takes it apart, moves directories in and out
    /// of others and makes new ones.</summary>
    [Fact]
    public void Readers_beside_the_writer_find_nothing_below_a_removed_directory_and_lose_nothing_that_was_moved_out()
    {
        const int Rounds = 3000;

        // Deep, so that a reader that goes up is on its way while the writer moves and removes.
        const int Depth = 60;
        long removedBefore = 10; // directories below this number are removed
        MakeDirectory(2, 1, "stays");
        MakeDirectory(3, 2, "moves"); // in the tree all the time, in one place or another
        MakeFile(4, 3, "f");
        bool ended = false;
        Exception? failure = null;
        Thread[] readers = [.. Enumerable.Range(0, 2).Select(index => new Thread(() =>
        {
            try
            {
                using TreeReader reader = _tree.RegisterReader();
                while (!Volatile.Read(ref ended))
                {
                    using TreeScope scope = reader.Enter();
                    ulong before = (ulong)Volatile.Read(ref removedBefore);
                    if (before > 10)
                    {
                        // Of the last one: its deepest directory, and the file there.
                        Assert.False(scope.TryLookup(new(before - 2), "f"u8, out _));
                        Assert.False(scope.TryLookup(new(before - Depth - 1), "e"u8, out _));
                        if (scope.TryGet(new(before - 1), out InodeAttributes file))
                            Assert.Equal((InodeStatus.Deleted, 0u), (file.Status, file.LinkCount));
                    }
                    for (int i = 0; i < 20; i++)
                    {
                        Assert.True(scope.TryLookup(new(3), "f"u8, out InodeAttributes found));
                        Assert.Equal(InodeStatus.Published, found.Status);
                    }
                }
            }
            catch (Exception error)
            {
                Interlocked.CompareExchange(ref failure, error, null);
            }
        }))];
        foreach (Thread reader in readers)
            reader.Start();
        Random random = new(3);
        ulong at = 10;
        for (int round = 0; round < Rounds && Volatile.Read(ref failure) is null; round++, at += Depth + 1)
        {
            MakeDirectory(at, 1, $"d{at}");
            for (ulong i = 1; i < Depth; i++)
                MakeDirectory(at + i, at + i - 1, "e");
            MakeFile(at + Depth, at + Depth - 1, "f");
            // Into it and out again: who goes up from there must not take its former place for the present one.
            for (int i = 0; i < 20; i++)
            {
                _tree.Rename(new(3), new(at + Depth - 1), "moves"u8, default, 5);
                _tree.Rename(new(3), new(2), "moves"u8, default, 5);
            }
            _tree.Remove(new(at), 6);
            Volatile.Write(ref removedBefore, (long)at + Depth + 1);
            // One is left, so that readers go up all the time.
            while (_tree.RemovedDirectoryCount > 1)
                _tree.TakeApart(random.Next(1, Depth), null);
        }
        Volatile.Write(ref ended, true);
        foreach (Thread reader in readers)
            reader.Join();
        Assert.Null(failure);
    }

    [Fact]
    public void A_deleted_file_of_one_extent_takes_64_bytes()
    {
        const int Files = 64 * 2000;
        MakeDirectory(2, 1, "d");
        for (ulong i = 0; i < Files; i++)
            MakeFile(64 + i, 2, $"a name of some length {i}");
        _tree.ReleaseRetired();
        _tree.Delete(new(2), 9, null);
        _tree.ReleaseRetired();
        Assert.Equal(Files, _tree.DeletedCount);
        long held = _tree.UsedNativeBytes;
        foreach (InodeNumber inode in _tree.EnumerateDeleted().ToList())
        {
            _tree.StartZeroing(inode);
            _tree.Reclaim(inode);
        }
        _tree.ReleaseRetired();
        Assert.InRange((held - _tree.UsedNativeBytes) / (double)Files, 1, 64.5);
    }

    private static void Change(Random random, ref ulong next, int step, InodeTree[] trees, TreeReader reader)
    {
        List<(ulong Inode, ulong Parent, string Name, InodeKind Kind)> all = [];
        using (TreeScope scope = reader.Enter())
            Collect(scope, InodeNumber.Root, all);
        (ulong Inode, ulong Parent, string Name, InodeKind Kind)[] directories = [.. all.Where(e => e.Kind == InodeKind.Directory)];
        ulong parent = random.Next(3) == 0 || directories.Length == 0 ? 1 : directories[random.Next(directories.Length)].Inode;
        ulong inode = next++;
        string name = $"n{inode}";
        switch (random.Next(6))
        {
            case 0 or 1:
                foreach (InodeTree tree in trees)
                    tree.MakeDirectory(new(inode), new(parent), TreeModel.Bytes(name), 0x1ED, 0, 0, step);
                break;
            case 2 or 3:
                foreach (InodeTree tree in trees)
                    tree.CreateFile(new(inode), new(parent), TreeModel.Bytes(name), 0x1A4, 0, 0, 4096, 0, [new(default, (long)inode << 21, 2 << 20)], step);
                break;
            case 4 when all.Count > 0:
                (ulong Inode, ulong Parent, string Name, InodeKind Kind) moved = all[random.Next(all.Count)];
                if (moved.Kind == InodeKind.Directory && IsBelow(reader, parent, moved.Inode))
                    break;
                foreach (InodeTree tree in trees)
                    tree.Rename(new(moved.Inode), new(parent), TreeModel.Bytes(name), default, step);
                break;
            case 5 when all.Count > 0:
                ulong gone = all[random.Next(all.Count)].Inode;
                foreach (InodeTree tree in trees)
                    tree.Remove(new(gone), step);
                break;
        }
    }

    private static bool IsBelow(TreeReader reader, ulong inode, ulong directory)
    {
        using TreeScope scope = reader.Enter();
        InodeNumber at = new(inode);
        while (at.Value != directory)
        {
            if (!scope.TryGetName(at, out at, out _))
                return false;
        }
        return true;
    }

    private static void Collect(in TreeScope scope, InodeNumber directory, List<(ulong Inode, ulong Parent, string Name, InodeKind Kind)> all)
    {
        DirectoryEntries entries = scope.List(directory, 0);
        while (entries.MoveNext())
        {
            all.Add((entries.Attributes.Inode.Value, directory.Value, System.Text.Encoding.UTF8.GetString(entries.Name), entries.Attributes.Kind));
            if (entries.Attributes.Kind == InodeKind.Directory)
                Collect(scope, entries.Attributes.Inode, all);
        }
    }

    private static List<string> Describe(TreeReader reader, InodeNumber directory, string path)
    {
        List<string> lines = [];
        using TreeScope scope = reader.Enter();
        DirectoryEntries entries = scope.List(directory, 0);
        while (entries.MoveNext())
        {
            InodeAttributes a = entries.Attributes;
            string at = $"{path}/{System.Text.Encoding.UTF8.GetString(entries.Name)}";
            lines.Add($"{at} {a.Inode} {a.Kind} {a.Status} {a.SizeBytes} {a.LinkCount} {a.ModifyTimeNs} {a.ChangeTimeNs}");
            if (a.Kind == InodeKind.Directory)
                lines.AddRange(Describe(reader, a.Inode, at));
        }
        return lines;
    }

    private void MakeDirectory(ulong inode, ulong parent, string name) => _tree.MakeDirectory(new(inode), new(parent), TreeModel.Bytes(name), 0x1ED, 0, 0, 3);

    private void MakeFile(ulong inode, ulong parent, string name) =>
        _tree.CreateFile(new(inode), new(parent), TreeModel.Bytes(name), 0x1A4, 0, 0, 4096, 0, [new(default, (long)inode << 21, 2 << 20)], 3);
}
