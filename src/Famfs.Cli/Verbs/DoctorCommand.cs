using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs doctor [DEVICE…|MOUNT]</c>: what this host's kernel speaks and has, what is missing for famfs, and how to
/// fix it. Exit code 0 when nothing is missing, 1 when something is.</summary>
internal static class DoctorCommand
{
    private const string ProgramName = "famfsd";
    private const int CapSysAdmin = 21;
    private const int CapSysRawio = 17;
    private const uint MinMinor = 31;
    private const uint MinMinorForMap = 39;
    private const string StockName = "stock";
    private const string PulledName = "B";

    // Flags of FUSE_INIT that matter here (linux/fuse.h), by bit.
    private static readonly (int Bit, string Name)[] s_flags = [(22, "MAX_PAGES"), (30, "INIT_EXT"), (36, "DIRECT_IO_ALLOW_MMAP"), (37, "PASSTHROUGH"), (41, "OVER_IO_URING"), (42, "bit 42 (A's DAX_FMAP, or REQUEST_TIMEOUT)"), (43, "DAX_FMAP")];

    // Instructions that write lines back, best first.
    private static readonly string[] s_flushes = ["clwb", "clflushopt", "clflush"];

    public static Command Build(CliContext context)
    {
        Argument<string[]> what = new("DEVICE… | MOUNT") { Description = "Devices to look at, or a mount; all dax devices of the host when not said", Arity = ArgumentArity.ZeroOrMore };
        Command command = new("doctor", "Say what this host's kernel speaks, what is missing and how to fix it") { what };
        command.SetAction(async (parsed, cancel) =>
        {
            Report report = await ExamineAsync(context, parsed.GetValue(what) ?? [], cancel).ConfigureAwait(false);
            if (context.IsJson(parsed))
                PrintJson(context, report);
            else
                Print(context, report);
            return (int)(report.Missing.Count == 0 ? ExitCode.Ok : ExitCode.Failed);
        });
        return command;
    }

    private sealed record DeviceReport(string Path, long LengthBytes, string Driver, string Mode, string Cause);

    private sealed class Report
    {
        public string Kernel { get; set; } = "";
        public uint? FuseMinor { get; set; }
        public string Offered { get; set; } = "";
        public List<string> Flags { get; } = [];
        public string Dialect { get; set; } = "";
        public Dictionary<string, bool> Capabilities { get; } = [];
        public Dictionary<string, bool> Drivers { get; } = [];
        public string Flush { get; set; } = "";
        public string Manager { get; set; } = "";
        public IReadOnlyList<KeptFiles>? Kept { get; set; }
        public List<DeviceReport> Devices { get; } = [];
        public string? Mount { get; set; }
        public string? MountDialect { get; set; }
        public List<Complaint> Missing { get; } = [];
        public List<Complaint> Notes { get; } = [];
    }

    private static async Task<Report> ExamineAsync(CliContext context, string[] given, CancellationToken cancel)
    {
        CliEnvironment environment = context.Environment;
        DaxBinding binding = environment.DaxBinding;
        Report report = new() { Kernel = ReadLine(Path.Combine(environment.ProcPath, "sys/kernel/osrelease")) };
        ulong capabilities = ReadCapabilities(environment.ProcPath);
        report.Capabilities["CAP_SYS_ADMIN"] = (capabilities >> CapSysAdmin & 1) != 0;
        report.Capabilities["CAP_SYS_RAWIO"] = (capabilities >> CapSysRawio & 1) != 0;
        foreach (string driver in (string[])[DaxBinding.DevDax, DaxBinding.FsDev])
            report.Drivers[driver] = binding.HasDriver(driver);
        HashSet<string> processor = [.. ReadProcessorFlags(environment.ProcPath)];
        report.Flush = s_flushes.FirstOrDefault(processor.Contains) ?? "";

        DoctorServices services = new(context, report.Missing, report.Notes);
        report.Kept = services.AskKeeper();
        HashSet<string> withoutDaemon = [.. (report.Kept ?? []).Where(k => k.Holder == 0).Select(k => k.Key)];
        // Those would not answer.
        IReadOnlyList<FamfsMount> mounts = await context.AskMountsAsync(m => !withoutDaemon.Contains(m.MountPoint), cancel).ConfigureAwait(false);
        services.LookAtKept(report.Kept, mounts);
        report.Manager = services.Manager;
        await services.ExamineAsync(mounts, mayMount: report.Capabilities["CAP_SYS_ADMIN"], cancel).ConfigureAwait(false);
        IReadOnlyList<string> devices = FindDevices(context, given, await FindMountAsync(context, given, mounts, cancel).ConfigureAwait(false), report);
        List<(string Path, string Name)> dax = [];
        foreach (string device in devices)
        {
            if (binding.FindName(device) is { } name)
                dax.Add((device.Contains('/', StringComparison.Ordinal) ? device : "/dev/" + name, name));
            else
                LookAtFile(report, device);
        }
        Dictionary<string, string> users = FindUsers(environment, mounts, report);
        using JsonDocument? probe = await ProbeAsync(environment, [.. dax.Where(d => binding.ReadDriver(d.Name) == DaxBinding.FsDev && !users.ContainsKey(d.Name)).Select(d => d.Path)], report, cancel).ConfigureAwait(false);
        Dictionary<string, string> causes = ReadProbe(probe, report);
        foreach ((string path, string name) in dax)
        {
            LookAtDevice(report, binding, path, name, causes.GetValueOrDefault(path, ""));
            if (report.Mount is null && users.TryGetValue(name, out string? user))
                report.Notes.Add(new($"{path}: is in use by the mount at {user}", "the kernel gives a device to one mount at a time"));
        }
        if (dax.Count > 0 && report.Flush.Length == 0)
            report.Missing.Add(new("no instruction to write cache lines back", "memory that is not coherent needs a processor with CLWB, CLFLUSHOPT or CLFLUSH"));
        if (devices.Count == 0)
            report.Notes.Add(new("no dax device on this host", "regular files in /dev/shm do for one host; guests get devices from their host"));
        return report;
    }

    /// <summary>The mount that a single path is on, whichever part of it the path shows; null when it is on none, or a dax device.</summary>
    private static async Task<FamfsMount?> FindMountAsync(CliContext context, string[] given, IReadOnlyList<FamfsMount> mounts, CancellationToken cancel)
    {
        if (given is not [string place] || context.Environment.DaxBinding.FindName(place) is not null)
            return null;
        // One that does not answer is known by its name.
        return mounts.FirstOrDefault(m => m.MountPoint == MountEntry.PlaceOf(place, context.Environment.MountTablePath))
            ?? (await context.AskMountAsync(place, context.AnswerTime, cancel).ConfigureAwait(false)).Mount;
    }

    private static IReadOnlyList<string> FindDevices(CliContext context, string[] given, FamfsMount? mount, Report report)
    {
        if (mount is not null)
        {
            report.Mount = mount.MountPoint;
            try
            {
                report.MountDialect = mount.ReadDialect();
                report.Notes.Add(new("locks of files (flock, fcntl) exclude programs of one host only", "mount with -o locks=refuse to make them fail, where a program would rely on them"));
                return [.. mount.ReadDevices().Values.Select(d => d.Path)];
            }
            catch (FamfsException)
            {
                return []; // FindUsers complains of it
            }
        }
        return given.Length > 0 ? given : context.Environment.DaxBinding.ListNames();
    }

    /// <summary>The mounts of this host by the names of the devices they have; asking the kernel for those would disturb them. Complains of
    /// mounts whose daemon is gone: their kernel side goes on holding devices.</summary>
    private static Dictionary<string, string> FindUsers(CliEnvironment environment, IReadOnlyList<FamfsMount> mounts, Report report)
    {
        Dictionary<string, string> users = [];
        foreach (FamfsMount mount in mounts)
        {
            try
            {
                string registration = mount.ReadRegistration();
                if (registration != FamfsMount.Registered)
                    report.Missing.Add(new($"{mount.MountPoint}: names are served, files cannot be opened: {registration}", "mend what it names; the mount tries again by itself"));
                foreach ((uint index, Guid uuid) in mount.ReadMissingDevices())
                    report.Missing.Add(new($"{mount.MountPoint}: lacks device {index} ({uuid}) of its pool; files on it answer EIO", $"bring the device to this host, then `famfs devices attach DEVICE {mount.MountPoint}`"));
                foreach (MountDevice device in mount.ReadDevices().Values)
                    users[environment.DaxBinding.FindName(device.Path) ?? device.Path] = mount.MountPoint;
            }
            catch (FamfsException error) when (error.Reason is not (ErrorReason.HostGone or ErrorReason.Timeout))
            {
                // Somebody else's, perhaps, which this process may not look at.
                report.Notes.Add(new(error.Message, "which devices that mount has is not known"));
            }
            catch (FamfsException error)
            {
                report.Missing.Add(new(error.Message, $"`famfs umount {(error.Reason == ErrorReason.Timeout ? "--force " : "")}{mount.MountPoint}`; until then its kernel side may hold devices"));
            }
        }
        return users;
    }

    private static void LookAtFile(Report report, string path)
    {
        System.IO.FileInfo file = new(path);
        if (Directory.Exists(path))
            report.Missing.Add(new($"{path}: is a directory and no famfs mount", "name devices, or a mount point"));
        else if (!file.Exists)
            report.Missing.Add(new($"{path}: is not there", "see `ls /dev/dax*`; a memory that is in another mode becomes a device by `daxctl reconfigure-device -m devdax` or `ndctl create-namespace -m devdax`"));
        else if (file.Length == 0)
            report.Missing.Add(new($"{path}: is neither a dax device nor a file with content", "`truncate -s SIZE` makes a file to try with"));
        else
            report.Devices.Add(new(path, file.Length, "", "file", ""));
    }

    private static void LookAtDevice(Report report, DaxBinding binding, string path, string name, string cause)
    {
        string driver = binding.ReadDriver(name);
        report.Devices.Add(new(path, binding.ReadLengthBytes(name), driver, DaxModeCommand.ModeOf(driver), cause));
        bool knows = report.Dialect.Length > 0 && report.Dialect != StockName;
        if (driver.Length == 0)
            report.Missing.Add(new($"{path}: no driver is bound to it", $"`famfs dax-mode {(knows ? "famfs" : "devdax")} {path}`"));
        else if (driver == DaxBinding.FsDev && report.Dialect == StockName)
        {
            report.Missing.Add(new($"{path}: is bound to {DaxBinding.FsDev}, and the kernel offers no famfs to this process",
                report.Capabilities["CAP_SYS_RAWIO"] ? $"`famfs dax-mode devdax {path}`, or a kernel with famfs" : "run with CAP_SYS_RAWIO; without it a famfs kernel does not offer it"));
        }
        else if (driver == DaxBinding.DevDax && knows && report.Mount is null)
            report.Notes.Add(new($"{path}: is bound to {DaxBinding.DevDax}, so a mount will be served as by a stock kernel", $"`famfs dax-mode famfs {path}` gives it to the kernel's famfs (dialect {report.Dialect})"));
        else if (driver is not (DaxBinding.DevDax or DaxBinding.FsDev))
            report.Missing.Add(new($"{path}: is bound to {driver}", driver == "kmem" ? "it is the kernel's memory now; `daxctl reconfigure-device -m devdax` takes it back" : $"`famfs dax-mode devdax {path}`"));
        if (cause.Length > 0)
            report.Missing.Add(new(cause, "`famfs dax-mode` and `cat /proc/mounts` say who may have it"));
    }

    /// <summary>Has the daemon's program ask the kernel.</summary>
    private static async Task<JsonDocument?> ProbeAsync(CliEnvironment environment, string[] devices, Report report, CancellationToken cancel)
    {
        if (!File.Exists("/dev/fuse"))
        {
            report.Missing.Add(new("/dev/fuse is not there", "`modprobe fuse`; a container needs `--device /dev/fuse`"));
            return null;
        }
        if (!report.Capabilities["CAP_SYS_ADMIN"])
        {
            report.Missing.Add(new("CAP_SYS_ADMIN is missing, so nothing can be mounted and the kernel cannot be asked", "run as root, or in a user namespace (`unshare -Urm`) for a stock mount"));
            return null;
        }
        string program;
        try
        {
            program = environment.RequireProgram(ProgramName);
        }
        catch (FamfsException error)
        {
            report.Missing.Add(new(error.Message, "install it beside famfs"));
            return null;
        }
        using Process process = new() { StartInfo = new(program, ["--probe", .. devices]) { RedirectStandardOutput = true, RedirectStandardError = true } };
        try
        {
            process.Start();
        }
        catch (System.ComponentModel.Win32Exception error)
        {
            report.Missing.Add(new($"{program}: cannot be run: {error.Message}", "install it beside famfs"));
            return null;
        }
        Task<string> said = process.StandardError.ReadToEndAsync(cancel);
        string output = await process.StandardOutput.ReadToEndAsync(cancel).ConfigureAwait(false);
        await process.WaitForExitAsync(cancel).ConfigureAwait(false);
        try
        {
            JsonDocument document = JsonDocument.Parse(output);
            if (IsProbe(document.RootElement))
                return document;
            document.Dispose();
        }
        catch (JsonException)
        {
            // As an answer that is not understood, below.
        }
        report.Missing.Add(new($"{program} --probe ended with {process.ExitCode}: {(await said.ConfigureAwait(false)).Split('\n')[0]}", "is it of the same version as famfs?"));
        return null;
    }

    private static bool IsProbe(JsonElement root)
    {
        bool Has(string name, JsonValueKind kind) => root.TryGetProperty(name, out JsonElement value) && value.ValueKind == kind;
        return root.ValueKind == JsonValueKind.Object && (Has("error", JsonValueKind.String)
            || (Has("fuse_minor", JsonValueKind.Number) && root.GetProperty("fuse_minor").TryGetUInt32(out _) && Has("dialect", JsonValueKind.String)
                && Has("offered", JsonValueKind.String) && TryReadOffered(root.GetProperty("offered").GetString()!, out _)
                && Has("devices", JsonValueKind.Array) && root.GetProperty("devices").EnumerateArray().All(IsProbedDevice)));
    }

    private static bool IsProbedDevice(JsonElement device) => device.ValueKind == JsonValueKind.Object
        && device.TryGetProperty("path", out JsonElement path) && path.ValueKind == JsonValueKind.String
        && device.TryGetProperty("cause", out JsonElement cause) && cause.ValueKind == JsonValueKind.String;

    private static bool TryReadOffered(string text, out ulong offered)
    {
        offered = 0;
        return text.StartsWith("0x", StringComparison.Ordinal) && ulong.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out offered);
    }

    private static Dictionary<string, string> ReadProbe(JsonDocument? probe, Report report)
    {
        if (probe is null)
            return [];
        if (probe.RootElement.TryGetProperty("error", out JsonElement error))
        {
            report.Missing.Add(new($"the kernel cannot be asked: {error.GetString()}", "mounting needs /dev/fuse and CAP_SYS_ADMIN; a sandbox may forbid fsopen(2)"));
            return [];
        }
        report.FuseMinor = probe.RootElement.GetProperty("fuse_minor").GetUInt32();
        report.Offered = probe.RootElement.GetProperty("offered").GetString()!;
        report.Dialect = probe.RootElement.GetProperty("dialect").GetString()!;
        _ = TryReadOffered(report.Offered, out ulong offered);
        report.Flags.AddRange(s_flags.Where(f => (offered >> f.Bit & 1) != 0).Select(f => f.Name));
        if (report.FuseMinor < MinMinor)
            report.Missing.Add(new($"the kernel's FUSE interface is 7.{report.FuseMinor}", $"7.{MinMinor} (Linux 5.4) or later is needed"));
        else if (report.Dialect == StockName && report.FuseMinor < MinMinorForMap)
            report.Notes.Add(new($"the kernel's FUSE interface is 7.{report.FuseMinor}: mmap of a mounted file is ENODEV", $"7.{MinMinorForMap} (Linux 6.6) can; `FamfsFile.Map` works on any"));
        Dictionary<string, string> causes = [];
        foreach (JsonElement device in probe.RootElement.GetProperty("devices").EnumerateArray())
            causes[device.GetProperty("path").GetString()!] = device.GetProperty("cause").GetString()!;
        return causes;
    }

    private static ulong ReadCapabilities(string proc)
    {
        const string Field = "CapEff:";
        string line = ReadLines(Path.Combine(proc, "self/status")).FirstOrDefault(l => l.StartsWith(Field, StringComparison.Ordinal)) ?? "";
        return ulong.TryParse(line.AsSpan(Math.Min(line.Length, Field.Length)).Trim(), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong bits) ? bits : 0;
    }

    private static string[] ReadProcessorFlags(string proc) =>
        (ReadLines(Path.Combine(proc, "cpuinfo")).FirstOrDefault(l => l.StartsWith("flags", StringComparison.Ordinal)) ?? "").Split(' ');

    private static string ReadLine(string path) => ReadLines(path) is [string first, ..] ? first.Trim() : "";

    // A sandbox may hide any of these; what they would say is then not known.
    private static string[] ReadLines(string path)
    {
        try
        {
            return File.ReadAllLines(path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    private static void Print(CliContext context, Report report)
    {
        TextWriter o = context.Out;
        o.WriteLine($"kernel        {report.Kernel}");
        o.WriteLine(report.FuseMinor is { } minor ? $"FUSE          7.{minor}, offers {report.Offered} ({string.Join(", ", report.Flags)})" : "FUSE          could not be asked");
        if (report.Dialect.Length > 0)
            o.WriteLine($"dialect       {report.Dialect}{(report.Dialect == StockName ? "" : report.Dialect == PulledName ? " (the kernel has famfs; one of D, which takes devices by --push-ioctl, looks the same)" : " (the kernel has famfs)")}");
        o.WriteLine($"capabilities  {string.Join(", ", report.Capabilities.Select(c => $"{c.Key} {(c.Value ? "yes" : "no")}"))}");
        o.WriteLine($"dax drivers   {string.Join(", ", report.Drivers.Select(d => $"{d.Key} {(d.Value ? "yes" : "no")}"))}");
        o.WriteLine($"services      {report.Manager switch { DoctorServices.Kubernetes => "in a pod of Kubernetes", DoctorServices.Systemd => "systemd", _ => "no manager that is known" }}");
        o.WriteLine($"keeper        {(report.Kept is { } kept ? string.Create(CultureInfo.InvariantCulture, $"famfs-keeper, keeps {kept.Count} {(kept.Count == 1 ? "mount" : "mounts")}{(kept.Count == 0 ? "" : $": {string.Join(", ", kept.Select(k => k.Key))}")}") : "none of this user")}");
        o.WriteLine($"version       {VersionCommand.Own}");
        o.WriteLine($"write-back    {(report.Flush.Length == 0 ? "none" : report.Flush)}");
        if (report.Mount is not null)
            o.WriteLine($"mount         {report.Mount}, dialect {report.MountDialect}");
        foreach (DeviceReport device in report.Devices)
            o.WriteLine(string.Create(CultureInfo.InvariantCulture, $"device        {device.Path}: {QuantityText.FormatSize((ulong)device.LengthBytes)}, {device.Mode}{(device.Driver.Length == 0 ? "" : $" ({device.Driver})")}"));
        foreach (Complaint note in report.Notes)
            o.WriteLine($"note          {note.What}: {note.Fix}");
        foreach (Complaint missing in report.Missing)
            o.WriteLine($"MISSING       {missing.What}: {missing.Fix}");
        if (report.Missing.Count == 0)
            o.WriteLine("nothing is missing");
    }

    private static void PrintJson(CliContext context, Report report) => context.WriteJson(json =>
    {
        json.WriteStartObject();
        json.WriteString("kernel", report.Kernel);
        if (report.FuseMinor is { } minor)
        {
            json.WriteNumber("fuse_minor", minor);
            json.WriteString("offered", report.Offered);
            json.WriteString("dialect", report.Dialect);
        }
        WriteFlags("capabilities", report.Capabilities.ToDictionary(c => c.Key.ToLowerInvariant(), c => c.Value));
        WriteFlags("drivers", report.Drivers);
        json.WriteString("write_back", report.Flush);
        json.WriteString("services", report.Manager);
        if (report.Kept is { } kept)
        {
            json.WriteStartArray("kept");
            foreach (KeptFiles files in kept)
            {
                json.WriteStartObject();
                json.WriteString("mount_point", files.Key);
                json.WriteNumber("process_id", files.Holder);
                json.WriteEndObject();
            }
            json.WriteEndArray();
        }
        json.WriteString("version", VersionCommand.Own);
        if (report.Mount is not null)
        {
            json.WriteString("mount_point", report.Mount);
            json.WriteString("mount_dialect", report.MountDialect);
        }
        json.WriteStartArray("devices");
        foreach (DeviceReport device in report.Devices)
        {
            json.WriteStartObject();
            json.WriteString("path", device.Path);
            json.WriteNumber("length_bytes", device.LengthBytes);
            json.WriteString("driver", device.Driver);
            json.WriteString("mode", device.Mode);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        WriteComplaints("missing", report.Missing);
        WriteComplaints("notes", report.Notes);
        json.WriteEndObject();

        void WriteFlags(string name, Dictionary<string, bool> flags)
        {
            json.WriteStartObject(name);
            foreach ((string flag, bool set) in flags)
                json.WriteBoolean(flag, set);
            json.WriteEndObject();
        }

        void WriteComplaints(string name, List<Complaint> complaints)
        {
            json.WriteStartArray(name);
            foreach (Complaint complaint in complaints)
            {
                json.WriteStartObject();
                json.WriteString("what", complaint.What);
                json.WriteString("fix", complaint.Fix);
                json.WriteEndObject();
            }
            json.WriteEndArray();
        }
    });
}
