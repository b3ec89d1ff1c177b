using System.Text;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Interop;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Memory;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Famfs.Fuse.Session;
using Famfs.V1;
using Xunit;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Tests.Memory;

/// <summary>A daemon's own way to space that no file has: one window at a time over it, and none while the kernel has another.</summary>
public sealed class SpaceWindowsTests : IDisposable
{
    private const long Unit = TestFileSystem.Unit;

    private readonly string _root = Directory.CreateTempSubdirectory("famfs-windows-").FullName;
    private readonly TestFileSystem _system = new();
    private readonly WindowTable _windows = new() { RemembersClosed = true };
    private readonly WindowKernel _kernel = new();
    private readonly KernelNotifier _notifier;
    private readonly SpaceWindows _space;
    private string? _reached;

    public SpaceWindowsTests()
    {
        _reached = _root;
        Directory.CreateDirectory(Path.Combine(_root, ".meta", "window"));
        _notifier = new(_kernel, new KernelPresence(), _system.Tree, new Negotiated(DialectTable.Stock, 45, InitFlags.None, 4096, 1), 1 << 16, hasThread: false);
        _space = new(_windows, _notifier, () => _reached);
    }

    public void Dispose()
    {
        _notifier.Dispose();
        _system.Dispose();
        Directory.Delete(_root, recursive: true);
    }

    [Fact]
    public void A_window_is_there_while_it_is_used_and_the_kernel_has_none_afterwards()
    {
        MakeFiles(2 * Unit);
        Assert.True(_space.TryUse(Extent(5, 2), memory =>
        {
            Assert.Equal(2 * Unit, memory.LengthBytes);
            Assert.False(memory.Coherent);
            Window? window = _windows.Find(Encoding.UTF8.GetBytes(Name(1)));
            Assert.Equal((Extent(5, 2), WindowTable.DirectoryNode + 1), (window!.Extent, window.Node));
            Assert.Same(window, _windows.Find(window.Node));
            Assert.True(_windows.Open.IsEmpty); // listed nowhere
            Assert.Empty(_kernel.Dropped);
        }));
        Assert.Null(_windows.Find(WindowTable.DirectoryNode + 1));
        Assert.Equal([Name(1)], _kernel.Dropped);
    }

    [Fact]
    public void None_is_opened_where_the_kernel_has_one_and_elsewhere_it_is()
    {
        MakeFiles(2 * Unit, 2 * Unit);
        _kernel.Has.Add(WindowTable.DirectoryNode + 1);
        int used = 0;
        Assert.False(_space.TryUse(Extent(5, 2), _ => used++));
        Assert.False(_space.TryUse(Extent(6, 2), _ => used++));
        Assert.Equal(1, used);
        Assert.True(_space.TryUse(Extent(7, 2), _ => used++));
        _kernel.Has.Clear();
        MakeFiles(2 * Unit, 2 * Unit, 2 * Unit);
        Assert.True(_space.TryUse(Extent(6, 2), _ => used++));
        Assert.Equal(3, used);
    }

    [Fact]
    public void Much_is_done_part_by_part()
    {
        MakeFiles(1L << 30, Unit);
        List<(long, bool)> parts = [];
        Assert.True(_space.TryUse(new(default, 0, (1L << 30) + Unit), memory => parts.Add((memory.LengthBytes, _windows.Find(WindowTable.DirectoryNode + 2)?.Extent == Extent(512, 1)))));
        Assert.Equal([(1L << 30, false), (Unit, true)], parts);
    }

    [Fact]
    public void A_window_is_closed_when_its_use_fails_and_none_is_opened_without_a_mount()
    {
        MakeFiles(2 * Unit, 2 * Unit, 2 * Unit);
        Assert.Throws<DeviceFaultException>(() => _space.TryUse(Extent(5, 2), _ => throw new DeviceFaultException("here")));
        Assert.Null(_windows.Find(WindowTable.DirectoryNode + 1));
        Assert.Equal([Name(1)], _kernel.Dropped);
        _reached = null;
        Assert.False(_space.TryUse(Extent(5, 2), _ => Assert.Fail("there is no mount")));
        _reached = "/nowhere";
        Assert.Equal(ErrorReason.NotFound, Assert.Throws<FamfsException>(() => _space.TryUse(Extent(5, 2), _ => Assert.Fail("there is no mount"))).Reason);
        _reached = _root;
        Assert.True(_space.TryUse(Extent(5, 2), _ => { }));
    }

    private static string Name(int number) => $"flush-{WindowTable.DirectoryNode + (ulong)number}";

    private static MapExtent Extent(long first, long count) => new(default, first * Unit, count * Unit);

    // The mount, as it were: what the table has can be opened.
    private void MakeFiles(params ReadOnlySpan<long> lengths)
    {
        for (int i = 0; i < lengths.Length; i++)
        {
            using FileStream file = File.Create(Path.Combine(_root, ".meta", "window", Name(i + 1)));
            file.SetLength(lengths[i]);
        }
    }

    /// <summary>Has inodes, and is told.</summary>
    private sealed class WindowKernel : IFuseTransport
    {
        public HashSet<ulong> Has { get; } = [];

        public List<string> Dropped { get; } = [];

        public int Read(Span<byte> buffer) => -(int)Errno.ENODEV;

        public int Write(ReadOnlySpan<byte> head, ReadOnlySpan<MemoryPiece> pieces)
        {
            // struct fuse_out_header, whose error is the kind of notification; then that of the kind.
            int kind = BitConverter.ToInt32(head[4..]);
            if (kind == FuseConstants.FUSE_NOTIFY_INVAL_ENTRY)
                Dropped.Add(Encoding.UTF8.GetString(head[32..^1]));
            else if (kind == FuseConstants.FUSE_NOTIFY_INVAL_INODE && !Has.Contains(BitConverter.ToUInt64(head[16..])))
                return -(int)Errno.ENOENT;
            return head.Length;
        }
    }
}
