using System.Diagnostics.CodeAnalysis;

namespace Famfs.Cli;

/// <summary>A mode as chmod takes it: octal (<c>640</c>), or changes of what is there (<c>u+x,go-w</c>, <c>a=rX</c>, <c>g=u</c>).</summary>
internal sealed class ModeText
{
    private const uint AllBits = 0xFFF;
    private const uint OneEach = 0x49; // 0111
    private const uint SetUid = 0x800;
    private const uint SetGid = 0x400;
    private const uint Sticky = 0x200;

    // From as many digits on the set-id bits of a directory are meant, too.
    private const int WholeOctal = 5;

    private readonly List<Change> _changes = [];

    private ModeText()
    {
    }

    /// <summary>Reads the text.</summary>
    public static bool TryParse(string text, [NotNullWhen(true)] out ModeText? mode)
    {
        mode = new();
        if (QuantityText.TryParseMode(text, out uint absolute))
        {
            uint meant = text.Length < WholeOctal ? absolute | ~(SetUid | SetGid) : AllBits;
            mode._changes.Add(new('=', AllBits, absolute, meant));
            return true;
        }
        foreach (string part in text.Split(','))
        {
            int at = part.IndexOfAny(['+', '-', '=']);
            if (at < 0 || part[..at].AsSpan().ContainsAnyExcept("ugoa"))
                return false;
            uint who = 0;
            foreach (char c in part[..at])
                who |= Reach(c);
            while (at < part.Length)
            {
                int next = part.IndexOfAny(['+', '-', '='], at + 1);
                if (ReadChange(part[at], who, part[(at + 1)..(next < 0 ? part.Length : next)]) is not { } change)
                    return false;
                mode._changes.Add(change);
                at = next < 0 ? part.Length : next;
            }
        }
        return mode._changes.Count > 0;
    }

    /// <summary>The mode that comes of <paramref name="present"/>. Changes that name nobody leave alone what <paramref name="umask"/>
    /// has. A directory keeps set-id bits that are not named.</summary>
    public uint Apply(uint present, bool isDirectory, uint umask)
    {
        uint mode = present;
        foreach (Change change in _changes)
        {
            uint kept = isDirectory ? (SetUid | SetGid) & ~change.Meant : 0;
            uint bits = change.Bits;
            if (change.CopyOf is { } one)
                bits |= ((mode >> Shift(one)) & 7) * OneEach;
            if (change.ExecuteIfAny && (isDirectory || (mode & OneEach) != 0))
                bits |= OneEach;
            bits &= (change.Who != 0 ? change.Who : ~umask) & ~kept;
            mode = change.How switch
            {
                '+' => mode | bits,
                '-' => mode & ~bits,
                _ => (mode & (change.Who != 0 ? ~change.Who | kept : kept)) | bits,
            };
        }
        return mode & AllBits;
    }

    /// <summary>One change; null for words that chmod does not know.</summary>
    private static Change? ReadChange(char how, uint who, string what)
    {
        uint bits = 0;
        bool executeIfAny = false;
        if (what is ['u' or 'g' or 'o'])
            return new(how, who, 0, 0) { CopyOf = what[0] };
        foreach (char c in what)
        {
            switch (c)
            {
                case 'r': bits |= 4 * OneEach; break;
                case 'w': bits |= 2 * OneEach; break;
                case 'x': bits |= OneEach; break;
                case 'X': executeIfAny = true; break;
                case 's': bits |= SetUid | SetGid; break;
                case 't': bits |= Sticky; break;
                default: return null;
            }
        }
        return new(how, who, bits, who != 0 ? who & bits : bits) { ExecuteIfAny = executeIfAny };
    }

    /// <summary>Every bit that a change for this one can decide.</summary>
    private static uint Reach(char who) => who switch
    {
        'u' => SetUid | (7u << Shift(who)),
        'g' => SetGid | (7u << Shift(who)),
        'o' => Sticky | (7u << Shift(who)),
        _ => AllBits,
    };

    private static int Shift(char who) => who switch { 'u' => 6, 'g' => 3, _ => 0 };

    /// <summary>One change.</summary>
    /// <param name="How"><c>+</c>, <c>-</c> or <c>=</c>.</param>
    /// <param name="Who">Bits that it can decide; 0 when it names nobody.</param>
    /// <param name="Bits">Bits that it names, for everybody.</param>
    /// <param name="Meant">Bits that it decides also on a directory.</param>
    private sealed record Change(char How, uint Who, uint Bits, uint Meant)
    {
        /// <summary>It takes the rights of this one.</summary>
        public char? CopyOf { get; init; }

        /// <summary>Execute for directories, and for files that somebody may execute.</summary>
        public bool ExecuteIfAny { get; init; }
    }
}
