using Famfs.Cli;

return (int)await FamfsCommand.RunAsync(args, CliEnvironment.OfProcess()).ConfigureAwait(false);
