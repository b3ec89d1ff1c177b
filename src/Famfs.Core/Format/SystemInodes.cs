namespace Famfs.Core.Format;

/// <summary>Inode numbers of what a file system uses itself. In the native format they are the first ones.</summary>
/// <param name="Meta">The hidden directory <c>.meta</c>.</param>
/// <param name="Staged">The hidden directory <c>.staged</c>.</param>
/// <param name="Log">The first log segment, or the log.</param>
public sealed record SystemInodes(InodeNumber Meta, InodeNumber Staged, InodeNumber Log);
