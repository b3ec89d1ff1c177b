namespace Famfs.Benchmarks.Systems;

/// <summary>What a mount shows: <c>tree/</c> with <paramref name="TreeFiles"/> files whose names have 24
/// bytes, and <c>data</c> with <paramref name="DataBytes"/> bytes.</summary>
internal sealed record MountContent(int TreeFiles, long DataBytes)
{
    public const string Tree = "tree";
    public const string Data = "data";

    public static string FileName(long number) => $"file-{number:D19}";
}

/// <summary>A mounted file system that the load program can be pointed at. Kernel caching of names and
/// attributes is off (timeouts 0) and files are opened for direct I/O, so that every operation reaches the
/// server.</summary>
internal interface IMountUnderTest : IAsyncDisposable
{
    string Name { get; }

    /// <summary>Mounts and returns the mount point. Throws NotAvailableException when a piece is missing.</summary>
    Task<string> StartAsync(MountContent content, CancellationToken cancellation);
}
