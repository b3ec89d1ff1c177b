using Famfs.Core.Dax;
using Famfs.TestSupport.Dax;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Dax;

public sealed class DaxBindingTests : IDisposable
{
    private readonly FakeDaxBus _bus = new("dax0.0", "dax1.0");

    public void Dispose() => _bus.Dispose();

    [Fact]
    public void A_device_goes_to_famfs_by_its_name_and_back_without_leaving_the_name_there()
    {
        DaxBinding binding = _bus.Binding;
        binding.Bind("dax0.0", DaxBinding.FsDev);
        Assert.Equal(DaxBinding.FsDev, binding.ReadDriver("dax0.0"));
        Assert.Equal(DaxBinding.DevDax, binding.ReadDriver("dax1.0"));

        binding.Bind("dax0.0", DaxBinding.DevDax);

        Assert.Equal(DaxBinding.DevDax, binding.ReadDriver("dax0.0"));
        Assert.Empty(_bus.Ids);
        Assert.Equal(
            ["device_dax/unbind dax0.0", "fsdev_dax/new_id dax0.0", "fsdev_dax/unbind dax0.0", "fsdev_dax/remove_id dax0.0", "device_dax/bind dax0.0"],
            _bus.Writes);
    }

    [Fact]
    public void A_device_that_is_bound_as_wanted_is_left_alone()
    {
        _bus.Binding.Bind("dax0.0", DaxBinding.DevDax);
        Assert.Empty(_bus.Writes);
    }

    [Fact]
    public void A_driver_that_refuses_leaves_the_device_as_it_was()
    {
        _bus.Refused.Add("fsdev_dax/new_id dax0.0");

        FamfsException error = Assert.Throws<FamfsException>(() => _bus.Binding.Bind("dax0.0", DaxBinding.FsDev));

        Assert.Equal(ErrorReason.DeviceMissing, error.Reason);
        Assert.Contains("bound to device_dax again", error.Message, StringComparison.Ordinal);
        Assert.Equal(DaxBinding.DevDax, _bus.Binding.ReadDriver("dax0.0"));
    }

    [Fact]
    public void A_device_that_fsdev_dax_does_not_take_leaves_no_name_there()
    {
        _bus.Unfit.Add("dax0.0");

        FamfsException error = Assert.Throws<FamfsException>(() => _bus.Binding.Bind("dax0.0", DaxBinding.FsDev));

        Assert.Contains("bound to device_dax again", error.Message, StringComparison.Ordinal);
        Assert.Equal(DaxBinding.DevDax, _bus.Binding.ReadDriver("dax0.0"));
        Assert.Empty(_bus.Ids);
    }

    [Fact]
    public void A_length_that_cannot_be_read_is_not_known()
    {
        string size = Path.Combine(_bus.Root, "bus", "dax", "devices", "dax0.0", "size");
        File.Delete(size);
        File.CreateSymbolicLink(size, "/proc/self/mem"); // exists, and reading it fails
        Assert.Equal(0, _bus.Binding.ReadLengthBytes("dax0.0"));
    }

    [Fact]
    public void A_device_that_cannot_be_put_back_either_is_said_to_have_no_driver()
    {
        _bus.Refused.UnionWith(["fsdev_dax/new_id dax0.0", "device_dax/bind dax0.0"]);

        FamfsException error = Assert.Throws<FamfsException>(() => _bus.Binding.Bind("dax0.0", DaxBinding.FsDev));

        Assert.Contains("COULD NOT BE BOUND TO device_dax AGAIN", error.Message, StringComparison.Ordinal);
        Assert.Contains("no driver now", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_kernel_without_the_driver_is_said_to_have_none_and_nothing_is_unbound()
    {
        _bus.RemoveDriver(DaxBinding.FsDev);

        FamfsException error = Assert.Throws<FamfsException>(() => _bus.Binding.Bind("dax0.0", DaxBinding.FsDev));

        Assert.Equal(ErrorReason.NotSupportedByFormat, error.Reason);
        Assert.Contains("no driver fsdev_dax", error.Message, StringComparison.Ordinal);
        Assert.Empty(_bus.Writes);
    }

    [Fact]
    public void A_device_is_known_by_name_and_length_and_nothing_else_is_one()
    {
        DaxBinding binding = _bus.Binding;
        Assert.Equal(["dax0.0", "dax1.0"], binding.ListNames());
        Assert.Equal("dax1.0", binding.RequireName("dax1.0"));
        Assert.Equal(266338304, binding.ReadLengthBytes("dax1.0"));
        Assert.Equal(ErrorReason.NotFound, Assert.Throws<FamfsException>(() => binding.RequireName("dax2.0")).Reason);
        Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => binding.RequireName("/dev/null")).Reason);
    }

    [Fact]
    public void Who_has_a_node_open_or_mapped_uses_it()
    {
        string proc = Directory.CreateTempSubdirectory("famfs-proc-").FullName;
        try
        {
            foreach ((string id, string comm, bool open, bool mapped) in ((string, string, bool, bool)[])[("10", "opener", true, false), ("11", "mapper", false, true), ("12", "other", false, false)])
            {
                Directory.CreateDirectory(Path.Combine(proc, id, "fd"));
                File.WriteAllText(Path.Combine(proc, id, "comm"), comm + "\n");
                File.CreateSymbolicLink(Path.Combine(proc, id, "fd", "3"), open ? "/dev/dax0.0" : "/dev/dax0.00");
                File.WriteAllText(Path.Combine(proc, id, "maps"), mapped ? "7f0000000000-7f0000200000 rw-s 00000000 00:05 12 /dev/dax0.0\n" : "7f00-7f10 r--p 0 00:05 12 /x/dev/dax0.0\n");
            }
            Assert.Equal(["mapper (11)", "opener (10)"], DaxBinding.FindUsers("/dev/dax0.0", proc).Order());
        }
        finally
        {
            Directory.Delete(proc, recursive: true);
        }
    }
}
