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
        devices.StartPushing(push, limit: 64, pushed: 0);
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
        devices.Add("/dev/dax1.0", 1);
        Assert.Equal(ErrorReason.Exists, Assert.Throws<FamfsException>(() => devices.Add("/dev/dax0.0", 1)).Reason);
        Assert.Equal(ErrorReason.Exists, Assert.Throws<FamfsException>(() => devices.Add("/dev/dax2.0", 1, new DeviceIndex(4))).Reason);
        Assert.Equal(ErrorReason.Exists, Assert.Throws<FamfsException>(() => devices.Bind(1, new DeviceIndex(4))).Reason);
        Assert.Equal(ErrorReason.Exists, Assert.Throws<FamfsException>(() => devices.Bind(0, new DeviceIndex(5))).Reason);
        foreach (string path in new[] { "dax2.0", "", "/" + new string('x', 255), "/dev/\0" })
            Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => devices.Add(path, 1)).Reason);
        Assert.Equal(2, devices.All.Count);
        Assert.Equal(2u, devices.Add("/" + new string('x', 254), 1));
        devices.Bind(1, new DeviceIndex(0));
        Assert.Equal((1u, 0u), (devices.Find(new DeviceIndex(0))!.Index, devices.Find(new DeviceIndex(4))!.Index));
    }
}
