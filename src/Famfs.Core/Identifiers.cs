namespace Famfs.Core;

/// <summary>Number of an inode: given by the master, recorded, never reused, equal on every host.
/// FUSE node ids are inode numbers. 1 to 2^40 − 1 (chosen: a name-table entry packs it in 40 bits).</summary>
public readonly record struct InodeNumber(ulong Value)
{
    /// <summary>Largest number the namespace can hold.</summary>
    public const ulong Max = (1UL << 40) - 1;

    /// <summary>The root directory.</summary>
    public static readonly InodeNumber Root = new(1);

    /// <summary>No inode.</summary>
    public static readonly InodeNumber None = new(0);

    /// <inheritdoc/>
    public override string ToString() => Value.ToString(System.Globalization.CultureInfo.InvariantCulture);
}

/// <summary>Place of a record in the history; dense, the first record is 1, 0 means "nothing yet".</summary>
public readonly record struct LogSequence(ulong Value) : IComparable<LogSequence>
{
    /// <inheritdoc/>
    public int CompareTo(LogSequence other) => Value.CompareTo(other.Value);

    /// <summary>The sequence after this one.</summary>
    public LogSequence Next => new(Value + 1);

    /// <inheritdoc/>
    public override string ToString() => Value.ToString(System.Globalization.CultureInfo.InvariantCulture);
}

/// <summary>Index of a dax device in the device table, given by <c>DeviceAdded</c> in dense order.</summary>
public readonly record struct DeviceIndex(ushort Value)
{
    /// <inheritdoc/>
    public override string ToString() => Value.ToString(System.Globalization.CultureInfo.InvariantCulture);
}

/// <summary>One tenure of one master: k · 64 + slot, k growing with every start (SAFETY S1 in
/// docs/safety.md). 0 is "no term".</summary>
public readonly record struct Term(ulong Value) : IComparable<Term>
{
    /// <summary>Number of master slots.</summary>
    public const int SlotCount = 64;

    /// <summary>Slot whose master runs this term.</summary>
    public int Slot => (int)(Value % SlotCount);

    /// <summary>The term that <paramref name="slot"/> claims above <paramref name="highest"/>: k is one more than
    /// that term's, whatever its slot.</summary>
    public static Term After(Term highest, int slot) => new(((highest.Value / SlotCount) + 1) * SlotCount + (ulong)slot);

    /// <inheritdoc/>
    public int CompareTo(Term other) => Value.CompareTo(other.Value);

    /// <inheritdoc/>
    public override string ToString() => Value.ToString(System.Globalization.CultureInfo.InvariantCulture);

    public static bool operator <(Term left, Term right) => left.Value < right.Value;

    public static bool operator >(Term left, Term right) => left.Value > right.Value;

    public static bool operator <=(Term left, Term right) => left.Value <= right.Value;

    public static bool operator >=(Term left, Term right) => left.Value >= right.Value;
}

/// <summary>A place in the history of one file system: record <paramref name="Sequence"/> of
/// <paramref name="Generation"/>, written by <paramref name="Term"/>.</summary>
public readonly record struct LogPosition(Guid FileSystem, ulong Generation, LogSequence Sequence, Term Term)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Generation}:{Sequence}@{Term}";
}

/// <summary>A contiguous range of one device, in bytes.</summary>
public readonly record struct MapExtent(DeviceIndex Device, long OffsetBytes, long LengthBytes)
{
    /// <summary>Whether a byte is in both.</summary>
    public bool Overlaps(MapExtent other) =>
        Device == other.Device && OffsetBytes < other.OffsetBytes + other.LengthBytes && other.OffsetBytes < OffsetBytes + LengthBytes;
}
