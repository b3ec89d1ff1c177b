using Famfs.Core.Dax;

namespace Famfs.TestSupport.Dax;

/// <summary>A tree of directories and links as sysfs shows the dax bus, and what the kernel does when its attributes
/// are written.</summary>
public sealed class FakeDaxBus : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("famfs-sysfs-").FullName;

    public FakeDaxBus(params string[] names)
    {
        foreach (string driver in (string[])[DaxBinding.DevDax, DaxBinding.FsDev])
            Directory.CreateDirectory(DriverPath(driver));
        foreach (string name in names)
        {
            Directory.CreateDirectory(DevicePath(name));
            File.WriteAllText(Path.Combine(DevicePath(name), "size"), "266338304\n");
            Link(name, DaxBinding.DevDax);
        }
    }

    /// <summary>Every write: driver, attribute, text.</summary>
    public List<string> Writes { get; } = [];

    /// <summary>Names that fsdev_dax was told to take, and was not told to forget.</summary>
    public HashSet<string> Ids { get; } = [];

    /// <summary>Writes that fail, as <see cref="Writes"/> shows them.</summary>
    public HashSet<string> Refused { get; } = [];

    /// <summary>Devices that fsdev_dax does not take when it is told their names.</summary>
    public HashSet<string> Unfit { get; } = [];

    public string Root => _root;

    public DaxBinding Binding => new(_root, Write);

    public void RemoveDriver(string driver) => Directory.Delete(DriverPath(driver), recursive: true);

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private string DevicePath(string name) => Path.Combine(_root, "bus", "dax", "devices", name);

    private string DriverPath(string driver) => Path.Combine(_root, "bus", "dax", "drivers", driver);

    private void Link(string name, string driver) =>
        Directory.CreateSymbolicLink(Path.Combine(DevicePath(name), "driver"), DriverPath(driver));

    private void Write(string path, string text)
    {
        string driver = Path.GetFileName(Path.GetDirectoryName(path)!);
        string write = $"{driver}/{Path.GetFileName(path)} {text}";
        Writes.Add(write);
        if (Refused.Contains(write))
            throw new IOException("Invalid argument");
        string link = Path.Combine(DevicePath(text), "driver");
        switch (Path.GetFileName(path))
        {
            case "unbind":
                if (new FileInfo(link).LinkTarget is not { } target || Path.GetFileName(target) != driver)
                    throw new IOException("No such device");
                Directory.Delete(link);
                break;
            case "new_id":
                Ids.Add(text);
                if (Unfit.Contains(text))
                    throw new IOException("Device or resource busy");
                Link(text, driver);
                break;
            case "remove_id":
                if (!Ids.Remove(text))
                    throw new IOException("No such device");
                break;
            case "bind":
                Link(text, driver);
                break;
            default:
                throw new IOException("No such file or directory");
        }
    }
}
