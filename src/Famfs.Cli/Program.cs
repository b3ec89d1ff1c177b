using Famfs.Cli;

// Before anything else: this process does nothing but ask, and is left behind when it gets no answer.
if (args is [MountQuestions.Verb, .. string[] question])
{
    using Stream output = Console.OpenStandardOutput();
    return MountQuestions.Run(question, output);
}

return (int)await FamfsCommand.RunAsync(args, CliEnvironment.OfProcess()).ConfigureAwait(false);
