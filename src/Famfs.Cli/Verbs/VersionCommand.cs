using System.CommandLine;
using System.Reflection;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs version</c>: the same as <c>famfs --version</c>, and with --json as JSON.</summary>
internal static class VersionCommand
{
    public const string Name = "version";

    /// <summary>The version of this program.</summary>
    public static string Own { get; } = typeof(VersionCommand).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "";

    public static Command Build(CliContext context)
    {
        Command command = new(Name, "Print the version");
        command.SetAction(parsed =>
        {
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteString("version", Own);
                    json.WriteEndObject();
                });
            }
            else
                context.Out.WriteLine(Own);
            return (int)ExitCode.Ok;
        });
        return command;
    }
}
