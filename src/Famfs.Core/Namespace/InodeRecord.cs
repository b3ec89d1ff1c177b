using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Famfs.Core.Namespace;

/// <summary>
/// One inode in native memory: exactly one cache line, so that a lookup that misses the cache pays for
/// one line of the inode, not two.
/// <code>
///  0  Version       seqlock: odd while the writer changes the fields below
///  4  Owner         index of the (uid, gid) pair in the OwnerTable
///  8  Size          file, symlink: bytes; directory: entries
/// 16  ParentWord    parent inode 40 bits | high 24 bits of the cookie
/// 24  NextWord      next sibling 40 bits | low 24 bits of the cookie
/// 32  PreviousWord  previous sibling 40 bits | flags 24 bits (kind, status, mode, shape of Time)
/// 40  NameWord      packed pointer to the name, length in the upper 16 bits; 0: nameless
/// 48  MapWord       file: see InodeMap; symlink: packed pointer to the target, length in the upper 16 bits;
///                   directory: pointer to its DirectoryBlock
/// 56  TimeWord      the one time of an inode whose three times are equal, else pointer to InodeExtension
/// </code>
/// Every word is written by the writer thread only. NextWord and PreviousWord also change, by a single
/// 8-byte store that keeps their other half, when a neighbour comes or goes; that needs no new version,
/// because no reader combines a sibling number with another field of the same record. Of a deleted file, which has
/// no siblings, they lead to the files deleted next and before.
/// </summary>
[StructLayout(LayoutKind.Sequential, Size = SizeBytes)]
internal struct InodeRecord
{
    public const int SizeBytes = 64;

    public uint Version;
    public uint Owner;
    public ulong Size;
    public ulong ParentWord;
    public ulong NextWord;
    public ulong PreviousWord;
    public ulong NameWord;
    public ulong MapWord;
    public long TimeWord;
}

/// <summary>The fields of an <see cref="InodeRecord"/> that belong together, copied at one version.</summary>
internal struct InodeSnapshot
{
    public uint Version;
    public uint Owner;
    public ulong Size;
    public ulong ParentWord;
    public ulong NextWord;
    public ulong PreviousWord;
    public ulong NameWord;
    public ulong MapWord;
    public long TimeWord;

    public readonly ulong Parent => ParentWord >> InodeWords.LowBits;

    public readonly ulong Next => NextWord >> InodeWords.LowBits;

    public readonly ulong Cookie => InodeWords.Cookie(ParentWord, NextWord);

    public readonly uint Flags => (uint)PreviousWord & InodeWords.LowMask;

    public readonly InodeKind Kind => InodeWords.KindOf(Flags);

    public readonly InodeStatus Status => InodeWords.StatusOf(Flags);

    public readonly ExtensionShape Shape => InodeWords.ShapeOf(Flags);
}

/// <summary>What <see cref="InodeRecord.TimeWord"/> holds.</summary>
internal enum ExtensionShape : byte
{
    /// <summary>The time itself; all three are equal.</summary>
    None = 0,

    /// <summary>Pointer to the first <see cref="InodeExtension.TimesBytes"/> of an <see cref="InodeExtension"/>.</summary>
    Times = 1,

    /// <summary>Pointer to a whole <see cref="InodeExtension"/>.</summary>
    Full = 2,
}

/// <summary>What few inodes have. Changed in place, under the version of its record.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct InodeExtension
{
    public const int TimesBytes = 24;
    public const int FullBytes = 48;

    public long AccessTimeNs;
    public long ModifyTimeNs;
    public long ChangeTimeNs;

    /// <summary>Pointer to the block of extended attributes, 0: none.</summary>
    public ulong Attributes;

    /// <summary>Staged: the mount that owns the file.</summary>
    public Guid OwnerMount;
}

/// <summary>What a directory has beyond an inode. Written by the writer; First and LastCookie are also read
/// by listing readers without the record's version.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct DirectoryBlock
{
    public const int SizeBytes = 40;

    public ulong First;
    public ulong Last;

    /// <summary>Cookie of the child linked last. Stored before that child is reachable.</summary>
    public ulong LastCookie;
    public ulong Subdirectories;

    /// <summary>Writer only: where the deletion of a subtree goes back to.</summary>
    public ulong Reserved;
}

/// <summary>Packing of the words of an <see cref="InodeRecord"/> and of packed pointers.</summary>
internal static unsafe class InodeWords
{
    public const int LowBits = 24;
    public const uint LowMask = (1u << LowBits) - 1;
    public const int PointerBits = 48;
    public const ulong PointerMask = (1UL << PointerBits) - 1;

    private const int StatusShift = 3;
    private const int ModeShift = 6;
    private const int ShapeShift = 18;

    public static uint Flags(InodeKind kind, InodeStatus status, uint mode, ExtensionShape shape) =>
        (uint)kind | ((uint)status << StatusShift) | ((mode & 0xFFF) << ModeShift) | ((uint)shape << ShapeShift);

    public static InodeKind KindOf(uint flags) => (InodeKind)(flags & 7);

    public static InodeStatus StatusOf(uint flags) => (InodeStatus)((flags >> StatusShift) & 7);

    public static uint ModeOf(uint flags) => (flags >> ModeShift) & 0xFFF;

    public static ExtensionShape ShapeOf(uint flags) => (ExtensionShape)((flags >> ShapeShift) & 3);

    public static ulong Word(ulong inode, ulong low) => (inode << LowBits) | (low & LowMask);

    public static ulong Cookie(ulong parentWord, ulong nextWord) => ((parentWord & LowMask) << LowBits) | (nextWord & LowMask);

    public static ulong Pack(byte* pointer, int upper) => (ulong)pointer | ((ulong)upper << PointerBits);

    public static byte* Pointer(ulong packed) => (byte*)(packed & PointerMask);

    public static int Upper(ulong packed) => (int)(packed >> PointerBits);

    public static ReadOnlySpan<byte> Bytes(ulong packed) => new(Pointer(packed), Upper(packed));
}

/// <summary>The seqlock of an <see cref="InodeRecord"/>.</summary>
internal static unsafe class InodeVersion
{
    /// <summary>Writer: makes the version odd. The store barrier keeps later field stores from being seen
    /// before the odd version; without it a reader could take a half-new set for the old one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Begin(InodeRecord* record)
    {
        record->Version++;
        Volatile.WriteBarrier();
    }

    /// <summary>Writer: makes the version even. The release store keeps the field stores before it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void End(InodeRecord* record) => Volatile.Write(ref record->Version, record->Version + 1);

    /// <summary>Reader: copies the record at one version. The acquire load of the version comes before the
    /// field loads, the load barrier keeps them before the second look at the version. The writer holds a
    /// version odd for a few stores only, it neither allocates nor calls anything in between.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Read(InodeRecord* record, out InodeSnapshot snapshot)
    {
        if (!TryRead(record, out snapshot))
            ReadAgain(record, out snapshot);
    }

    /// <summary>Reader: whether what was read since <paramref name="snapshot"/> from blocks the record points
    /// to belongs to that version.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool StillAt(InodeRecord* record, in InodeSnapshot snapshot)
    {
        Volatile.ReadBarrier();
        return Volatile.Read(ref record->Version) == snapshot.Version;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool TryRead(InodeRecord* record, out InodeSnapshot snapshot)
    {
        Unsafe.SkipInit(out snapshot);
        uint version = Volatile.Read(ref record->Version);
        snapshot.Version = version;
        snapshot.Owner = record->Owner;
        snapshot.Size = record->Size;
        snapshot.ParentWord = record->ParentWord;
        snapshot.NextWord = record->NextWord;
        snapshot.PreviousWord = record->PreviousWord;
        snapshot.NameWord = record->NameWord;
        snapshot.MapWord = record->MapWord;
        snapshot.TimeWord = record->TimeWord;
        Volatile.ReadBarrier();
        return (version & 1) == 0 && Volatile.Read(ref record->Version) == version;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void ReadAgain(InodeRecord* record, out InodeSnapshot snapshot)
    {
        SpinWait spin = default;
        while (!TryRead(record, out snapshot))
            spin.SpinOnce(sleep1Threshold: -1);
    }
}
