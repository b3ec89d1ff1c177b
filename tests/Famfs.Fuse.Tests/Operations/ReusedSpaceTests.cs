using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Fuse.Memory;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Famfs.Fuse.Session;
using Famfs.Fuse.Tests.Kernel;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Xunit;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Tests.Operations;

/// <summary>What a host's caches have of space from before is dropped before the first OPEN there.</summary>
public sealed class ReusedSpaceTests : IDisposable
{
    private const long Unit = TestFileSystem.Unit;
    private const ushort Coherent = 7;

    private readonly FakeSharedMemory _memory = new(64 * Unit, seed: 1) { AccidentOneIn = 0 };
    private readonly Devices _devices = new();
    private readonly ReusedSpace _reused = new(device => device.Value == Coherent);
    private readonly List<long> _dropped = [];

    public ReusedSpaceTests()
    {
        _devices.Here[0] = _memory.Attach("here");
        _memory.BeforeAccess = (host, operation, offset) =>
        {
            if (host == "here" && operation == FakeOperation.Invalidate)
                _dropped.Add(offset / Unit);
        };
    }

    public void Dispose() => _devices.Here.Values.ToList().ForEach(device => device.Dispose());

    [Fact]
    public void What_another_host_stored_there_is_read_after_the_first_open()
    {
        DaxDevice here = _devices.Here[0];
        Assert.Equal(0, ReadFrom(here)); // the old file's, from now on in this host's cache
        using DaxDevice other = _memory.Attach("other");
        other.Write(Unit + 100, [5]);
        other.WriteBack(Unit + 100, 1);
        other.Fence();
        Assert.Equal(0, ReadFrom(here));
        _reused.Add([Units(1, 1)]);
        Assert.Equal(0, ReadFrom(here));
        Assert.True(Open(1, 1));
        Assert.Equal(5, ReadFrom(here));
    }

    [Fact]
    public void Only_what_a_file_covers_is_dropped_and_only_once()
    {
        _reused.Add([Units(1, 6), Units(10, 1)]);
        Assert.True(Open(20, 4));
        Assert.Empty(_dropped);
        Assert.True(Open(3, 2));
        Assert.True(Open(3, 2));
        Assert.Equal([3], _dropped);
        // On both sides of it, and no more than was given back.
        Assert.True(Open(0, 30));
        Assert.Equal([1, 3, 5, 10], _dropped.Order());
        Assert.True(Open(0, 30));
        Assert.Equal(4, _dropped.Count);
    }

    [Fact]
    public void Every_part_of_a_file_is_looked_at()
    {
        using TestFileSystem system = new();
        system.AddFile(InodeNumber.Root, "f", 3 * Unit, 0x1A4, 0, Units(2, 1), Units(8, 1), Units(5, 1));
        _reused.Add([Units(5, 1), Units(8, 1), Units(9, 1)]);
        using TreeReader reader = system.Tree.RegisterReader();
        using TreeScope scope = reader.Enter();
        Assert.True(scope.TryLookup(InodeNumber.Root, "f"u8, out InodeAttributes file));
        Assert.True(scope.TryGetMap(file.Inode, out MapView map));
        Assert.True(_reused.TryRefresh(map, _devices));
        Assert.Equal([5, 8], _dropped.Order());
    }

    [Fact]
    public void Space_that_was_given_back_again_is_dropped_again_and_once()
    {
        _reused.Add([Units(1, 2)]);
        Assert.True(Open(1, 2));
        _reused.Add([Units(1, 2)]);
        _reused.Add([Units(2, 2)]);
        _dropped.Clear();
        Assert.True(Open(3, 1));
        Assert.True(Open(0, 8));
        Assert.Equal([3, 1], _dropped);
    }

    [Fact]
    public void Runs_of_any_length_and_place_are_dropped_whole()
    {
        Random random = new(1);
        for (int round = 0; round < 200; round++)
        {
            HashSet<long> expected = [];
            HashSet<long> dropped = [];
            ReusedSpace reused = new(_ => false);
            for (int i = 0; i < 5; i++)
            {
                (long first, long count) = (random.Next(300), 1 + random.Next(150));
                reused.Add([Units(first, count)]);
                expected.UnionWith(Enumerable.Range((int)first, (int)count).Select(unit => (long)unit));
            }
            using Recorder recorder = new(dropped);
            for (int i = 0; i < 4; i++)
            {
                (long first, long count) = (random.Next(300), 1 + random.Next(150));
                dropped.Clear();
                Assert.True(reused.TryRefresh(new MapView(Units(first, count)), recorder));
                HashSet<long> due = [.. expected.Where(unit => unit >= first && unit < first + count)];
                Assert.Equal(due.Order(), dropped.Order());
                expected.ExceptWith(due);
            }
        }
    }

    [Fact]
    public void A_coherent_device_has_nothing_to_drop()
    {
        _reused.Add([new(new(Coherent), Unit, Unit)]);
        Assert.True(_reused.TryRefresh(new MapView(new MapExtent(new(Coherent), Unit, Unit)), _devices));
        Assert.Empty(_dropped);
    }

    [Fact]
    public void What_cannot_be_dropped_stays_and_the_file_is_not_opened()
    {
        MapExtent absent = new(new(1), Unit, Unit);
        _reused.Add([Units(1, 1), absent]);
        _memory.Poison(Unit, Unit, "here");
        Assert.Throws<DeviceFaultException>(() => Open(1, 1));
        Assert.False(_reused.TryRefresh(new(absent), _devices));
        _memory.ClearPoison();
        _devices.Here[1] = _memory.Attach("here");
        _dropped.Clear();
        Assert.True(Open(1, 1));
        Assert.Equal([1], _dropped);
        Assert.True(_reused.TryRefresh(new(absent), _devices));
        Assert.Equal([1, 1], _dropped);
    }

    /// <summary>To drop a large file takes long. Records are applied meanwhile, and other files are opened.</summary>
    [Fact]
    public async Task Nobody_waits_for_the_file_of_another_that_is_being_dropped()
    {
        using ManualResetEventSlim begun = new();
        using ManualResetEventSlim goesOn = new();
        _memory.BeforeAccess = (_, operation, offset) =>
        {
            if (operation != FakeOperation.Invalidate || offset != Unit)
                return;
            begun.Set();
            goesOn.Wait(TimeSpan.FromMinutes(2));
        };
        _reused.Add([Units(1, 1), Units(5, 1)]);
        Task<bool> first = Task.Run(() => Open(1, 1));
        Assert.True(begun.Wait(TimeSpan.FromMinutes(1)));
        Task others = Task.Run(() =>
        {
            _reused.Add([Units(9, 1)]);
            Assert.True(Open(5, 1));
            Assert.True(Open(20, 1));
            Assert.Equal(2 * Unit, _reused.CountReused([Units(0, 30)]));
        });
        bool havePassed = await Task.WhenAny(others, Task.Delay(TimeSpan.FromMinutes(1), TestContext.Current.CancellationToken)) == others;
        Assert.False(first.IsCompleted);
        goesOn.Set();
        Assert.True(await first);
        await others;
        Assert.True(havePassed, "they wait");
        Assert.True(_reused.IsReused([Units(9, 1)]));
        Assert.False(_reused.IsReused([Units(0, 9)]));
    }

    /// <summary>A kernel that reaches the memory by itself asks for nothing later: all is dropped before it has the devices.</summary>
    [Fact]
    public void All_of_it_is_dropped_as_far_as_the_devices_are_there()
    {
        FakeSharedMemory memory = new(64 << 20, seed: 1, coherent: true) { AccidentOneIn = 0 };
        DaxDevice device = memory.Attach("here");
        NativeFormatter.Format([device], new() { Host = Guid.NewGuid(), Clock = TimeProvider.System });
        using DevicePool pool = TestFormats.All.Open([device]);
        List<long> dropped = [];
        memory.BeforeAccess = (_, operation, offset) =>
        {
            if (operation == FakeOperation.Invalidate)
                dropped.Add(offset / Unit);
        };
        MapExtent absent = new(new(1), 9 * Unit, Unit);
        _reused.Add([Units(8, 2), absent, Units(4, 1)]);
        _reused.RefreshAll(pool);
        Assert.Equal([4, 8], dropped.Order());
        Assert.True(Open(0, 30));
        Assert.Empty(_dropped);
        Assert.False(_reused.TryRefresh(new(absent), _devices));
    }

    [Fact]
    public void An_open_drops_what_was_there_before_and_one_that_cannot_is_refused()
    {
        using TestFileSystem system = new() { Reused = _reused };
        system.AddDevice(0, _memory.Attach("here"));
        InodeNumber file = system.AddFile(InodeNumber.Root, "f", 5, unit: 3);
        using RequestDriver driver = new(system);
        _reused.Add([Units(3, 1)]);
        _memory.Poison(3 * Unit, Unit, "here");
        Assert.Equal(Errno.EIO, driver.Ask(FuseOpcode.FUSE_OPEN, file, new OpenIn()).Errno);
        Assert.Equal(1, driver.Counters.Faults);
        _memory.ClearPoison();
        _dropped.Clear();
        Assert.Equal(Errno.None, driver.Ask(FuseOpcode.FUSE_OPEN, file, new OpenIn()).Errno);
        Assert.Equal([3], _dropped);
        Assert.Equal(Errno.None, driver.Ask(FuseOpcode.FUSE_OPEN, file, new OpenIn()).Errno);
        Assert.Equal([3], _dropped);
    }

    private static MapExtent Units(long first, long count) => new(default, first * Unit, count * Unit);

    /// <summary>Where a worker reaches the memory it drops what is small. What is large another thread drops, and the worker answers others.</summary>
    [Fact]
    public void A_worker_drops_what_is_small_and_an_open_of_more_waits_for_another_thread()
    {
        using KernelRig rig = new(KernelGeneration.Stock);
        using ManualResetEventSlim begun = new();
        using ManualResetEventSlim goesOn = new();
        rig.System.AddDevice(0, _devices.Here[0]);
        rig.System.Reused = _reused;
        using OpenDelay opens = new(_reused, rig.System.Windows, (_, use) =>
        {
            begun.Set();
            goesOn.Wait(TimeSpan.FromMinutes(2));
            using DaxDevice device = _memory.Attach("releases");
            use(device, 10 * Unit, 3 * Unit);
            return true;
        }, inlineBytes: 2 * Unit);
        rig.System.OpenDelay = opens;
        rig.Start(wantsFmaps: false);
        opens.Start(_ => InodePresence.Absent);
        rig.AddFile("small", 4 * Unit, 0, (0, 3, 4));
        InodeNumber large = rig.AddFile("large", 3 * Unit, 0, (0, 10, 3));
        rig.AddFile("other", Unit, 0, (0, 20, 1));
        _reused.Add([Units(3, 2), Units(10, 3)]);
        Assert.Equal(Errno.None, rig.OpenError("small"));
        Assert.Equal([3], _dropped);
        ulong open = rig.Kernel.Post(0, 14, large.Value, new byte[8]);
        Assert.True(begun.Wait(TimeSpan.FromMinutes(1)));
        Assert.Equal(Errno.None, rig.OpenError("other"));
        rig.Kernel.RequireSilence();
        goesOn.Set();
        Assert.Equal(Errno.None, rig.Kernel.Await(0, open).Errno);
        Assert.Equal([3], _dropped); // not by a worker
        Assert.Equal(0, _reused.CountReused([Units(0, 30)]));
    }

    private bool Open(long first, long count) => _reused.TryRefresh(new MapView(Units(first, count)), _devices);

    private static byte ReadFrom(DaxDevice device)
    {
        byte[] one = new byte[1];
        device.Read(Unit + 100, one);
        return one[0];
    }

    /// <summary>A device that notes which units were dropped.</summary>
    private sealed class Recorder(HashSet<long> dropped) : DaxDevice, IDeviceResolver
    {
        public override string Path => "recorder";

        public override long LengthBytes => long.MaxValue;

        public override bool Coherent { get; set; }

        public DaxDevice? Resolve(DeviceIndex index) => this;

        public override void Invalidate(long offset, long length)
        {
            for (long unit = offset / Unit; unit < (offset + length) / Unit; unit++)
                Assert.True(dropped.Add(unit), "dropped twice");
        }

        public override void Read(long offset, Span<byte> destination) => throw new NotSupportedException();

        public override void Write(long offset, ReadOnlySpan<byte> source) => throw new NotSupportedException();

        public override void Zero(long offset, long length) => throw new NotSupportedException();

        public override ulong ReadWord(long offset) => throw new NotSupportedException();

        public override void WriteWord(long offset, ulong value) => throw new NotSupportedException();

        public override void WriteBack(long offset, long length) => throw new NotSupportedException();

        public override void Fence() => throw new NotSupportedException();

        public override bool TryGetAddress(long offset, long length, out nint address) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
        }
    }

    private sealed class Devices : IDeviceResolver
    {
        public Dictionary<ushort, DaxDevice> Here { get; } = [];

        public DaxDevice? Resolve(DeviceIndex index) => Here.GetValueOrDefault(index.Value);
    }
}
