using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.TestSupport.Dax;

namespace Famfs.Simulation;

/// <summary>What a damaged line is part of.</summary>
internal enum DamagedStructure
{
    Claim,
    ActiveCopy,
    Tail,
    SegmentHeader,
    Frame,
}

/// <summary>What became of a damaged line.</summary>
internal enum DamageKind
{
    Flip,
    Zeros,
    Ones,
    Stale,
    Neighbour,
}

/// <summary>
/// One line of memory, damaged behind all caches once in a run (SAFETY S24): at a step that the seed chooses, between two
/// accesses to the anchors, where the windows of the protocol are, before a tick, or when everybody has gone.
/// </summary>
internal sealed class LineDamage
{
    private const int AnchorLines = 3;
    private const int LinesPerCopy = ActiveAnchor.Size / DaxDevice.LineBytes;

    private readonly FakeSharedMemory _memory;
    private readonly Random _random;
    private readonly int _slots;
    private readonly Guid _fileSystem;
    private readonly bool _countsAnchors;
    private readonly bool _atEnd;
    private int _ticks;
    private readonly long _when;
    private readonly long _remember;
    private IReadOnlyDictionary<long, byte[]> _before = new Dictionary<long, byte[]>();
    private long _moments;

    /// <summary>Chooses structure, kind and moment. <paramref name="steps"/>: of the run.</summary>
    public LineDamage(FakeSharedMemory memory, Random random, int slots, Guid fileSystem, long steps)
    {
        _memory = memory;
        _random = random;
        _slots = slots;
        _fileSystem = fileSystem;
        Structure = (DamagedStructure)random.Next(5);
        Kind = (DamageKind)random.Next(5);
        _countsAnchors = random.Next(2) == 0;
        _atEnd = random.Next(3) == 0;
        _ticks = Structure == DamagedStructure.Tail && !_atEnd && random.Next(2) == 0 ? random.Next(1, 10) : 0;
        _when = _countsAnchors ? (long)Math.Exp(random.NextDouble() * Math.Log(3000)) : random.NextInt64(steps * 3 / 4);
        _remember = random.NextInt64(_when + 1);
    }

    /// <summary>What is damaged.</summary>
    public DamagedStructure Structure { get; }

    /// <summary>How.</summary>
    public DamageKind Kind { get; }

    /// <summary>The slot whose line, segment or frame it is.</summary>
    public int Slot { get; private set; }

    /// <summary>It has happened.</summary>
    public bool Done { get; private set; }

    /// <summary>Where, bytes on the device.</summary>
    public long Place { get; private set; }

    /// <summary>Before an access: damages the line when its moment has come.</summary>
    public void Pass(long step, string operation, long offset)
    {
        if (Done)
            return;
        bool atAnchor = operation != FakeOperation.Load && offset >= MediaLayout.AnchorOffset && offset < MediaLayout.AnchorOffset + (long)_slots * MediaLayout.AnchorStride;
        if (_countsAnchors && !atAnchor)
            return;
        long now = _countsAnchors ? _moments++ : step;
        // A line may already be what it would become: then another one is tried, at the next moment, and not for ever.
        if (now > _when + 1000)
            return;
        if (Kind == DamageKind.Stale && _before.Count == 0 && now >= _remember)
            _before = _memory.CopyPages();
        if (now < _when || _atEnd || _ticks > 0)
            return;
        // Where somebody is at work just now, as often as anywhere else.
        Slot = atAnchor && _random.Next(2) == 0 ? (int)((offset - MediaLayout.AnchorOffset) / MediaLayout.AnchorStride) : _random.Next(_slots);
        TryStrike();
    }

    /// <summary>Everybody has gone: damages the line of a run in which that is the moment.</summary>
    public void Strike()
    {
        for (int i = 0; _atEnd && !Done && i < 100; i++)
        {
            // Most often where the log is followed.
            Slot = _random.Next(4) == 0 ? _random.Next(_slots) : Enumerable.Range(0, _slots).MaxBy(s => NewestOf(_memory, _fileSystem, s)?.Term.Value ?? 0);
            TryStrike();
        }
    }

    /// <summary>The master of a slot, whose tail is to be damaged, is about to store it again at a tick: damages it if this is the
    /// tick, and gives true.</summary>
    public bool StrikeTail(int slot)
    {
        if (_ticks == 0 || --_ticks > 0)
            return false;
        Slot = slot;
        TryStrike();
        return Done;
    }

    private void TryStrike()
    {
        if (FindPlace() is not { } place)
            return;
        Place = place;
        byte[] before = ReadLine(place);
        byte[] after = Damage(before);
        if (before.AsSpan().SequenceEqual(after))
            return;
        Done = true;
        _memory.WriteMemory(place, after);
    }

    /// <inheritdoc/>
    public override string ToString() => $"{Structure} of slot {Slot} at {Place} {Kind}";

    private byte[] Damage(byte[] line)
    {
        switch (Kind)
        {
            case DamageKind.Flip:
                line = [.. line];
                line[_random.Next(line.Length)] ^= (byte)(1 << _random.Next(8));
                return line;
            case DamageKind.Zeros:
                return new byte[line.Length];
            case DamageKind.Ones:
                return [.. Enumerable.Repeat((byte)0xFF, line.Length)];
            case DamageKind.Neighbour:
                return ReadLine(Place + DaxDevice.LineBytes);
            default:
                return _before.TryGetValue(Place / FakeSharedMemory.PageBytes, out byte[]? page)
                    ? page.AsSpan((int)(Place % FakeSharedMemory.PageBytes), DaxDevice.LineBytes).ToArray()
                    : new byte[line.Length];
        }
    }

    private long? FindPlace()
    {
        long slot = MediaLayout.AnchorOffset + (long)Slot * MediaLayout.AnchorStride;
        switch (Structure)
        {
            case DamagedStructure.Claim:
                return slot + _random.Next(AnchorLines - 1) * DaxDevice.LineBytes;
            case DamagedStructure.Tail:
                return slot + (AnchorLines - 1) * DaxDevice.LineBytes;
            case DamagedStructure.ActiveCopy:
                // The first lines and the last are never only zeros.
                int line = _random.Next(2) == 0 ? _random.Next(LinesPerCopy) : (_random.Next(6) + LinesPerCopy - 1) % LinesPerCopy;
                return slot + (1 + _random.Next(2)) * ActiveAnchor.Size + line * DaxDevice.LineBytes;
        }
        SegmentRef[] segments = NewestOf(_memory, _fileSystem, Slot)?.Chain ?? [];
        if (segments.Length == 0)
            return null;
        SegmentRef segment = segments[_random.Next(2) == 0 ? segments.Length - 1 : _random.Next(segments.Length)];
        if (Structure == DamagedStructure.SegmentHeader)
            return segment.Offset + _random.Next(4) * DaxDevice.LineBytes;
        long start = segment.Offset + MediaLayout.SegmentHeaderBytes;
        long used = 0;
        for (long empty = 0; empty < 4 && start + used < segment.Offset + segment.LengthBytes; used += DaxDevice.LineBytes)
            empty = ReadLine(start + used).AsSpan().ContainsAnyExcept((byte)0) ? 0 : empty + 1;
        long lines = used / DaxDevice.LineBytes;
        // The newest frames are those that matter to a takeover.
        long from = _random.Next(2) == 0 ? Math.Max(0, lines - 12) : 0;
        return start + _random.NextInt64(from, lines) * DaxDevice.LineBytes;
    }

    /// <summary>The newest active copy of a slot that is whole in memory.</summary>
    public static ActiveAnchor? NewestOf(FakeSharedMemory memory, Guid fileSystem, int slot)
    {
        byte[] copy = new byte[ActiveAnchor.Size];
        ActiveAnchor? newest = null;
        for (int i = 1; i <= 2; i++)
        {
            memory.ReadMemory(MediaLayout.AnchorOffset + (long)slot * MediaLayout.AnchorStride + i * ActiveAnchor.Size, copy);
            if (ActiveAnchor.TryParse(copy, fileSystem, slot, out ActiveAnchor? parsed) && (newest is null || parsed!.Counter > newest.Counter))
                newest = parsed;
        }
        return newest;
    }

    private byte[] ReadLine(long place)
    {
        byte[] line = new byte[DaxDevice.LineBytes];
        _memory.ReadMemory(place, line);
        return line;
    }
}
