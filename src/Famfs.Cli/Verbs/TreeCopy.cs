using Famfs.Core;
using Famfs.V1;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Cli.Verbs;

/// <summary>Makes the files that a copy fills. Paths are local.</summary>
internal interface IFileMaker
{
    /// <summary>Makes a file of a size; false when one of that size was made meanwhile. Throws EXISTS_DIFFERENT
    /// for another size.</summary>
    Task<bool> MakeFileAsync(string path, long sizeBytes, UnixFileMode mode, CancellationToken cancel);

    /// <summary>Makes a directory whose parent exists.</summary>
    Task MakeDirectoryAsync(string path, UnixFileMode mode, CancellationToken cancel);
}

/// <summary>One thing to copy.</summary>
internal sealed record CopyItem(string Source, string Destination, bool IsDirectory, long SizeBytes, UnixFileMode Mode);

/// <summary>What a copy did.</summary>
internal sealed class TreeCopyResult
{
    public long Files { get; set; }
    public long Directories { get; set; }
    public long WrittenBytes { get; set; }

    /// <summary>Bytes of earlier runs that were compared and left alone.</summary>
    public long SameBytes { get; set; }

    /// <summary>One per item that could not be copied; the others were.</summary>
    public List<Exception> Errors { get; } = [];
}

/// <summary>
/// Copies files into a tree whose files are made at their final size. There is no mark of how far an earlier
/// run came: content decides. A file that is there with the same size is compared range by range, and the
/// ranges that differ are written.
/// </summary>
internal sealed class TreeCopy(IFileMaker maker, int jobs)
{
    /// <summary>Bytes copied or compared at a time. Chosen: one allocation unit.</summary>
    private const int RangeBytes = 2 << 20;

    private readonly Lock _guard = new();

    /// <summary>What to copy where: like cp, into <paramref name="destination"/> when that is a directory, as it
    /// otherwise. Parents come before children. Errors: NOT_FOUND, BAD_REQUEST.</summary>
    public static List<CopyItem> Plan(IReadOnlyList<string> sources, string destination, bool recursive)
    {
        bool into = Directory.Exists(destination);
        if (sources.Count > 1 && !into)
            throw new FamfsException(ErrorReason.NotADirectory, $"{destination}: several sources need a directory") { Path = destination };
        List<CopyItem> items = [];
        foreach (string source in sources)
        {
            string name = Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(source)));
            Add(items, source, into ? Path.Combine(destination, name) : destination, recursive);
        }
        return items;
    }

    /// <summary>Copies all; an item that fails is noted, and the rest goes on. <paramref name="progress"/> gets
    /// bytes done, from one thread at a time.</summary>
    public async Task<TreeCopyResult> RunAsync(IReadOnlyList<CopyItem> items, Action<long>? progress, CancellationToken cancel)
    {
        TreeCopyResult result = new();
        foreach (CopyItem item in items)
        {
            try
            {
                if (item.IsDirectory)
                    await MakeDirectoryAsync(item, result, cancel).ConfigureAwait(false);
                else
                    await CopyFileAsync(item, result, progress, cancel).ConfigureAwait(false);
            }
            catch (Exception e) when (e is FamfsException or IOException or UnauthorizedAccessException)
            {
                result.Errors.Add(e);
                // Without a master or the mount, every further item would only say the same.
                if (e is FamfsException { Reason: ErrorReason.NotMaster or ErrorReason.Timeout or ErrorReason.HostGone or ErrorReason.NoSpace or ErrorReason.LogFull })
                    break;
            }
        }
        return result;
    }

    private static void Add(List<CopyItem> items, string source, string destination, bool recursive)
    {
        System.IO.FileInfo file = new(source);
        if (file.LinkTarget is not null && file.ResolveLinkTarget(returnFinalTarget: true) is System.IO.FileInfo { Exists: true } real)
            file = real;
        if (file.Exists)
        {
            items.Add(new(source, destination, false, file.Length, file.UnixFileMode));
            return;
        }
        DirectoryInfo directory = new(source);
        if (!directory.Exists)
            throw new FamfsException(ErrorReason.NotFound, $"{source}: no such file or directory") { Path = source };
        if (!recursive)
            throw new FamfsException(ErrorReason.BadRequest, $"{source}: is a directory; use -r") { Path = source };
        items.Add(new(source, destination, true, 0, directory.UnixFileMode));
        foreach (FileSystemInfo entry in directory.EnumerateFileSystemInfos().OrderBy(e => e.Name, StringComparer.Ordinal))
            Add(items, entry.FullName, Path.Combine(destination, entry.Name), entry.LinkTarget is null);
    }

    private async Task MakeDirectoryAsync(CopyItem item, TreeCopyResult result, CancellationToken cancel)
    {
        if (!Directory.Exists(item.Destination))
            await maker.MakeDirectoryAsync(item.Destination, item.Mode, cancel).ConfigureAwait(false);
        result.Directories++;
    }

    private async Task CopyFileAsync(CopyItem item, TreeCopyResult result, Action<long>? progress, CancellationToken cancel)
    {
        using SafeFileHandle source = File.OpenHandle(item.Source, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        long size = RandomAccess.GetLength(source);
        if (size == 0)
            throw new FamfsException(ErrorReason.BadSize, $"{item.Source}: is empty; a famfs file has at least 1 byte") { Path = item.Source, Limit = 1 };
        System.IO.FileInfo existing = new(item.Destination);
        bool made = !existing.Exists && await maker.MakeFileAsync(item.Destination, size, item.Mode, cancel).ConfigureAwait(false);
        if (!made)
        {
            existing.Refresh();
            if (existing.Length != size)
                throw new FamfsException(ErrorReason.ExistsDifferent, $"{item.Destination}: exists with {existing.Length} bytes, the source has {size}") { Path = item.Destination, Limit = (ulong)existing.Length };
        }
        using SafeFileHandle destination = File.OpenHandle(item.Destination, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        long ranges = (size + RangeBytes - 1) / RangeBytes;
        ParallelOptions options = new() { MaxDegreeOfParallelism = jobs, CancellationToken = cancel };
        try
        {
            await Task.Run(
                () => Parallel.For(0L, ranges, options, () => new Buffers(made ? 0 : RangeBytes), (range, _, buffers) =>
                {
                    CopyRange(source, destination, range * RangeBytes, size, item, made, buffers, result, progress);
                    return buffers;
                }, static _ => { }),
                cancel).ConfigureAwait(false);
        }
        catch (AggregateException e)
        {
            // The ranges fail for one cause; the first says it.
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
        }
        RandomAccess.FlushToDisk(destination);
        result.Files++;
    }

    private void CopyRange(SafeFileHandle source, SafeFileHandle destination, long at, long size, CopyItem item, bool made, Buffers buffers, TreeCopyResult result, Action<long>? progress)
    {
        int length = (int)Math.Min(RangeBytes, size - at);
        Span<byte> wanted = buffers.Wanted.AsSpan(0, length);
        if (Read(source, wanted, at) != length)
            throw new FamfsException(ErrorReason.Unspecified, $"{item.Source}: became shorter while it was copied") { Path = item.Source };
        bool same = false;
        if (!made)
        {
            Span<byte> present = buffers.Present.AsSpan(0, length);
            same = Read(destination, present, at) == length && present.SequenceEqual(wanted);
        }
        if (!same)
            RandomAccess.Write(destination, wanted, at);
        lock (_guard)
        {
            if (same)
                result.SameBytes += length;
            else
                result.WrittenBytes += length;
            progress?.Invoke(length);
        }
    }

    private static int Read(SafeFileHandle file, Span<byte> place, long at)
    {
        int done = 0;
        while (done < place.Length)
        {
            int read = RandomAccess.Read(file, place[done..], at + done);
            if (read == 0)
                break;
            done += read;
        }
        return done;
    }

    private sealed class Buffers(int presentBytes)
    {
        public byte[] Wanted { get; } = new byte[RangeBytes];

        public byte[] Present { get; } = new byte[presentBytes];
    }
}
