using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Famfs2.Codec;
using Famfs.V1;

namespace Famfs.Famfs2;

/// <summary>
/// Appends to a famfs-2 log. The caller has zeroed the extents of new files and fenced.
/// Order of <see cref="Publish"/>: look at superblock and header, and end at any surprise; entries, write back, fence; both counters, write back, fence; look
/// again. The counters are in one cache line with each other, so readers see both or neither. Two writers at
/// once are not made safe by this, only likely to be noticed (SAFETY, last section). One thread.
/// </summary>
public sealed class Famfs2LogWriter : ILogWriter
{
    private readonly DevicePool _pool;
    private readonly DaxDevice _device;
    private readonly Guid _system;
    private readonly Famfs2Translator _translator;
    private readonly RecordBatch _replayed = new();
    private byte[] _entries = new byte[64 * Famfs2Layout.EntryBytes];
    private ulong _next;
    private FamfsException? _ended;

    internal Famfs2LogWriter(DevicePool pool, Guid system, Famfs2Translator translator, LogPosition position)
    {
        _pool = pool;
        _device = pool.PrimaryDevice;
        _system = system;
        _translator = translator;
        _next = translator.NextIndex;
        Position = position;
        Seed = Crc32C.Seed(position.FileSystem, position.Generation, SegmentId);
    }

    /// <inheritdoc/>
    public Term Term => default;

    /// <inheritdoc/>
    public LogPosition Position { get; private set; }

    /// <inheritdoc/>
    public long Tail => (long)_next * Famfs2Layout.EntryBytes;

    /// <inheritdoc/>
    public ulong SegmentId => 0;

    /// <inheritdoc/>
    public uint Seed { get; }

    /// <inheritdoc/>
    public ISegmentedLog? Segments => null;

    /// <inheritdoc/>
    public long RemainingRecords => (long)(Famfs2Layout.LastIndexOf(Famfs2Format.SuperblockOf(_pool).LogLengthBytes) + 1 - _next);

    /// <inheritdoc/>
    public void Publish(RecordBatch batch)
    {
        Check();
        if (batch.Count == 0)
            return;
        if (batch.Count > RemainingRecords)
            throw new InvalidOperationException($"batch of {batch.Count} records, the log has room for {RemainingRecords}");
        if (!batch.Continues(Position.Sequence, Term, Seed))
            throw new InvalidOperationException($"batch was not started behind {Position}");
        try
        {
            Store(batch);
            _next += (ulong)batch.Count;
            Check();
        }
        catch (Exception error)
        {
            _ended ??= error as FamfsException ?? new(ErrorReason.MediaCorrupt, $"this master ended itself: publishing behind {Position} failed: {error.Message}", error);
            throw;
        }
        Position = Position with { Sequence = batch.Last };
    }

    /// <inheritdoc/>
    public void Check()
    {
        if (_ended is not null)
            throw new FamfsException(_ended.Reason, _ended.Message, _ended);
        string? surprise = FindSurprise();
        if (surprise is null)
            return;
        _ended = new(ErrorReason.NotMaster, $"{_device.Path}: {surprise}: somebody else writes here");
        throw _ended;
    }

    /// <inheritdoc/>
    /// <remarks>The format has no place for a heartbeat.</remarks>
    public void Tick(ulong counter) => Check();

    private void Store(RecordBatch batch)
    {
        int length = batch.Count * Famfs2Layout.EntryBytes;
        if (_entries.Length < length)
            _entries = new byte[length * 2];
        Encode(batch);
        long place = Famfs2Layout.EntryOffset(_next);
        _device.Write(place, _entries.AsSpan(0, length));
        _device.WriteBack(place, length);
        // Readers on other hosts must find whole entries below any counter they see.
        _device.Fence();
        Span<byte> header = stackalloc byte[Famfs2LogHeader.Size];
        new Famfs2LogHeader(Famfs2Format.SuperblockOf(_pool).LogLengthBytes, _next + (ulong)batch.Count, _next + (ulong)batch.Count).Format(header);
        long counters = Famfs2Layout.LogOffset + Famfs2LogHeader.CountersOffset;
        _device.Write(counters, header.Slice(Famfs2LogHeader.CountersOffset, Famfs2LogHeader.CountersBytes));
        _device.WriteBack(counters, Famfs2LogHeader.CountersBytes);
        _device.Fence();
    }

    /// <summary>Makes the entries, and replays them as any reader will: nothing is stored that they would ignore.</summary>
    private void Encode(RecordBatch batch)
    {
        _replayed.Start(Position.Sequence, Term, Seed);
        int at = 0;
        foreach (RecordFrame frame in new RecordFrames(batch.Frames))
        {
            Span<byte> entry = _entries.AsSpan(at, Famfs2Layout.EntryBytes);
            _translator.Encode(frame, entry);
            if (_translator.Translate(new(entry), _replayed) is { } finding)
                throw new FamfsException(ErrorReason.MediaCorrupt, $"record {frame.Sequence} ({frame.Type}) would be ignored by every reader: {finding.Cause}");
            at += Famfs2Layout.EntryBytes;
        }
    }

    private string? FindSurprise()
    {
        SuperblockVerdict verdict = Famfs2Media.ReadSuperblock(_device, out Famfs2Superblock? superblock, out string cause);
        if (verdict != SuperblockVerdict.Good)
            return cause;
        if (superblock!.FileSystem != Position.FileSystem)
            return $"the file system is {superblock.FileSystem} now";
        if (superblock.System != _system)
            return $"system {superblock.System} has adopted the file system";
        if (Famfs2Media.ReadHeader(_device, Famfs2Format.SuperblockOf(_pool), out Famfs2LogHeader header, out cause) != Famfs2HeaderVerdict.Good)
            return cause;
        return header.NextIndex == _next ? null : $"the log has {header.NextIndex} entries, this master has written {_next}";
    }
}
