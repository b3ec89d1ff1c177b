using System.Globalization;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Core.Dax;

/// <summary>
/// Which driver a dax character device is bound to, and binding it to the other one (drivers/dax/bus.c, device.c and
/// fsdev.c in the kernel): <c>device_dax</c> lets programs map it, <c>fsdev_dax</c> (since 7.0) gives it to a file
/// system in the kernel, and to nobody's mmap. A binding that fails half way is put back as it was.
/// </summary>
/// <param name="sysfs">Where sysfs is; a tree of the same shape in tests.</param>
/// <param name="write">Writes a text to an attribute of that tree.</param>
public sealed class DaxBinding(string sysfs = "/sys", Action<string, string>? write = null)
{
    /// <summary>The driver whose devices can be mapped.</summary>
    public const string DevDax = "device_dax";

    /// <summary>The driver whose devices the kernel's famfs takes.</summary>
    public const string FsDev = "fsdev_dax";

    private readonly Action<string, string> _write = write ?? WriteAttribute;

    private string Bus => Path.Combine(sysfs, "bus", "dax");

    /// <summary>The device's name on the dax bus (<c>dax0.0</c>): of such a name, or of the path of its node. Null for
    /// what is not a dax device.</summary>
    public unsafe string? FindName(string device)
    {
        if (!device.Contains('/', StringComparison.Ordinal) && Directory.Exists(Path.Combine(Bus, "devices", device)))
            return device;
        Libc.statx_buffer attributes;
        if (Libc.statx(Libc.AT_FDCWD, device, 0, Libc.STATX_BASIC_STATS, &attributes) != 0 || (attributes.Mode & Libc.S_IFMT) != Libc.S_IFCHR)
            return null;
        string node = Path.Combine(sysfs, "dev", "char", string.Create(CultureInfo.InvariantCulture, $"{attributes.RdevMajor}:{attributes.RdevMinor}"));
        string name = Path.GetFileName(new System.IO.FileInfo(node).LinkTarget ?? "");
        return name.Length > 0 && Directory.Exists(Path.Combine(Bus, "devices", name)) ? name : null;
    }

    /// <summary>As <see cref="FindName"/>; throws NOT_FOUND or BAD_REQUEST.</summary>
    public string RequireName(string device) => FindName(device) ?? throw (File.Exists(device)
        ? new FamfsException(ErrorReason.BadRequest, $"{device}: is not a dax device") { Path = device }
        : new FamfsException(ErrorReason.NotFound, $"{device}: no such dax device") { Path = device });

    /// <summary>Driver that a device (by name) is bound to; empty when to none.</summary>
    public string ReadDriver(string name) => Path.GetFileName(new System.IO.FileInfo(Path.Combine(Bus, "devices", name, "driver")).LinkTarget ?? "");

    /// <summary>Bytes of a device (by name); 0 when the kernel does not say.</summary>
    public long ReadLengthBytes(string name)
    {
        string path = Path.Combine(Bus, "devices", name, "size");
        try
        {
            return File.Exists(path) && long.TryParse(File.ReadAllText(path).Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out long bytes) ? bytes : 0;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return 0; // the device has just gone, or this process may not look
        }
    }

    /// <summary>True when the kernel has the driver.</summary>
    public bool HasDriver(string driver) => Directory.Exists(Path.Combine(Bus, "drivers", driver));

    /// <summary>All dax devices of the host, by name.</summary>
    public IReadOnlyList<string> ListNames()
    {
        string directory = Path.Combine(Bus, "devices");
        return Directory.Exists(directory) ? [.. Directory.EnumerateFileSystemEntries(directory).Select(p => Path.GetFileName(p)!).Order(StringComparer.Ordinal)] : [];
    }

    /// <summary>Binds a device (by name) to a driver. Nobody may use it: taking it from a driver takes it from every
    /// program too. Errors: NOT_SUPPORTED_BY_FORMAT when the kernel has no such driver, READ_ONLY when sysfs may not be
    /// written, DEVICE_MISSING when the driver refuses; the old binding is there again then, or the text says that it
    /// is not.</summary>
    public void Bind(string name, string driver)
    {
        string before = ReadDriver(name);
        if (before == driver)
            return;
        if (!HasDriver(driver))
            throw new FamfsException(ErrorReason.NotSupportedByFormat, $"{name}: this kernel has no driver {driver}{(driver == FsDev ? " (Linux 7.0 and later, CONFIG_DEV_DAX_FSDEV)" : "")}") { Path = name };
        try
        {
            Rebind(name, driver);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            string state = Restore(name, before, driver);
            throw new FamfsException(
                error is UnauthorizedAccessException ? ErrorReason.ReadOnly : ErrorReason.DeviceMissing,
                $"{name}: cannot be bound to {driver}: {error.Message}; {state}", error)
            { Path = name };
        }
    }

    /// <summary>Processes that have the device's node open or mapped, as far as this process may look; each as
    /// "name (pid)".</summary>
    public static IReadOnlyList<string> FindUsers(string devicePath, string proc = "/proc")
    {
        List<string> users = [];
        foreach (string process in Directory.EnumerateDirectories(proc))
        {
            if (!int.TryParse(Path.GetFileName(process), NumberStyles.None, CultureInfo.InvariantCulture, out int id) || id == Environment.ProcessId)
                continue;
            try
            {
                bool uses = Directory.EnumerateFiles(Path.Combine(process, "fd")).Any(fd => new System.IO.FileInfo(fd).LinkTarget == devicePath)
                    || File.ReadLines(Path.Combine(process, "maps")).Any(line => line.EndsWith(" " + devicePath, StringComparison.Ordinal));
                if (uses)
                    users.Add(string.Create(CultureInfo.InvariantCulture, $"{File.ReadAllText(Path.Combine(process, "comm")).Trim()} ({id})"));
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                // It ended, or belongs to somebody whom this process may not look at.
            }
        }
        return users;
    }

    private void Rebind(string name, string driver)
    {
        string now = ReadDriver(name);
        if (now.Length > 0)
        {
            _write(Path.Combine(Bus, "drivers", now, "unbind"), name);

            // fsdev_dax is told names to take; one that is left there would take the device again.
            if (now == FsDev)
                RemoveName(name);
        }
        _write(Path.Combine(Bus, "drivers", driver, driver == FsDev ? "new_id" : "bind"), name);
        if (ReadDriver(name) is var got && got != driver)
            throw new IOException($"the kernel {(got.Length == 0 ? "left it without a driver" : $"bound it to {got}")}");
    }

    private void RemoveName(string name) => _write(Path.Combine(Bus, "drivers", FsDev, "remove_id"), name);

    private string Restore(string name, string before, string wanted)
    {
        if (ReadDriver(name) == before)
            return before.Length == 0 ? "it has no driver, as before" : $"it is bound to {before}, as before";
        try
        {
            // A name that fsdev_dax was told, and whose device it did not take, would stay on its list.
            if (before != FsDev && wanted == FsDev)
                RemoveName(name);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // It was not on the list: refused with the device.
        }
        try
        {
            if (before.Length > 0)
                Rebind(name, before);
            return before.Length == 0 ? "it had no driver before" : $"it is bound to {before} again";
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return $"AND IT COULD NOT BE BOUND TO {before} AGAIN ({error.Message}): it has {(ReadDriver(name) is { Length: > 0 } left ? $"driver {left}" : "no driver")} now";
        }
    }

    private static void WriteAttribute(string path, string text)
    {
        using FileStream file = new(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0);
        file.Write(System.Text.Encoding.ASCII.GetBytes(text));
    }
}
