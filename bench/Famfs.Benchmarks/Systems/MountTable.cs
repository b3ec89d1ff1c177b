namespace Famfs.Benchmarks.Systems;

/// <summary>What is mounted, from /proc/self/mountinfo.</summary>
internal static class MountTable
{
    public static bool IsMounted(string mountPoint) => MountPoints().Contains(mountPoint);

    /// <summary>Mount points below a directory, the deepest first.</summary>
    public static IReadOnlyList<string> MountsBelow(string directory) =>
        [.. MountPoints().Where(m => m.StartsWith(directory + "/", StringComparison.Ordinal)).OrderByDescending(m => m.Length)];

    // The benchmark's own paths have no blanks, so the octal escapes of mountinfo do not matter here.
    private static IEnumerable<string> MountPoints() => File.ReadLines("/proc/self/mountinfo").Select(line => line.Split(' ')[4]);
}
