using Famfs.Core.Dax;
using Famfs.TestSupport.Dax;
using Xunit;

namespace Famfs.Core.Tests.Dax;

/// <summary>A file in memory for the length of a test.</summary>
internal sealed class DeviceFile : IDisposable
{
    public DeviceFile(long length)
    {
        string directory = Directory.Exists("/dev/shm") ? "/dev/shm" : System.IO.Path.GetTempPath();
        Path = System.IO.Path.Combine(directory, $"famfs-test-{Guid.NewGuid():N}");
        using FileStream file = File.Create(Path);
        file.SetLength(length);
    }

    public string Path { get; }

    public void SetLength(long length)
    {
        using FileStream file = File.OpenWrite(Path);
        file.SetLength(length);
    }

    public void Dispose() => File.Delete(Path);
}

public sealed class FileDeviceConformance : DaxDeviceConformance
{
    private readonly DeviceFile _file = new(Length);

    public override void Dispose()
    {
        base.Dispose();
        _file.Dispose();
    }

    protected override DaxDevice Open(string hostName) => DaxDevice.Open(_file.Path);
}

/// <summary>A regular file declared non-coherent, so that the flush instructions run.</summary>
public sealed class NonCoherentFileDeviceConformance : DaxDeviceConformance
{
    private readonly DeviceFile _file = new(Length);

    public override void Dispose()
    {
        base.Dispose();
        _file.Dispose();
    }

    protected override DaxDevice Open(string hostName)
    {
        Assert.SkipUnless(LineFlush.TryCreate(out LineFlush? flush, out string reason), $"no cache-line flush here: {reason}");
        flush!.Dispose();
        return DaxDevice.Open(_file.Path, coherent: false);
    }
}

/// <summary>A regular file copied through the bounce file, as in a sandbox without process_vm_*.</summary>
public sealed class BouncingFileDeviceConformance : DaxDeviceConformance
{
    private readonly DeviceFile _file = new(Length);

    public override void Dispose()
    {
        base.Dispose();
        _file.Dispose();
    }

    protected override DaxDevice Open(string hostName) => MappedDaxDevice.Open(_file.Path, false, null, () => new BounceFileCopy());
}

public sealed class FakeCoherentDeviceConformance : DaxDeviceConformance
{
    private readonly FakeSharedMemory _memory = new(Length, seed: 1, coherent: true);

    protected override DaxDevice Open(string hostName) => _memory.Attach(hostName);
}

public sealed class FakeNonCoherentDeviceConformance : DaxDeviceConformance
{
    private readonly FakeSharedMemory _memory = new(Length, seed: 1);

    protected override DaxDevice Open(string hostName) => _memory.Attach(hostName);
}

public sealed class PlainDeviceConformance : DaxDeviceConformance
{
    private readonly PlainMemory _memory = new(Length);

    protected override DaxDevice Open(string hostName) => _memory.Attach();
}

/// <summary>A real devdax device, named by FAMFS_TEST_DAX, whose content the tests destroy.</summary>
public sealed class DevDaxDeviceConformance : DaxDeviceConformance
{
    private bool _cleared;

    protected override DaxDevice Open(string hostName)
    {
        string? path = Environment.GetEnvironmentVariable("FAMFS_TEST_DAX");
        Assert.SkipWhen(path is null, "no devdax device: set FAMFS_TEST_DAX to one whose content may be destroyed");
        DaxDevice device = DaxDevice.Open(path);
        if (!_cleared)
            device.Zero(0, device.LengthBytes);
        _cleared = true;
        return device;
    }
}
