using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Session;
using Xunit;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Tests.Kernel;

/// <summary>A file system, the daemon's session over it, and a kernel of one generation on the other side.</summary>
internal sealed class KernelRig : IDisposable
{
    public const long Unit = TestFileSystem.Unit;
    public const long DeviceBytes = 4096 * Unit;
    private const int Workers = 2;

    public KernelRig(KernelGeneration generation)
        : this(generation, new KernelDouble(generation))
    {
    }

    public KernelRig(KernelGeneration generation, KernelDouble kernel)
    {
        Generation = generation;
        Kernel = kernel;
    }

    public KernelGeneration Generation { get; }

    public TestFileSystem System { get; } = new();

    public KernelDouble Kernel { get; }

    public FuseSession Session { get; private set; } = null!;

    /// <summary>A character device of this host that the kernel can take, given to it as the next one.</summary>
    public uint AddDevice(int poolIndex, long lengthBytes = DeviceBytes, Errno takes = Errno.None)
    {
        string path = $"/dev/dax{poolIndex}.0";
        Kernel.DeviceNodes[path] = takes;
        return System.KernelDevices.Add(path, lengthBytes, new DeviceIndex((ushort)poolIndex));
    }

    /// <summary>Mounts, as it were. What the session throws comes out.</summary>
    public KernelRig Start(Dialect? forced = null, bool wantsFmaps = true, bool knowsPushIoctl = true)
    {
        Session = StartSession(Kernel, System, forced, wantsFmaps, knowsPushIoctl);
        return this;
    }

    /// <summary>One try to mount, with this kernel.</summary>
    public static FuseSession StartSession(KernelDouble kernel, TestFileSystem system, Dialect? forced = null, bool wantsFmaps = true, bool knowsPushIoctl = true)
    {
        var connection = new SocketConnection(kernel, knowsPushIoctl);
        var options = new FuseMountOptions("/nowhere") { WorkerCount = Workers, Dialect = new DialectWish(forced, wantsFmaps), MaxPages = 32 };
        _ = connection.First; // as open(2) of /dev/fuse comes before mount(2)
        Task<FuseSession> starting = Task.Run(() => FuseSession.Start(options, connection, system.Dependencies));
        kernel.Boot();
        FuseSession session;
        try
        {
            session = starting.GetAwaiter().GetResult();
        }
        catch
        {
            connection.Dispose();
            throw;
        }
        kernel.AttachWorkers(Workers);
        return session;
    }

    public InodeNumber AddFile(string name, long sizeBytes, long chunkBytes, params (int Device, long Unit, long Units)[] extents) =>
        System.AddFile(InodeNumber.Root, name, sizeBytes, 0x1A4, (ulong)chunkBytes, [.. extents.Select(e => new MapExtent(new DeviceIndex((ushort)e.Device), e.Unit * Unit, e.Units * Unit))]);

    /// <summary>Looks a file up and opens it, which must do.</summary>
    public KernelMap Open(string name)
    {
        (ulong node, ulong size) = Kernel.Lookup(1, name);
        Assert.Equal(Errno.None, Kernel.Open(node, out KernelMap? map));
        Assert.Equal(size, map!.FileBytes);
        return map;
    }

    /// <summary>The errno of an open.</summary>
    public Errno OpenError(string name) => Kernel.Open(Kernel.Lookup(1, name).Node, out _);

    /// <summary>Bytes at random places, the first and the last, are where the tree's own arithmetic has them.</summary>
    public void RequireSameBytes(InodeNumber inode, KernelMap map, Random random, int places = 200)
    {
        using TreeReader reader = System.Tree.RegisterReader();
        using TreeScope scope = reader.Enter();
        Assert.True(scope.TryGetMap(inode, out MapView view));
        Assert.Equal(view.SizeBytes, map.FileBytes);
        for (int i = 0; i < places; i++)
        {
            long offset = i switch { 0 => 0, 1 => (long)view.SizeBytes - 1, _ => random.NextInt64((long)view.SizeBytes) };
            Assert.True(view.TryResolve(offset, out DeviceIndex device, out long deviceOffset, out _));
            (uint index, ulong at) = map.Resolve((ulong)offset);
            Assert.Equal(($"/dev/dax{device}.0", (ulong)deviceOffset), (Kernel.PathOf(index), at));
        }
    }

    public void Dispose()
    {
        Kernel.Dispose(); // first, as an unmount: the workers' reads end
        Session?.Dispose();
        System.Dispose();
    }
}
