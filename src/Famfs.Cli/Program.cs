using Famfs.Cli;
using Famfs.CommandLine;

// Before anything else: this process does nothing but ask, and is left behind when it gets no answer.
if (args is [MountQuestions.Verb])
{
    using Stream input = Console.OpenStandardInput();
    using Stream output = Console.OpenStandardOutput();
    return MountAskers.Serve(input, output);
}

if (MountFamfs.IsCalled(MountFamfs.ReadOwnName()))
{
    TerminationSignals signals = TerminationSignals.Catch();
    int status = await MountFamfs.RunAsync(args, CliEnvironment.OfProcess(), signals.Token).ConfigureAwait(false);
    GC.KeepAlive(signals);
    return status;
}

// A verb that touches content: it does so here, and whoever started it watches the mount.
if (args is [ApartProcess.Verb, .. string[] verb])
    return (int)await FamfsCommand.RunAsync(verb, CliEnvironment.OfProcess() with { StartApart = null }, ApartProcess.WatchInput()).ConfigureAwait(false);

return (int)await FamfsCommand.RunAsync(args, CliEnvironment.OfProcess()).ConfigureAwait(false);
