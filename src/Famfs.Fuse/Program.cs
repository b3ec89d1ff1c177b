using System.CommandLine;
using System.Globalization;
using Famfs.Client;
using Famfs.CommandLine;
using Famfs.Core;
using Famfs.Core.Log;
using Famfs.Fuse.Daemon;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Keeper;
using Famfs.Fuse.Operations;

// For `famfs doctor`, which starts this program because only this one speaks to the kernel.
if (args is [KernelProbe.Option, .. string[] probed])
    return KernelProbe.Run(probed, Console.Out);

// Before anything is done: a daemon that ends by a signal leaves a dead mount. One that a signal ends before this line has done
// nothing, and that is an orderly end, too.
TerminationSignals signals = TerminationSignals.Catch();

// It outlives its daemon, whatever is sent to both.
if (args is [GuardProgram.Option, .. string[] guarded])
    return GuardProgram.Run(guarded);

if (KeeperProgram.IsCalled(args, out string[] keeperArgs))
    return KeeperProgram.Run(keeperArgs, signals);

Argument<string> mountPoint = new("mountpoint") { Description = "an existing directory" };
Option<bool> replaceDead = new("--replace-dead") { Description = "take away a mount there first whose daemon is gone, if nobody uses it" };
Option<bool> makeMountPoint = new("--make-mountpoint") { Description = "make the mount point first if it is not there, with the directories above it" };
Option<string[]> devices = new("--device", "-d")
{
    Description = "a device of the file system on this host, or a pattern like '/dev/dax*' or a directory to look for its devices in, also later (repeat; one must be its first device)",
    Required = true,
};
Option<FileSystemName?> fileSystem = new("--file-system")
{
    Description = "label or uuid of the file system that is meant, where --device finds several",
    HelpName = "LABEL|UUID",
    CustomParser = result =>
    {
        try
        {
            return FileSystemName.Parse(result.Tokens[0].Value);
        }
        catch (FamfsException error)
        {
            result.AddError($"--file-system: {error.Message}");
            return null;
        }
    },
};
Option<string[]> masters = new("--master", "-m") { Description = "address of a master: http://HOST:PORT, https://HOST:PORT or unix:/PATH (repeat; default: the last one the log names, else the socket of a master of this host)" };
Option<string?> caFile = new("--ca-file") { Description = "PEM file of the authorities that an https master's certificate must come from (default: those of this host)" };
Option<string?> certificateFile = new("--certificate-file") { Description = "PEM file of the certificate to show to a master that asks for one" };
Option<string?> keyFile = new("--key-file") { Description = "PEM file of its private key" };
Option<string?> hostState = new("--host-state") { Description = "directory of this host's identity (default: $FAMFS_STATE_DIR or /var/lib/famfs)" };
Option<int> workers = new("--workers") { Description = "threads that serve the kernel (default: one per processor, at least 2)" };
Option<string[]> mountOptions = new("--option", "-o") { Description = MountOptionWords.Description };
Option<int?> entryTimeout = new("--entry-timeout-ms") { Description = "time that the kernel may cache names (default: without limit); for measurements" };
Option<int?> attributeTimeout = new("--attr-timeout-ms") { Description = "time that the kernel may cache attributes (default: without limit); for measurements" };

Option<string> keeper = new("--keeper")
{
    Description = "auto: a keeper of this host (famfs-keeper, or systemd's descriptor store) keeps the mount beyond the death of this process, where there is one; none: it dies with this process",
    DefaultValueFactory = _ => "auto",
    HelpName = "auto|none",
};
Option<string> onTerm = new("--on-term")
{
    Description = "unmount: a daemon that is told to end takes its mount away; leave: one that is kept is left to the next daemon, as by SIGUSR2",
    DefaultValueFactory = _ => "unmount",
    HelpName = "unmount|leave",
};
Option<string> dialect = new("--dialect")
{
    Description = "generation of the famfs kernel to speak: auto, A, B0, B, D, or stock to use none",
    DefaultValueFactory = _ => "auto",
    HelpName = "auto|A|B0|B|D|stock",
};
Option<string?> pushIoctl = new("--push-ioctl") { Description = "number of the ioctl by which a kernel of dialect D takes devices, decimal or 0x…; without it D is not tried" };

RootCommand root = new("Serves a famfs file system to this host's kernel.");
ProgramConfiguration configuration = new("famfsd", root,
[
    new(mountPoint), new(devices), new(fileSystem), new(masters), new(caFile), new(certificateFile), new(keyFile), new(hostState, HostIdentity.StateDirectoryVariable, IsOfHost: true),
    new(workers), new(mountOptions), new(entryTimeout), new(attributeTimeout), new(dialect), new(pushIoctl), new(keeper), new(onTerm),
]);
root.Add(mountPoint);
foreach (Option option in (Option[])[devices, fileSystem, masters, caFile, certificateFile, keyFile, hostState, workers, mountOptions, entryTimeout, attributeTimeout, dialect, pushIoctl, keeper, onTerm, replaceDead, makeMountPoint, configuration.InstanceOption, configuration.DirectoryOption])
    root.Add(option);
dialect.Validators.Add(result =>
{
    string name = result.GetValueOrDefault<string>();
    if (!name.Equals("auto", StringComparison.OrdinalIgnoreCase) && DialectTable.Find(name) is null)
        result.AddError($"--dialect {name}: must be auto, {string.Join(", ", DialectTable.All.Select(d => d.Name))}");
});
keeper.Validators.Add(result =>
{
    if (result.GetValueOrDefault<string>() is var said and not ("auto" or "none"))
        result.AddError($"--keeper {said}: must be auto or none");
});
onTerm.Validators.Add(result =>
{
    if (result.GetValueOrDefault<string>() is var said and not ("unmount" or "leave"))
        result.AddError($"--on-term {said}: must be unmount or leave");
});
pushIoctl.Validators.Add(result =>
{
    if (result.GetValueOrDefault<string?>() is { } text && !TryParseNumber(text, out _))
        result.AddError($"--push-ioctl {text}: must be a number of 32 bits");
});
foreach (Option<int?> timeout in (Option<int?>[])[entryTimeout, attributeTimeout])
{
    timeout.Validators.Add(result =>
    {
        if (result.Tokens.Any(t => !int.TryParse(t.Value, CultureInfo.InvariantCulture, out int ms) || ms < 0))
            result.AddError($"{timeout.Name}: must be 0 or more, at most {int.MaxValue}");
    });
}
workers.Validators.Add(result =>
{
    // Of a value that cannot be read, the parser would throw.
    if (result.Tokens.Any(t => !int.TryParse(t.Value, CultureInfo.InvariantCulture, out int count) || count is < 0 or > 256))
        result.AddError("--workers: must be 0 to 256");
});
masters.Validators.Add(result =>
{
    if (result.Tokens.Select(t => FamfsClientOptions.FindAddressFault(t.Value)).FirstOrDefault(fault => fault is not null) is { } wrong)
        result.AddError($"--master: {wrong}");
});
mountOptions.Validators.Add(result =>
{
    if (MountOptionWords.FindFault(result.GetValueOrDefault<string[]>()) is { } fault)
        result.AddError(fault);
});
root.SetAction((parsed, cancel) =>
{
    string[] words = [.. MountOptionWords.Split(parsed.GetValue(mountOptions))];
    CachePolicy cache = new(MountOptionWords.IsSet(words, "cache=close-to-open", "cache=direct") ? CacheMode.CloseToOpen : CacheMode.Direct);
    if (parsed.GetValue(entryTimeout) is { } entry)
        cache = cache with { EntryValidSeconds = (ulong)(entry / 1000), CacheListings = false };
    if (parsed.GetValue(attributeTimeout) is { } attributes)
        cache = cache with { AttributesValidSeconds = (ulong)(attributes / 1000), CacheListings = false };
    return Daemon.RunAsync(new()
    {
        Formats = KnownFormats.All,
        Devices = parsed.GetRequiredValue(devices),
        FileSystem = parsed.GetValue(fileSystem),
        MountPoint = MountEntry.PlaceOf(parsed.GetRequiredValue(mountPoint)),
        ReplaceDead = parsed.GetValue(replaceDead),
        MakeMountPoint = parsed.GetValue(makeMountPoint),
        Service = ServiceNotifier.OfProcess(),
        Masters = parsed.GetValue(masters) ?? [],
        CaFile = parsed.GetValue(caFile),
        CertificateFile = parsed.GetValue(certificateFile),
        KeyFile = parsed.GetValue(keyFile),
        HostState = parsed.GetValue(hostState),
        UseKeeper = parsed.GetValue(keeper) == "auto",
        LeaveAtEnd = parsed.GetValue(onTerm) == "leave",
        Leave = signals.Leave,
        Workers = parsed.GetValue(workers),
        Cache = cache,
        ForcedDialect = DialectTable.Find(parsed.GetValue(dialect)!),
        PushIoctl = parsed.GetValue(pushIoctl) is { } number && TryParseNumber(number, out uint ioctl) ? ioctl : null,
        ReadOnly = MountOptionWords.IsSet(words, "ro", "rw"),
        RefuseLocks = MountOptionWords.IsSet(words, "locks=refuse", "locks=local"),
        AllowOther = !MountOptionWords.IsSet(words, "no-allow-other", "allow-other"),
        NoTimes = MountOptionWords.IsSet(words, "notime"),
        NoExec = MountOptionWords.IsNoExec(words),
        Remark = MountOptionWords.FindRemark(words),
    }, cancel);
});

return await ServerProgram.RunAsync("famfsd", root, configuration, args, typeof(Daemon).Assembly, signals);

static bool TryParseNumber(string text, out uint number) => text.StartsWith("0x", StringComparison.OrdinalIgnoreCase)
    ? uint.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out number)
    : uint.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number);
