using System.Security.Cryptography;
using System.Text;
using Famfs.Core;
using Famfs.Core.Format;

namespace Famfs.Fuse.Operations;

/// <summary>
/// Lets a thread of the daemon, and nobody else, open a file of its own mount: one that waits for its first OPEN, or one that was
/// deleted. So the file is flushed under its own inode, and a kernel that holds the devices never has two over the same memory.
/// <para>The thread looks up a name in <c>.meta</c> that nobody can guess. Its number in the LOOKUP is that of its OPEN: it is in
/// this one call of open(2), so no other thread has that number.</para>
/// <para>Any thread. Finding takes no lock.</para>
/// </summary>
public sealed class FlushDoor
{
    // Chosen: beyond guessing.
    private const int SecretBytes = 16;

    private readonly Lock _gate = new(); // guards replacing the array below
    private volatile Visit[] _open = []; // replaced whole

    /// <summary>A file that may be opened, until it is disposed.</summary>
    public sealed class Visit : IDisposable
    {
        private readonly FlushDoor _door;
        private readonly byte[] _name;
        private int _thread = -1; // of the one that knows the name; -1: it was not looked up yet

        internal Visit(FlushDoor door, InodeNumber inode)
        {
            (_door, Inode) = (door, inode);
            Name = MetaNames.FlushPrefix + RandomNumberGenerator.GetHexString(2 * SecretBytes, lowercase: true);
            _name = Encoding.UTF8.GetBytes(Name);
        }

        /// <summary>The file.</summary>
        public InodeNumber Inode { get; }

        /// <summary>Its name in <c>.meta</c>.</summary>
        public string Name { get; }

        /// <summary>The same, UTF-8.</summary>
        public ReadOnlySpan<byte> NameBytes => _name;

        /// <summary>The name was looked up by a thread whose number is not known: the mount was made in a process name space in which this
        /// process is not seen. Then it cannot be opened.</summary>
        public bool IsUnknownHere => Volatile.Read(ref _thread) == 0;

        internal void Enter(uint thread) => Volatile.Write(ref _thread, (int)thread);

        internal bool IsBy(uint thread) => thread != 0 && Volatile.Read(ref _thread) == (int)thread;

        /// <summary>Nobody may open the file by it any more.</summary>
        public void Dispose()
        {
            lock (_door._gate)
                _door._open = [.. _door._open.Where(v => v != this)];
        }
    }

    /// <summary>Opens the door for one file. Any number at a time.</summary>
    public Visit Open(InodeNumber inode)
    {
        Visit visit = new(this, inode);
        lock (_gate)
            _open = [.. _open, visit];
        return visit;
    }

    /// <summary>Whether a visit of this file is under way.</summary>
    internal bool IsVisited(InodeNumber inode)
    {
        foreach (Visit visit in _open)
        {
            if (visit.Inode == inode)
                return true;
        }
        return false;
    }

    /// <summary>Whether this thread may open this file.</summary>
    internal bool IsVisited(InodeNumber inode, uint thread)
    {
        foreach (Visit visit in _open)
        {
            if (visit.Inode == inode && visit.IsBy(thread))
                return true;
        }
        return false;
    }

    /// <summary>The file of a name in <c>.meta</c>, which a thread looks up.</summary>
    internal bool TryEnter(ReadOnlySpan<byte> name, uint thread, out InodeNumber inode)
    {
        foreach (Visit visit in _open)
        {
            if (!name.SequenceEqual(visit.NameBytes))
                continue;
            visit.Enter(thread);
            inode = visit.Inode;
            return thread != 0;
        }
        inode = InodeNumber.None;
        return false;
    }
}
