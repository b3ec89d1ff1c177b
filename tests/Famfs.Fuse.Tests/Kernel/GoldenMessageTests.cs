using System.Runtime.InteropServices;
using Famfs.Core;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Protocol;
using Famfs.TestSupport;
using Xunit;

namespace Famfs.Fuse.Tests.Kernel;

/// <summary>Frozen bytes of what goes between each kernel and the server, tests/golden/fuse: a request as that kernel
/// sends it is read from its file, and the reply to it is compared with its file, both with their heads.</summary>
public sealed class GoldenMessageTests
{
    private const long Unit = TestFileSystem.Unit;
    private const ulong Unique = 0x0102030405060708;

    public static TheoryData<string> Famfs => [.. KernelGeneration.Famfs.Select(g => g.Name)];

    [Theory]
    [MemberData(nameof(Famfs))]
    public void Messages_are_as_frozen(string name)
    {
        KernelGeneration kernel = KernelGeneration.Famfs.Single(g => g.Name == name);
        using TestFileSystem system = new();
        system.KernelDevices.Add("/dev/dax3.0", 1L << 40, new DeviceIndex(1));
        system.KernelDevices.Add("/dev/dax1.0", 1L << 40, new DeviceIndex(0));
        InodeNumber simple = system.AddFile(InodeNumber.Root, "simple", (3 * Unit) - 1, 0x1A4, 0, new MapExtent(new DeviceIndex(0), 5 * Unit, 2 * Unit), new MapExtent(new DeviceIndex(1), 9 * Unit, Unit));
        InodeNumber striped = system.AddFile(InodeNumber.Root, "striped", (9 * Unit) + 7, 0x1A4, 4 * (ulong)Unit, new MapExtent(new DeviceIndex(0), 16 * Unit, 8 * Unit), new MapExtent(new DeviceIndex(1), 32 * Unit, 8 * Unit));
        using var driver = new RequestDriver(system, dialect: DialectTable.Find(name));

        void Exchange(string message, byte[] request)
        {
            GoldenFile.RequireSame($"fuse/{name}-{message}-request", request);
            byte[] reply = Assert.Single(driver.Raw(GoldenFile.Read($"fuse/{name}-{message}-request")));
            GoldenFile.RequireSame($"fuse/{name}-{message}-reply", reply);
        }

        byte[] Fmap(InodeNumber file, int room) =>
            RequestDriver.Message((FuseOpcode)kernel.GetFmap, Unique, file.Value, kernel.SaysRoom ? [.. BitConverter.GetBytes(room), 0, 0, 0, 0] : []);
        Exchange("fmap-simple", Fmap(simple, 4096));
        Exchange("fmap-interleaved", Fmap(striped, 4096));
        if (kernel.SaysRoom)
            Exchange("fmap-short", Fmap(striped, 64));
        if (!kernel.Pushed)
            Exchange("daxdev", RequestDriver.Message((FuseOpcode)kernel.GetDaxDevice, Unique, 1, []));
    }

    [Theory]
    [MemberData(nameof(Famfs))]
    public void Replies_to_INIT_are_as_frozen(string name)
    {
        KernelGeneration kernel = KernelGeneration.Famfs.Single(g => g.Name == name);
        ulong offered = (1UL << kernel.FmapBit) | 0x1F4_7FFF_FFFF;
        var offer = new InitIn { Major = 7, Minor = kernel.Minor, MaxReadaheadBytes = 131072, Flags = (uint)offered, Flags2 = (uint)(offered >> 32) };
        Assert.True(InitNegotiation.TryNegotiate(offer, 256, new DialectWish(DialectTable.Find(name), true), out InitOut reply, out _, out _));
        GoldenFile.RequireSame($"fuse/{name}-init-reply", MemoryMarshal.AsBytes(new ReadOnlySpan<InitOut>(in reply)));
    }

    [Fact]
    public void The_argument_of_the_push_is_as_frozen()
    {
        var map = new BackingMap { Descriptor = 0x01020304, DeviceIndex = 63 };
        GoldenFile.RequireSame("fuse/D-push", MemoryMarshal.AsBytes(new ReadOnlySpan<BackingMap>(in map)));
    }
}
