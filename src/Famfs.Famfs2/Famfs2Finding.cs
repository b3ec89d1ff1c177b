namespace Famfs.Famfs2;

/// <summary>Something odd about an entry of the log.</summary>
/// <param name="Index">Of the entry.</param>
/// <param name="Code">Stable name of the kind.</param>
/// <param name="Cause">One line.</param>
/// <param name="Ignored">True: the entry has no effect. False: it was applied all the same.</param>
public readonly record struct Famfs2Finding(ulong Index, string Code, string Cause, bool Ignored);
