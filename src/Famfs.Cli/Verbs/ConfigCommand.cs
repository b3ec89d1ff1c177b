using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Famfs.CommandLine;
using Famfs.Core;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs config</c>: what holds for the three programs when their command lines say nothing, and where each value comes
/// from. The other two are asked, because each knows its own keys and values. Exit code 2 when a file has a fault.</summary>
internal static class ConfigCommand
{
    // In the order in which they are shown.
    private static readonly string[] s_others = ["famfsd", "famfs-master"];

    public static Command Build(CliContext context)
    {
        Command command = new("config", "Show what configuration files and environment say, and where each value comes from");
        command.SetAction(async (parsed, cancel) =>
        {
            Configuration files = context.Configuration.ReadFiles(parsed, context.ProcessVariable);
            using MemoryStream own = new();
            using (Utf8JsonWriter json = new(own))
            {
                json.WriteStartArray();
                context.Configuration.WriteHeld(json, files, context.ProcessVariable);
                json.WriteEndArray();
            }
            List<JsonElement> held = [.. ReadArray(own.ToArray())];
            ExitCode code = ExitCode.Ok;
            string[] arguments = parsed.GetValue(context.Configuration.DirectoryOption) is { } said ? [ProgramConfiguration.ExplainWord, Path.GetFullPath(said)] : [ProgramConfiguration.ExplainWord];
            foreach (string program in s_others)
            {
                try
                {
                    held.AddRange(await AskAsync(context, program, arguments, cancel).ConfigureAwait(false));
                }
                catch (FamfsException error) when (error.Reason == ErrorReason.NotFound)
                {
                    context.Remark($"{error.Message}; what the files say of it is not checked");
                }
                catch (FamfsException error)
                {
                    context.Refuse(error);
                    code = ExitCodes.Of(error);
                }
            }
            if (context.IsJson(parsed))
                PrintJson(context, files, held);
            else
                Print(context, files, held);
            return (int)code;
        });
        return command;
    }

    private static async Task<IReadOnlyList<JsonElement>> AskAsync(CliContext context, string program, string[] arguments, CancellationToken cancel)
    {
        string path = context.Environment.RequireProgram(program);
        using Process process = new() { StartInfo = new(path, arguments) { RedirectStandardOutput = true, RedirectStandardError = true } };
        try
        {
            process.Start();
        }
        catch (System.ComponentModel.Win32Exception error)
        {
            throw new FamfsException(ErrorReason.NotFound, $"{path}: cannot be run: {error.Message}") { Path = path };
        }
        Task<string> said = process.StandardError.ReadToEndAsync(cancel);
        string output = await process.StandardOutput.ReadToEndAsync(cancel).ConfigureAwait(false);
        await process.WaitForExitAsync(cancel).ConfigureAwait(false);
        string line = (await said.ConfigureAwait(false)).Split('\n')[0];
        string own = program + ": ";
        if (process.ExitCode != 0)
            throw new FamfsException(ErrorReason.BadRequest, line.StartsWith(own, StringComparison.Ordinal) ? line[own.Length..] : $"{path} ended with {process.ExitCode}: {line}");
        try
        {
            return ReadArray(Encoding.UTF8.GetBytes(output));
        }
        catch (JsonException)
        {
            throw new FamfsException(ErrorReason.BadRequest, $"{path}: its answer is not understood; is it of the same version as famfs?");
        }
    }

    private static JsonElement[] ReadArray(byte[] json)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        return document.RootElement.ValueKind == JsonValueKind.Array ? [.. document.RootElement.EnumerateArray().Select(e => e.Clone())] : throw new JsonException();
    }

    private static void PrintJson(CliContext context, Configuration files, List<JsonElement> held) => context.WriteJson(json =>
    {
        json.WriteStartObject();
        json.WriteString("directory", files.Directory);
        json.WriteStartArray("files");
        foreach (string file in files.Files)
            json.WriteStringValue(file);
        json.WriteEndArray();
        json.WriteStartArray("settings");
        foreach (JsonElement value in held)
            value.WriteTo(json);
        json.WriteEndArray();
        json.WriteEndObject();
    });

    private static void Print(CliContext context, Configuration files, List<JsonElement> held)
    {
        if (files.Files.Count == 0)
            context.Remark($"{files.Directory}: has no configuration files (*.conf)");
        context.WriteTable(["PROGRAM", "KEY", "VALUE", "FROM"], held.Select(h => (IReadOnlyList<string>)
            [$"{Text(h, "program")} {Text(h, "instance")}".TrimEnd(), Text(h, "key"), Text(h, "value") is { Length: > 0 } value ? value : "-", SourceOf(h)]));
    }

    private static string SourceOf(JsonElement held) => Text(held, "from") switch
    {
        "file" => string.Create(CultureInfo.InvariantCulture, $"{Text(held, "file")}:{held.GetProperty("line").GetInt32()}"),
        "environment" => "$" + Text(held, "variable"),
        string other => other,
    };

    private static string Text(JsonElement held, string name) => held.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.String ? value.GetString()! : "";
}
