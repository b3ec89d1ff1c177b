using System.Diagnostics;
using System.Globalization;
using Famfs.Fuse.Session;
using Xunit;

namespace Famfs.Fuse.Tests.Session;

/// <summary>Famfs.Fuse.TestServer in a process of its own, on a directory of its own.</summary>
internal sealed class ServerProcess : IDisposable
{
    private readonly Process _process;

    public ServerProcess(SharedMemory memory, int files, long fileBytes, string cache, string[]? prefix = null)
    {
        RealMount.RequirePossible();
        Path = Directory.CreateTempSubdirectory("famfs-fuse-test-").FullName;
        string[] command =
        [
            .. prefix ?? [], Environment.ProcessPath is { } host && System.IO.Path.GetFileNameWithoutExtension(host) == "dotnet" ? host : "dotnet",
            System.IO.Path.Combine(AppContext.BaseDirectory, "Famfs.Fuse.TestServer.dll"), Path, memory.Path,
            files.ToString(CultureInfo.InvariantCulture), fileBytes.ToString(CultureInfo.InvariantCulture), "2", cache,
        ];
        var start = new ProcessStartInfo(command[0]) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (string argument in command[1..])
            start.ArgumentList.Add(argument);
        _process = Process.Start(start)!;
        string? line = _process.StandardOutput.ReadLine();
        if (line == "ready")
            return;
        string error = _process.StandardError.ReadToEnd();
        Dispose();
        Assert.Fail($"the server did not start: {line} {error}");
    }

    public string Path { get; }

    public int Id => _process.Id;

    public (long Requests, long AllocatedBytes) Statistics()
    {
        _process.StandardInput.WriteLine("stats");
        string[] words = _process.StandardOutput.ReadLine()!.Split(' ');
        return (long.Parse(words[0], CultureInfo.InvariantCulture), long.Parse(words[1], CultureInfo.InvariantCulture));
    }

    public void Kill()
    {
        _process.Kill();
        _process.WaitForExit();
    }

    public void Quit()
    {
        _process.StandardInput.Close();
        Assert.True(_process.WaitForExit(TimeSpan.FromSeconds(60)), "the server does not end");
        Assert.Equal(0, _process.ExitCode);
    }

    public void Dispose()
    {
        if (!_process.HasExited)
            Kill();
        _process.Dispose();
        _ = MountPoint.Detach(Path); // false: it has unmounted itself
        Directory.Delete(Path);
    }
}
