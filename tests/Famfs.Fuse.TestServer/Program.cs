using System.Globalization;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Namespace;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Session;

// A mount of a made-up tree over one memory file, in a process of its own: for tests that kill it, and for
// measurements.
//
//   Famfs.Fuse.TestServer MOUNTPOINT MEMORY FILES FILE_BYTES [WORKERS] [uncached|direct|close-to-open]
//
// Files are f0, f1, …, one after the other from offset 0 of the memory, each in whole units. Prints "ready", then
// answers lines on standard input: "stats" prints requests served and bytes ever allocated, anything else or the
// end of input unmounts.

if (args.Length < 4)
{
    Console.Error.WriteLine("usage: MOUNTPOINT MEMORY FILES FILE_BYTES [WORKERS] [uncached|direct|close-to-open]");
    return 2;
}
int files = int.Parse(args[2], CultureInfo.InvariantCulture);
long fileBytes = long.Parse(args[3], CultureInfo.InvariantCulture);
int workers = args.Length > 4 ? int.Parse(args[4], CultureInfo.InvariantCulture) : 0;
CachePolicy cache = (args.Length > 5 ? args[5] : "direct") switch
{
    "uncached" => CachePolicy.Uncached,
    "close-to-open" => new CachePolicy(CacheMode.CloseToOpen),
    _ => new CachePolicy(),
};

const long Unit = MappedDaxDevice.UnitBytes;
using DaxDevice memory = DaxDevice.Open(args[1]);
using var tree = new InodeTree(hashKey: 1);
tree.MakeRoot(InodeNumber.Root, 0x1ED, 0, 0, 0);
long stride = (fileBytes + Unit - 1) / Unit * Unit;
for (int i = 0; i < files; i++)
{
    byte[] name = System.Text.Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"f{i}"));
    tree.CreateFile(new InodeNumber((ulong)i + 2), InodeNumber.Root, name, 0x1A4, 0, 0, (ulong)fileBytes, 0, [new MapExtent(default, i * stride, stride)], 0);
}

using FuseMount mount = FuseMount.Start(
    new FuseMountOptions(args[0]) { Cache = cache, WorkerCount = workers, Source = "famfs-test" },
    new OperationDependencies(tree, new OneDevice(memory), new OpenToAll(), new NoCapacity(), new NoDescription()));
Console.WriteLine("ready");
while (Console.ReadLine() == "stats")
    Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{mount.Statistics.Requests} {GC.GetTotalAllocatedBytes(precise: true)}"));
return 0;

internal sealed class OneDevice(DaxDevice device) : IDeviceResolver
{
    public DaxDevice? Resolve(DeviceIndex index) => index.Value == 0 ? device : null;
}

internal sealed class OpenToAll : IOpenGate
{
    public OpenVerdict Admit(InodeNumber inode) => OpenVerdict.Open;
}

internal sealed class NoCapacity : ICapacity
{
    public PoolCapacity Capacity => default;
}

internal sealed class NoDescription : IMountDescription
{
    public bool TryWrite(MountAttribute attribute, Span<byte> destination, out int bytes)
    {
        bytes = 0;
        return false;
    }
}
