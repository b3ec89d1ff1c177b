using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Master.Changes;

/// <summary>Records when a mount's programs have written files: one record for all of them. It moves times forward only, to no later
/// than the master's clock, and only of files. The reply is the sequence that a reader must have for all of it.</summary>
/// <param name="mount">The mount, which has a line in the host table.</param>
/// <param name="written">What it says. Its position is in this history.</param>
/// <param name="limit">Of this master.</param>
internal sealed class FilesWrittenChange(Guid mount, Written written, WrittenLimit limit) : Change<ulong>
{
    /// <summary>Most files of a record (chosen: a message with as many numbers is not too large, docs/protocol.md).</summary>
    public const int MostFiles = 256;

    // What else is in the record takes less.
    private const int RecordBytes = 128;

    // A number of 40 bits, and a time.
    private const int FileBytes = 6 + sizeof(long);

    /// <inheritdoc/>
    public override int Files => Math.Max(1, written.Inodes.Count);

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        context.State.Format.Require("times of written files");
        if (written.Inodes.Count != written.TimesNs.Count || written.Inodes.Count > MostFiles)
            throw new FamfsException(ErrorReason.BadRequest, $"{written.Inodes.Count} files were written at {written.TimesNs.Count} times; as many are needed, and {MostFiles} are the limit") { Limit = MostFiles };
        LogSequence seen = new(written.Position?.Sequence ?? 0);
        if (seen.Value < context.State.SetTimes.KnownAfter.Value)
            throw new FamfsException(ErrorReason.RequestExpired, $"position {seen} is older than the times that this master remembers; say it again with a newer one");
        FilesWritten record = new() { TimeNs = context.NowNs, MountId = mount.ToByteString() };
        using (TreeScope scope = context.Reader.Tree.Enter())
            Collect(context, scope, seen, record);
        Reply = context.Position.Sequence.Value;
        if (record.Inodes.Count == 0)
            return Verdict.Done;
        // What the log has left is for changes that somebody asks for.
        if (context.IsLogHalfFull)
            throw new FamfsException(ErrorReason.LogFull, "the log has half of what can be reserved; times of written files are not recorded any more");
        if (!context.HasRoom(1, RecordBytes + (record.Inodes.Count * FileBytes), out Verdict verdict))
            return verdict;
        limit.Take(mount, record.Inodes.Count, context.Clock);
        context.Append(RecordType.FilesWritten, record, FrameFlags.Skippable);
        Reply = context.Position.Sequence.Value;
        return Verdict.Done;
    }

    private void Collect(ChangeContext context, in TreeScope scope, LogSequence seen, FilesWritten record)
    {
        for (int i = 0; i < written.Inodes.Count; i++)
        {
            if (written.Inodes[i] is 0 or > InodeNumber.Max)
                throw new FamfsException(ErrorReason.BadRequest, $"inode {written.Inodes[i]} is out of range") { Limit = InodeNumber.Max };
            InodeNumber inode = new(written.Inodes[i]);
            long time = Math.Min(written.TimesNs[i], record.TimeNs);
            if (!scope.TryGet(inode, out InodeAttributes found) || found.Kind != InodeKind.File || found.Status != InodeStatus.Published
                || (time <= found.ModifyTimeNs && time <= found.ChangeTimeNs) || context.State.SetTimes.IsSetAfter(inode, seen))
                continue;
            record.Inodes.Add(inode.Value);
            record.TimesNs.Add(time);
        }
    }
}

/// <summary>How many files mounts may have recorded as written: each takes room of the log for good. For the thread that
/// decides.</summary>
internal sealed class WrittenLimit
{
    /// <summary>Most in a minute, of one mount (chosen: above what famfsd says on its own).</summary>
    public const int MostOfMount = 16384;

    /// <summary>Most in a minute, of all (chosen: 2 MiB of the log).</summary>
    public const int Most = 131_072;

    private static readonly TimeSpan Minute = TimeSpan.FromMinutes(1);

    private readonly Dictionary<Guid, int> _taken = [];
    private long _since;
    private int _all;

    /// <summary>Counts files. Throws OVERLOADED, and counts nothing.</summary>
    public void Take(Guid mount, int files, TimeProvider clock)
    {
        if (_all == 0 || clock.GetElapsedTime(_since) >= Minute)
        {
            (_since, _all) = (clock.GetTimestamp(), 0);
            _taken.Clear();
        }
        int before = _taken.GetValueOrDefault(mount);
        if (before + files > MostOfMount || _all + files > Most)
        {
            int limit = before + files > MostOfMount ? MostOfMount : Most;
            throw new FamfsException(ErrorReason.Overloaded, $"the times of {limit} written files were recorded within a minute, the limit {(limit == Most ? "of all mounts" : "of a mount")}") { Limit = (ulong)limit };
        }
        _taken[mount] = before + files;
        _all += files;
    }
}
