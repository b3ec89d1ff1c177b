using System.Text;
using Famfs.Core.Namespace;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Namespace;

/// <summary>What an <see cref="InodeTree"/> should be, in dictionaries.</summary>
internal sealed class TreeModel
{
    public readonly SortedDictionary<ulong, Node> Nodes = [];

    /// <summary>Deleted files and those being zeroed, in the order of their deletion.</summary>
    public readonly List<ulong> Deleted = [];

    /// <summary>Applies to both; the model decides whether the tree must refuse.</summary>
    public sealed class Node
    {
        public required ulong Number;
        public InodeKind Kind;
        public InodeStatus Status;
        public uint Mode;
        public uint Uid;
        public uint Gid;
        public ulong Size;
        public ulong Parent;
        public string? Name;
        public long Access;
        public long Modify;
        public long Change;
        public ulong ChunkBytes;
        public MapExtent[] Extents = [];
        public byte[] Target = [];
        public Guid Owner;

        /// <summary>Grows with every linking: tells a child that left and came back from one that stayed.</summary>
        public long Linked;
        public readonly List<ulong> Children = [];
        public readonly Dictionary<string, byte[]> Attributes = [];

        public long Times
        {
            set => Access = Modify = Change = value;
        }
    }

    public static byte[] Bytes(string name) => Encoding.Latin1.GetBytes(name);

    public ulong Lookup(ulong parent, string name)
    {
        foreach (ulong child in Nodes[parent].Children)
        {
            if (Nodes[child].Name == name)
                return child;
        }

        return 0;
    }

    public bool IsBelow(ulong inode, ulong ancestor)
    {
        for (ulong at = inode; ; at = Nodes[at].Parent)
        {
            if (at == ancestor)
                return true;
            if (at == Nodes[at].Parent)
                return false;
        }
    }

    public IEnumerable<ulong> Subtree(ulong inode)
    {
        yield return inode;
        foreach (ulong child in Nodes[inode].Children)
        {
            foreach (ulong below in Subtree(child))
                yield return below;
        }
    }

    public void AssertEqualTo(InodeTree tree, TreeReader reader)
    {
        using TreeScope scope = reader.Enter();
        ulong after = 0;
        foreach (Node node in Nodes.Values)
        {
            Assert.True(scope.TryGetNext(new InodeNumber(after), out InodeAttributes next));
            Assert.Equal(node.Number, next.Inode.Value);
            after = node.Number;
            Assert.True(scope.TryGet(new InodeNumber(node.Number), out InodeAttributes attributes));
            AssertEqual(node, attributes);
            AssertEqual(node, next);
            AssertNames(node, scope);
            AssertContent(node, scope);
        }

        Assert.False(scope.TryGetNext(new InodeNumber(after), out _));
        Assert.Equal(Nodes.Count, tree.InodeCount);
        Assert.Equal(Deleted, tree.EnumerateDeleted().Select(inode => inode.Value));
        Assert.Equal(Deleted.Count, tree.DeletedCount);
        Assert.Equal(Nodes.Values.Count(node => node.Kind == InodeKind.File && node.Status == InodeStatus.Published), tree.FileCount);
        Assert.Equal(Nodes.Values.Count(node => node.Kind == InodeKind.Directory), tree.DirectoryCount);
    }

    public void AssertEqual(Node node, in InodeAttributes attributes)
    {
        Assert.Equal(node.Number, attributes.Inode.Value);
        Assert.Equal(node.Parent, attributes.Parent.Value);
        Assert.Equal(node.Kind, attributes.Kind);
        Assert.Equal(node.Status, attributes.Status);
        Assert.Equal(node.Mode, attributes.Mode);
        Assert.Equal(node.Uid, attributes.Uid);
        Assert.Equal(node.Gid, attributes.Gid);
        Assert.Equal(node.Access, attributes.AccessTimeNs);
        Assert.Equal(node.Modify, attributes.ModifyTimeNs);
        Assert.Equal(node.Change, attributes.ChangeTimeNs);
        if (node.Kind == InodeKind.Directory)
        {
            Assert.Equal((ulong)node.Children.Count, attributes.SizeBytes);
            Assert.Equal(2 + node.Children.Count(child => Nodes[child].Kind == InodeKind.Directory), (int)attributes.LinkCount);
        }
        else
        {
            Assert.Equal(node.Size, attributes.SizeBytes);
            Assert.Equal(node.Status is InodeStatus.Deleted or InodeStatus.Zeroing ? 0u : 1u, attributes.LinkCount);
        }
    }

    private void AssertNames(Node node, TreeScope scope)
    {
        Assert.Equal(node.Name is not null, scope.TryGetName(new InodeNumber(node.Number), out InodeNumber parent, out ReadOnlySpan<byte> name));
        if (node.Name is not null)
        {
            Assert.Equal(node.Parent, parent.Value);
            Assert.Equal(node.Name, Encoding.Latin1.GetString(name));
            Assert.True(scope.TryLookup(parent, name, out InodeAttributes found));
            AssertEqual(node, found);
        }

        DirectoryEntries entries = scope.List(new InodeNumber(node.Number), 0);
        ulong cookie = 0;
        foreach (ulong child in node.Children)
        {
            Assert.True(entries.MoveNext());
            Assert.True(entries.Cookie > cookie);
            cookie = entries.Cookie;
            Assert.Equal(child, entries.Attributes.Inode.Value);
            Assert.Equal(Nodes[child].Name, Encoding.Latin1.GetString(entries.Name));
            AssertEqual(Nodes[child], entries.Attributes);
        }

        Assert.False(entries.MoveNext());
        Assert.False(scope.TryLookup(new InodeNumber(node.Number), "never there"u8, out _));
    }

    private static void AssertContent(Node node, TreeScope scope)
    {
        InodeNumber inode = new(node.Number);
        bool mapped = node.Kind is InodeKind.File or InodeKind.System;
        Assert.Equal(mapped, scope.TryGetMap(inode, out MapView map));
        if (mapped)
        {
            Assert.Equal(node.Size, map.SizeBytes);
            Assert.Equal(node.ChunkBytes, map.ChunkBytes);
            Assert.Equal(node.Extents.Length, map.ExtentCount);
            for (int i = 0; i < map.ExtentCount; i++)
                Assert.Equal(node.Extents[i], map[i]);
        }

        Assert.Equal(node.Kind == InodeKind.Symlink, scope.TryGetSymlinkTarget(inode, out ReadOnlySpan<byte> target));
        Assert.Equal(node.Target, target.ToArray());
        Assert.Equal(node.Status == InodeStatus.Staged, scope.TryGetOwnerMount(inode, out Guid owner));
        Assert.Equal(node.Owner, owner);

        Dictionary<string, byte[]> attributes = [];
        ExtendedAttributes list = scope.ListExtendedAttributes(inode);
        while (list.MoveNext())
        {
            attributes.Add(Encoding.Latin1.GetString(list.Name), list.Value.ToArray());
            Assert.True(scope.TryGetExtendedAttribute(inode, list.Name, out ReadOnlySpan<byte> value));
            Assert.True(value.SequenceEqual(list.Value));
        }

        Assert.Equal(node.Attributes.Count, attributes.Count);
        foreach ((string name, byte[] value) in node.Attributes)
            Assert.Equal(value, attributes[name]);
        Assert.False(scope.TryGetExtendedAttribute(inode, "user.never"u8, out _));
    }

    public static void AssertCorrupt(Action change)
    {
        FamfsException error = Assert.Throws<FamfsException>(change);
        Assert.Equal(ErrorReason.MediaCorrupt, error.Reason);
    }
}
