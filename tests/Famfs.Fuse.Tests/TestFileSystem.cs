using System.Collections.Concurrent;
using System.Text;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;

namespace Famfs.Fuse.Tests;

/// <summary>A tree and devices as one host sees them, with everything the operations ask for.</summary>
internal sealed class TestFileSystem : IDeviceResolver, IOpenGate, ICapacity, IMountDescription, IDisposable
{
    public const long Unit = 2 << 20;
    public const long StartTimeNs = 1_700_000_000_123_456_789;

    private readonly ConcurrentDictionary<int, DaxDevice> _devices = new();
    private ulong _nextInode = 2;

    private readonly ReplayState? _state;

    public TestFileSystem()
    {
        Tree = new(hashKey: 1);
        Tree.MakeRoot(InodeNumber.Root, 0x1ED, 0, 0, StartTimeNs);
    }

    /// <summary>Shows a state that records made, with its hidden directory; the state stays the caller's.</summary>
    public TestFileSystem(ReplayState state)
    {
        _state = state;
        Tree = state.Tree;
    }

    public InodeTree Tree { get; }

    public WindowTable Windows { get; } = new();

    public OpenVerdict Verdict { get; set; }

    public PoolCapacity Capacity { get; set; } = new(64UL << 20, 16UL << 20);

    public KernelDevices KernelDevices { get; } = new();

    public IMutations Mutations { get; set; } = new NoMutations();

    public IWrittenFiles? Written { get; set; }

    public ReusedSpace? Reused { get; set; }

    public IOpenDelay? OpenDelay { get; set; }

    public FlushDoor FlushDoor { get; } = new();

    /// <summary>The mount may have no file any more.</summary>
    public bool IsRevoked { get; set; }

    public OperationDependencies Dependencies => new(Tree, this, this, this, this)
    {
        KernelDevices = KernelDevices,
        Mutations = Mutations,
        Meta = _state is null ? null : new MetaFiles(_state, new(MediaLayout.MetaInode)),
        Windows = Windows,
        Written = Written,
        Reused = Reused,
        OpenDelay = OpenDelay,
        FlushDoor = FlushDoor,
        IsRevoked = () => IsRevoked,
    };

    public void AddDevice(int index, DaxDevice device) => _devices[index] = device;

    public void RemoveDevice(int index) => _devices.TryRemove(index, out _);

    public InodeNumber AddDirectory(InodeNumber parent, string name, uint mode = 0x1ED)
    {
        var inode = new InodeNumber(_nextInode++);
        Tree.MakeDirectory(inode, parent, Encoding.UTF8.GetBytes(name), mode, 0, 0, StartTimeNs);
        return inode;
    }

    public InodeNumber AddFile(InodeNumber parent, string name, long sizeBytes, uint mode, ulong chunkBytes, params MapExtent[] extents)
    {
        var inode = new InodeNumber(_nextInode++);
        Tree.CreateFile(inode, parent, Encoding.UTF8.GetBytes(name), mode, 0, 0, (ulong)sizeBytes, chunkBytes, extents, StartTimeNs);
        return inode;
    }

    /// <summary>A file in one piece of whole units of device 0.</summary>
    public InodeNumber AddFile(InodeNumber parent, string name, long sizeBytes, long unit = 0) =>
        AddFile(parent, name, sizeBytes, 0x1A4, 0, new MapExtent(new DeviceIndex(0), unit * Unit, Math.Max(1, (sizeBytes + Unit - 1) / Unit) * Unit));

    public InodeNumber AddSymlink(InodeNumber parent, string name, string target)
    {
        var inode = new InodeNumber(_nextInode++);
        Tree.MakeSymlink(inode, parent, Encoding.UTF8.GetBytes(name), Encoding.UTF8.GetBytes(target), 0, 0, StartTimeNs);
        return inode;
    }

    DaxDevice? IDeviceResolver.Resolve(DeviceIndex index) => _devices.GetValueOrDefault(index.Value);

    OpenVerdict IOpenGate.Admit(InodeNumber inode) => Verdict;

    bool IMountDescription.TryWrite(MountAttribute attribute, Span<byte> destination, out int bytes)
    {
        ReadOnlySpan<byte> value = attribute switch
        {
            MountAttribute.Uuid => "11111111-2222-3333-4444-555555555555"u8,
            MountAttribute.Mount => "aaaaaaaa-2222-3333-4444-555555555555"u8,
            MountAttribute.Position => "0:42@64"u8,
            _ => default,
        };
        value.CopyTo(destination);
        bytes = value.Length;
        return bytes > 0;
    }

    public void Dispose()
    {
        if (_state is null)
            Tree.Dispose();
        foreach (DaxDevice device in _devices.Values)
            device.Dispose();
    }
}
