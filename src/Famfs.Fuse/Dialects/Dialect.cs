using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Dialects;

/// <summary>
/// One generation of the kernel's interface, as a value: what opcode numbers mean, what INIT asks for beyond
/// the stock flags, how files are opened. Chosen once, at INIT (<see cref="DialectTable"/>); nothing else in
/// the server asks which kernel it talks to.
/// </summary>
/// <param name="Name">For messages: <c>stock</c>.</param>
/// <param name="Opcodes">Meaning of opcode numbers.</param>
/// <param name="Offer">Recognises the dialect: flags of which the kernel offers all.</param>
/// <param name="MinMinor">Recognises the dialect: lowest minor version.</param>
/// <param name="Request">Flags asked for in addition to the stock ones.</param>
/// <param name="OpenFlags">FOPEN_… for regular files, or null where the mount's cache mode decides.</param>
public sealed record Dialect(string Name, OpcodeTable Opcodes, ulong Offer, uint MinMinor, ulong Request, uint? OpenFlags);

/// <summary>The dialects, most specific first.</summary>
public static class DialectTable
{
    /// <summary>Lowest minor version served: 7.31, Linux 5.4. Older ones have other message layouts.</summary>
    public const uint MinMinor = 31;

    /// <summary>Mainline Linux: the server reads and writes on behalf of programs.</summary>
    public static readonly Dialect Stock = new("stock", OpcodeTable.Stock, 0, MinMinor, 0, null);

    /// <summary>Every dialect, in the order they are tried; the last one matches any kernel that is served.</summary>
    public static IReadOnlyList<Dialect> All { get; } = [Stock];

    /// <summary>The first dialect whose marks the kernel shows, null when it is too old for any.</summary>
    public static Dialect? Detect(uint minor, ulong offered)
    {
        foreach (Dialect dialect in All)
        {
            if (minor >= dialect.MinMinor && (offered & dialect.Offer) == dialect.Offer)
                return dialect;
        }
        return null;
    }
}
