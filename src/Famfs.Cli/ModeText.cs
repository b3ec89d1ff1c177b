using System.Diagnostics.CodeAnalysis;

namespace Famfs.Cli;

/// <summary>A mode as chmod takes it: octal (<c>640</c>), or changes of what is there (<c>u+x,go-w</c>, <c>a=rX</c>).</summary>
internal sealed class ModeText
{
    private const uint AllBits = 0xFFF;
    private const uint ExecuteBits = 0x49; // 0111
    private const uint SetUid = 0x800;
    private const uint SetGid = 0x400;
    private const uint Sticky = 0x200;

    private readonly uint? _absolute;
    private readonly List<(string Who, char How, string What)> _changes = [];

    private ModeText(uint? absolute) => _absolute = absolute;

    /// <summary>Reads the text.</summary>
    public static bool TryParse(string text, [NotNullWhen(true)] out ModeText? mode)
    {
        if (QuantityText.TryParseMode(text, out uint absolute))
        {
            mode = new(absolute);
            return true;
        }
        mode = new((uint?)null);
        foreach (string part in text.Split(','))
        {
            int at = part.IndexOfAny(['+', '-', '=']);
            if (at < 0 || part[..at].AsSpan().ContainsAnyExcept("ugoa"))
                return false;
            string who = at == 0 || part[..at].Contains('a', StringComparison.Ordinal) ? "ugo" : part[..at];
            while (at < part.Length)
            {
                int next = part.IndexOfAny(['+', '-', '='], at + 1);
                string what = part[(at + 1)..(next < 0 ? part.Length : next)];
                if (what.AsSpan().ContainsAnyExcept("rwxXst"))
                    return false;
                mode._changes.Add((who, part[at], what));
                at = next < 0 ? part.Length : next;
            }
        }
        return mode._changes.Count > 0;
    }

    /// <summary>The mode that comes of <paramref name="present"/>.</summary>
    public uint Apply(uint present, bool isDirectory)
    {
        if (_absolute is { } absolute)
            return absolute;
        uint mode = present;
        foreach ((string who, char how, string what) in _changes)
        {
            uint bits = Bits(who, what, mode, isDirectory);
            mode = how switch
            {
                '+' => mode | bits,
                '-' => mode & ~bits,
                _ => (mode & ~Reach(who)) | bits,
            };
        }
        return mode & AllBits;
    }

    private static uint Bits(string who, string what, uint mode, bool isDirectory)
    {
        uint three = 0;
        uint bits = 0;
        foreach (char c in what)
        {
            switch (c)
            {
                case 'r': three |= 4; break;
                case 'w': three |= 2; break;
                case 'x': three |= 1; break;
                case 'X': three |= isDirectory || (mode & ExecuteBits) != 0 ? 1u : 0; break;
                case 's': bits |= (who.Contains('u', StringComparison.Ordinal) ? SetUid : 0) | (who.Contains('g', StringComparison.Ordinal) ? SetGid : 0); break;
                default: bits |= Sticky; break;
            }
        }
        foreach (char c in who)
            bits |= three << Shift(c);
        return bits;
    }

    /// <summary>Every bit that <c>=</c> decides for these.</summary>
    private static uint Reach(string who)
    {
        uint bits = who.Length == 3 ? Sticky : 0;
        foreach (char c in who)
            bits |= (7u << Shift(c)) | (c == 'u' ? SetUid : c == 'g' ? SetGid : 0);
        return bits;
    }

    private static int Shift(char who) => who switch { 'u' => 6, 'g' => 3, _ => 0 };
}
