using System.Text;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;

namespace Famfs.Fuse.Operations;

/// <summary>
/// A directory that is found by its name and listed nowhere, for root alone. Its files are inodes of the log, under
/// their inode numbers, or private to this mount, under node ids from <see cref="MediaLayout.FirstPrivateNode"/> on.
/// What all hidden directories have in common (attributes, LOOKUP, READDIR, what may be opened) is in
/// <c>FuseOperations.Hidden.cs</c>; a further one is a class like those below, and its name in <see cref="Names"/>.
/// <para>Any thread, without a lock and without allocation.</para>
/// </summary>
/// <param name="node">Its node id; no other inode or directory has it.</param>
/// <param name="parent">Where its name is; null: in the root.</param>
/// <param name="name">Its name.</param>
internal abstract class HiddenDirectory(ulong node, HiddenDirectory? parent, string name)
{
    /// <summary>Names in the root that no file can have, whether the directory is there or not.</summary>
    public static readonly IReadOnlyList<byte[]> Names = [Encoding.UTF8.GetBytes(MetaNames.Directory)];

    /// <summary>Its node id.</summary>
    public ulong Node => node;

    /// <summary>The directory that it is in; null: the root.</summary>
    public HiddenDirectory? Parent => parent;

    /// <summary>Its name, UTF-8.</summary>
    public byte[] Name { get; } = Encoding.UTF8.GetBytes(name);

    /// <summary>The file of that name: its node id.</summary>
    public abstract bool TryFind(ReadOnlySpan<byte> name, out ulong file);

    /// <summary>The file whose node id is the least above <paramref name="after"/>, with its name, for which
    /// <paramref name="name"/> has <see cref="MetaNames.MaxBytes"/>.</summary>
    public abstract bool TryGetNext(ulong after, Span<byte> name, out int nameBytes, out ulong file);

    /// <summary>Whether the kernel is told of changes of a file by <see cref="KernelPresence"/>; else whoever opens it tells.</summary>
    public virtual bool IsTold(ulong file) => true;

    /// <summary>What a file holds that is no inode of the log; false when there is no such node here.</summary>
    public virtual bool TryGetPrivate(ulong file, out MapExtent extent)
    {
        extent = default;
        return false;
    }
}

/// <summary><c>.meta</c>: the file system's own memory, as inodes of the log.</summary>
internal sealed class MetaDirectory(MetaFiles files) : HiddenDirectory(files.Directory.Value, null, MetaNames.Directory)
{
    public override bool TryFind(ReadOnlySpan<byte> name, out ulong file)
    {
        bool found = files.TryFind(name, out InodeNumber inode);
        file = inode.Value;
        return found;
    }

    public override bool TryGetNext(ulong after, Span<byte> name, out int nameBytes, out ulong file)
    {
        bool found = files.TryGetNext(new InodeNumber(after), name, out nameBytes, out MetaFile next);
        file = next.Inode.Value;
        return found;
    }
}

/// <summary><c>.meta/window</c>: space reserved to a writer of this host, under private node ids.</summary>
internal sealed class WindowDirectory(HiddenDirectory parent, WindowTable windows) : HiddenDirectory(WindowTable.DirectoryNode, parent, MetaNames.Windows)
{
    public override bool TryFind(ReadOnlySpan<byte> name, out ulong file)
    {
        Window? window = windows.Find(name);
        file = window?.Node ?? 0;
        return window is not null;
    }

    public override bool TryGetNext(ulong after, Span<byte> name, out int nameBytes, out ulong file)
    {
        foreach (Window window in windows.Open)
        {
            if (window.Node > after)
            {
                window.Name.CopyTo(name);
                (nameBytes, file) = (window.Name.Length, window.Node);
                return true;
            }
        }
        (nameBytes, file) = (0, 0);
        return false;
    }

    // There may be millions of the daemon's own in the life of a mount, each for a moment.
    public override bool IsTold(ulong file) => !windows.IsOwn(file);

    public override bool TryGetPrivate(ulong file, out MapExtent extent)
    {
        Window? window = windows.Find(file);
        extent = window?.Extent ?? default;
        return window is not null;
    }
}
