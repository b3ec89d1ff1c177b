using System.CommandLine;
using System.Globalization;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs verify PATH --seed N</c>: reads a file through the mount and compares it with what
/// <c>creat --randomize --seed N</c> wrote.</summary>
internal static class VerifyCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string[]> paths = new("PATH") { Description = "Files on a mount", Arity = ArgumentArity.OneOrMore };
        Option<ulong> seed = new("--seed") { Description = "Seed of the content", DefaultValueFactory = _ => 0 };
        Command command = new("verify", "Compare files with the content of a seed") { paths, seed };
        command.SetAction((parsed, cancel) => context.RunApartAsync(parsed, parsed.GetValue(paths)!, () => Task.FromResult(Verify(parsed, cancel)), cancel));
        return command;

        int Verify(ParseResult parsed, CancellationToken cancel)
        {
            List<(string Path, long Size)> checkedFiles = [];
            foreach (string path in parsed.GetValue(paths)!)
                checkedFiles.Add((path, PatternContent.Verify(path, parsed.GetValue(seed), cancel)));
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteNumber("seed", parsed.GetValue(seed));
                    json.WriteStartArray("files");
                    foreach ((string path, long size) in checkedFiles)
                    {
                        json.WriteStartObject();
                        json.WriteString("path", path);
                        json.WriteNumber("size_bytes", size);
                        json.WriteEndObject();
                    }
                    json.WriteEndArray();
                    json.WriteEndObject();
                });
            }
            else
            {
                foreach ((string path, long size) in checkedFiles)
                    context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{path}: {size} bytes as seed {parsed.GetValue(seed)} gives them"));
            }
            return (int)ExitCode.Ok;
        }
    }
}
