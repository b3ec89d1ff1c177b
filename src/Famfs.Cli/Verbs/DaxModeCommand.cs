using System.Collections.Frozen;
using System.CommandLine;
using System.Globalization;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs dax-mode DEVICE…</c> shows which driver devices are bound to; <c>famfs dax-mode devdax|famfs
/// DEVICE…</c> binds them: <c>devdax</c> for programs that map them (device_dax), <c>famfs</c> for the kernel's
/// famfs (fsdev_dax).</summary>
internal static class DaxModeCommand
{
    private static readonly FrozenDictionary<string, string> s_modes = new Dictionary<string, string> { ["devdax"] = DaxBinding.DevDax, ["famfs"] = DaxBinding.FsDev }.ToFrozenDictionary();

    public static Command Build(CliContext context)
    {
        Argument<string[]> words = new("[devdax|famfs] DEVICE…") { Description = "The mode to bind to, to show it when not said; then the devices (/dev/daxX.Y)", Arity = ArgumentArity.OneOrMore };
        Command command = new("dax-mode", "Show or change what dax devices are for: programs that map them, or the kernel's famfs") { words };
        command.SetAction(parsed =>
        {
            string[] given = parsed.GetValue(words)!;
            string? driver = s_modes.GetValueOrDefault(given[0]);
            string[] devices = driver is null ? given : given[1..];
            if (devices.Length == 0)
                throw CliOptions.Usage("dax-mode: name a device");
            DaxBinding binding = context.Environment.DaxBinding;
            List<(string Path, string Name)> named = [.. devices.Select(d => (d, binding.RequireName(d)))];
            if (driver is not null)
            {
                foreach ((string path, string name) in named)
                    RequireFree(context, path, name);
                BindAll(binding, [.. named.Select(n => n.Name)], driver);
            }
            Print(context, parsed, binding, named);
            return (int)ExitCode.Ok;
        });
        return command;
    }

    /// <summary>Binds all or none: a pool whose devices are bound to two drivers cannot be used in either mode.</summary>
    private static void BindAll(DaxBinding binding, List<string> names, string driver)
    {
        List<(string Name, string Before)> done = [];
        foreach (string name in names)
        {
            string before = binding.ReadDriver(name);
            try
            {
                binding.Bind(name, driver);
                done.Add((name, before));
            }
            catch (FamfsException error)
            {
                List<string> states = [error.Message];
                foreach ((string changed, string was) in done.Where(d => d.Before.Length > 0 && d.Before != driver))
                {
                    try
                    {
                        binding.Bind(changed, was);
                        states.Add($"{changed}: is bound to {was} again");
                    }
                    catch (FamfsException worse)
                    {
                        states.Add(worse.Message);
                    }
                }
                throw new FamfsException(error.Reason, string.Join("; ", states), error) { Path = error.Path };
            }
        }
    }

    /// <summary>The word for a driver.</summary>
    public static string ModeOf(string driver) => s_modes.FirstOrDefault(m => m.Value == driver).Key ?? (driver.Length == 0 ? "none" : driver);

    /// <summary>Throws when somebody uses the device: unbinding would take it from under him.</summary>
    public static void RequireFree(CliContext context, string path, string name)
    {
        string node = "/dev/" + name;
        IReadOnlyList<string> users = DaxBinding.FindUsers(node, context.Environment.ProcPath);
        if (users.Count > 0)
            throw new FamfsException(ErrorReason.Unspecified, $"{path}: in use by {string.Join(", ", users)}; end it first") { Path = path };
        foreach (FamfsMount mount in context.AskMountsAsync(CancellationToken.None).GetAwaiter().GetResult())
        {
            try
            {
                // By whatever path the mount was given it.
                if (mount.ReadDevices().Values.Any(d => d.Path == node || context.Environment.DaxBinding.FindName(d.Path) == name))
                    throw new FamfsException(ErrorReason.Unspecified, $"{path}: in use by the famfs mount at {mount.MountPoint}; `famfs umount` it first") { Path = path };
            }
            catch (FamfsException error) when (error.Reason is ErrorReason.HostGone or ErrorReason.Timeout)
            {
                // Its kernel side may hold any device.
                throw new FamfsException(ErrorReason.Unspecified, $"{path}: may be in use by the famfs mount at {mount.MountPoint}, {(error.Reason == ErrorReason.HostGone ? "whose daemon is gone" : "which does not answer")}; `famfs umount` it first", error) { Path = path };
            }
        }
    }

    private static void Print(CliContext context, ParseResult parsed, DaxBinding binding, List<(string Path, string Name)> devices)
    {
        if (context.IsJson(parsed))
        {
            context.WriteJson(json =>
            {
                json.WriteStartArray();
                foreach ((string path, string name) in devices)
                {
                    json.WriteStartObject();
                    json.WriteString("path", path);
                    json.WriteString("name", name);
                    json.WriteString("mode", ModeOf(binding.ReadDriver(name)));
                    json.WriteString("driver", binding.ReadDriver(name));
                    json.WriteNumber("length_bytes", binding.ReadLengthBytes(name));
                    json.WriteEndObject();
                }
                json.WriteEndArray();
            });
            return;
        }
        foreach ((string path, string name) in devices)
            context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{path}: {ModeOf(binding.ReadDriver(name))} ({(binding.ReadDriver(name) is { Length: > 0 } driver ? driver : "no driver")}), {binding.ReadLengthBytes(name)} bytes"));
    }
}
