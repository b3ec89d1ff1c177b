using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using Famfs.CommandLine;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Famfs2;
using Famfs.Core.Format;
using Famfs.Core.Format.Famfs2;
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
        Argument<string[]> devices = new("DEVICE") { Description = "A dax device or a file; the first holds the log", Arity = ArgumentArity.OneOrMore };
        Option<bool> force = new("--force", "-f") { Description = "Overwrite what is on the devices" };
        Option<bool> zero = new("--zero") { Description = "Write zeros over all space that files will get" };
        Option<string?> label = new("--label") { Description = "A name, up to 63 bytes" };
        Option<int> maxHosts = new("--max-hosts") { Description = "Hosts that the host table has room for", DefaultValueFactory = _ => 512 };
        Option<string?> state = CliOptions.HostState();
        Option<bool> adopt = new("--adopt") { Description = "Take over a host id that was made on another machine, which is gone" };
        Option<bool> rebind = new("--rebind") { Description = "Devices that are bound to fsdev_dax: bind them to device_dax for as long as this takes" };
        Option<string> format = new("--format") { Description = "native, or famfs-2: that of the existing C tools", HelpName = "native|famfs-2", DefaultValueFactory = _ => "native" };
        CommandLineFault.RequireOneOf(format, "", "native", "famfs-2");
        Option<long?> logLength = CliOptions.Size("--loglen", "famfs-2: length of the log, a power of two, at least 8M; 8M when not said");
        Option<string> systemUuid = CliOptions.SystemUuidFile();
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
                FileSystemFormatter.RequireDistinct(opened);
                foreach (DaxDevice device in opened)
                {
                    LockAgainstOthers(device, held);
                    await RequireIdleAsync(device, context.Environment.Clock, cancel).ConfigureAwait(false);
                }
                if (parsed.GetValue(format) == "famfs-2")
                {
                    RequireNotGiven(parsed, "not in the famfs-2 format; the native format has it", label, maxHosts, adopt, state);
                    long logBytes = parsed.GetValue(logLength) ?? Famfs2Layout.MinLogBytes;
                    // One that is refused makes no identity.
                    Famfs2Formatter.RequireUsable(opened, logBytes, parsed.GetValue(force));
                    Famfs2Superblock superblock = Famfs2Formatter.Format(opened, new()
                    {
                        System = Famfs2SystemUuid.ReadOrMake(parsed.GetValue(systemUuid)!),
                        LogLengthBytes = logBytes,
                        Force = parsed.GetValue(force),
                        Zero = parsed.GetValue(zero),
                    });
                    Print(context, parsed, superblock, opened);
                    return (int)ExitCode.Ok;
                }
                RequireNotGiven(parsed, "is for --format famfs-2", logLength, systemUuid);
                FormatOptions options = new()
                {
                    Host = default,
                    Clock = context.Environment.Clock,
                    Label = text,
                    MaxHosts = parsed.GetValue(maxHosts),
                    RootUid = Core.Interop.ProcessOwner.Uid,
                    RootGid = Core.Interop.ProcessOwner.Gid,
                    Force = parsed.GetValue(force),
                    Zero = parsed.GetValue(zero),
                };
                FileSystemFormatter.RequireUsable(opened, options);
                HostIdentity host = HostIdentity.Load(directory, new(), parsed.GetValue(adopt));
                Superblock made = FileSystemFormatter.Format(opened, options with { Host = host.Host });
                Print(context, parsed, made, opened, host);
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
    private static void LockAgainstOthers(DaxDevice device, List<IDisposable> held)
    {
        bool first = DevicePool.ReadSuperblock(device, out Superblock? old, out _) == SuperblockVerdict.Native && old!.IsPrimary;
        for (int slot = 0; slot < (first ? Term.SlotCount : 1); slot++)
        {
            if (!device.TryLockByte(slot, out IDisposable? one))
                throw new FamfsException(ErrorReason.Exists, $"{device.Path}: a master of its file system, or another mkfs, is running on this host (lock {slot} is taken)") { Path = device.Path };
            held.Add(one);
        }
    }

    /// <summary>Whatever --force says, a file system that somebody uses is not overwritten: its master and its
    /// mounts would go on storing into the new one (SAFETY S13).</summary>
    private static async Task RequireIdleAsync(DaxDevice first, TimeProvider clock, CancellationToken cancel)
    {
        // famfs-2 shows no life but the lock of a master on this very host, which is the first of those taken before.
        if (DevicePool.ReadSuperblock(first, out Superblock? old, out _) != SuperblockVerdict.Native || !old!.IsPrimary)
            return;
        // The pool is not disposed: the device is the caller's.
        DevicePool pool = DevicePool.Open([first]);
        HostTable table = new(pool);
        Dictionary<int, ulong> before = Counters(table);
        if (await Mastership.DetectLiveMasterAsync(pool, -1, s_watch, clock, cancel).ConfigureAwait(false) is { } slot)
            throw new FamfsException(ErrorReason.Exists, $"{first.Path}: the master of slot {slot} of its file system is running") { Path = first.Path };
        foreach ((int entry, ulong counter) in Counters(table))
        {
            // The daemon of a line may stand still, but on this host it holds the line's lock.
            bool free = table.TryLock(entry, out IDisposable? held);
            held?.Dispose();
            if (!free || !before.TryGetValue(entry, out ulong then) || then != counter)
                throw new FamfsException(ErrorReason.Exists, $"{first.Path}: a mount of its file system is alive (host table entry {entry})") { Path = first.Path };
        }
    }

    private static Dictionary<int, ulong> Counters(HostTable table) =>
        table.ReadInUse().Where(e => e.Line is not null).ToDictionary(e => e.Index, e => e.Line!.Counter);

    private static void RequireNotGiven(ParseResult parsed, string why, params Option[] options)
    {
        foreach (Option option in options)
        {
            if (parsed.GetResult(option) is { Implicit: false })
                throw CliOptions.Usage($"{option.Name}: {why}");
        }
    }

    private static void Print(CliContext context, ParseResult parsed, Famfs2Superblock made, List<DaxDevice> devices)
    {
        if (!context.IsJson(parsed))
        {
            context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{made.FileSystem}: famfs-2, {devices.Count} device(s), {devices.Sum(d => d.LengthBytes / made.UnitBytes * made.UnitBytes)} bytes, log of {made.LogLengthBytes}"));
            return;
        }
        context.WriteJson(json =>
        {
            json.WriteStartObject();
            json.WriteString("file_system_uuid", made.FileSystem);
            json.WriteString("format", "famfs-2");
            json.WriteString("system_uuid", made.System);
            json.WriteNumber("log_length_bytes", made.LogLengthBytes);
            WriteDevices(json, devices);
            json.WriteEndObject();
        });
    }

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

    private static void Print(CliContext context, ParseResult parsed, Superblock made, List<DaxDevice> devices, HostIdentity host)
    {
        if (!context.IsJson(parsed))
        {
            context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{made.FileSystem}: {devices.Count} device(s), {devices.Sum(d => d.LengthBytes / MediaLayout.UnitBytes * MediaLayout.UnitBytes)} bytes"));
            return;
        }
        context.WriteJson(json =>
        {
            json.WriteStartObject();
            json.WriteString("file_system_uuid", made.FileSystem);
            json.WriteString("label", made.Label);
            json.WriteString("host_id", host.Host);
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
