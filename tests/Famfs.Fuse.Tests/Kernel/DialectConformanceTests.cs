using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Famfs.Core.Dialects;
using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Xunit;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Tests.Kernel;

/// <summary>What a kernel of any generation relies on, through one session each. <see cref="KernelDouble"/> is as strict
/// as the kernel, so much of what is proven here is that it takes the replies.</summary>
public sealed class DialectConformanceTests
{
    private const long Unit = KernelRig.Unit;

    public static TheoryData<string> Famfs => [.. KernelGeneration.Famfs.Select(g => g.Name)];

    public static TheoryData<string> All => ["stock", .. KernelGeneration.Famfs.Select(g => g.Name)];

    private static KernelGeneration Find(string name) => KernelGeneration.Famfs.FirstOrDefault(g => g.Name == name) ?? KernelGeneration.Stock;

    [Theory]
    [MemberData(nameof(All))]
    public void The_dialect_the_kernel_speaks_is_found(string name)
    {
        using KernelRig rig = new(Find(name));
        rig.AddDevice(0);
        rig.Start();
        Assert.Equal(name, rig.Session.Negotiated.Dialect.Name);
        Assert.Equal(name != "stock", rig.Kernel.FmapsAgreed);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Without_devices_that_the_kernel_can_take_every_kernel_is_served_as_stock(string name)
    {
        using KernelRig rig = new(Find(name));
        rig.AddFile("f", 5, 0, (0, 0, 1));
        rig.Start(wantsFmaps: false);
        Assert.Equal("stock", rig.Session.Negotiated.Dialect.Name);
        Assert.False(rig.Kernel.FmapsAgreed);
        Assert.Equal(Errno.None, rig.OpenError("f"));
        Assert.Equal(Errno.ENOSYS, rig.Kernel.Ask(53, 1).Errno);
        Assert.Equal(Errno.ENOSYS, rig.Kernel.Ask(54, 1).Errno);
        Assert.Equal(Errno.ENOSYS, rig.Kernel.Ask(55, 0).Errno);
    }

    [Theory]
    [MemberData(nameof(Famfs))]
    public void A_kernel_of_a_mount_that_is_over_is_told_another_size_and_given_no_map(string name)
    {
        using KernelRig rig = new(Find(name));
        rig.AddDevice(0);
        InodeNumber opened = rig.AddFile("f", 5, 0, (0, 0, 1));
        InodeNumber other = rig.AddFile("g", 5, 0, (0, 1, 1));
        rig.Start();
        rig.Open("f");
        (ulong node, ulong size) = rig.Kernel.Lookup(1, "g");
        Assert.Equal((other.Value, 5UL), (node, size));
        Assert.Equal((true, false), (rig.Session.Mapped.MayHave(opened), rig.Session.Mapped.MayHave(other)));

        rig.System.IsRevoked = true;
        Assert.Equal((opened.Value, 1UL << 62), rig.Kernel.Lookup(1, "f"));
        Assert.Equal(1UL << 62, rig.Kernel.SizeOf(opened.Value));
        Assert.Equal(Errno.ESTALE, rig.OpenError("f"));
        Assert.Equal(Errno.ESTALE, rig.Kernel.FetchMap(other.Value, out _));
        Assert.True(rig.Session.Mapped.MayHave(other));
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Stock_can_be_forced_on_every_kernel(string name)
    {
        using KernelRig rig = new(Find(name));
        rig.AddDevice(0);
        rig.Start(forced: DialectTable.Stock);
        Assert.Equal("stock", rig.Session.Negotiated.Dialect.Name);
        Assert.False(rig.Kernel.FmapsAgreed);
    }

    [Theory]
    [MemberData(nameof(Famfs))]
    public void A_forced_dialect_is_spoken_and_any_other_refused_with_its_name(string name)
    {
        using (KernelRig rig = new(Find(name)))
        {
            rig.AddDevice(0);
            rig.Start(forced: DialectTable.Find(name));
            Assert.Equal(name, rig.Session.Negotiated.Dialect.Name);
        }
        foreach (Dialect other in DialectTable.All.Where(d => d.Fmaps is not null && !d.Matches(Find(name).Minor, 1UL << Find(name).FmapBit)))
        {
            using KernelRig rig = new(Find(name));
            NotSupportedException error = Assert.Throws<NotSupportedException>(() => rig.Start(forced: other));
            Assert.StartsWith($"dialect {other.Name} is not offered by this kernel", error.Message);
        }
    }

    [Theory]
    [MemberData(nameof(Famfs))]
    public void A_kernel_that_hides_its_flag_is_served_as_stock_unless_a_dialect_is_forced(string name)
    {
        KernelGeneration generation = Find(name);
        using (KernelRig rig = new(generation, new KernelDouble(generation) { HidesFmaps = true }))
        {
            rig.AddDevice(0);
            rig.Start();
            Assert.Equal("stock", rig.Session.Negotiated.Dialect.Name);
        }
        using (KernelRig rig = new(generation, new KernelDouble(generation) { HidesFmaps = true }))
            Assert.Contains("CAP_SYS_RAWIO", Assert.Throws<NotSupportedException>(() => rig.Start(forced: DialectTable.Find(name))).Message);
    }

    [Theory]
    [MemberData(nameof(Famfs))]
    public void A_file_in_one_extent_is_opened_with_its_map(string name)
    {
        using KernelRig rig = new(Find(name));
        rig.AddDevice(0);
        InodeNumber file = rig.AddFile("f", (3 * Unit) - 100, 0, (0, 7, 3));
        rig.Start();
        KernelMap map = rig.Open("f");
        Assert.Equal([new KernelExtent(0, 7 * (ulong)Unit, 3 * (ulong)Unit)], map.Extents);
        rig.RequireSameBytes(file, map, new Random(1));
        rig.Kernel.RequireSilence();
        Assert.Equal(1, rig.Session.Statistics.Fmaps);
        Assert.Null(rig.Session.LastRefusedFmap);
    }

    [Theory]
    [MemberData(nameof(Famfs))]
    public void A_map_and_its_devices_are_asked_for_once_and_after_a_forget_only_the_map(string name)
    {
        using KernelRig rig = new(Find(name));
        rig.AddDevice(0);
        rig.AddFile("f", Unit, 0, (0, 1, 1));
        rig.AddFile("g", Unit, 0, (0, 2, 1));
        rig.Start();
        rig.Open("f");
        rig.Open("f");
        rig.Open("g");
        Assert.Equal((3, 2), (rig.Kernel.Sent[14], rig.Kernel.Sent[rig.Generation.GetFmap]));
        rig.Kernel.Forget(rig.Kernel.Lookup(1, "f").Node);
        rig.Open("f");
        Assert.Equal(3, rig.Kernel.Sent[rig.Generation.GetFmap]);
        Assert.Equal(rig.Generation.Pushed ? 0 : 1, rig.Kernel.Sent.GetValueOrDefault(rig.Generation.GetDaxDevice));
    }

    [Theory]
    [MemberData(nameof(Famfs))]
    public void Files_of_several_extents_over_several_devices_resolve_as_in_the_tree(string name)
    {
        Random random = new(2);
        using KernelRig rig = new(Find(name));
        for (int device = 0; device < 5; device++)
            rig.AddDevice(device);
        var files = new Dictionary<string, InodeNumber>();
        for (int i = 0; i < 40; i++)
        {
            (int Device, long Unit, long Units)[] extents = [.. Enumerable.Range(0, random.Next(1, 33)).Select(_ => (random.Next(5), random.NextInt64(4000), random.NextInt64(1, 20)))];
            files[$"f{i}"] = rig.AddFile($"f{i}", (extents.Sum(e => e.Units) * Unit) - random.NextInt64(extents[^1].Units * Unit), 0, extents);
        }
        rig.Start();
        foreach ((string file, InodeNumber inode) in files)
            rig.RequireSameBytes(inode, rig.Open(file), random);
        Assert.Equal(40, rig.Session.Statistics.Fmaps);
    }

    [Theory]
    [MemberData(nameof(Famfs))]
    public void Interleaved_files_of_2_to_32_strips_resolve_as_in_the_tree(string name)
    {
        Random random = new(3);
        using KernelRig rig = new(Find(name));
        for (int device = 0; device < 6; device++)
            rig.AddDevice(device);
        var files = new Dictionary<string, (InodeNumber Inode, long Chunk)>();
        for (int strips = 2; strips <= 32; strips++)
        {
            long chunkUnits = 1L << random.Next(4);
            long stripes = random.NextInt64(1, 12);
            (int, long, long)[] extents = [.. Enumerable.Range(0, strips).Select(s => (s % 6, random.NextInt64(3000), stripes * chunkUnits))];
            long size = random.NextInt64(((stripes - 1) * strips * chunkUnits * Unit) + 1, (stripes * strips * chunkUnits * Unit) + 1);
            files[$"f{strips}"] = (rig.AddFile($"f{strips}", size, chunkUnits * Unit, extents), chunkUnits * Unit);
        }
        rig.Start();
        foreach ((string file, (InodeNumber inode, long chunk)) in files)
        {
            KernelMap map = rig.Open(file);
            rig.RequireSameBytes(inode, map, random);
            if (rig.Generation.Interleaved)
            {
                Assert.Equal((ulong)chunk, map.ChunkBytes);
                continue;
            }
            Assert.All(map.Extents.SkipLast(1), extent => Assert.Equal((ulong)chunk, extent.Length));
            Assert.InRange(map.Extents[^1].Length, 1UL, (ulong)chunk);
            Assert.True((ulong)map.Extents.Sum(e => (long)e.Length) - map.FileBytes < (ulong)Unit, "unrolled beyond the file's last unit");
        }
    }

    [Theory]
    [MemberData(nameof(Famfs))]
    public void The_largest_map_a_creator_can_make_reaches_every_kernel(string name)
    {
        using KernelRig rig = new(Find(name));
        rig.AddDevice(0);
        InodeNumber simple = rig.AddFile("simple", 32 * Unit, 0, [.. Enumerable.Range(0, 32).Select(i => (0, 2L * i, 1L))]);
        InodeNumber striped = rig.AddFile("striped", (320 * Unit) - 1, Unit, [.. Enumerable.Range(0, 32).Select(i => (0, 100L + (20 * i), 10L))]);
        rig.Start();
        rig.RequireSameBytes(simple, rig.Open("simple"), new Random(4));
        rig.RequireSameBytes(striped, rig.Open("striped"), new Random(5));

        // 800 and 824 bytes, or 7712 unrolled: one round where the buffer has 4096, else two.
        int rounds = name switch { "A" => 4, "D" => 3, _ => 2 };
        Assert.Equal(rounds, rig.Kernel.Sent[rig.Generation.GetFmap]);
    }

    [Theory]
    [MemberData(nameof(Famfs))]
    public void What_a_dialect_cannot_express_fails_to_open_and_is_counted(string name)
    {
        using KernelRig rig = new(Find(name));
        for (int device = 0; device < 70; device++)
            rig.AddDevice(device);
        rig.AddFile("extents", 33 * Unit, 0, [.. Enumerable.Range(0, 33).Select(i => (0, (long)i, 1L))]);
        rig.AddFile("strips", 33 * Unit, Unit, [.. Enumerable.Range(0, 33).Select(i => (0, 100L + i, 1L))]);
        rig.AddFile("last", Unit, 0, ((int)rig.Generation.MaxDevices - 1, 0, 1));
        rig.AddFile("beyond", Unit, 0, ((int)rig.Generation.MaxDevices, 0, 1));
        rig.Start();
        Errno many = name == "D" ? Errno.None : Errno.EOPNOTSUPP;
        Assert.Equal(many, rig.OpenError("extents"));
        Assert.Equal(many, rig.OpenError("strips"));
        Assert.Equal(Errno.None, rig.OpenError("last"));
        Assert.Equal(Errno.EOPNOTSUPP, rig.OpenError("beyond"));
        Assert.Equal(name == "D" ? 1 : 3, rig.Session.Statistics.InexpressibleFmaps);
        Assert.Equal(FmapVerdict.DeviceOutOfReach, rig.Session.LastRefusedFmap!.Verdict);
        Assert.Contains($"of dialect {name}", rig.Session.LastRefusedFmap.ToString());
        Assert.True(rig.Kernel.Devices.Count <= (int)rig.Generation.MaxDevices);

        if (!rig.Generation.Pushed)
        {
            Assert.Equal((Errno.None, 280), (rig.Kernel.Ask(rig.Generation.GetDaxDevice, rig.Generation.MaxDevices - 1).Errno, rig.Kernel.Ask(rig.Generation.GetDaxDevice, rig.Generation.MaxDevices - 1).Body.Length));
            Assert.Equal(Errno.ENOENT, rig.Kernel.Ask(rig.Generation.GetDaxDevice, rig.Generation.MaxDevices).Errno);
        }

        // The file can be looked at all the same.
        Assert.Equal((ulong)Unit, rig.Kernel.SizeOf(rig.Kernel.Lookup(1, "beyond").Node));
    }

    [Theory]
    [MemberData(nameof(Famfs))]
    public void Bad_maps_are_refused_before_the_kernel_sees_them(string name)
    {
        using KernelRig rig = new(Find(name));
        rig.AddDevice(0, 100 * Unit);
        (string Name, FmapVerdict Verdict)[] bad =
        [
            ("misaligned offset", FmapVerdict.Misaligned),
            ("misaligned length", FmapVerdict.Misaligned),
            ("empty extent", FmapVerdict.Misaligned),
            ("past the end", FmapVerdict.PastDeviceEnd),
            ("missing device", FmapVerdict.UnknownDevice),
            ("too short", FmapVerdict.TooShort),
            ("no extent", FmapVerdict.NoExtents),
            ("strip too short", FmapVerdict.TooShort),
            ("strip without its whole chunk", FmapVerdict.TooShort),
            ("odd chunk", FmapVerdict.BadChunk),
            ("small chunk", FmapVerdict.BadChunk),
            ("large chunk", FmapVerdict.BadChunk),
        ];
        MapExtent Good(long unit, long units) => new(default, unit * Unit, units * Unit);
        void Add(string file, long size, long chunk, params MapExtent[] extents) => rig.System.AddFile(InodeNumber.Root, file, size, 0x1A4, (ulong)chunk, extents);
        Add("misaligned offset", Unit, 0, new MapExtent(default, 4096, Unit));
        Add("misaligned length", Unit, 0, new MapExtent(default, 0, Unit + 4096));
        Add("empty extent", Unit, 0, Good(0, 1), Good(5, 0));
        Add("past the end", Unit, 0, Good(99, 2));
        Add("missing device", Unit, 0, new MapExtent(new DeviceIndex(1), 0, Unit));
        Add("too short", (2 * Unit) + 1, 0, Good(0, 1), Good(2, 1));
        Add("no extent", 1, 0);
        Add("strip too short", (3 * Unit) + 1, Unit, Good(0, 3), Good(10, 1)); // the second needs two units
        Add("strip without its whole chunk", (4 * Unit) + 1, 4 * Unit, Good(0, 1), Good(10, 1)); // only the last chunk may be cut
        Add("odd chunk", 2 * Unit, 3 * Unit, Good(0, 3), Good(10, 3));
        Add("small chunk", 2 * Unit, 4096, Good(0, 1), Good(10, 1));
        Add("large chunk", 2 * Unit, 4L << 30, Good(0, 1), Good(10, 1));
        rig.Start();
        foreach ((string file, FmapVerdict verdict) in bad)
        {
            Assert.True(rig.OpenError(file) == Errno.EIO, file);
            Assert.True(rig.Session.LastRefusedFmap!.Verdict == verdict, $"{file}: {rig.Session.LastRefusedFmap}");

            // A kernel that asked all the same would not get it either.
            Assert.Equal(Errno.EIO, rig.Kernel.FetchMap(rig.Kernel.Lookup(1, file).Node, out _));
        }
        Assert.Equal((2L * bad.Length, 0L), (rig.Session.Statistics.RefusedFmaps, rig.Session.Statistics.Fmaps));
        Assert.Empty(rig.Kernel.Devices.Values.Except(["/dev/dax0.0"]));
    }

    [Theory]
    [MemberData(nameof(Famfs))]
    public void Only_published_files_have_maps(string name)
    {
        using KernelRig rig = new(Find(name));
        rig.AddDevice(0);
        InodeNumber directory = rig.System.AddDirectory(InodeNumber.Root, "d");
        InodeNumber link = rig.System.AddSymlink(InodeNumber.Root, "l", "f");
        InodeNumber deleted = rig.AddFile("f", Unit, 0, (0, 0, 1));
        InodeNumber staged = new(100);
        rig.System.Tree.CreateStaged(staged, Guid.NewGuid(), 0x1A4, 0, 0, (ulong)Unit, 0, [new MapExtent(default, 2 * Unit, Unit)], 0);
        InodeNumber segment = new(101);
        rig.System.Tree.MakeSystem(segment, 0, 0, [new MapExtent(default, 3 * Unit, Unit)]);
        rig.Start();
        rig.Open("f");
        rig.System.Tree.Delete(deleted, 0, null);
        Assert.Equal(Errno.ENOENT, rig.Kernel.FetchMap(4711, out _));
        Assert.Equal(Errno.ENOENT, rig.Kernel.FetchMap(ulong.MaxValue, out _));
        Assert.Equal(Errno.EINVAL, rig.Kernel.FetchMap(InodeNumber.Root.Value, out _));
        Assert.Equal(Errno.EINVAL, rig.Kernel.FetchMap(directory.Value, out _));
        Assert.Equal(Errno.EINVAL, rig.Kernel.FetchMap(link.Value, out _));
        Assert.Equal(Errno.EINVAL, rig.Kernel.FetchMap(segment.Value, out _));
        Assert.Equal(Errno.ESTALE, rig.Kernel.FetchMap(deleted.Value, out _));
        Assert.Equal(Errno.ESTALE, rig.Kernel.FetchMap(staged.Value, out _));
        Assert.Equal(Errno.ESTALE, rig.Kernel.Open(deleted.Value, out _));
    }

    [Theory]
    [MemberData(nameof(Famfs))]
    public void A_mount_that_may_not_hold_memory_gives_no_map(string name)
    {
        using KernelRig rig = new(Find(name));
        rig.AddDevice(0);
        InodeNumber file = rig.AddFile("f", Unit, 0, (0, 0, 1));
        rig.System.Verdict = OpenVerdict.HostDown;
        rig.Start();
        Assert.Equal(Errno.EHOSTDOWN, rig.OpenError("f"));
        Assert.Equal(Errno.EHOSTDOWN, rig.Kernel.FetchMap(file.Value, out _));
        rig.System.Verdict = OpenVerdict.Open;
        rig.Open("f");
    }

    [Theory]
    [MemberData(nameof(All))]
    public void The_size_shown_is_the_maps_and_cannot_be_changed(string name)
    {
        using KernelRig rig = new(Find(name));
        rig.AddDevice(0);
        foreach (long size in new[] { 1, 4095, 4097, Unit - 1, Unit, Unit + 1, (5 * Unit) + 12345 })
            rig.AddFile($"f{size}", size, 0, (0, 0, 6));
        rig.Start();
        foreach (long size in new[] { 1, 4095, 4097, Unit - 1, Unit, Unit + 1, (5 * Unit) + 12345 })
        {
            (ulong node, ulong looked) = rig.Kernel.Lookup(1, $"f{size}");
            Assert.Equal(((ulong)size, (ulong)size), (looked, rig.Kernel.SizeOf(node)));
            Assert.Equal(Errno.None, rig.Kernel.Open(node, out KernelMap? map));
            Assert.Equal(name == "stock" ? null : (ulong)size, map?.FileBytes);
            foreach (ulong other in new ulong[] { 0, (ulong)size - 1, (ulong)size + 1, 6 * (ulong)Unit, ulong.MaxValue })
                Assert.Equal(other == (ulong)size ? Errno.None : Errno.EPERM, rig.Kernel.Truncate(node, other));
            Assert.Equal(Errno.EPERM, rig.Kernel.Open(node, out _, openFlags: 2 | 0x200)); // O_TRUNC
            Assert.Equal((ulong)size, rig.Kernel.SizeOf(node));
        }
    }

    [Theory]
    [MemberData(nameof(Famfs))]
    public void The_kernels_indices_are_those_of_learning_and_a_device_may_come_later(string name)
    {
        using KernelRig rig = new(Find(name));
        Assert.Equal(0u, rig.AddDevice(5));
        Assert.Equal(1u, rig.AddDevice(2));
        InodeNumber file = rig.AddFile("f", 4 * Unit, Unit, (2, 10, 2), (5, 20, 2));
        InodeNumber later = rig.AddFile("later", Unit, 0, (0, 3, 1));
        rig.Start();
        rig.RequireSameBytes(file, rig.Open("f"), new Random(6));
        Assert.Equal(Errno.EIO, rig.OpenError("later"));
        Assert.Equal(2u, rig.AddDevice(0));
        KernelMap map = rig.Open("later");
        Assert.Equal(new KernelExtent(2, 3 * (ulong)Unit, (ulong)Unit), Assert.Single(map.Extents));
        rig.RequireSameBytes(later, map, new Random(7));
    }

    [Theory]
    [MemberData(nameof(Famfs))]
    public void A_device_the_kernel_asks_for_and_that_is_not_there_is_ENOENT(string name)
    {
        KernelGeneration generation = Find(name);
        using KernelRig rig = new(generation);
        rig.AddDevice(0);
        rig.Start();
        if (generation.Pushed)
        {
            Assert.Equal(Errno.ENOSYS, rig.Kernel.Ask(55, 0).Errno);
            return;
        }
        foreach (ulong index in new ulong[] { 1, 23, 24, 63, 65536, ulong.MaxValue })
            Assert.Equal(Errno.ENOENT, rig.Kernel.Ask(generation.GetDaxDevice, index).Errno);

        // Dialect C sends 8 bytes with it: not misread.
        Assert.Equal(Errno.EINVAL, rig.Kernel.Ask(generation.GetDaxDevice, 0, new byte[8]).Errno);
    }

    [Theory]
    [MemberData(nameof(Famfs))]
    public void Requests_of_other_generations_are_rejected_and_not_misread(string name)
    {
        KernelGeneration generation = Find(name);
        using KernelRig rig = new(generation);
        rig.AddDevice(0);
        InodeNumber file = rig.AddFile("f", Unit, 0, (0, 0, 1));
        rig.Start();
        Assert.Equal(Errno.EINVAL, rig.Kernel.Ask(generation.GetFmap, file.Value, new byte[generation.SaysRoom ? 0 : 8]).Errno);
        if (generation.GetFmap != 53)
            Assert.Equal(Errno.ENOSYS, rig.Kernel.Ask(53, file.Value, new byte[64]).Errno); // COPY_FILE_RANGE_64
        Assert.Equal(0, rig.Session.Statistics.Fmaps);
    }

    [Fact]
    public void A_kernel_of_dialect_D_without_a_known_ioctl_is_taken_for_B_and_its_opens_fail()
    {
        using KernelRig rig = new(KernelGeneration.D);
        rig.AddDevice(0);
        rig.AddFile("f", Unit, 0, (0, 0, 1));
        rig.Start(knowsPushIoctl: false);
        Assert.Equal("B", rig.Session.Negotiated.Dialect.Name);
        Assert.Equal(Errno.EINVAL, rig.OpenError("f"));
        Assert.Equal((1L, 1L), (rig.Session.Statistics.Rejected, rig.Session.Statistics.ForeignFmaps));
    }

    [Fact]
    public void Dialect_D_cannot_be_forced_without_its_ioctl()
    {
        using KernelRig rig = new(KernelGeneration.D);
        rig.AddDevice(0);
        Assert.Contains("--push-ioctl", Assert.Throws<NotSupportedException>(() => rig.Start(forced: DialectTable.D, knowsPushIoctl: false)).Message);
    }

    [Theory]
    [InlineData(Errno.EBUSY, "another mount holds it")]
    [InlineData(Errno.EOPNOTSUPP, "fsdev_dax")]
    [InlineData(Errno.ENODEV, "no driver")]
    public void A_device_that_a_pushed_to_kernel_does_not_take_fails_the_mount_with_the_cause(Errno errno, string cause)
    {
        using KernelRig first = new(KernelGeneration.D);
        first.AddDevice(0, takes: errno);
        FamfsException error = Assert.Throws<FamfsException>(() => first.Start());
        Assert.Contains("/dev/dax0.0", error.Message);
        Assert.Contains(cause, error.Message);

        using KernelRig second = new(KernelGeneration.D);
        second.AddDevice(0);
        second.AddDevice(1, takes: errno);
        Assert.Contains("/dev/dax1.0", Assert.Throws<FamfsException>(() => second.Start()).Message);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void A_mount_that_failed_because_a_device_was_held_comes_about_at_another_try(int held)
    {
        using TestFileSystem system = new();
        string[] paths = ["/dev/dax0.0", "/dev/dax1.0"];
        for (int i = 0; i < paths.Length; i++)
            system.KernelDevices.Add(paths[i], KernelRig.DeviceBytes, new DeviceIndex((ushort)i));
        using (KernelDouble holding = new(KernelGeneration.D))
        {
            foreach (string path in paths)
                holding.DeviceNodes[path] = path == paths[held] ? Errno.EBUSY : Errno.None;
            Assert.Equal((int)Errno.EBUSY, Assert.Throws<FamfsException>(() => KernelRig.StartSession(holding, system)).ErrorNumber);
        }
        KernelDouble kernel = new(KernelGeneration.D);
        foreach (string path in paths)
            kernel.DeviceNodes[path] = Errno.None;
        Famfs.Fuse.Session.FuseSession session = KernelRig.StartSession(kernel, system);
        Assert.Equal(("D", paths[0], paths[1]), (session.Negotiated.Dialect.Name, kernel.PathOf(0), kernel.PathOf(1)));
        kernel.Dispose();
        session.Dispose();
    }

    [Fact]
    public void A_first_device_that_need_not_be_and_is_refused_still_tells_D_from_B()
    {
        using KernelRig rig = new(KernelGeneration.D);
        rig.Kernel.DeviceNodes["/dev/dax0.0"] = Errno.EBUSY;
        rig.System.KernelDevices.Add("/dev/dax0.0", KernelRig.DeviceBytes, new DeviceIndex(0), optional: true);
        rig.AddDevice(1);
        InodeNumber file = rig.AddFile("f", Unit, 0, (1, 3, 1));
        rig.AddFile("g", Unit, 0, (0, 3, 1));
        rig.Start();
        Assert.Equal("D", rig.Session.Negotiated.Dialect.Name);
        Assert.Equal("/dev/dax0.0", Assert.Single(rig.Session.Negotiated.DevicesLeftOut).Path);
        rig.RequireSameBytes(file, rig.Open("f"), new Random(9));
        Assert.Equal(Errno.EIO, rig.OpenError("g"));
    }

    [Fact]
    public void A_device_that_is_added_and_not_taken_leaves_the_table_as_it_was()
    {
        using KernelRig rig = new(KernelGeneration.D);
        rig.AddDevice(0);
        rig.Start();
        Assert.Throws<FamfsException>(() => rig.AddDevice(1, takes: Errno.EBUSY));
        Assert.Single(rig.System.KernelDevices.All);
        Assert.Null(rig.System.KernelDevices.Find(new DeviceIndex(1)));
        rig.Kernel.DeviceNodes["/dev/dax1.0"] = Errno.None;
        Assert.Equal(1u, rig.System.KernelDevices.Add("/dev/dax1.0", KernelRig.DeviceBytes, new DeviceIndex(1)));
        Assert.Equal("/dev/dax1.0", rig.Kernel.PathOf(1));
    }

    [Fact]
    public void Dialect_D_takes_16_MiB_of_map_and_not_an_extent_more()
    {
        const long Chunks = ((16 << 20) - 32) / 24;
        using TestFileSystem system = new();
        system.KernelDevices.Add("/dev/dax0.0", 1L << 50, default(DeviceIndex));
        system.KernelDevices.Add("/dev/dax1.0", 1L << 50, new DeviceIndex(1));
        MapExtent[] strips = [new(default, 0, 1L << 40), new(new DeviceIndex(1), 0, 1L << 40)];
        InodeNumber largest = system.AddFile(InodeNumber.Root, "largest", (Chunks * Unit) - 5, 0x1A4, (ulong)Unit, strips);
        InodeNumber larger = system.AddFile(InodeNumber.Root, "larger", (Chunks * Unit) + 1, 0x1A4, (ulong)Unit, [strips[0] with { OffsetBytes = 1L << 41 }, strips[1] with { OffsetBytes = 1L << 41 }]);
        using var driver = new RequestDriver(system, dialect: DialectTable.D);

        // First the header alone, which has the size; then all of it.
        (Errno errno, byte[] head) = driver.Ask((FuseOpcode)54, largest, new GetXattrIn { SizeBytes = 4096 });
        Assert.Equal((Errno.None, 32), (errno, head.Length));
        FmapHeader header = MemoryMarshal.Read<FmapHeader>(head);
        Assert.Equal(((uint)Chunks, (uint)(32 + (24 * Chunks))), (header.ExtentCount, header.MessageBytes));
        (errno, byte[] whole) = driver.Ask((FuseOpcode)54, largest, new GetXattrIn { SizeBytes = header.MessageBytes });
        Assert.Equal((Errno.None, (int)header.MessageBytes), (errno, whole.Length));
        Assert.Equal(head, whole[..32]);
        ReadOnlySpan<FmapSimpleExtent> extents = MemoryMarshal.Cast<byte, FmapSimpleExtent>(whole.AsSpan(32));
        for (int i = 0; i < extents.Length; i++)
        {
            if (extents[i].Device != i % 2 || extents[i].OffsetBytes != (ulong)(i / 2 * Unit) || extents[i].LengthBytes != (ulong)Unit)
                Assert.Fail($"chunk {i} is {extents[i].Device}:{extents[i].OffsetBytes}+{extents[i].LengthBytes}");
        }

        Assert.Equal(Errno.EOPNOTSUPP, driver.Ask(FuseOpcode.FUSE_OPEN, larger, default(OpenIn)).Errno);
        Assert.Equal(Errno.EIO, driver.Ask((FuseOpcode)54, larger, new GetXattrIn { SizeBytes = 4096 }).Errno);
        Assert.Equal(2, driver.Counters.InexpressibleFmaps);
        Assert.Equal(Errno.ERANGE, driver.Ask((FuseOpcode)54, largest, new GetXattrIn { SizeBytes = 31 }).Errno);
        Assert.Equal(32, driver.Ask((FuseOpcode)54, largest, new GetXattrIn { SizeBytes = 32 }).Body.Length);
    }

    [Fact]
    public void No_map_within_the_limits_of_A_B0_and_B_is_larger_than_a_page()
    {
        // FmapSizing.FixedRoom rests on this.
        foreach (FmapLimits limits in new[] { FmapLimits.A, FmapLimits.B0, FmapLimits.B })
        {
            Assert.True(FmapLimits.HeaderBytes + (FmapLimits.ExtentBytes * limits.MaxExtents) <= FuseConstants.FirstFmapRoomBytes);
            Assert.True(FmapLimits.HeaderBytes + (FmapLimits.ExtentBytes * (limits.MaxStrips + 1)) <= FuseConstants.FirstFmapRoomBytes);
        }
        Assert.True(FmapLimits.HeaderBytes + ((long)FmapLimits.ExtentBytes * FmapLimits.D.MaxExtents) <= FmapLimits.D.MaxMessageBytes);
        Assert.True(FmapLimits.HeaderBytes + (FmapLimits.ExtentBytes * (FmapLimits.D.MaxExtents + 1L)) > FmapLimits.D.MaxMessageBytes);
    }
}
