using Famfs.Core.Namespace;
using Xunit;

namespace Famfs.Core.Tests.Namespace;

public sealed class InodeTreeMemoryTests
{
    [Fact]
    public void Memory_returns_to_the_baseline_after_everything_is_deleted()
    {
        using InodeTree tree = new(5);
        tree.MakeRoot(InodeNumber.Root, 0x1ED, 0, 0, 1);
        ulong next = 2;
        Cycle(tree, ref next);
        long native = tree.NativeBytes;
        long used = tree.UsedNativeBytes;
        for (int i = 0; i < 3; i++)
        {
            Cycle(tree, ref next);
            Assert.Equal(used, tree.UsedNativeBytes);
            Assert.Equal(native, tree.NativeBytes);
        }

        // What stays (the root, the spine of the inode table, a chunk of the limbo list) lies in a few regions.
        Assert.InRange(native, 1, 6 << 20);
    }

    [Fact]
    public void A_file_takes_no_more_than_100_bytes_and_its_name()
    {
        const int Files = 200_000;
        using InodeTree tree = new(5);
        tree.MakeRoot(InodeNumber.Root, 0x1ED, 0, 0, 1);
        long before = tree.UsedNativeBytes;
        byte[] name = new byte[24];
        for (int i = 0; i < Files; i++)
        {
            i.TryFormat(name, out int length);
            name.AsSpan(length).Fill((byte)'n');
            tree.CreateFile(new((ulong)i + 2), InodeNumber.Root, name, 0x1A4, 1000, 1000, 2 << 20, 0, [new(new DeviceIndex(1), (long)i << 21, 2 << 20)], 7);
        }

        tree.ReleaseRetired();
        Assert.InRange((tree.UsedNativeBytes - before) / (double)Files, 64, 100 + name.Length);
    }

    [Fact]
    public void What_a_reader_found_stays_until_its_scope_ends_and_is_freed_then()
    {
        using InodeTree tree = new(5);
        tree.MakeRoot(InodeNumber.Root, 0x1ED, 0, 0, 1);
        using TreeReader reader = tree.RegisterReader();
        using TreeReader other = tree.RegisterReader();
        long empty = tree.UsedNativeBytes;
        for (ulong i = 2; i < 1002; i++)
            tree.MakeSymlink(new(i), InodeNumber.Root, TreeModel.Bytes($"name {i}"), "the target of the link"u8, 0, 0, 1);
        long full = tree.UsedNativeBytes;
        using (TreeScope scope = reader.Enter())
        {
            Assert.True(scope.TryGetSymlinkTarget(new(500), out ReadOnlySpan<byte> target));
            Assert.True(scope.TryGetName(new(500), out _, out ReadOnlySpan<byte> name));
            for (ulong i = 2; i < 1002; i++)
                tree.Delete(new(i), 2, null);
            tree.ReleaseRetired();
            using (TreeScope late = other.Enter())
                Assert.False(late.TryGet(new(500), out _));
            tree.ReleaseRetired();
            Assert.True(target.SequenceEqual("the target of the link"u8));
            Assert.True(name.SequenceEqual("name 500"u8));
            Assert.True(tree.UsedNativeBytes >= full);
        }

        tree.ReleaseRetired();
        Assert.InRange(tree.UsedNativeBytes - empty, 0, (full - empty) / 10);
    }

    [Fact]
    public void Retired_memory_is_freed_as_changes_go_on()
    {
        using InodeTree tree = new(5);
        tree.MakeRoot(InodeNumber.Root, 0x1ED, 0, 0, 1);
        tree.MakeSymlink(new(2), InodeNumber.Root, "0"u8, "target"u8, 0, 0, 1);
        long most = 0;
        for (int i = 1; i < 100_000; i++)
        {
            tree.Rename(new(2), InodeNumber.Root, TreeModel.Bytes(i.ToString(System.Globalization.CultureInfo.InvariantCulture)), default, 1);
            most = Math.Max(most, tree.UsedNativeBytes);
        }

        Assert.InRange(most, 1, 512 << 10);
    }

    [Fact]
    public void Blocks_of_every_size_are_apart_and_keep_their_content()
    {
        using NativeHeap heap = new();
        Random random = new(3);
        Dictionary<nint, (int Bytes, byte Fill)> blocks = [];
        long used = 0;
        for (int step = 0; step < 60_000; step++)
        {
            if (blocks.Count == 0 || random.Next(100) < (step < 40_000 ? 60 : 35))
            {
                int bytes = random.Next(20) == 0 ? random.Next(1, 9000) : random.Next(1, 300);
                byte fill = (byte)random.Next(256);
                Write(heap, bytes, fill, blocks);
            }
            else
            {
                (nint address, (int bytes, byte fill)) = blocks.ElementAt(random.Next(Math.Min(blocks.Count, 50)));
                Release(heap, address, bytes, fill);
                blocks.Remove(address);
            }

            used = Math.Max(used, heap.UsedBytes);
        }

        Assert.True(used >= blocks.Sum(block => block.Value.Bytes));
        foreach ((nint address, (int bytes, byte fill)) in blocks)
            Release(heap, address, bytes, fill);
        Assert.Equal(0, heap.UsedBytes);
        Assert.InRange(heap.Bytes, 0, 1 << 20);
    }

    private static unsafe void Write(NativeHeap heap, int bytes, byte fill, Dictionary<nint, (int, byte)> blocks)
    {
        byte* block = heap.Allocate(bytes);
        Assert.Equal(0u, (ulong)block % 8);
        new Span<byte>(block, bytes).Fill(fill);
        blocks.Add((nint)block, (bytes, fill));
    }

    private static unsafe void Release(NativeHeap heap, nint address, int bytes, byte fill)
    {
        Assert.False(new ReadOnlySpan<byte>((byte*)address, bytes).ContainsAnyExcept(fill));
        heap.Free((byte*)address, bytes);
    }

    private static void Cycle(InodeTree tree, ref ulong next)
    {
        ulong directory = next++;
        tree.MakeDirectory(new(directory), InodeNumber.Root, "d"u8, 0x1ED, 0, 0, 2);
        MapExtent[] many = new MapExtent[500];
        for (int i = 0; i < 50_000; i++)
        {
            ulong inode = next++;
            byte[] name = TreeModel.Bytes($"a name that varies in length {new string('x', i % 200)} {i}");
            switch (i % 5)
            {
                case 0:
                    tree.MakeDirectory(new(inode), new(directory), name, 0x1ED, (uint)i, 0, 2);
                    if (i % 3 == 0)
                        directory = inode;
                    break;
                case 1:
                    tree.MakeSymlink(new(inode), new(directory), name, name, 5, 5, 2);
                    break;
                case 2:
                    tree.CreateStaged(new(inode), Guid.NewGuid(), 0, 1, 1, 4096, 0, many.AsSpan(0, i % 500), 2);
                    tree.Publish(new(inode), new(directory), name, default, 3);
                    break;
                default:
                    tree.CreateFile(new(inode), new(directory), name, 0, 0, (uint)i % 77, 4096, 0, [], 2);
                    tree.SetExtendedAttribute(new(inode), "user.a"u8, name);
                    break;
            }
        }

        List<InodeNumber> deleted = [];
        using (TreeReader reader = tree.RegisterReader())
        using (TreeScope scope = reader.Enter())
        {
            Assert.True(scope.TryLookup(InodeNumber.Root, "d"u8, out InodeAttributes top));
            tree.Delete(top.Inode, 4, deleted.Add);
        }

        foreach (InodeNumber inode in deleted)
        {
            tree.StartZeroing(inode);
            tree.Reclaim(inode);
        }

        Assert.Equal(1, tree.InodeCount);
        tree.ReleaseRetired();
    }
}
