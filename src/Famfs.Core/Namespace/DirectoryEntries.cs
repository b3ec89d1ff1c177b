using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace Famfs.Core.Namespace;

/// <summary>
/// The children of a directory. Valid inside the <see cref="TreeScope"/> it came from.
/// <para>How it stays right while the writer links and unlinks: it stands on a child p of cookie c, or before
/// the first. To step, it loads p's next sibling s, copies s, and then makes sure that p is still linked here
/// with cookie c and still leads to s. Then s was p's successor, and nothing lies between them. If p leads
/// elsewhere by now, it tries again; if p is gone from the list, it walks from the first child to the first
/// cookie above c. Children are only ever appended, with growing cookies, so none can appear behind it.</para>
/// <para>Why it ends: it sees only cookies up to the last one given when it began, so the children that can
/// concern it only become fewer, and every retry is due to one of them going.</para>
/// </summary>
public unsafe ref struct DirectoryEntries
{
    private readonly InodeTree _tree;
    private readonly DirectoryBlock* _block;
    private readonly ulong _directory;
    private readonly ulong _lastCookie;

    // Where it stands: record and cookie of a child, or null: before the first.
    private InodeRecord* _at;
    private ulong _atCookie;

    private ulong _cookie;
    private ulong _name;
    private InodeAttributes _attributes;

    internal DirectoryEntries(InodeTree tree, ulong directory, InodeRecord* record, ulong afterCookie, ulong hint, InodeRecord* hintRecord)
    {
        _tree = tree;
        _directory = directory;
        _cookie = afterCookie;
        if (record == null)
            return;
        bool looksUp = tree.HasRemovedDirectories;
        InodeVersion.Read(record, out InodeSnapshot snapshot);
        if (snapshot.Kind != InodeKind.Directory || (looksUp && tree.IsRemoved(InodeKind.Directory, snapshot.Parent)))
            return;
        _block = (DirectoryBlock*)snapshot.MapWord;
        _lastCookie = Volatile.Read(ref _block->LastCookie);
        if (hint != 0 && hintRecord != null && afterCookie != 0 && TryNext(hintRecord, afterCookie, out _))
        {
            _at = hintRecord;
            _atCookie = afterCookie;
        }
    }

    /// <summary>Name of the current child.</summary>
    public readonly ReadOnlySpan<byte> Name => InodeWords.Bytes(_name);

    /// <summary>Cookie of the current child, to go on after it.</summary>
    public readonly ulong Cookie => _cookie;

    /// <summary>Attributes of the current child.</summary>
    [UnscopedRef]
    public readonly ref readonly InodeAttributes Attributes => ref _attributes;

    /// <summary>For foreach.</summary>
    public readonly DirectoryEntries GetEnumerator() => this;

    /// <summary>For foreach.</summary>
    public readonly DirectoryEntries Current => this;

    /// <summary>Goes to the next child; false after the last.</summary>
    public bool MoveNext()
    {
        if (_block == null)
            return false;
        while (true)
        {
            if (!TryLoadNext(out ulong next))
                continue;
            if (next == 0)
                return false;
            switch (Step(next))
            {
                case StepResult.Child:
                    return true;
                case StepResult.End:
                    return false;
                default:
                    break;
            }
        }
    }

    /// <summary>First half of a step: who follows where it stands, 0: nobody. False: it stands nowhere any more
    /// and begins again before the first child.</summary>
    internal bool TryLoadNext(out ulong next)
    {
        if (TryNext(_at, _atCookie, out next))
            return true;
        _at = null;
        return false;
    }

    /// <summary>Second half: goes to <paramref name="next"/> if it still follows after it has been copied.</summary>
    internal StepResult Step(ulong next)
    {
        InodeRecord* record = _tree.Find(next);
        InodeSnapshot snapshot = default;
        bool found = record != null && InodeReading.TryRead(_tree, record, next, out snapshot, out _attributes);
        if (!TryLoadNext(out ulong again) || again != next || !found || snapshot.Parent != _directory)
            return StepResult.Again;
        ulong cookie = snapshot.Cookie;
        if (cookie > _lastCookie)
            return StepResult.End;
        _at = record;
        _atCookie = cookie;
        if (cookie <= _cookie)
            return StepResult.Again;
        _cookie = cookie;
        _name = snapshot.NameWord;
        return StepResult.Child;
    }

    internal enum StepResult
    {
        Again,
        Child,
        End,
    }

    /// <summary>The sibling after a child of this directory, or the first child; false when the child is no
    /// longer linked here with that cookie.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly bool TryNext(InodeRecord* at, ulong cookie, out ulong next)
    {
        if (at == null)
        {
            // Ordered before the next look at a record by the acquire load, after the last one by the barrier.
            Volatile.ReadBarrier();
            next = Volatile.Read(ref _block->First);
            return true;
        }

        Volatile.ReadBarrier();
        InodeVersion.Read(at, out InodeSnapshot snapshot);
        next = snapshot.Next;
        return snapshot.Parent == _directory && snapshot.Cookie == cookie && snapshot.NameWord != 0;
    }
}
