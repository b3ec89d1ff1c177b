using System.Globalization;
using Famfs.V1;

namespace Famfs.Core.Dax;

/// <summary>What sysfs says about one dax character device. <paramref name="directory"/> is its
/// <c>/sys/dev/char/MAJOR:MINOR</c> (drivers/dax/bus.c in the kernel).</summary>
internal sealed class DevDaxAttributes(string directory)
{
    /// <summary>The device is there and of the dax subsystem.</summary>
    public bool Exists => LinkName("subsystem") == "dax";

    /// <summary>Bytes of the device. Errors: DEVICE_MISSING.</summary>
    public long ReadLengthBytes(string devicePath)
    {
        string file = Path.Combine(directory, "size");
        try
        {
            string text = File.ReadAllText(file).Trim();
            if (long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long length))
                return length;
            throw new FamfsException(ErrorReason.DeviceMissing, $"{devicePath}: {file} says '{text}', not a length") { Path = devicePath };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new FamfsException(ErrorReason.DeviceMissing, $"{devicePath}: its length cannot be read: {e.Message}", e) { Path = devicePath };
        }
    }

    /// <summary>Bytes that a mapping must be aligned to; 0 on kernels that do not say.</summary>
    public long ReadAlignmentBytes()
    {
        string file = Path.Combine(directory, "align");
        return File.Exists(file)
            && long.TryParse(File.ReadAllText(file).Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out long align)
            && long.IsPow2(align) ? align : 0;
    }

    /// <summary>Driver the device is bound to (device_dax, fsdev_dax, kmem); empty when none.</summary>
    public string ReadDriver() => LinkName("driver");

    private string LinkName(string name) =>
        Path.GetFileName(new System.IO.FileInfo(Path.Combine(directory, name)).LinkTarget ?? "");
}
