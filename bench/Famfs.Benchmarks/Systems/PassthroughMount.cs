using System.Globalization;

namespace Famfs.Benchmarks.Systems;

/// <summary>libfuse 3's example passthrough_ll over a directory in /dev/shm: what a C server costs.</summary>
internal sealed class PassthroughMount(Scratch scratch, string program) : IMountUnderTest
{
    private ChildProcess? _server;
    private string? _mountPoint;

    public string Name => "passthrough_ll";

    public async Task<string> StartAsync(MountContent content, CancellationToken cancellation)
    {
        if (!File.Exists(program))
            throw new NotAvailableException($"{program} is not built (libfuse3-dev missing?)");
        string source = scratch.MakeDirectory("passthrough-source");
        string tree = Directory.CreateDirectory(Path.Combine(source, MountContent.Tree)).FullName;
        for (int i = 0; i < content.TreeFiles; i++)
            File.WriteAllBytes(Path.Combine(tree, MountContent.FileName(i)), []);
        await WriteDataAsync(Path.Combine(source, MountContent.Data), content.DataBytes, cancellation);

        string mountPoint = scratch.MakeDirectory("passthrough");
        _mountPoint = mountPoint;
        _server = ChildProcess.Start(scratch, program, ["-f", "-o", string.Create(CultureInfo.InvariantCulture, $"source={source},cache=never,timeout=0"), mountPoint]);
        await _server.WaitUntilAsync(() => Task.FromResult(MountTable.IsMounted(mountPoint)), "it mounted", cancellation);
        return mountPoint;
    }

    /// <summary>Every page is written: a hole would be read faster than memory.</summary>
    internal static async Task WriteDataAsync(string path, long bytes, CancellationToken cancellation)
    {
        byte[] block = new byte[1 << 20];
        new Random(1).NextBytes(block);
        await using FileStream file = new(path, FileMode.OpenOrCreate, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0);
        for (long written = 0; written < bytes; written += block.Length)
            await file.WriteAsync(block.AsMemory(0, (int)Math.Min(block.Length, bytes - written)), cancellation);
    }

    public async ValueTask DisposeAsync()
    {
        if (_mountPoint is not null)
            await Scratch.UnmountAsync(_mountPoint);
        if (_server is not null)
            await _server.DisposeAsync();
    }
}
