using System.Globalization;
using System.Text;
using Famfs.Core.Namespace;
using Xunit;

namespace Famfs.Core.Tests.Namespace;

/// <summary>Readers against the writer. In a debug build freed memory is overwritten, so a reader that keeps a
/// pointer too long fails these tests too.</summary>
public sealed class InodeTreeConcurrencyTests
{
    private const int Readers = 3;

    [Fact]
    public void Names_that_are_never_removed_are_always_found_while_the_name_table_grows_and_shrinks()
    {
        using Race race = new();
        InodeTree tree = race.Tree;
        tree.MakeDirectory(new(2), InodeNumber.Root, "d"u8, 0, 0, 0, 1);
        for (ulong i = 0; i < 200; i++)
            tree.CreateFile(new(1000 + i), new(2), Name("stays", i), 0, 0, 0, i, 0, [], 1);
        race.Run(
            () =>
            {
                ulong inode = 5000;
                for (int round = 0; round < 3; round++)
                {
                    ulong first = inode;
                    for (ulong i = 0; i < 30_000; i++)
                        tree.CreateFile(new(inode++), new(2), Name("goes", i), 0, 0, 0, 0, 0, [], 1);
                    for (ulong i = first; i < inode; i++)
                    {
                        tree.Delete(new(i), 2, null);
                        tree.StartZeroing(new(i));
                        tree.Reclaim(new(i));
                    }
                }
            },
            (reader, random) =>
            {
                ulong i = (ulong)random.Next(200);
                using TreeScope scope = reader.Enter();
                Assert.True(scope.TryLookup(new(2), Name("stays", i), out InodeAttributes found));
                Assert.Equal(1000 + i, found.Inode.Value);
                Assert.Equal(i, found.SizeBytes);
                if (scope.TryLookup(new(2), Name("goes", (ulong)random.Next(30_000)), out found))
                {
                    Assert.Equal(InodeKind.File, found.Kind);
                    Assert.Equal(2u, found.Parent.Value);
                }

                Assert.False(scope.TryLookup(new(2), "never"u8, out _));
            });
    }

    [Fact]
    public void A_name_that_is_replaced_always_leads_to_the_old_or_the_new_inode()
    {
        using Race race = new();
        InodeTree tree = race.Tree;
        tree.CreateFile(new(2), InodeNumber.Root, "config"u8, 0, 0, 0, 2, 0, [], 1);
        tree.CreateFile(new(3), InodeNumber.Root, "moves0"u8, 0, 0, 0, 3, 0, [], 1);
        race.Run(
            () =>
            {
                ulong current = 2;
                ulong inode = 10;
                for (int i = 0; i < 40_000; i++)
                {
                    ulong next = inode++;
                    if (i % 2 == 0)
                    {
                        tree.CreateStaged(new(next), Guid.Empty, 0, 0, 0, next, 0, [], 1);
                        tree.Publish(new(next), InodeNumber.Root, "config"u8, new(current), 2);
                    }
                    else
                    {
                        tree.CreateFile(new(next), InodeNumber.Root, Name("tmp", next), 0, 0, 0, next, 0, [], 1);
                        tree.Rename(new(next), InodeNumber.Root, "config"u8, new(current), 2);
                    }

                    tree.StartZeroing(new(current));
                    tree.Reclaim(new(current));
                    current = next;
                    tree.Rename(new(3), InodeNumber.Root, Name("moves", (ulong)i + 1), default, 1);
                    // Names that come and go keep the table busy around the one that stays.
                    for (int k = 0; k < 5; k++)
                        tree.MakeSymlink(new(inode + (ulong)k), InodeNumber.Root, Name("x", (ulong)((i * 5) + k)), "t"u8, 0, 0, 1);
                    for (int k = 0; k < 5; k++)
                        tree.Delete(new(inode++), 1, null);
                }
            },
            (reader, random) =>
            {
                using TreeScope scope = reader.Enter();
                Assert.True(scope.TryLookup(InodeNumber.Root, "config"u8, out InodeAttributes found));
                Assert.Equal(found.Inode.Value, found.SizeBytes);
                Assert.Equal(InodeStatus.Published, found.Status);
                Assert.True(scope.TryGet(new(3), out found));
                Assert.True(scope.TryGetName(new(3), out InodeNumber parent, out ReadOnlySpan<byte> name));
                Assert.Equal(InodeNumber.Root, parent);
                Assert.True(name.StartsWith("moves"u8));
            });
    }

    [Fact]
    public unsafe void A_lookup_that_began_in_a_name_table_since_replaced_finds_what_the_name_means_now()
    {
        using InodeTree tree = new(99);
        tree.MakeRoot(InodeNumber.Root, 0x1ED, 0, 0, 1);
        tree.CreateFile(new(2), InodeNumber.Root, "config"u8, 0, 0, 0, 0, 0, [], 1);
        using TreeReader reader = tree.RegisterReader();
        using TreeScope scope = reader.Enter();
        byte* stale = tree.Names.Current;
        for (ulong i = 10; i < 3000; i++)
            tree.CreateFile(new(i), InodeNumber.Root, Name("f", i), 0, 0, 0, 0, 0, [], 1);
        tree.Rename(new(10), InodeNumber.Root, "config"u8, new(2), 1);
        Assert.True(stale != tree.Names.Current);
        Assert.True(scope.TryLookup(stale, InodeNumber.Root, "config"u8, out InodeAttributes found));
        Assert.Equal(10u, found.Inode.Value);
        Assert.False(scope.TryLookup(stale, InodeNumber.Root, Name("f", 10), out _));
    }

    [Fact]
    public void Attributes_are_never_torn()
    {
        using Race race = new();
        InodeTree tree = race.Tree;
        tree.CreateFile(new(2), InodeNumber.Root, "a"u8, 0, 0, 0, 0, 0, [], 0);
        tree.MakeDirectory(new(3), InodeNumber.Root, "d"u8, 0, 0, 0, 0);
        race.Run(
            () =>
            {
                for (int i = 1; i < 150_000; i++)
                {
                    // Every third time equal, so that the extension comes and goes.
                    long access = i % 3 == 0 ? i : i + 1;
                    tree.SetAttributes(new(2), (uint)i & 0xFFF, (uint)i, ~(uint)i, access, i, i);
                    if (i % 7 == 0)
                        tree.SetExtendedAttribute(new(2), "user.x"u8, Name("value", (ulong)i));
                    if (i % 7 == 3)
                        tree.RemoveExtendedAttribute(new(2), "user.x"u8);
                    // Entries and subdirectories of a directory change together.
                    if (i % 2 == 1)
                        tree.MakeDirectory(new((ulong)i + 10), new(3), "s"u8, 0, 0, 0, i);
                    else
                        tree.Delete(new((ulong)i - 1 + 10), i, null);
                }
            },
            (reader, random) =>
            {
                using TreeScope scope = reader.Enter();
                Assert.True(scope.TryGet(new(2), out InodeAttributes found));
                if (found.ChangeTimeNs > 0)
                {
                    Assert.Equal(~found.Uid, found.Gid);
                    Assert.Equal(found.Uid & 0xFFF, found.Mode);
                    Assert.Equal(found.Uid, found.ChangeTimeNs);
                    Assert.Equal(found.ChangeTimeNs, found.ModifyTimeNs);
                    Assert.Equal(found.ChangeTimeNs + (found.ChangeTimeNs % 3 == 0 ? 0 : 1), found.AccessTimeNs);
                }

                if (scope.TryGetExtendedAttribute(new(2), "user.x"u8, out ReadOnlySpan<byte> value))
                    Assert.True(value.StartsWith("value"u8));
                Assert.True(scope.TryGet(new(3), out found));
                Assert.Equal(found.SizeBytes + 2, found.LinkCount);
                Assert.Equal(found.ModifyTimeNs, found.ChangeTimeNs);
                Assert.Equal(found.ModifyTimeNs % 2, (long)found.SizeBytes);
            });
    }

    [Fact]
    public void A_listing_sees_what_stays_once_and_ends_whatever_comes_and_goes()
    {
        using Race race = new();
        InodeTree tree = race.Tree;
        tree.MakeDirectory(new(2), InodeNumber.Root, "d"u8, 0, 0, 0, 1);
        tree.MakeDirectory(new(3), InodeNumber.Root, "e"u8, 0, 0, 0, 1);
        ulong inode = 10;
        List<ulong> movers = [];
        const int Staying = 100;
        for (int i = 0; i < Staying; i++)
        {
            tree.CreateFile(new(inode), new(2), Name("stays", (ulong)i), 0, 0, 0, 0, 0, [], 1);
            inode++;
            for (int k = 0; k < 3; k++)
            {
                tree.CreateFile(new(inode), new(2), Name("moves", inode), 0, 0, 0, 0, 0, [], 1);
                movers.Add(inode++);
            }
        }

        race.Run(
            () =>
            {
                Random random = new(4);
                ulong[] parents = new ulong[inode];
                Array.Fill(parents, 2u);
                for (int i = 0; i < 150_000; i++)
                {
                    ulong mover = movers[random.Next(movers.Count)];
                    // Away and back: every time to the end of the list, with a new cookie.
                    parents[mover] = parents[mover] == 2 ? 3u : 2u;
                    tree.Rename(new(mover), new(parents[mover]), Name("moves", mover), default, 1);
                    ulong symlink = inode++;
                    tree.MakeSymlink(new(symlink), new(2), "s"u8, "t"u8, 0, 0, 1);
                    tree.Delete(new(symlink), 1, null);
                }
            },
            (reader, random) =>
            {
                // In pieces, in separate scopes, with and without the hint.
                ulong cookie = 0;
                InodeNumber last = default;
                int stayed = 0;
                bool ended = false;
                while (!ended)
                {
                    using TreeScope scope = reader.Enter();
                    DirectoryEntries entries = scope.List(new(2), cookie, random.Next(2) == 0 ? last : default);
                    for (int piece = random.Next(1, 200); piece > 0 && !ended; piece--)
                    {
                        ended = !entries.MoveNext();
                        if (ended)
                            break;
                        Assert.True(entries.Cookie > cookie);
                        cookie = entries.Cookie;
                        last = entries.Attributes.Inode;
                        Assert.Equal(2u, entries.Attributes.Parent.Value);
                        if (entries.Name.StartsWith("stays"u8))
                        {
                            Assert.Equal(Encoding.ASCII.GetString(Name("stays", (ulong)stayed)), Encoding.ASCII.GetString(entries.Name));
                            stayed++;
                        }
                        else
                        {
                            Assert.True(entries.Name.StartsWith("moves"u8) || entries.Name.SequenceEqual("s"u8));
                        }
                    }
                }

                Assert.Equal(Staying, stayed);
            });
    }

    [Fact]
    public void A_listing_does_not_follow_a_child_that_leaves_and_comes_back_while_it_steps()
    {
        using InodeTree tree = new(99);
        tree.MakeRoot(InodeNumber.Root, 0x1ED, 0, 0, 1);
        tree.MakeDirectory(new(2), InodeNumber.Root, "elsewhere"u8, 0, 0, 0, 1);
        tree.MakeDirectory(new(3), InodeNumber.Root, "d"u8, 0, 0, 0, 1);
        for (ulong i = 10; i < 13; i++)
            tree.CreateFile(new(i), new(3), Name("f", i), 0, 0, 0, 0, 0, [], 1);
        using TreeReader reader = tree.RegisterReader();
        using TreeScope scope = reader.Enter();
        // Moved before the listing begins, so that its last cookie bounds nothing here.
        tree.Rename(new(10), new(2), "x"u8, default, 1);
        tree.Rename(new(10), new(3), Name("f", 10), default, 1);
        DirectoryEntries entries = scope.List(new(3), 0);
        Assert.True(entries.MoveNext());
        Assert.Equal(11u, entries.Attributes.Inode.Value);
        Assert.True(entries.TryLoadNext(out ulong next));
        Assert.Equal(12u, next);
        // 11 goes, so that 12's place is behind nobody the listing knows; 12 stays.
        tree.Delete(new(11), 1, null);
        Assert.Equal(DirectoryEntries.StepResult.Again, entries.Step(next));
        Assert.True(entries.MoveNext());
        Assert.Equal(12u, entries.Attributes.Inode.Value);
        // 10, the next, leaves and comes back: it is not where it was.
        Assert.True(entries.TryLoadNext(out next));
        Assert.Equal(10u, next);
        tree.Rename(new(10), new(2), "x"u8, default, 1);
        tree.CreateFile(new(20), new(3), "new"u8, 0, 0, 0, 0, 0, [], 1);
        tree.Rename(new(10), new(3), Name("f", 10), default, 1);
        Assert.Equal(DirectoryEntries.StepResult.Again, entries.Step(next));
        // What was linked after the listing began is not part of it.
        Assert.False(entries.MoveNext());
        DirectoryEntries rest = scope.List(new(3), entries.Cookie, new(12));
        Assert.True(rest.MoveNext());
        Assert.Equal(20u, rest.Attributes.Inode.Value);
        Assert.True(rest.MoveNext());
        Assert.Equal(10u, rest.Attributes.Inode.Value);
        Assert.False(rest.MoveNext());
    }

    [Fact]
    public void Directories_that_vanish_under_their_readers_do_no_harm()
    {
        using Race race = new();
        InodeTree tree = race.Tree;
        ulong top = 0;
        race.Run(
            () =>
            {
                ulong inode = 10;
                for (int i = 0; i < 1500; i++)
                {
                    ulong root = inode++;
                    tree.MakeDirectory(new(root), InodeNumber.Root, "d"u8, 1, 1, 1, 1);
                    ulong directory = root;
                    Volatile.Write(ref top, root);
                    for (int k = 0; k < 60; k++)
                    {
                        tree.CreateFile(new(inode), new(directory), Name("f", inode), 1, 1, 1, 1, 4096, [new(default, 0, 4096), new(default, 4096, 4096)], 1);
                        inode++;
                        tree.MakeSymlink(new(inode), new(directory), Name("l", inode), Name("target", inode), 1, 1, 1);
                        inode++;
                        if (k % 10 == 0)
                        {
                            tree.MakeDirectory(new(inode), new(directory), Name("d", inode), 1, 1, 1, 1);
                            directory = inode++;
                        }
                    }

                    List<InodeNumber> deleted = [];
                    tree.Delete(new(root), 2, deleted.Add);
                    foreach (InodeNumber file in deleted)
                    {
                        tree.StartZeroing(file);
                        tree.Reclaim(file);
                    }
                }

                Assert.Equal(1, tree.InodeCount);
            },
            (reader, random) =>
            {
                using TreeScope scope = reader.Enter();
                ulong directory = Volatile.Read(ref top);
                for (int i = 0; i < 5; i++)
                {
                    DirectoryEntries entries = scope.List(new(directory), 0);
                    while (entries.MoveNext())
                    {
                        InodeNumber child = entries.Attributes.Inode;
                        Assert.Equal(1u, entries.Attributes.Uid);
                        switch (entries.Attributes.Kind)
                        {
                            case InodeKind.Directory:
                                Assert.Equal((byte)'d', entries.Name[0]);
                                directory = child.Value;
                                break;
                            case InodeKind.Symlink:
                                Assert.Equal((byte)'l', entries.Name[0]);
                                if (scope.TryGetSymlinkTarget(child, out ReadOnlySpan<byte> target))
                                    Assert.True(target.SequenceEqual(Name("target", child.Value)));
                                break;
                            default:
                                Assert.Equal((byte)'f', entries.Name[0]);
                                if (scope.TryGetMap(child, out MapView map))
                                    Assert.Equal(4096, map[1].OffsetBytes);
                                break;
                        }
                    }
                }

                if (scope.TryGetNext(InodeNumber.Root, out InodeAttributes any))
                    Assert.NotEqual(InodeKind.None, any.Kind);
            });
    }

    private static byte[] Name(string prefix, ulong number) => Encoding.ASCII.GetBytes(prefix + number.ToString(CultureInfo.InvariantCulture));

    /// <summary>One writer, several readers until it ends; the first error of anyone fails the test.</summary>
    private sealed class Race : IDisposable
    {
        public readonly InodeTree Tree = new(99);

        public Race() => Tree.MakeRoot(InodeNumber.Root, 0x1ED, 0, 0, 1);

        public void Dispose() => Tree.Dispose();

        public void Run(Action write, Action<TreeReader, Random> read)
        {
            bool done = false;
            Exception? error = null;
            using CountdownEvent started = new(Readers);
            Thread[] threads = new Thread[Readers];
            for (int i = 0; i < Readers; i++)
            {
                int seed = i;
                threads[i] = new Thread(() =>
                {
                    Random random = new(seed);
                    using TreeReader reader = Tree.RegisterReader();
                    try
                    {
                        read(reader, random);
                        started.Signal();
                        while (!Volatile.Read(ref done))
                            read(reader, random);
                    }
                    catch (Exception problem)
                    {
                        Interlocked.CompareExchange(ref error, problem, null);
                        if (!started.IsSet)
                            started.Signal();
                    }
                });
                threads[i].Start();
            }

            started.Wait();
            try
            {
                write();
            }
            finally
            {
                Volatile.Write(ref done, true);
                foreach (Thread thread in threads)
                    thread.Join();
            }

            if (error is not null)
                throw new InvalidOperationException("a reader failed", error);
        }
    }
}
