using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using Famfs.CommandLine;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs mkfs DEVICE…</c>: makes a file system. The first device becomes device 0.</summary>
internal static class MkfsCommand
{
    // Chosen: a master moves its counter several times a second, a mount its line at least once.
    private static readonly TimeSpan s_watch = TimeSpan.FromSeconds(2);

    public static Command Build(CliContext context)
    {
        MediaFormats formats = context.Environment.Formats;
        Argument<string[]> devices = new("DEVICE") { Description = "A dax device or a file; the first holds the log", Arity = ArgumentArity.OneOrMore };
        Option<bool> force = new("--force", "-f") { Description = "Overwrite what is on the devices" };
        Option<bool> zero = new("--zero") { Description = "Write zeros over all space that files will get" };
        Option<string?> label = new("--label") { Description = "A name, up to 63 bytes" };
        Option<int> maxHosts = new("--max-hosts") { Description = "Hosts that the host table has room for", DefaultValueFactory = _ => 512 };
        Option<string?> state = CliOptions.HostState();
        Option<bool> adopt = new("--adopt") { Description = "Take over a host id that was made on another machine, which is gone" };
        Option<bool> rebind = new("--rebind") { Description = "Devices that are bound to fsdev_dax: bind them to device_dax for as long as this takes" };
        string[] names = [.. formats.All.Select(f => f.Name)];
        Option<string> format = new("--format") { Description = $"{string.Join(", or ", names)}: that of the existing C tools", HelpName = string.Join('|', names), DefaultValueFactory = _ => formats.Default.Name };
        CommandLineFault.RequireOneOf(format, "", names);
        Option<long?> logLength = CliOptions.Size("--loglen", $"{NamesOf(formats, MkfsChoices.LogLength)}: length of the log, a power of two, at least 8M; 8M when not said");
        Option<string> systemUuid = CliOptions.SystemUuidFile(formats);
        (MkfsChoices Choice, Option Option)[] choices =
        [
            (MkfsChoices.Label, label), (MkfsChoices.MaxHosts, maxHosts), (MkfsChoices.Host, adopt), (MkfsChoices.Host, state),
            (MkfsChoices.LogLength, logLength), (MkfsChoices.SystemUuidFile, systemUuid),
        ];
        Command command = new("mkfs", "Make a file system") { devices, force, zero, label, maxHosts, state, adopt, format, logLength, systemUuid, rebind };
        command.SetAction(async (parsed, cancel) =>
        {
            string text = parsed.GetValue(label) ?? "";
            if (System.Text.Encoding.UTF8.GetByteCount(text) > 63)
                throw CliOptions.Usage($"--label: '{text}' has more than 63 bytes");
            string directory = HostIdentity.StateDirectoryOf(parsed.GetValue(state), context.Environment.Variable(HostIdentity.StateDirectoryVariable));
            using BorrowedDevices borrowed = new(context);
            List<DaxDevice> opened = [];
            List<IDisposable> held = [];
            try
            {
                foreach (string path in parsed.GetValue(devices)!)
                {
                    borrowed.RequireMappable(path, parsed.GetValue(rebind));
                    opened.Add(MappedDaxDevice.Open(path));
                }
                // One that is given twice would be in its own way.
                MediaFormat.RequireDistinct(opened);
                foreach (DaxDevice device in opened)
                {
                    LockAgainstOthers(device, formats, held);
                    // Whatever --force says, a file system that somebody uses is not overwritten: its master and its mounts
                    // would go on storing into the new one (SAFETY S13).
                    foreach (MediaFormat old in formats.All)
                        await old.RequireIdleAsync(device, s_watch, context.Environment.Clock, cancel).ConfigureAwait(false);
                }
                DeviceLock.TakeAll(opened, formats, HostLocks.OfTool(directory), 0, held);
                MediaFormat made = formats.All.First(f => f.Name == parsed.GetValue(format));
                foreach ((MkfsChoices choice, Option option) in choices)
                {
                    if (!made.MkfsChoices.HasFlag(choice) && parsed.GetResult(option) is { Implicit: false })
                        throw CliOptions.Usage($"{option.Name}: {(formats.Default.MkfsChoices.HasFlag(choice) ? $"not in the {made.Name} format; the {formats.Default.Name} format has it" : $"is for --format {NamesOf(formats, choice)}")}");
                }
                MkfsResult result = made.Make(opened, new()
                {
                    Host = () => HostIdentity.Load(directory, new(), parsed.GetValue(adopt)).Host,
                    Clock = context.Environment.Clock,
                    Label = text,
                    MaxHosts = parsed.GetValue(maxHosts),
                    RootUid = Core.Interop.ProcessOwner.Uid,
                    RootGid = Core.Interop.ProcessOwner.Gid,
                    LogLengthBytes = parsed.GetValue(logLength),
                    SystemUuidFile = parsed.GetValue(systemUuid)!,
                    Force = parsed.GetValue(force),
                    Zero = parsed.GetValue(zero),
                });
                foreach (string warning in result.Warnings)
                    context.Remark($"warning: {warning}");
                Print(context, parsed, result, made == formats.Default ? "" : $"{made.Name}, ", opened);
                return (int)ExitCode.Ok;
            }
            finally
            {
                foreach (IDisposable one in held)
                    one.Dispose();
                foreach (DaxDevice device in opened)
                    device.Dispose();
            }
        });
        return command;
    }

    /// <summary>Takes the first lock of each device, so that of two mkfs at the same time one gives up, and of a first
    /// device the locks of all master slots: a master of this host holds its own also while it is stopped, and
    /// its counter with it.</summary>
    private static void LockAgainstOthers(DaxDevice device, MediaFormats formats, List<IDisposable> held)
    {
        int count = Math.Max(1, formats.All.Max(f => f.CountMasterLocks(device)));
        for (int slot = 0; slot < count; slot++)
        {
            if (!device.TryLockByte(slot, out IDisposable? one))
                throw new FamfsException(ErrorReason.Exists, $"{device.Path}: a master of its file system, or another mkfs, is running on this host (lock {slot} is taken)") { Path = device.Path };
            held.Add(one);
        }
    }

    private static string NamesOf(MediaFormats formats, MkfsChoices choice) =>
        string.Join(", ", formats.All.Where(f => f.MkfsChoices.HasFlag(choice)).Select(f => f.Name));

    private static void WriteDevices(System.Text.Json.Utf8JsonWriter json, List<DaxDevice> devices)
    {
        json.WriteStartArray("devices");
        for (int i = 0; i < devices.Count; i++)
        {
            json.WriteStartObject();
            json.WriteNumber("index", i);
            json.WriteString("path", devices[i].Path);
            json.WriteNumber("length_bytes", devices[i].LengthBytes);
            json.WriteBoolean("coherent", devices[i].Coherent);
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    private static void Print(CliContext context, ParseResult parsed, MkfsResult made, string format, List<DaxDevice> devices)
    {
        if (!context.IsJson(parsed))
        {
            string remark = made.Remark.Length > 0 ? ", " + made.Remark : "";
            context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{made.FileSystem}: {format}{devices.Count} device(s), {devices.Sum(d => d.LengthBytes / made.UnitBytes * made.UnitBytes)} bytes{remark}"));
            return;
        }
        context.WriteJson(json =>
        {
            json.WriteStartObject();
            json.WriteString("file_system_uuid", made.FileSystem);
            foreach ((string name, object value) in made.Facts)
            {
                if (value is long number)
                    json.WriteNumber(name, number);
                else
                    json.WriteString(name, value.ToString());
            }
            WriteDevices(json, devices);
            json.WriteEndObject();
        });
    }

    /// <summary>Devices bound to the driver that lets them be mapped, for a while.</summary>
    private sealed class BorrowedDevices(CliContext context) : IDisposable
    {
        private readonly List<string> _names = [];

        public void RequireMappable(string path, bool rebind)
        {
            DaxBinding binding = context.Environment.DaxBinding;
            if (binding.FindName(path) is not { } name || binding.ReadDriver(name) != DaxBinding.FsDev)
                return;
            if (!rebind)
                throw new FamfsException(ErrorReason.DeviceMissing, $"{path}: is bound to {DaxBinding.FsDev} and cannot be mapped; --rebind binds it to {DaxBinding.DevDax} for as long as mkfs takes (or see `famfs dax-mode`)") { Path = path };
            DaxModeCommand.RequireFree(context, path, name);
            binding.Bind(name, DaxBinding.DevDax);
            _names.Add(name);
        }

        public void Dispose()
        {
            List<string> failures = [];
            foreach (string name in _names)
            {
                try
                {
                    context.Environment.DaxBinding.Bind(name, DaxBinding.FsDev);
                }
                catch (FamfsException error)
                {
                    failures.Add(error.Message);
                }
            }
            if (failures.Count > 0)
                throw new FamfsException(ErrorReason.DeviceMissing, string.Join("; ", failures));
        }
    }
}
