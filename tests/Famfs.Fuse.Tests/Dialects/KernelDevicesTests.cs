using Famfs.Core;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Protocol;
using Famfs.V1;
using Xunit;

namespace Famfs.Fuse.Tests.Dialects;

public sealed class KernelDevicesTests
{
    private sealed class CountingPush : IDevicePush
    {
        public volatile int Count;
        public volatile string Wrong = "";

        public Errno Push(string path, uint index)
        {
            if (index != (uint)Count || path != $"/dev/dax{index}.0")
                Wrong = $"{path} as {index} after {Count}";
            Thread.Yield();
            Count++;
            return Errno.None;
        }
    }

    [Fact]
    public void A_reader_never_sees_a_device_that_was_not_pushed_and_indices_are_dense()
    {
        var push = new CountingPush();
        var devices = new KernelDevices();
        devices.StartPushing(push, limit: 64, first: null);
        using var done = new CancellationTokenSource();
        string wrong = "";
        Thread[] readers = [.. Enumerable.Range(0, 2).Select(_ => new Thread(() =>
        {
            while (!done.IsCancellationRequested)
            {
                int seen = devices.All.Count;
                if (seen > push.Count)
                    wrong = $"{seen} devices are seen, {push.Count} were pushed";
                for (int i = 0; i < seen; i++)
                {
                    if (devices.Find(new DeviceIndex((ushort)(100 + i)))?.Index != (uint)i || devices.FindByKernelIndex((ulong)i)?.Index != (uint)i)
                        wrong = $"device {i} of {seen} is not found";
                }
            }
        }))];
        foreach (Thread reader in readers)
            reader.Start();
        for (int i = 0; i < 64; i++)
            Assert.Equal((uint)i, devices.Add($"/dev/dax{i}.0", 1, new DeviceIndex((ushort)(100 + i))));
        done.Cancel();
        foreach (Thread reader in readers)
            reader.Join();
        Assert.Equal(("", "", 64), (wrong, push.Wrong, push.Count));
    }

    [Fact]
    public void What_the_table_cannot_take_is_refused_and_changes_nothing()
    {
        var devices = new KernelDevices();
        devices.Add("/dev/dax0.0", 1, new DeviceIndex(4));
        devices.Add("/dev/dax1.0", 1, new DeviceIndex(0));
        Assert.Equal(ErrorReason.Exists, Assert.Throws<FamfsException>(() => devices.Add("/dev/dax0.0", 1, new DeviceIndex(1))).Reason);
        Assert.Equal(ErrorReason.Exists, Assert.Throws<FamfsException>(() => devices.Add("/dev/dax2.0", 1, new DeviceIndex(4))).Reason);
        foreach (string path in new[] { "dax2.0", "", "/" + new string('x', 255), "/dev/\0" })
            Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => devices.Add(path, 1, new DeviceIndex(1))).Reason);
        Assert.Equal(2, devices.All.Count);
        Assert.Equal(2u, devices.Add("/" + new string('x', 254), 1, new DeviceIndex(1)));
        Assert.Equal((1u, 0u), (devices.Find(new DeviceIndex(0))!.Index, devices.Find(new DeviceIndex(4))!.Index));
    }

    private sealed class ChoosyPush(params string[] refused) : IDevicePush
    {
        public List<string> Taken { get; } = [];

        public Errno Push(string path, uint index)
        {
            if (refused.Contains(path))
                return Errno.EBUSY;
            Assert.Equal((uint)Taken.Count, index);
            Taken.Add(path);
            return Errno.None;
        }
    }

    [Theory]
    [InlineData(null)]
    [InlineData(Errno.EBUSY)]
    public void A_refused_optional_device_is_left_out_and_those_behind_it_move_up(Errno? first)
    {
        var devices = new KernelDevices();
        devices.Add("/dev/a", 1, new DeviceIndex(0), optional: true);
        devices.Add("/dev/b", 1, new DeviceIndex(1));
        devices.Add("/dev/c", 1, new DeviceIndex(2), optional: true);
        devices.Add("/dev/d", 1, new DeviceIndex(3), optional: true);
        var push = new ChoosyPush("/dev/a", "/dev/c");

        IReadOnlyList<FamfsException> leftOut = devices.StartPushing(push, limit: 64, first);

        Assert.Equal(["/dev/a", "/dev/c"], leftOut.Select(e => e.Path));
        Assert.Equal(["/dev/b", "/dev/d"], push.Taken);
        Assert.Equal([(0u, "/dev/b"), (1u, "/dev/d")], devices.All.Select(d => (d.Index, d.Path)));
        Assert.Equal((null, 0u, null, 1u), (devices.Find(new(0)), devices.Find(new(1))!.Index, devices.Find(new(2)), devices.Find(new(3))!.Index));
        Assert.Equal("/dev/d", devices.FindByKernelIndex(1)!.Path);
        Assert.Equal(2u, devices.Add("/dev/e", 1, new DeviceIndex(4)));
        Assert.Equal("/dev/e", push.Taken[^1]);
    }

    [Fact]
    public void A_refused_device_that_must_be_leaves_everything_for_another_try()
    {
        var devices = new KernelDevices();
        devices.Add("/dev/a", 1, new DeviceIndex(0));
        devices.Add("/dev/b", 1, new DeviceIndex(1));
        var refusing = new ChoosyPush("/dev/b");
        FamfsException error = Assert.Throws<FamfsException>(() => devices.StartPushing(refusing, limit: 64, null));
        Assert.Equal(("/dev/b", (int)Errno.EBUSY, ErrorReason.DeviceMissing), (error.Path, error.ErrorNumber, error.Reason));

        // The kernel of that try is gone: nothing may be pushed to it.
        Assert.Equal(2u, devices.Add("/dev/c", 1, new DeviceIndex(2)));
        Assert.Equal(["/dev/a"], refusing.Taken);
        var next = new ChoosyPush();
        Assert.Empty(devices.StartPushing(next, limit: 64, null));
        Assert.Equal(["/dev/a", "/dev/b", "/dev/c"], next.Taken);
    }

    [Fact]
    public void Nothing_is_pushed_from_the_kernels_limit_on()
    {
        var devices = new KernelDevices();
        var push = new ChoosyPush();
        devices.Add("/dev/a", 1, new DeviceIndex(0));
        devices.StartPushing(push, limit: 2, null);
        devices.Add("/dev/b", 1, new DeviceIndex(1));
        Assert.Equal(2u, devices.Add("/dev/c", 1, new DeviceIndex(2)));
        Assert.Equal(["/dev/a", "/dev/b"], push.Taken);
    }
}
