namespace Famfs.Benchmarks.Systems;

/// <summary>A folder with the published programs.</summary>
internal sealed class FamfsInstallation(string folder)
{
    public string Master => Require("famfs-master");

    public string Daemon => Require("famfsd");

    /// <summary>The command line tool.</summary>
    public string Tool => Require("famfs", "Famfs.Client");

    private string Require(params string[] names) =>
        names.Select(name => Path.Combine(folder, name)).FirstOrDefault(File.Exists)
            ?? throw new NotAvailableException($"{names[0]} is not in {folder}");
}
