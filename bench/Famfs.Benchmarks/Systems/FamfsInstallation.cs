namespace Famfs.Benchmarks.Systems;

/// <summary>A folder with the published programs.</summary>
internal sealed class FamfsInstallation(string folder)
{
    public string Master => Require("famfs-master");

    public string Daemon => Require("famfsd");

    /// <summary>The command line tool.</summary>
    public string Tool => Require("famfs");

    private string Require(string name)
    {
        string path = Path.Combine(folder, name);
        return File.Exists(path) ? path : throw new NotAvailableException($"{name} is not in {folder}");
    }
}
