using System.Diagnostics;
using Famfs.Core.Dax;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Session;
using Xunit;

namespace Famfs.Fuse.Tests.Session;

/// <summary>Memory in /dev/shm that several test file systems map; removed in the end.</summary>
internal sealed class SharedMemory : IDisposable
{
    public SharedMemory(long bytes)
    {
        Path = $"/dev/shm/famfs-fuse-test-{Environment.ProcessId}-{Guid.NewGuid():N}";
        using FileStream file = File.Create(Path);
        file.SetLength(bytes);
    }

    public string Path { get; }

    public MappedDaxDevice Open() => MappedDaxDevice.Open(Path);

    /// <summary>What is in the memory, by way of the file.</summary>
    public byte[] Read(long offset, int length)
    {
        byte[] bytes = new byte[length];
        using FileStream file = File.OpenRead(Path);
        file.Position = offset;
        file.ReadExactly(bytes);
        return bytes;
    }

    public void Write(long offset, byte[] bytes)
    {
        using FileStream file = File.OpenWrite(Path);
        file.Position = offset;
        file.Write(bytes);
    }

    public void Truncate(long bytes)
    {
        using FileStream file = File.OpenWrite(Path);
        file.SetLength(bytes);
    }

    public void Dispose() => File.Delete(Path);
}

/// <summary>A test file system, really mounted on a directory of its own.</summary>
internal sealed class RealMount : IDisposable
{
    private RealMount(string path, FuseMount mount)
    {
        Path = path;
        Mount = mount;
    }

    public string Path { get; }

    public FuseMount Mount { get; }

    /// <summary>Mounts, or skips the test where that is not possible.</summary>
    public static RealMount Start(TestFileSystem system, CachePolicy? cache = null, int workers = 0, Func<FuseMountOptions, FuseMountOptions>? adjust = null)
    {
        RequirePossible();
        string path = Directory.CreateTempSubdirectory("famfs-fuse-test-").FullName;
        try
        {
            var options = new FuseMountOptions(path) { Cache = cache ?? new CachePolicy(), WorkerCount = workers, Source = "famfs-test" };
            return new RealMount(path, FuseMount.Start(adjust?.Invoke(options) ?? options, system.Dependencies));
        }
        catch
        {
            Directory.Delete(path);
            throw;
        }
    }

    public static void RequirePossible()
    {
        Assert.SkipUnless(File.Exists("/dev/fuse"), "no /dev/fuse here");
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting needs root (or: unshare -Urm dotnet test …)");
    }

    /// <summary>Runs a shell script in the mounted directory, in a process of its own.</summary>
    public ShellResult Shell(string script) => ShellResult.Run(Path, script);

    /// <summary>Runs a script that must succeed, and gives what it printed.</summary>
    public string Require(string script)
    {
        ShellResult result = Shell(script);
        Assert.True(result.ExitCode == 0, $"exit {result.ExitCode}: {result.Error}{result.Output}");
        return result.Output;
    }

    public void Dispose()
    {
        Mount.Dispose();
        Directory.Delete(Path);
    }
}

internal sealed record ShellResult(int ExitCode, string Output, string Error)
{
    public static ShellResult Run(string directory, string script)
    {
        var start = new ProcessStartInfo("/bin/bash") { WorkingDirectory = "/", RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["LC_ALL"] = "C";
        start.ArgumentList.Add("-c");
        start.ArgumentList.Add($"cd '{directory}' || exit 99\n{script}");
        using Process process = Process.Start(start)!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        Assert.True(process.WaitForExit(TimeSpan.FromMinutes(2)), "the script hangs");
        return new ShellResult(process.ExitCode, output.TrimEnd('\n'), error.Result);
    }
}
