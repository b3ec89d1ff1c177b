using Famfs.Core.Namespace;
using Xunit;

namespace Famfs.Core.Tests.Namespace;

public sealed class InodeTreeModelTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(6)]
    public void Any_sequence_of_changes_leaves_the_tree_equal_to_the_model(int seed)
    {
        using ModelRun run = new(seed);
        for (int step = 0; step < 4000; step++)
        {
            run.Step();
            run.StepListings();
            if (step % 97 == 0)
                run.Check();
        }

        run.FinishListings();
        run.Check();
        run.DeleteEverything();
        run.Check();
    }

    /// <summary>A tree and its model under the same random changes, valid and invalid.</summary>
    private sealed class ModelRun : IDisposable
    {
        private readonly Random _random;
        private readonly InodeTree _tree;
        private readonly TreeReader _reader;
        private readonly TreeModel _model = new();
        private readonly List<Listing> _listings = [];
        private ulong _nextInode = 2;
        private long _time = 1_000;
        private long _links;
        private readonly int _seed;

        public ModelRun(int seed)
        {
            _seed = seed;
            _random = new Random(seed);
            _tree = new InodeTree((UInt128)(uint)seed);
            _reader = _tree.RegisterReader();
            _tree.MakeRoot(InodeNumber.Root, 0x1ED, 1, 2, _time);
            _model.Nodes.Add(1, new() { Number = 1, Kind = InodeKind.Directory, Status = InodeStatus.Published, Parent = 1, Mode = 0x1ED, Uid = 1, Gid = 2, Times = _time });
        }

        public void Dispose()
        {
            _reader.Dispose();
            _tree.Dispose();
        }

        public void Check()
        {
            try
            {
                _model.AssertEqualTo(_tree, _reader);
            }
            catch (Exception error)
            {
                throw new InvalidOperationException($"seed {_seed}, time {_time}", error);
            }
        }

        public void Step()
        {
            _time += _random.Next(3);
            switch (_random.Next(16))
            {
                case 0 or 1 or 2 or 3:
                    CreateFile();
                    break;
                case 4 or 5:
                    MakeDirectory();
                    break;
                case 6:
                    MakeSymlink();
                    break;
                case 7:
                    CreateStaged();
                    break;
                case 8:
                    MakeSystem();
                    break;
                case 9:
                    Publish();
                    break;
                case 10 or 11:
                    Rename();
                    break;
                case 12:
                    SetAttributes();
                    break;
                case 13:
                    SetExtendedAttribute();
                    break;
                case 14:
                    Delete();
                    break;
                default:
                    ZeroOrReclaim();
                    break;
            }
        }

        public void DeleteEverything()
        {
            foreach (ulong child in _model.Nodes[1].Children.ToArray())
                Delete(child);
            foreach (TreeModel.Node node in _model.Nodes.Values.ToArray())
            {
                if (node.Number == 1)
                    continue;
                if (node.Status is InodeStatus.Published or InodeStatus.Staged)
                    Delete(node.Number);
                if (node.Status == InodeStatus.Deleted)
                    _tree.StartZeroing(new InodeNumber(node.Number));
                _tree.Reclaim(new InodeNumber(node.Number));
                _model.Nodes.Remove(node.Number);
                _model.Deleted.Remove(node.Number);
            }
        }

        // ---- listings that go on while the directory changes

        public void StepListings()
        {
            if (_listings.Count < 4)
            {
                TreeModel.Node directory = AnyDirectory();
                Listing listing = new() { Directory = directory.Number };
                foreach (ulong child in directory.Children)
                    listing.AtStart.Add(child, _model.Nodes[child].Linked);
                _listings.Add(listing);
            }

            for (int i = _listings.Count - 1; i >= 0; i--)
            {
                if (_random.Next(3) == 0 && Advance(_listings[i], _random.Next(1, 4)))
                    _listings.RemoveAt(i);
            }
        }

        public void FinishListings()
        {
            foreach (Listing listing in _listings)
                Assert.True(Advance(listing, int.MaxValue));
            _listings.Clear();
        }

        private bool Advance(Listing listing, int count)
        {
            using TreeScope scope = _reader.Enter();
            InodeNumber hint = _random.Next(3) switch { 0 => default, 1 => new InodeNumber(listing.Last), _ => new InodeNumber((ulong)_random.NextInt64((long)_nextInode)) };
            DirectoryEntries entries = scope.List(new InodeNumber(listing.Directory), listing.Cookie, hint);
            while (count-- > 0)
            {
                if (!entries.MoveNext())
                {
                    Verify(listing);
                    return true;
                }

                Assert.True(entries.Cookie > listing.Cookie);
                listing.Cookie = entries.Cookie;
                listing.Last = entries.Attributes.Inode.Value;
                TreeModel.Node node = _model.Nodes[listing.Last];
                Assert.Equal(listing.Directory, node.Parent);
                Assert.True(listing.Seen.Add((listing.Last, node.Linked)), $"seed {_seed}: inode {listing.Last} is listed twice");
            }

            return false;
        }

        private void Verify(Listing listing)
        {
            foreach ((ulong child, long linked) in listing.AtStart)
            {
                bool stayed = _model.Nodes.TryGetValue(child, out TreeModel.Node? node) && node.Linked == linked && node.Name is not null;
                if (stayed)
                    Assert.True(listing.Seen.Contains((child, linked)), $"seed {_seed}: inode {child} of {listing.Directory} is not listed");
            }
        }

        private sealed class Listing
        {
            public ulong Directory;
            public ulong Cookie;
            public ulong Last;
            public readonly Dictionary<ulong, long> AtStart = [];
            public readonly HashSet<(ulong, long)> Seen = [];
        }

        // ---- changes

        private void CreateFile()
        {
            ulong inode = NextInode();
            TreeModel.Node parent = AnyParent();
            string name = AnyName();
            MapExtent[] extents = AnyExtents(out ulong size, out ulong chunk);
            uint id = (uint)_random.Next(5);
            void Apply() => _tree.CreateFile(new(inode), new(parent.Number), TreeModel.Bytes(name), 0x1A4, id, id + 1, size, chunk, extents, _time);
            if (!MayLink(inode, parent, name))
            {
                TreeModel.AssertCorrupt(Apply);
                return;
            }

            Apply();
            Add(new() { Number = inode, Kind = InodeKind.File, Mode = 0x1A4, Uid = id, Gid = id + 1, Size = size, ChunkBytes = chunk, Extents = extents }, parent, name);
        }

        private void MakeDirectory()
        {
            ulong inode = NextInode();
            TreeModel.Node parent = AnyParent();
            string name = AnyName();
            void Apply() => _tree.MakeDirectory(new(inode), new(parent.Number), TreeModel.Bytes(name), 0x1FF, 7, 8, _time);
            if (!MayLink(inode, parent, name))
            {
                TreeModel.AssertCorrupt(Apply);
                return;
            }

            Apply();
            Add(new() { Number = inode, Kind = InodeKind.Directory, Mode = 0x1FF, Uid = 7, Gid = 8 }, parent, name);
        }

        private void MakeSymlink()
        {
            ulong inode = NextInode();
            TreeModel.Node parent = AnyParent();
            string name = AnyName();
            byte[] target = new byte[_random.Next(0, 200)];
            Array.Fill(target, (byte)'t');
            void Apply() => _tree.MakeSymlink(new(inode), new(parent.Number), TreeModel.Bytes(name), target, 7, 8, _time);
            if (!MayLink(inode, parent, name) || target.Length == 0)
            {
                TreeModel.AssertCorrupt(Apply);
                return;
            }

            Apply();
            Add(new() { Number = inode, Kind = InodeKind.Symlink, Mode = 0x1FF, Uid = 7, Gid = 8, Size = (ulong)target.Length, Target = target }, parent, name);
        }

        private void CreateStaged()
        {
            ulong inode = NextInode();
            Guid owner = new(_random.Next(), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
            MapExtent[] extents = AnyExtents(out ulong size, out ulong chunk);
            void Apply() => _tree.CreateStaged(new(inode), owner, 0x180, 3, 4, size, chunk, extents, _time);
            if (_model.Nodes.ContainsKey(inode))
            {
                TreeModel.AssertCorrupt(Apply);
                return;
            }

            Apply();
            _model.Nodes.Add(inode, new() { Number = inode, Kind = InodeKind.File, Status = InodeStatus.Staged, Mode = 0x180, Uid = 3, Gid = 4, Size = size, ChunkBytes = chunk, Extents = extents, Times = _time, Owner = owner });
        }

        private void MakeSystem()
        {
            ulong inode = NextInode();
            MapExtent[] extents = AnyExtents(out _, out ulong chunk);
            void Apply() => _tree.MakeSystem(new(inode), _time, chunk, extents);
            if (_model.Nodes.ContainsKey(inode))
            {
                TreeModel.AssertCorrupt(Apply);
                return;
            }

            Apply();
            _model.Nodes.Add(inode, new() { Number = inode, Kind = InodeKind.System, Status = InodeStatus.Published, Mode = 0x180, Size = (ulong)extents.Sum(extent => extent.LengthBytes), ChunkBytes = chunk, Extents = extents, Times = _time });
        }

        private void Publish()
        {
            TreeModel.Node node = Any(node => node.Status == InodeStatus.Staged || _random.Next(50) == 0);
            TreeModel.Node parent = AnyParent();
            string name = AnyName();
            ulong replaced = AnyReplaced(parent, name);
            void Apply() => _tree.Publish(new(node.Number), new(parent.Number), TreeModel.Bytes(name), new(replaced), _time);
            if (node.Status != InodeStatus.Staged || !MayReplace(node, parent, name, replaced))
            {
                TreeModel.AssertCorrupt(Apply);
                return;
            }

            Apply();
            node.Status = InodeStatus.Published;
            node.Owner = default;
            Link(node, parent, name, replaced);
        }

        private void Rename()
        {
            TreeModel.Node node = Any(node => node.Name is not null || _random.Next(50) == 0);
            TreeModel.Node parent = _random.Next(2) == 0 && node.Name is not null ? _model.Nodes[node.Parent] : AnyParent();
            string name = _random.Next(10) == 0 ? node.Name ?? "x" : AnyName();
            bool same = node.Name == name && node.Parent == parent.Number;
            ulong replaced = same ? 0 : AnyReplaced(parent, name);
            void Apply() => _tree.Rename(new(node.Number), new(parent.Number), TreeModel.Bytes(name), new(replaced), _time);
            if (node.Name is null || parent.Kind != InodeKind.Directory || (!same && !MayReplace(node, parent, name, replaced))
                || (node.Kind == InodeKind.Directory && _model.IsBelow(parent.Number, node.Number)))
            {
                TreeModel.AssertCorrupt(Apply);
                return;
            }

            Apply();
            if (same)
                node.Change = _time;
            else
                Link(node, parent, name, replaced);
        }

        private void SetAttributes()
        {
            TreeModel.Node node = Any(_ => true);
            uint? mode = _random.Next(2) == 0 ? (uint)_random.Next(0x1000) : null;
            uint? uid = _random.Next(2) == 0 ? (uint)_random.Next(400) : null;
            uint? gid = _random.Next(2) == 0 ? (uint)_random.Next(2) : null;
            long? access = _random.Next(2) == 0 ? _time : null;
            long? modify = _random.Next(2) == 0 ? _time : null;
            _tree.SetAttributes(new(node.Number), mode, uid, gid, access, modify, _time);
            node.Mode = mode ?? node.Mode;
            node.Uid = uid ?? node.Uid;
            node.Gid = gid ?? node.Gid;
            node.Access = access ?? node.Access;
            node.Modify = modify ?? node.Modify;
            node.Change = _time;
        }

        private void SetExtendedAttribute()
        {
            TreeModel.Node node = Any(_ => true);
            string name = $"user.{_random.Next(4)}";
            if (_random.Next(2) == 0)
            {
                byte[] value = new byte[_random.Next(6) == 0 ? _random.Next(10_000) : _random.Next(20)];
                _random.NextBytes(value);
                _tree.SetExtendedAttribute(new(node.Number), TreeModel.Bytes(name), value);
                node.Attributes[name] = value;
            }
            else
            {
                Assert.Equal(node.Attributes.Remove(name), _tree.RemoveExtendedAttribute(new(node.Number), TreeModel.Bytes(name)));
            }
        }

        private void Delete() => Delete(Any(node => node.Kind != InodeKind.Directory || node.Children.Count < 20).Number);

        private void Delete(ulong inode)
        {
            TreeModel.Node node = _model.Nodes[inode];
            if (inode == 1 || node.Status is InodeStatus.Deleted or InodeStatus.Zeroing)
            {
                TreeModel.AssertCorrupt(() => _tree.Delete(new(inode), _time, null));
                return;
            }

            HashSet<ulong> told = [];
            _tree.Delete(new(inode), _time, gone => Assert.True(told.Add(gone.Value)));
            ulong[] subtree = [.. _model.Subtree(inode)];
            if (node.Name is not null)
            {
                TreeModel.Node parent = _model.Nodes[node.Parent];
                parent.Children.Remove(inode);
                parent.Modify = parent.Change = _time;
            }

            HashSet<ulong> expected = [];
            foreach (ulong below in subtree)
            {
                if (Remove(below))
                    expected.Add(below);
            }

            Assert.Equal(expected, told);
        }

        private void ZeroOrReclaim()
        {
            TreeModel.Node node = Any(node => node.Status is InodeStatus.Deleted or InodeStatus.Zeroing || _random.Next(50) == 0);
            if (_random.Next(2) == 0)
            {
                if (node.Status == InodeStatus.Deleted)
                {
                    _tree.StartZeroing(new(node.Number));
                    node.Status = InodeStatus.Zeroing;
                }
                else
                {
                    TreeModel.AssertCorrupt(() => _tree.StartZeroing(new(node.Number)));
                }
            }
            else if (node.Status == InodeStatus.Zeroing)
            {
                _tree.Reclaim(new(node.Number));
                _model.Nodes.Remove(node.Number);
                _model.Deleted.Remove(node.Number);
            }
            else
            {
                TreeModel.AssertCorrupt(() => _tree.Reclaim(new(node.Number)));
            }
        }

        // ---- the model's side

        private bool MayLink(ulong inode, TreeModel.Node parent, string name) =>
            !_model.Nodes.ContainsKey(inode) && parent.Kind == InodeKind.Directory && _model.Lookup(parent.Number, name) == 0;

        private bool MayReplace(TreeModel.Node node, TreeModel.Node parent, string name, ulong replaced)
        {
            if (parent.Kind != InodeKind.Directory || _model.Lookup(parent.Number, name) != replaced)
                return false;
            if (replaced == 0)
                return true;
            TreeModel.Node old = _model.Nodes[replaced];
            return (old.Kind == InodeKind.Directory) == (node.Kind == InodeKind.Directory) && old.Children.Count == 0;
        }

        private void Add(TreeModel.Node node, TreeModel.Node parent, string name)
        {
            node.Status = InodeStatus.Published;
            node.Times = _time;
            node.Name = name;
            node.Parent = parent.Number;
            node.Linked = ++_links;
            _model.Nodes.Add(node.Number, node);
            parent.Children.Add(node.Number);
            parent.Modify = parent.Change = _time;
        }

        private void Link(TreeModel.Node node, TreeModel.Node parent, string name, ulong replaced)
        {
            if (replaced != 0)
            {
                parent.Children.Remove(replaced);
                Remove(replaced);
            }

            bool stays = node.Name is not null && node.Parent == parent.Number;
            if (!stays)
            {
                if (node.Name is not null)
                {
                    TreeModel.Node old = _model.Nodes[node.Parent];
                    old.Children.Remove(node.Number);
                    old.Modify = old.Change = _time;
                }

                parent.Children.Add(node.Number);
                node.Linked = ++_links;
            }

            node.Name = name;
            node.Parent = parent.Number;
            node.Change = _time;
            parent.Modify = parent.Change = _time;
        }

        /// <summary>True when the inode stays as a deleted file.</summary>
        private bool Remove(ulong inode)
        {
            TreeModel.Node node = _model.Nodes[inode];
            if (node.Kind is InodeKind.Directory or InodeKind.Symlink)
            {
                _model.Nodes.Remove(inode);
                return false;
            }

            node.Name = null;
            node.Parent = 0;
            node.Status = InodeStatus.Deleted;
            _model.Deleted.Add(node.Number);
            node.Owner = default;
            return true;
        }

        private ulong NextInode()
        {
            if (_random.Next(40) == 0)
                return Any(_ => true).Number;
            // Mostly dense, sometimes far away.
            _nextInode += _random.Next(30) == 0 ? (ulong)_random.Next(1_000_000) : 1;
            return _nextInode++;
        }

        private TreeModel.Node Any(Func<TreeModel.Node, bool> wanted)
        {
            TreeModel.Node[] fitting = [.. _model.Nodes.Values.Where(wanted)];
            return fitting.Length == 0 ? _model.Nodes[1] : fitting[_random.Next(fitting.Length)];
        }

        private TreeModel.Node AnyDirectory() => Any(node => node.Kind == InodeKind.Directory);

        private TreeModel.Node AnyParent() => _random.Next(30) == 0 ? Any(_ => true) : AnyDirectory();

        private ulong AnyReplaced(TreeModel.Node parent, string name) =>
            _random.Next(20) == 0 ? Any(_ => true).Number : parent.Kind == InodeKind.Directory ? _model.Lookup(parent.Number, name) : 0;

        private string AnyName() => _random.Next(10) == 0 ? new string((char)('a' + _random.Next(26)), _random.Next(1, 256)) : $"n{_random.Next(30)}";

        private MapExtent[] AnyExtents(out ulong size, out ulong chunk)
        {
            int count = _random.Next(8) == 0 ? _random.Next(300) : _random.Next(3);
            MapExtent[] extents = new MapExtent[count];
            for (int i = 0; i < count; i++)
                extents[i] = new MapExtent(new DeviceIndex((ushort)_random.Next(65536)), _random.NextInt64(1L << 46) & ~0xFFFL, (long)_random.Next(1, 9) << (_random.Next(2) == 0 ? 12 : 21));
            long sum = extents.Sum(extent => extent.LengthBytes);
            size = (ulong)(sum == 0 ? 0 : sum - _random.Next(4096));
            chunk = count > 0 && _random.Next(3) == 0 ? 4096u : 0u;
            return extents;
        }
    }
}
