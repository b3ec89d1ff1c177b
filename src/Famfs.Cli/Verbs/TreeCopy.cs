using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Cli.Verbs;

/// <summary>A file that is to be made.</summary>
/// <param name="Path">Local path.</param>
/// <param name="SizeBytes">Its size for good.</param>
/// <param name="Mode">Permission bits.</param>
/// <param name="Uid">Owner.</param>
/// <param name="Gid">Group.</param>
internal sealed record NewFile(string Path, long SizeBytes, uint Mode, uint Uid, uint Gid);

/// <summary>Makes the files that a copy fills. Paths are local.</summary>
internal interface IFileMaker
{
    /// <summary>Makes files, and gives in their order what came of each: null when it was made or is there with that size,
    /// else the error.</summary>
    IAsyncEnumerable<(bool Made, FamfsException? Error)> MakeFilesAsync(IReadOnlyList<NewFile> files, CancellationToken cancel);

    /// <summary>Makes a directory whose parent exists.</summary>
    Task MakeDirectoryAsync(string path, uint mode, uint uid, uint gid, CancellationToken cancel);

    /// <summary>Returns when the local paths show all that was made before.</summary>
    Task AwaitMadeAsync(CancellationToken cancel);

    /// <summary>Sets attributes of what is there; the request's path is empty.</summary>
    Task SetAttributesAsync(string path, SetAttributesRequest attributes, CancellationToken cancel);
}

/// <summary>What a copy did.</summary>
internal sealed class TreeCopyResult
{
    public long Files { get; set; }
    public long Directories { get; set; }
    public long WrittenBytes { get; set; }

    /// <summary>Bytes of earlier runs that were compared and left alone.</summary>
    public long SameBytes { get; set; }

    /// <summary>Items that were not tried after an error that all would have met.</summary>
    public long NotTried { get; set; }

    /// <summary>One per item that could not be copied; the others were.</summary>
    public List<Exception> Errors { get; } = [];
}

/// <summary>
/// Copies files into a tree whose files are made at their final size. There is no mark of how far an earlier
/// run came: content decides. A file that is there with the same size is compared range by range, and the
/// ranges that differ are written. Attributes that would be in the way of the content are set after it.
/// <para>Files are made in groups of many, so that the master is asked once for all of them; then the ranges of the group's
/// files are copied in parallel. A file is open while ranges of it are copied, so few are at a time.</para>
/// </summary>
internal sealed class TreeCopy(IFileMaker maker, int jobs, CopyAttributeChoices attributes)
{
    /// <summary>Bytes copied or compared at a time. Chosen: one allocation unit.</summary>
    private const int RangeBytes = 2 << 20;

    /// <summary>Files made at a time. Chosen: many for the master, and little that is left unfilled after a kill.</summary>
    private const int GroupFiles = 256;

    /// <summary>Attributes set at a time. Chosen.</summary>
    private const int AttributesAtOnce = 16;

    private readonly Lock _guard = new();

    /// <summary>Copies all; an item that fails is noted, and the rest goes on. <paramref name="progress"/> gets
    /// bytes done, from one thread at a time.</summary>
    public async Task<TreeCopyResult> RunAsync(IReadOnlyList<CopyItem> items, Action<long>? progress, CancellationToken cancel)
    {
        TreeCopyResult result = new();
        List<(CopyItem Item, bool Made)> directories = [];
        List<FileCopy> group = [];
        int next = 0;
        while (next < items.Count && !IsHopeless(result))
        {
            group.Clear();
            for (; next < items.Count && group.Count < GroupFiles && !IsHopeless(result); next++)
            {
                CopyItem item = items[next];
                if (item.IsDirectory)
                    await TryAsync(async () => directories.Add((item, await MakeDirectoryAsync(item, cancel).ConfigureAwait(false))), result).ConfigureAwait(false);
                else
                    group.Add(new(item));
            }
            await CopyGroupAsync(group, result, progress, cancel).ConfigureAwait(false);
        }
        result.NotTried += items.Count - next;
        await maker.AwaitMadeAsync(cancel).ConfigureAwait(false);
        // Children before parents, whose times they would change.
        for (int i = directories.Count - 1; i >= 0 && !IsHopeless(result); i--)
        {
            (CopyItem directory, bool made) = directories[i];
            if (await TryAsync(() => SetRemainingAsync(directory, made, cancel), result).ConfigureAwait(false))
                result.Directories++;
        }
        return result;
    }

    /// <summary>Without a master, the mount or space, every further item would only meet the same.</summary>
    private static bool IsHopeless(TreeCopyResult result) => result.Errors.Exists(IsHopeless);

    private static bool IsHopeless(Exception error) =>
        error is FamfsException { Reason: ErrorReason.NotMaster or ErrorReason.Timeout or ErrorReason.HostGone or ErrorReason.NoSpace or ErrorReason.LogFull };

    private static async Task<bool> TryAsync(Func<Task> step, TreeCopyResult result)
    {
        try
        {
            await step().ConfigureAwait(false);
            return true;
        }
        catch (Exception e) when (e is FamfsException or IOException or UnauthorizedAccessException)
        {
            result.Errors.Add(e);
            return false;
        }
    }

    /// <summary>False for one that was there.</summary>
    private async Task<bool> MakeDirectoryAsync(CopyItem item, CancellationToken cancel)
    {
        FileStatus? present = FileStatus.TryRead(item.Destination, true, out _);
        if (present is { Type: FileType.Directory })
            return false;
        if (present is not null)
            throw new FamfsException(ErrorReason.NotADirectory, $"{item.Destination}: is not a directory, and {item.Source} is one") { Path = item.Destination };
        (uint mode, uint uid, uint gid) = attributes.Initial(item);
        await maker.MakeDirectoryAsync(item.Destination, mode, uid, gid, cancel).ConfigureAwait(false);
        return true;
    }

    private async Task CopyGroupAsync(List<FileCopy> group, TreeCopyResult result, Action<long>? progress, CancellationToken cancel)
    {
        await MakeFilesAsync(group, result, cancel).ConfigureAwait(false);
        List<(FileCopy File, long At)> ranges = [.. group.Where(f => f.Error is null).SelectMany(f => f.Ranges(RangeBytes).Select(at => (f, at)))];
        ParallelOptions options = new() { MaxDegreeOfParallelism = jobs, CancellationToken = cancel };
        try
        {
            // One after another, so that a file is done before later ones are opened.
            System.Collections.Concurrent.OrderablePartitioner<(FileCopy File, long At)> inOrder = System.Collections.Concurrent.Partitioner.Create(ranges, System.Collections.Concurrent.EnumerablePartitionerOptions.NoBuffering);
            await Task.Run(
                () => Parallel.ForEach(inOrder, options, () => new Buffers(), (range, _, buffers) =>
                {
                    range.File.Do(() => CopyRange(range.File, range.At, buffers, result, progress));
                    return buffers;
                }, static _ => { }),
                cancel).ConfigureAwait(false);
        }
        finally
        {
            foreach (FileCopy file in group)
                file.Close();
        }
        List<FileCopy> filled = [.. group.Where(f => f.Error is null)];
        await Parallel.ForEachAsync(filled, new ParallelOptions { MaxDegreeOfParallelism = AttributesAtOnce, CancellationToken = cancel }, async (file, stop) =>
        {
            try
            {
                await SetRemainingAsync(file.Item, file.Made, stop).ConfigureAwait(false);
            }
            catch (Exception e) when (e is FamfsException or IOException or UnauthorizedAccessException)
            {
                file.Error = e;
            }
        }).ConfigureAwait(false);
        foreach (FileCopy file in group)
        {
            if (file.Error is null)
                result.Files++;
            else if (IsHopeless(file.Error) && IsHopeless(result))
                result.NotTried++;
            else
                result.Errors.Add(file.Error);
        }
    }

    /// <summary>Makes those of a group that are not there, and marks those that cannot be.</summary>
    private async Task MakeFilesAsync(List<FileCopy> group, TreeCopyResult result, CancellationToken cancel)
    {
        List<FileCopy> missing = [];
        foreach (FileCopy file in group)
        {
            if (FileStatus.TryRead(file.Item.Destination, true, out _) is { } present)
                file.Error = FindObstacle(file.Item, present);
            else
                missing.Add(file);
        }
        ParallelOptions options = new() { MaxDegreeOfParallelism = jobs, CancellationToken = cancel };
        await Task.Run(() => Parallel.ForEach(missing, options, static file => file.RequireContent()), cancel).ConfigureAwait(false);
        missing.RemoveAll(file => file.Error is not null);
        List<NewFile> wanted = [];
        foreach (FileCopy file in missing.ToArray())
        {
            try
            {
                (uint mode, uint uid, uint gid) = attributes.Initial(file.Item);
                wanted.Add(new(file.Item.Destination, file.Item.Status.SizeBytes, mode, uid, gid));
            }
            catch (FamfsException e)
            {
                file.Error = e;
                missing.Remove(file);
            }
        }
        if (wanted.Count == 0)
            return;
        try
        {
            int answered = 0;
            await foreach ((bool made, FamfsException? error) in maker.MakeFilesAsync(wanted, cancel).ConfigureAwait(false))
            {
                FileCopy file = missing[answered++];
                file.Made = made;
                file.Error = error;
            }
            await maker.AwaitMadeAsync(cancel).ConfigureAwait(false);
        }
        catch (FamfsException e)
        {
            foreach (FileCopy file in missing)
                file.Error ??= e;
            return;
        }
        foreach (FileCopy file in missing)
        {
            if (file is { Error: null, Made: false } && FileStatus.TryRead(file.Item.Destination, true, out _) is { } present)
                file.Error = FindObstacle(file.Item, present);
        }
    }

    private static FamfsException? FindObstacle(CopyItem item, in FileStatus present)
    {
        if (present.Type == FileType.Directory)
            return new(ErrorReason.IsADirectory, $"{item.Destination}: is a directory, and {item.Source} is a file") { Path = item.Destination };
        return present.SizeBytes == item.Status.SizeBytes
            ? null
            : new(ErrorReason.ExistsDifferent, $"{item.Destination}: exists with {present.SizeBytes} bytes, the source has {item.Status.SizeBytes}") { Path = item.Destination, Limit = (ulong)present.SizeBytes };
    }

    /// <summary>Sets what the copy does not have yet. What somebody else made keeps its attributes, unless those of the source are
    /// asked for or it is as an interrupted copy leaves it.</summary>
    private async Task SetRemainingAsync(CopyItem item, bool made, CancellationToken cancel)
    {
        if (made && attributes.IsFinalAtOnce(item))
            return;
        FileStatus present = FileStatus.Read(item.Destination, followLinks: true);
        if (!made && !attributes.Preserve && (present.Mode, present.Uid, present.Gid) != attributes.Initial(item))
            return;
        if (attributes.Remaining(item, present) is not { } remaining)
            return;
        try
        {
            await maker.SetAttributesAsync(item.Destination, remaining.Clone(), cancel).ConfigureAwait(false);
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.NotPermitted && CopyAttributeChoices.HasSetIds(remaining))
        {
            // Those alone need a master that knows who calls.
            CopyAttributeChoices.DropSetIds(remaining);
            await maker.SetAttributesAsync(item.Destination, remaining, cancel).ConfigureAwait(false);
            throw new FamfsException(ErrorReason.NotPermitted, $"{item.Destination}: has all attributes but the set-id bits: {error.Message}") { Path = item.Destination };
        }
    }

    private void CopyRange(FileCopy file, long at, Buffers buffers, TreeCopyResult result, Action<long>? progress)
    {
        int length = (int)Math.Min(RangeBytes, file.Item.Status.SizeBytes - at);
        Span<byte> wanted = buffers.Wanted.AsSpan(0, length);
        if (Read(file.Source, wanted, at) != length)
            throw new FamfsException(ErrorReason.Unspecified, $"{file.Item.Source}: became shorter while it was copied") { Path = file.Item.Source };
        bool same = false;
        if (!file.Made)
        {
            Span<byte> present = buffers.Present.AsSpan(0, length);
            same = Read(file.Compared, present, at) == length && present.SequenceEqual(wanted);
        }
        if (!same)
            RandomAccess.Write(file.Destination, wanted, at);
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

    private sealed class Buffers
    {
        private byte[]? _present;

        public byte[] Wanted { get; } = new byte[RangeBytes];

        /// <summary>For what is compared; most copies compare nothing.</summary>
        public byte[] Present => _present ??= new byte[RangeBytes];
    }

    /// <summary>A file on its way. Its source is tried before it gets a name; then it opens at its first range, and closes after its
    /// last.</summary>
    private sealed class FileCopy(CopyItem item)
    {
        private readonly Lock _guard = new();

        // Guarded by _guard.
        private SafeFileHandle? _source;
        private SafeFileHandle? _compared;
        private SafeFileHandle? _destination;
        private long _rangesLeft;

        public CopyItem Item => item;

        /// <summary>This copy made the file: nothing of it is compared.</summary>
        public bool Made { get; set; }

        /// <summary>Why it is not copied, or not whole.</summary>
        public Exception? Error { get; set; }

        /// <summary>The source, to read.</summary>
        public SafeFileHandle Source => Open(ref _source, item.Source, FileAccess.Read);

        /// <summary>The destination, to read: one that needs no write need not be writable.</summary>
        public SafeFileHandle Compared => Open(ref _compared, item.Destination, FileAccess.Read);

        /// <summary>The destination, to write.</summary>
        public SafeFileHandle Destination => Open(ref _destination, item.Destination, FileAccess.ReadWrite);

        /// <summary>Notes an error unless the source can be read and has all bytes of its size. A name with its size is for good, and
        /// some files have less content than they say.</summary>
        public void RequireContent()
        {
            try
            {
                using SafeFileHandle source = Open(item.Source, FileAccess.Read);
                long bytes = RandomAccess.GetLength(source);
                if (bytes != item.Status.SizeBytes)
                    throw Failure(ErrorReason.Unspecified, $"has {bytes} bytes now and had {item.Status.SizeBytes} when the copy began; copy it again when nobody writes it");
                Span<byte> last = stackalloc byte[1];
                if (RandomAccess.Read(source, last, bytes - 1) == 0)
                    throw Failure(ErrorReason.BadSize, $"has less content than the {bytes} bytes that it says; copy its content to a file first");
            }
            catch (Exception e) when (e is FamfsException or IOException or UnauthorizedAccessException)
            {
                Error = e;
            }
        }

        public IEnumerable<long> Ranges(int bytes)
        {
            _rangesLeft = (item.Status.SizeBytes + bytes - 1) / bytes;
            for (long at = 0; at < item.Status.SizeBytes; at += bytes)
                yield return at;
        }

        /// <summary>Runs the step of one range, unless another range has failed.</summary>
        public void Do(Action step)
        {
            try
            {
                if (Error is null)
                    step();
            }
            catch (Exception e) when (e is FamfsException or IOException or UnauthorizedAccessException)
            {
                lock (_guard)
                    Error ??= WithRemains(e);
            }
            if (Interlocked.Decrement(ref _rangesLeft) == 0)
                Finish();
        }

        public void Close()
        {
            _source?.Dispose();
            _compared?.Dispose();
            _destination?.Dispose();
        }

        private void Finish()
        {
            try
            {
                if (_destination is not null)
                    RandomAccess.FlushToDisk(_destination);
                // What grew behind the last range was not seen.
                if (Error is null && _source is not null && RandomAccess.GetLength(_source) is var bytes && bytes > item.Status.SizeBytes)
                    Error = Failure(ErrorReason.Unspecified, $"grew from {item.Status.SizeBytes} to {bytes} bytes while it was copied; {item.Destination} has the first {item.Status.SizeBytes}, for good");
            }
            catch (IOException e)
            {
                Error ??= WithRemains(e);
            }
            Close();
        }

        private FamfsException Failure(ErrorReason reason, string why) => new(reason, $"{item.Source}: {why}") { Path = item.Source };

        /// <summary>The error of a file that this copy made, with what is left of it.</summary>
        private Exception WithRemains(Exception error)
        {
            if (!Made)
                return error;
            string message = $"{FamfsCommand.Describe(error)}; {item.Destination} stays, with its {item.Status.SizeBytes} bytes, and is not whole";
            return error is FamfsException known ? new FamfsException(known.Reason, message, error) { Path = known.Path }
                : error is UnauthorizedAccessException ? new FamfsException(ErrorReason.ReadOnly, message, error)
                : new IOException(message, error.HResult);
        }

        private SafeFileHandle Open(ref SafeFileHandle? handle, string path, FileAccess access)
        {
            lock (_guard)
                return handle ??= Open(path, access);
        }

        private static SafeFileHandle Open(string path, FileAccess access) => File.OpenHandle(path, FileMode.Open, access, FileShare.ReadWrite);
    }
}
