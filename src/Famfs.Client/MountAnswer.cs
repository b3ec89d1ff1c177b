using System.Text;

namespace Famfs.Client;

/// <summary>
/// What a path said, and the mount that it is on, when they were asked. Asked once and kept, because a mount whose daemon is stopped
/// does not let go of who asks it: who must not be held has another process ask, and reads what that one writes.
/// </summary>
/// <param name="Mount">The famfs mount, with its attributes of that moment; null when the path is on another file system.</param>
/// <param name="Resolved">The path without links.</param>
public sealed record MountAnswer(FamfsMount? Mount, string Resolved)
{
    /// <summary>Asks. Does not return while the mount does not answer.</summary>
    public static MountAnswer Ask(string path, string tablePath = MountEntry.TablePath)
    {
        FamfsMount? mount = FamfsMount.Find(path, out string resolved, tablePath);
        return new(mount?.Asked(), resolved);
    }

    /// <summary>Reads what <see cref="Write"/> wrote.</summary>
    public static MountAnswer Read(Stream stream)
    {
        using BinaryReader reader = new(stream, Encoding.UTF8, leaveOpen: true);
        string resolved = reader.ReadString();
        return new(reader.ReadBoolean() ? FamfsMount.Read(reader) : null, resolved);
    }

    /// <summary>For another process of the same version.</summary>
    public void Write(Stream stream)
    {
        using BinaryWriter writer = new(stream, Encoding.UTF8, leaveOpen: true);
        writer.Write(Resolved);
        writer.Write(Mount is not null);
        Mount?.Write(writer);
    }
}
