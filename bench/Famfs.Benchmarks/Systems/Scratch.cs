using System.Globalization;

namespace Famfs.Benchmarks.Systems;

/// <summary>
/// The run's own directory in /dev/shm: device files, trees, mount points, server data, and the list of the
/// processes it started. Removed at the end; what a killed run left behind is removed by the next one.
/// </summary>
internal sealed class Scratch : IAsyncDisposable
{
    private const string Parent = "/dev/shm";
    private const string Prefix = "famfs-bench.";
    private const string ProcessList = "processes";

    private readonly Lock _listLock = new();
    private int _next;

    private Scratch(string path) => Root = path;

    public string Root { get; }

    /// <summary>Makes the directory, after removing those of runs that are gone.</summary>
    public static async Task<Scratch> CreateAsync()
    {
        foreach (string old in Directory.GetDirectories(Parent, Prefix + "*"))
        {
            if (!IsAlive(Path.GetFileName(old)[Prefix.Length..]))
            {
                Console.Error.WriteLine($"famfs-bench: removing what a killed run left: {old}");
                await RemoveAsync(old);
            }
        }
        // The name says which process owns it, start time included: numbers of processes are reused.
        Scratch scratch = new(Path.Combine(Parent, Prefix + Identity(Environment.ProcessId)));
        Directory.CreateDirectory(scratch.Root);
        return scratch;
    }

    /// <summary>A new empty directory of the run.</summary>
    public string MakeDirectory(string name) =>
        Directory.CreateDirectory(Path.Combine(Root, $"{Interlocked.Increment(ref _next)}-{name}")).FullName;

    public void RecordProcess(int id)
    {
        lock (_listLock)
            File.AppendAllText(Path.Combine(Root, ProcessList), Identity(id) + "\n");
    }

    /// <summary>Unmounts, lazily when the mount is busy; does nothing when nothing is mounted there.</summary>
    public static async Task UnmountAsync(string mountPoint)
    {
        if (!MountTable.IsMounted(mountPoint))
            return;
        try
        {
            await ChildProcess.ReadAllAsync("/bin/umount", [mountPoint], CancellationToken.None);
        }
        catch (InvalidOperationException error) when (MountTable.IsMounted(mountPoint))
        {
            Console.Error.WriteLine($"famfs-bench: {error.Message}; unmounting lazily");
            await ChildProcess.ReadAllAsync("/bin/umount", ["-l", mountPoint], CancellationToken.None);
        }
    }

    public async ValueTask DisposeAsync() => await RemoveAsync(Root);

    private static async Task RemoveAsync(string root)
    {
        string list = Path.Combine(root, ProcessList);
        // Processes first: a server that lives would hold its mount; then mounts, before anything below is deleted.
        foreach (string identity in File.Exists(list) ? File.ReadAllLines(list) : [])
        {
            if (IsAlive(identity))
                await ChildProcess.ReadAllAsync("/bin/kill", ["-KILL", identity.Split('-')[0]], CancellationToken.None);
        }
        foreach (string mountPoint in MountTable.MountsBelow(root))
            await UnmountAsync(mountPoint);
        if (MountTable.MountsBelow(root).Any())
            throw new IOException($"{root}: something is still mounted below; not removed");
        Directory.Delete(root, recursive: true);
    }

    private static string Identity(int id) => string.Create(CultureInfo.InvariantCulture, $"{id}-{StartTime(id)}");

    private static bool IsAlive(string identity)
    {
        string[] parts = identity.Split('-');
        return parts.Length == 2
            && int.TryParse(parts[0], CultureInfo.InvariantCulture, out int id)
            && parts[1] != "0"
            && StartTime(id) == parts[1];
    }

    // Field 22 of /proc/<pid>/stat, counted behind the name, which may hold blanks and brackets.
    private static string StartTime(int id)
    {
        try
        {
            string stat = File.ReadAllText($"/proc/{id}/stat");
            return stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[19];
        }
        catch (IOException)
        {
            return "0";
        }
    }
}
