using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using Famfs.CommandLine;
using Famfs.Core;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Famfs2;
using Famfs.Master;
using Famfs.Master.Rpc;

// Before anything is done: what ends by a signal before this line has done nothing.
TerminationSignals signals = TerminationSignals.Catch();

MediaFormats formats = new([NativeFormat.Instance, Famfs2Format.Instance]);
MediaFormat withSystem = formats.WithSystemUuid!;
Option<string[]> devices = new("--device", "-d")
{
    Description = "a device of the file system on this host, or a pattern like '/dev/dax*' or a directory to look for its devices in, also later (repeat; one must be its first device)",
    Required = true,
    AllowMultipleArgumentsPerToken = true,
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
Option<string[]> allowDevice = new("--allow-device")
{
    Description = "a device, pattern or directory that callers may add devices from, beside those of --device (repeat)",
    AllowMultipleArgumentsPerToken = true,
};
Option<string[]> listen = new("--listen", "-l")
{
    Description = $"where to listen: http://IP:PORT, https://IP:PORT or unix:/PATH (repeat; default: a unix socket in ${MasterSocket.DirectoryVariable} or {MasterSocket.DefaultDirectory})",
};
Option<string?> certificateFile = new("--certificate-file") { Description = "PEM file of the certificate for https addresses, with its chain" };
Option<string?> keyFile = new("--key-file") { Description = "PEM file of its private key" };
Option<string?> clientCaFile = new("--client-ca-file") { Description = "PEM file of authorities: at https addresses only callers with a certificate from one of them are served" };
Option<string?> advertise = new("--advertise") { Description = "address that others reach this master at (default: the first --listen that is no unix socket)" };
Option<string?> hostState = new("--host-state") { Description = "directory of this host's identity (default: $FAMFS_STATE_DIR or /var/lib/famfs)" };
Option<string> systemUuid = new("--system-uuid-file") { Description = $"{withSystem.Name}: file with the uuid of this system, which alone may write", DefaultValueFactory = _ => withSystem.SystemUuidFile! };
Option<string> compaction = new("--compaction") { Description = "when the log is compacted: auto, or manual, by `famfs log compact` alone", HelpName = "auto|manual", DefaultValueFactory = _ => MasterOptions.AutomaticCompaction };
compaction.AcceptOnlyFromAmong(MasterOptions.AutomaticCompaction, MasterOptions.ManualCompaction);
Option<int?> zeroingRate = new("--zeroing-rate")
{
    Description = $"MiB a second that space of removed files is zeroed at, at most: 1 to {MasterOptions.MostZeroingRate} (default: as fast as the memory is)",
    HelpName = "MIB",
};
Option<string?> fenceCommand = new("--fence-command")
{
    Description = "program that cuts a host off from the memory: run when a host is silent while space of removed files waits for it; exit code 0 proves that its mounts are gone",
    HelpName = "PROGRAM",
};
Option<int> fenceAfter = new("--fence-after")
{
    Description = $"seconds that a host is silent before --fence-command is run: {FenceTimes.LeastAfter} to {FenceTimes.MostAfter}",
    HelpName = "SECONDS",
    DefaultValueFactory = _ => FenceTimes.After,
};
Option<int> fenceTimeout = new("--fence-timeout")
{
    Description = $"seconds after which a --fence-command is ended, and has failed: {FenceTimes.LeastTimeout} to {FenceTimes.MostTimeout}",
    HelpName = "SECONDS",
    DefaultValueFactory = _ => FenceTimes.Timeout,
};
Option<bool> takeOver = new("--take-over") { Description = $"replace a master that is running elsewhere; {withSystem.Name}: adopt the file system of another system" };
Option<string[]> acceptLoss = new("--accept-loss") { Description = "uuid of a mount that has replayed records which are lost: start without them, for good (repeat)", HelpName = "MOUNT" };

RootCommand root = new("The metadata master of a famfs file system: owns allocation and the log in its memory.");
// Not what is for one start only: --take-over and --accept-loss.
ProgramConfiguration configuration = new("famfs-master", root,
[
    new(devices), new(fileSystem), new(allowDevice), new(listen), new(certificateFile), new(keyFile), new(clientCaFile), new(advertise),
    new(hostState, HostIdentity.StateDirectoryVariable, IsOfHost: true), new(systemUuid), new(compaction),
    new(zeroingRate), new(fenceCommand), new(fenceAfter), new(fenceTimeout),
]);
foreach (Option option in (Option[])[devices, fileSystem, allowDevice, listen, certificateFile, keyFile, clientCaFile, advertise, hostState, systemUuid, compaction, zeroingRate, fenceCommand, fenceAfter, fenceTimeout, takeOver, acceptLoss, configuration.InstanceOption, configuration.DirectoryOption])
    root.Add(option);
listen.Validators.Add(result =>
{
    if (result.Tokens.Select(t => ListenAddresses.FindFault(t.Value)).FirstOrDefault(f => f is not null) is { } fault)
        result.AddError(fault);
});
fenceCommand.Validators.Add(result =>
{
    // Not looked for here: the configuration is checked on other hosts, too.
    if (result.Tokens.Select(t => t.Value).FirstOrDefault(v => !v.StartsWith('/') || v.Any(char.IsControl)) is { } path)
        result.AddError($"--fence-command {path}: must be the absolute path of a program, without arguments");
});
zeroingRate.Validators.Add(result => RequireNumber(result, 1, MasterOptions.MostZeroingRate, "MiB a second"));
fenceAfter.Validators.Add(result => RequireSeconds(result, FenceTimes.LeastAfter, FenceTimes.MostAfter));
fenceTimeout.Validators.Add(result => RequireSeconds(result, FenceTimes.LeastTimeout, FenceTimes.MostTimeout));
root.Validators.Add(result =>
{
    if (result.GetResult(fenceCommand) is null && ((Option[])[fenceAfter, fenceTimeout]).FirstOrDefault(o => result.GetResult(o) is { Implicit: false }) is { } alone)
        result.AddError($"{alone.Name}: needs --fence-command");
});
root.SetAction((parsed, cancel) => MasterProcess.RunAsync(new()
{
    Formats = formats,
    Devices = parsed.GetRequiredValue(devices),
    FileSystem = parsed.GetValue(fileSystem),
    AllowedDevices = parsed.GetValue(allowDevice) ?? [],
    Service = ServiceNotifier.OfProcess(),
    Listen = parsed.GetValue(listen) ?? [],
    CertificateFile = parsed.GetValue(certificateFile),
    KeyFile = parsed.GetValue(keyFile),
    ClientCaFile = parsed.GetValue(clientCaFile),
    Advertise = parsed.GetValue(advertise),
    HostState = parsed.GetValue(hostState),
    SystemUuidFile = parsed.GetRequiredValue(systemUuid),
    CompactsByItself = parsed.GetRequiredValue(compaction) == MasterOptions.AutomaticCompaction,
    ZeroingRate = parsed.GetValue(zeroingRate),
    FenceCommand = parsed.GetValue(fenceCommand),
    FenceAfter = TimeSpan.FromSeconds(parsed.GetValue(fenceAfter)),
    FenceTimeout = TimeSpan.FromSeconds(parsed.GetValue(fenceTimeout)),
    TakeOver = parsed.GetValue(takeOver),
    AcceptLoss = parsed.GetValue(acceptLoss) ?? [],
}, cancel));

return await ServerProgram.RunAsync("famfs-master", root, configuration, args, typeof(MasterOptions).Assembly, signals);

static void RequireSeconds(OptionResult result, int least, int most) => RequireNumber(result, least, most, "seconds");

static void RequireNumber(OptionResult result, int least, int most, string unit)
{
    // Of a value that cannot be read, the parser would throw.
    if (result.Tokens.FirstOrDefault(t => !int.TryParse(t.Value, NumberStyles.None, CultureInfo.InvariantCulture, out int number) || number < least || number > most) is { } wrong)
        result.AddError($"{result.Option.Name} {wrong.Value}: must be {least} to {most} {unit}");
}
