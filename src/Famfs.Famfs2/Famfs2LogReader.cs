using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Famfs2.Codec;
using Famfs.V1;

namespace Famfs.Famfs2;

/// <summary>
/// Reads a famfs-2 log as records of the native format (<see cref="Famfs2Translator"/>). Each poll: invalidate and
/// read the superblock and the header; invalidate and read entries below both of its counters; verify. A bad entry is
/// invalidated and read again, and then is where the log ends for this reader: what came before is handed out
/// first, the next poll throws MEDIA_CORRUPT; an entry of an unknown type the same with
/// NOT_SUPPORTED_BY_FORMAT. There is no term and no claim here: one writer is the operator's business
/// (SAFETY, last section). One thread at a time.
/// </summary>
public sealed class Famfs2LogReader : ILogReader
{
    /// <summary>Entries read at a time (chosen: their records fit in 512 KiB whatever they hold).</summary>
    private const int ChunkEntries = 256;

    /// <summary>Most bytes of the frame of one entry: a path, 16 extents, causes; rounded up.</summary>
    private const int MaxFrameBytes = 2048;

    private const int CorruptAttempts = 8;

    private readonly DevicePool _pool;
    private readonly DaxDevice _device;
    private readonly uint _seed;
    private readonly byte[] _entries = new byte[ChunkEntries * Famfs2Layout.EntryBytes];
    private readonly RecordBatch _batch = new(ChunkEntries * MaxFrameBytes);

    /// <summary>Reads from the start of the log of <paramref name="pool"/>, which is a famfs-2 one.</summary>
    public Famfs2LogReader(DevicePool pool)
    {
        _pool = pool;
        _device = pool.PrimaryDevice;
        _seed = Crc32C.Seed(pool.Primary.FileSystem, pool.Primary.Generation, 0);
        Translator = new(pool);
        Position = new(pool.Primary.FileSystem, pool.Primary.Generation, default, default);
    }

    /// <inheritdoc/>
    public LogPosition Position { get; private set; }

    /// <inheritdoc/>
    public long Offset => _pool.Format.OffsetBehind(Position.Sequence, 0, 0);

    /// <summary>What has been translated so far, with the findings.</summary>
    public Famfs2Translator Translator { get; private set; }

    /// <summary>The last poll found nothing behind <see cref="Position"/>.</summary>
    public bool CaughtUp { get; private set; }

    /// <inheritdoc/>
    public void Resume(LogPosition position, long offset)
    {
        // Entries name their parents by path, so whatever lies before the place is translated, at the next poll.
        if (Famfs2Translator.EntriesUpTo(position.Sequence) < Translator.NextIndex)
            Translator = new(_pool);
        Position = position;
        CaughtUp = false;
    }

    /// <inheritdoc/>
    public PollVerdict Poll(out LogBlock block)
    {
        block = default;
        CaughtUp = false;
        RequireSameFileSystem();
        // A header between its two stores vouches for what both counters cover.
        if (Famfs2Media.ReadHeader(_device, Famfs2Format.SuperblockOf(_pool), out Famfs2LogHeader header, out string cause) == Famfs2HeaderVerdict.Damaged)
            throw Famfs2Media.Corrupt(_device, cause);
        ulong wanted = Famfs2Translator.EntriesUpTo(Position.Sequence);
        if (wanted > header.ConfirmedEntries)
            return PollVerdict.Diverged;
        while (Translator.NextIndex < wanted)
            TranslateChunk(wanted);
        if (Position.Sequence.Value < Famfs2Translator.PrologueRecords)
        {
            _batch.Start(default, default, _seed);
            Translator.AddPrologue(_batch);
            return Give(out block, skip: (int)Position.Sequence.Value);
        }
        if (wanted == header.ConfirmedEntries)
        {
            CaughtUp = true;
            return PollVerdict.UpToDate;
        }
        TranslateChunk(header.ConfirmedEntries);
        return Give(out block, skip: 0);
    }

    /// <summary>Whoever formats the memory anew while this host follows it, begins with the superblock: entries of another file
    /// system would otherwise be taken for the next ones of this.</summary>
    private void RequireSameFileSystem()
    {
        if (Famfs2Media.ReadSuperblock(_device, out Famfs2Superblock? superblock, out string cause) != SuperblockVerdict.Good)
            throw Famfs2Media.Corrupt(_device, cause);
        if (superblock!.FileSystem != Position.FileSystem || superblock.LogLengthBytes != Famfs2Format.SuperblockOf(_pool).LogLengthBytes || superblock.UnitBytes != _pool.UnitBytes)
            throw new FamfsException(ErrorReason.WrongFilesystem, $"{_device.Path}: was formatted anew, as file system {superblock.FileSystem} in place of {Position.FileSystem}") { Path = _device.Path };
    }

    private PollVerdict Give(out LogBlock block, int skip)
    {
        int start = 0;
        for (int i = 0; i < skip; i++)
            start += RecordFrame.ReadVerified(_batch.Frames[start..]).PaddedBytes;
        LogSequence first = Position.Sequence.Next;
        Position = Position with { Sequence = _batch.Last };
        block = new(_batch.Memory[start..], _batch.Count - skip, first, Position.Generation, 0, Offset);
        return PollVerdict.Records;
    }

    /// <summary>Translates the next entries into the batch: at least one, or throws.</summary>
    private void TranslateChunk(ulong end)
    {
        ulong first = Translator.NextIndex;
        int count = (int)Math.Min(ChunkEntries, end - first);
        int good = ReadGood(first, count, out FamfsException? stop);
        if (good == 0)
            throw stop!;
        _batch.Start(first == 0 ? new(Famfs2Translator.PrologueRecords) : Famfs2Translator.SequenceOf(first - 1), default, _seed);
        for (int i = 0; i < good; i++)
            Translator.Translate(new(_entries.AsSpan(i * Famfs2Layout.EntryBytes)), _batch);
    }

    /// <summary>Number of entries that can be translated, and why not the next one.</summary>
    private int ReadGood(ulong first, int count, out FamfsException? stop)
    {
        for (int attempt = 0; ; attempt++)
        {
            long place = Famfs2Layout.EntryOffset(first);
            Span<byte> bytes = _entries.AsSpan(0, count * Famfs2Layout.EntryBytes);
            _device.Invalidate(place, bytes.Length);
            _device.Read(place, bytes);
            stop = null;
            int good = 0;
            while (good < count && stop is null)
            {
                Famfs2Entry entry = new(bytes[(good * Famfs2Layout.EntryBytes)..]);
                ulong index = first + (ulong)good;
                stop = Judge(entry, index);
                good += stop is null ? 1 : 0;
            }
            if (stop?.Reason != ErrorReason.MediaCorrupt || attempt == CorruptAttempts)
                return good;
            Thread.SpinWait(100);
        }
    }

    private FamfsException? Judge(Famfs2Entry entry, ulong index)
    {
        string where = $"entry {index} of the log at offset {Famfs2Layout.EntryOffset(index)}";
        return entry.Judge(index) switch
        {
            Famfs2EntryVerdict.BadChecksum => Famfs2Media.Corrupt(_device, $"{where}: checksum is wrong"),
            Famfs2EntryVerdict.BadSequence => Famfs2Media.Corrupt(_device, $"{where}: sequence is {entry.Sequence}"),
            _ => Famfs2Translator.Knows(entry.Type)
                ? null
                : new(ErrorReason.NotSupportedByFormat, $"{_device.Path}: {where} has type {(uint)entry.Type}, which is undefined; the log is read up to there") { Path = _device.Path },
        };
    }
}
