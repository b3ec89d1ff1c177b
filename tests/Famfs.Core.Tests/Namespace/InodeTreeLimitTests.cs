using Famfs.Core.Namespace;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Namespace;

public sealed class InodeTreeLimitTests : IDisposable
{
    private readonly InodeTree _tree = new(17);
    private readonly TreeReader _reader;

    public InodeTreeLimitTests()
    {
        _tree.MakeRoot(InodeNumber.Root, 0x1ED, 0, 0, 1);
        _reader = _tree.RegisterReader();
    }

    public void Dispose()
    {
        _reader.Dispose();
        _tree.Dispose();
    }

    [Theory]
    [InlineData("")]
    [InlineData(".")]
    [InlineData("..")]
    [InlineData("a/b")]
    [InlineData("/")]
    [InlineData("a\0b")]
    [InlineData("\0")]
    [InlineData("256")]
    public void A_bad_name_is_refused_and_changes_nothing(string text)
    {
        byte[] name = TreeModel.Bytes(text == "256" ? new string('x', 256) : text);
        File(2, "good"u8);
        long used = _tree.UsedNativeBytes;
        TreeModel.AssertCorrupt(() => _tree.CreateFile(new(3), InodeNumber.Root, name, 0, 0, 0, 0, 0, [], 1));
        TreeModel.AssertCorrupt(() => _tree.MakeDirectory(new(3), InodeNumber.Root, name, 0, 0, 0, 1));
        TreeModel.AssertCorrupt(() => _tree.MakeSymlink(new(3), InodeNumber.Root, name, "t"u8, 0, 0, 1));
        TreeModel.AssertCorrupt(() => _tree.Rename(new(2), InodeNumber.Root, name, default, 1));
        Assert.Equal(used, _tree.UsedNativeBytes);
        Assert.Equal(2, _tree.InodeCount);
        using TreeScope scope = _reader.Enter();
        Assert.False(scope.TryLookup(InodeNumber.Root, name, out _));
        Assert.False(scope.TryGet(new(3), out _));
    }

    [Theory]
    [InlineData("...")]
    [InlineData(".a")]
    [InlineData("..a")]
    [InlineData("a")]
    [InlineData("255")]
    public void An_unusual_name_is_accepted(string text)
    {
        byte[] name = TreeModel.Bytes(text == "255" ? new string('x', 255) : text);
        File(2, name);
        using TreeScope scope = _reader.Enter();
        Assert.True(scope.TryLookup(InodeNumber.Root, name, out InodeAttributes found));
        Assert.Equal(2u, found.Inode.Value);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1UL << 40)]
    [InlineData(ulong.MaxValue)]
    public void An_inode_number_out_of_range_is_refused(ulong number)
    {
        TreeModel.AssertCorrupt(() => _tree.CreateFile(new(number), InodeNumber.Root, "a"u8, 0, 0, 0, 0, 0, [], 1));
        TreeModel.AssertCorrupt(() => _tree.CreateFile(new(2), new(number), "a"u8, 0, 0, 0, 0, 0, [], 1));
        TreeModel.AssertCorrupt(() => _tree.Delete(new(number), 1, null));
        using TreeScope scope = _reader.Enter();
        Assert.False(scope.TryGet(new(number), out _));
        Assert.False(scope.TryLookup(new(number), "a"u8, out _));
        Assert.False(scope.TryGetMap(new(number), out _));
        Assert.False(scope.TryGetName(new(number), out _, out _));
        Assert.False(scope.TryGetSymlinkTarget(new(number), out _));
        Assert.False(scope.TryGetOwnerMount(new(number), out _));
        Assert.False(scope.List(new(number), 0, new(number)).MoveNext());
        Assert.False(scope.ListExtendedAttributes(new(number)).MoveNext());
    }

    [Fact]
    public void A_huge_inode_number_costs_a_few_pages_and_gives_them_back()
    {
        _tree.ReleaseRetired();
        File(2, "warm"u8);
        DeleteFile(2);
        long used = _tree.UsedNativeBytes;
        File(InodeNumber.Max, "huge"u8);
        Assert.InRange(_tree.UsedNativeBytes - used, 1, 64 << 10);
        using (TreeScope scope = _reader.Enter())
        {
            Assert.True(scope.TryGet(new(InodeNumber.Max), out InodeAttributes found));
            Assert.Equal(InodeNumber.Max, found.Inode.Value);
            Assert.True(scope.TryLookup(InodeNumber.Root, "huge"u8, out _));
            Assert.True(scope.TryGet(InodeNumber.Root, out _));
            Assert.True(scope.TryGetNext(InodeNumber.Root, out found));
            Assert.Equal(InodeNumber.Max, found.Inode.Value);
            Assert.False(scope.TryGetNext(new(InodeNumber.Max), out _));
        }

        DeleteFile(InodeNumber.Max);
        // The nodes on the way to the small numbers stay: at most one per level.
        Assert.InRange(_tree.UsedNativeBytes - used, 0, 4 * 4096);
    }

    [Fact]
    public void A_map_with_bad_extents_is_refused()
    {
        DeviceIndex device = new(1);
        TreeModel.AssertCorrupt(() => FileWith(0, [new(device, -1, 1)]));
        TreeModel.AssertCorrupt(() => FileWith(0, [new(device, 0, -1)]));
        TreeModel.AssertCorrupt(() => FileWith(0, [new(device, long.MaxValue, 1)]));
        TreeModel.AssertCorrupt(() => FileWith(0, [new(device, 0, long.MaxValue), new(device, 0, 1)]));
        TreeModel.AssertCorrupt(() => FileWith(4096, []));
        TreeModel.AssertCorrupt(() => FileWith(ulong.MaxValue, [new(device, 0, 1)]));
        TreeModel.AssertCorrupt(() => FileWith(0, new MapExtent[InodeTree.MaxExtentsPerFile + 1]));
        FileWith(0, new MapExtent[InodeTree.MaxExtentsPerFile]);
        using TreeScope scope = _reader.Enter();
        Assert.True(scope.TryGetMap(new(2), out MapView map));
        Assert.Equal(InodeTree.MaxExtentsPerFile, map.ExtentCount);
    }

    [Fact]
    public void A_directory_does_not_move_below_itself()
    {
        Directory(2, 1, "a"u8);
        Directory(3, 2, "b"u8);
        Directory(4, 3, "c"u8);
        TreeModel.AssertCorrupt(() => _tree.Rename(new(2), new(2), "x"u8, default, 1));
        TreeModel.AssertCorrupt(() => _tree.Rename(new(2), new(4), "x"u8, default, 1));
        TreeModel.AssertCorrupt(() => _tree.Rename(InodeNumber.Root, new(4), "x"u8, default, 1));
        _tree.Rename(new(4), InodeNumber.Root, "c"u8, default, 1);
        _tree.Rename(new(2), new(4), "a"u8, default, 1);
        using TreeScope scope = _reader.Enter();
        Assert.True(scope.TryGetName(new(2), out InodeNumber parent, out _));
        Assert.Equal(4u, parent.Value);
    }

    [Fact]
    public void A_tree_of_depth_5000_is_deleted_without_recursion()
    {
        for (ulong i = 2; i < 5002; i++)
        {
            Directory(i, i - 1, "d"u8);
            _tree.CreateFile(new(10_000 + i), new(i), "f"u8, 0, 0, 0, 0, 0, [], 1);
        }

        int told = 0;
        _tree.Delete(new(2), 2, _ => told++);
        Assert.Equal(5000, told);
        Assert.Equal(1, _tree.DirectoryCount);
        Assert.Equal(0, _tree.FileCount);
    }

    [Fact]
    public void A_symlink_target_has_a_limit()
    {
        byte[] target = new byte[InodeTree.MaxSymlinkTargetBytes + 1];
        Array.Fill(target, (byte)'x');
        TreeModel.AssertCorrupt(() => _tree.MakeSymlink(new(2), InodeNumber.Root, "l"u8, target, 0, 0, 1));
        TreeModel.AssertCorrupt(() => _tree.MakeSymlink(new(2), InodeNumber.Root, "l"u8, "a\0"u8, 0, 0, 1));
        _tree.MakeSymlink(new(2), InodeNumber.Root, "l"u8, target.AsSpan(1), 0, 0, 1);
        using TreeScope scope = _reader.Enter();
        Assert.True(scope.TryGetSymlinkTarget(new(2), out ReadOnlySpan<byte> found));
        Assert.True(found.SequenceEqual(target.AsSpan(1)));
    }

    [Fact]
    public void Extended_attributes_have_limits()
    {
        byte[] value = new byte[InodeTree.MaxExtendedAttributeValueBytes];
        TreeModel.AssertCorrupt(() => _tree.SetExtendedAttribute(InodeNumber.Root, ""u8, value));
        TreeModel.AssertCorrupt(() => _tree.SetExtendedAttribute(InodeNumber.Root, new byte[256], value));
        TreeModel.AssertCorrupt(() => _tree.SetExtendedAttribute(InodeNumber.Root, "a"u8, new byte[value.Length + 1]));
        TreeModel.AssertCorrupt(() => _tree.SetExtendedAttribute(new(9), "a"u8, value));
        _tree.SetExtendedAttribute(InodeNumber.Root, "a"u8, value);
        _tree.SetExtendedAttribute(InodeNumber.Root, "b"u8, value.AsSpan(100));
        TreeModel.AssertCorrupt(() => _tree.SetExtendedAttribute(InodeNumber.Root, "c"u8, value));
        _tree.SetExtendedAttribute(InodeNumber.Root, "a"u8, "small"u8);
        using TreeScope scope = _reader.Enter();
        Assert.True(scope.TryGetExtendedAttribute(InodeNumber.Root, "a"u8, out ReadOnlySpan<byte> found));
        Assert.True(found.SequenceEqual("small"u8));
    }

    [Fact]
    public void A_second_root_is_refused() =>
        TreeModel.AssertCorrupt(() => _tree.MakeRoot(new(5), 0, 0, 0, 1));

    [Fact]
    public void Too_many_readers_are_refused_until_one_goes()
    {
        List<TreeReader> readers = [];
        for (int i = 1; i < ReaderEpochs.MaxReaders; i++)
            readers.Add(_tree.RegisterReader());
        FamfsException error = Assert.Throws<FamfsException>(() => _tree.RegisterReader());
        Assert.Equal(ErrorReason.Overloaded, error.Reason);
        readers[^1].Dispose();
        readers[^1] = _tree.RegisterReader();
        foreach (TreeReader reader in readers)
            reader.Dispose();
    }

    [Fact]
    public void Scopes_nest_and_a_disposed_reader_refuses_to_enter()
    {
        TreeReader reader = _tree.RegisterReader();
        using (reader.Enter())
        {
            using (reader.Enter())
            {
            }

            Assert.Throws<InvalidOperationException>(reader.Dispose);
        }

        reader.Dispose();
        reader.Dispose();
        Assert.Throws<ObjectDisposedException>(() => reader.Enter().Dispose());
        InodeTree other = new(1);
        TreeReader late = other.RegisterReader();
        other.Dispose();
        Assert.Throws<ObjectDisposedException>(() => late.Enter().Dispose());
        late.Dispose();
    }

    private void File(ulong inode, ReadOnlySpan<byte> name) =>
        _tree.CreateFile(new(inode), InodeNumber.Root, name, 0x1A4, 0, 0, 100, 0, [new(new DeviceIndex(0), 0, 2 << 20)], 1);

    private void FileWith(ulong chunkBytes, MapExtent[] extents) =>
        _tree.CreateFile(new(2), InodeNumber.Root, "f"u8, 0, 0, 0, 100, chunkBytes, extents, 1);

    private void Directory(ulong inode, ulong parent, ReadOnlySpan<byte> name) =>
        _tree.MakeDirectory(new(inode), new(parent), name, 0x1ED, 0, 0, 1);

    private void DeleteFile(ulong inode)
    {
        _tree.Delete(new(inode), 2, null);
        _tree.StartZeroing(new(inode));
        _tree.Reclaim(new(inode));
        _tree.ReleaseRetired();
    }
}
