using System.CommandLine;
using Famfs.Client;
using Famfs.CommandLine;
using Famfs.Core;

namespace Famfs.Cli;

/// <summary>What configuration files may say of <c>famfs</c>: what its environment variables say. An address of a master there means no
/// more than <c>$FAMFS_MASTER</c> does, while <c>--master</c> changes what paths mean.</summary>
internal sealed class CliConfiguration
{
    public const string Program = "famfs";

    private readonly IReadOnlyList<ConfigurableKey> _keys;
    private readonly ProgramConfiguration _configuration;

    public CliConfiguration()
    {
        Option<string?> master = new("--master");
        master.Validators.Add(result =>
        {
            if (result.Tokens.SelectMany(t => t.Value.Split(',', StringSplitOptions.TrimEntries)).Select(FamfsClientOptions.FindAddressFault).FirstOrDefault(f => f is not null) is { } fault)
                result.AddError($"--master: {fault}");
        });
        _keys =
        [
            new(master, GlobalOptions.MasterVariable),
            new(new Option<string?>("--ca-file"), ClientTls.CaFileVariable),
            new(new Option<string?>("--certificate-file"), ClientTls.CertificateFileVariable),
            new(new Option<string?>("--key-file"), ClientTls.KeyFileVariable),
            new(CliOptions.HostState(), HostIdentity.StateDirectoryVariable, IsOfHost: true),
        ];
        _configuration = new(Program, new Command(Program), _keys);
    }

    /// <summary>All that the files say, also of the other programs, as read for this run; empty before.</summary>
    public IReadOnlyList<Setting> Settings { get; private set; } = [];

    /// <summary>Names the directory of the files.</summary>
    public Option<string?> DirectoryOption => _configuration.DirectoryOption;

    /// <summary>What the files say, by environment variable. Throws <see cref="ConfigurationException"/>.</summary>
    public IReadOnlyDictionary<string, string> Read(string? directory, Func<string, string?> variable)
    {
        Configuration files = _configuration.Read(directory, variable);
        Settings = files.Settings;
        return _configuration.Find(files, "", variable)
            .Where(h => h.Setting is not null).ToDictionary(h => _keys.First(k => k.Name == h.Key).Variable!, h => h.Value!);
    }

    /// <summary>Reads the files and checks what is for <c>famfs</c>. Throws <see cref="ConfigurationException"/>.</summary>
    public Configuration ReadFiles(ParseResult parsed, Func<string, string?> variable) => _configuration.Read(parsed.GetValue(DirectoryOption), variable);

    /// <inheritdoc cref="ProgramConfiguration.WriteHeld"/>
    public void WriteHeld(System.Text.Json.Utf8JsonWriter json, Configuration configuration, Func<string, string?> variable) => _configuration.WriteHeld(json, configuration, variable);
}
