using System.CommandLine;
using Famfs.Master;

Option<string[]> devices = new("--device", "-d")
{
    Description = "a device of the file system on this host, or a pattern like '/dev/dax*' or a directory to look for its devices in, also later (repeat; one must be its first device)",
    Required = true,
    AllowMultipleArgumentsPerToken = true,
};
Option<string[]> listen = new("--listen", "-l")
{
    Description = "where to listen: http://HOST:PORT or unix:/PATH (repeat)",
    DefaultValueFactory = _ => ["http://127.0.0.1:7733"],
};
Option<string?> advertise = new("--advertise") { Description = "address that others reach this master at (default: the first --listen)" };
Option<string?> hostState = new("--host-state") { Description = "directory of this host's identity (default: $FAMFS_STATE_DIR or /var/lib/famfs)" };
Option<bool> takeOver = new("--take-over") { Description = "replace a master that is running elsewhere" };

RootCommand root = new("The metadata master of a famfs file system: owns allocation and the log in its memory.")
{
    devices, listen, advertise, hostState, takeOver,
};
root.SetAction((parsed, cancel) => MasterHost.RunAsync(new()
{
    Devices = parsed.GetRequiredValue(devices),
    Listen = parsed.GetRequiredValue(listen),
    Advertise = parsed.GetValue(advertise),
    HostState = parsed.GetValue(hostState),
    TakeOver = parsed.GetValue(takeOver),
}, cancel));
return await root.Parse(args).InvokeAsync();
