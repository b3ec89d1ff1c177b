using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.Core.Namespace;
using Famfs.Fuse.Protocol;
using Famfs.Fuse.Session;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Simulation.Holders;

/// <summary>An inode that a kernel has.</summary>
internal sealed class KernelInode(ulong number)
{
    public ulong Number { get; } = number;

    /// <summary>Open files and mappings.</summary>
    public int Opens { get; set; }

    /// <summary>Who uses it without having it open: requests, and programs on their way along a path.</summary>
    public int Uses { get; set; }

    /// <summary>Its map, where the kernel reaches memory by itself. Kept for as long as it has the inode.</summary>
    public MapExtent[]? Map { get; set; }
}

/// <summary>A request of a program.</summary>
internal sealed class KernelRequest(byte[] message, Func<byte[]>? map = null)
{
    public byte[] Message { get; } = message;

    /// <summary>GET_FMAP: what answers it, the map's extents; else null.</summary>
    public Func<byte[]>? Map { get; } = map;

    public byte[]? Reply { get; set; }

    public ulong Unique => BinaryPrimitives.ReadUInt64LittleEndian(Message.AsSpan(8));

    public ulong Node => BinaryPrimitives.ReadUInt64LittleEndian(Message.AsSpan(16));
}

/// <summary>An open file of a program, or a mapping.</summary>
internal sealed class OpenFile(KernelModel mount, KernelInode inode, MapExtent[] extents)
{
    public KernelModel Mount { get; } = mount;

    public KernelInode Inode { get; } = inode;

    /// <summary>The space of the file.</summary>
    public MapExtent[] Extents { get; } = extents;
}

/// <summary>
/// What the kernel of a host has of one mount: names, inodes, open files, maps; what it asks the daemon; what it answers to
/// notifications. A lookup holds its directory's lock until its result is cached, and a notification about a name takes it.
/// </summary>
internal sealed class KernelModel(CooperativeScheduler scheduler, Guid mount, bool reachesMemory)
{
    private readonly Dictionary<ulong, KernelInode> _inodes = new() { [1] = new(1) { Opens = 1 } };
    private readonly Dictionary<(ulong Parent, string Name), ulong> _names = [];
    private readonly Dictionary<ulong, int> _looking = [];
    private readonly Queue<KernelRequest> _waiting = [];
    private readonly Dictionary<ulong, KernelRequest> _read = [];
    private ulong _unique;

    public Guid Mount => mount;

    /// <summary>A famfs kernel: open files and mappings reach memory without the daemon.</summary>
    public bool ReachesMemory => reachesMemory;

    /// <summary>The daemon is dead, or the connection was aborted.</summary>
    public bool IsCut { get; set; }

    /// <summary>Unmounted: the superblock is gone.</summary>
    public bool IsGone { get; set; }

    public List<OpenFile> Open { get; } = [];

    /// <summary>A request waits.</summary>
    public bool HasWaiting => _waiting.Count > 0;

    /// <summary>The next request is an OPEN.</summary>
    public bool IsOpenNext => _waiting.TryPeek(out KernelRequest? next) && next.Message[4] == (byte)FuseOpcode.FUSE_OPEN;

    /// <summary>The node that the next request loads from or stores to; 0: none.</summary>
    public ulong TouchedNext => _waiting.TryPeek(out KernelRequest? next) && next.Message[4] is (byte)FuseOpcode.FUSE_READ or (byte)FuseOpcode.FUSE_WRITE ? next.Node : 0;

    /// <summary>The daemon refuses all that would reach memory.</summary>
    public Func<bool> IsTakenAway { get; set; } = static () => false;

    /// <summary>Files that programs can load from and store to.</summary>
    public IEnumerable<OpenFile> Reachable => reachesMemory || !(IsCut || IsTakenAway()) ? Open : [];

    /// <param name="isDead">The daemon is.</param>
    /// <param name="drain">A call of the kernel lets the stores of its thread go.</param>
    public IFuseTransport Connect(Func<bool> isDead, Action? drain = null) => new Transport(this, isDead, drain);

    /// <summary>Asks the daemon; null: the connection is over.</summary>
    public byte[]? Ask(FuseOpcode opcode, ulong node, ReadOnlySpan<byte> body, Func<byte[]>? map = null)
    {
        byte[] message = new byte[40 + body.Length];
        BinaryPrimitives.WriteInt32LittleEndian(message, message.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(4), (uint)opcode);
        BinaryPrimitives.WriteUInt64LittleEndian(message.AsSpan(8), _unique += 2);
        BinaryPrimitives.WriteUInt64LittleEndian(message.AsSpan(16), node);
        body.CopyTo(message.AsSpan(40));
        KernelRequest request = new(message, map);
        if (_inodes.TryGetValue(node, out KernelInode? inode))
            inode.Uses++;
        try
        {
            _waiting.Enqueue(request);
            while (request.Reply is null && !IsCut && !scheduler.Quiescing)
                scheduler.WaitFor(() => request.Reply is not null || IsCut, 1000);
            return request.Reply;
        }
        finally
        {
            if (inode is not null)
                PutBack(inode);
        }
    }

    public byte[]? Ask<T>(FuseOpcode opcode, ulong node, T body, ReadOnlySpan<byte> rest = default)
        where T : unmanaged =>
        Ask(opcode, node, [.. MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in body)), .. rest]);

    public static Errno ErrorOf(byte[]? reply) => reply is null ? Errno.ENODEV : (Errno)(-BinaryPrimitives.ReadInt32LittleEndian(reply.AsSpan(4)));

    /// <summary>The root, and <see cref="PutBack"/> is owed.</summary>
    public KernelInode TakeRoot() => Take(_inodes[1]);

    /// <summary>Looks a name up, in the cache first. <see cref="PutBack"/> is owed for what is found, and the caller has the
    /// directory.</summary>
    public KernelInode? Lookup(KernelInode directory, string name)
    {
        ulong parent = directory.Number;
        if (_names.TryGetValue((parent, name), out ulong known))
            return Take(_inodes[known]);
        _looking[parent] = _looking.GetValueOrDefault(parent) + 1;
        try
        {
            byte[]? reply = Ask(FuseOpcode.FUSE_LOOKUP, parent, [.. Encoding.UTF8.GetBytes(name), 0]);
            if (ErrorOf(reply) != Errno.None)
                return null;
            ulong node = MemoryMarshal.Read<EntryOut>(reply.AsSpan(16)).NodeId;
            if (node == 0)
                return null;
            if (!_inodes.TryGetValue(node, out KernelInode? inode))
                _inodes.Add(node, inode = new(node));
            _names[(parent, name)] = node;
            return Take(inode);
        }
        finally
        {
            _looking[parent]--;
        }
    }

    public void Close(OpenFile file)
    {
        if (!Open.Remove(file))
            return;
        file.Inode.Opens--;
        DropUnused(file.Inode);
    }

    /// <summary>Nobody who took it uses it any more.</summary>
    public void PutBack(KernelInode inode)
    {
        inode.Uses--;
        DropUnused(inode);
    }

    /// <summary>The kernel needs memory: a name that has none below it.</summary>
    public void Evict(Random random)
    {
        (ulong Parent, string Name)[] leaves = [.. _names.Where(n => !HasNames(n.Value)).Select(n => n.Key)];
        if (leaves.Length > 0 && random.Next(2) == 0)
            RemoveName(leaves[random.Next(leaves.Length)]);
    }

    /// <summary>What it has of an inode, for people.</summary>
    public string Describe(ulong number) => !_inodes.TryGetValue(number, out KernelInode? inode) ? $"{number}: none"
        : $"{number}: open {inode.Opens}, uses {inode.Uses}, {_names.Count(n => n.Value == number)} names, {_names.Count(n => n.Key.Parent == number)} below";

    private static KernelInode Take(KernelInode inode)
    {
        inode.Uses++;
        return inode;
    }

    private bool HasNames(ulong directory) => _names.Keys.Any(n => n.Parent == directory);

    // As FUSE does: an inode goes with its last name and its last user, and is not kept for later.
    private void DropUnused(KernelInode inode)
    {
        if (inode is { Opens: 0, Uses: 0 } && !_names.ContainsValue(inode.Number) && !HasNames(inode.Number))
            _inodes.Remove(inode.Number);
    }

    private bool RemoveName((ulong Parent, string Name) key)
    {
        if (!_names.Remove(key, out ulong child))
            return false;
        foreach ((ulong Parent, string Name) below in _names.Keys.Where(n => n.Parent == child).ToList())
            RemoveName(below);
        foreach (ulong number in (ulong[])[child, key.Parent])
        {
            if (_inodes.TryGetValue(number, out KernelInode? inode))
                DropUnused(inode);
        }
        return true;
    }

    private int Notify(ReadOnlySpan<byte> message, Func<bool> isDead)
    {
        int code = BinaryPrimitives.ReadInt32LittleEndian(message[4..]);
        ulong node = message.Length >= 24 ? BinaryPrimitives.ReadUInt64LittleEndian(message[16..]) : 0;
        switch (code)
        {
            case FuseConstants.FUSE_NOTIFY_INVAL_INODE:
                return _inodes.ContainsKey(node) ? 0 : -(int)Errno.ENOENT;
            case FuseConstants.FUSE_NOTIFY_INVAL_ENTRY:
            case FuseConstants.FUSE_NOTIFY_DELETE:
                ReadOnlySpan<byte> tail = message[(code == FuseConstants.FUSE_NOTIFY_DELETE ? 40 : 32)..];
                string name = Encoding.UTF8.GetString(tail[..^1]);
                while (_looking.GetValueOrDefault(node) > 0 && !IsCut && !isDead() && !scheduler.Quiescing)
                    scheduler.WaitFor(() => _looking.GetValueOrDefault(node) == 0 || IsCut || isDead(), 200);
                return _inodes.ContainsKey(node) && RemoveName((node, name)) ? 0 : -(int)Errno.ENOENT;
            case FuseConstants.FUSE_NOTIFY_INC_EPOCH:
                foreach ((ulong Parent, string Name) key in _names.Keys.ToList())
                    RemoveName(key);
                return 0;
            case FuseConstants.FUSE_NOTIFY_PRUNE:
                ulong pruned = BinaryPrimitives.ReadUInt64LittleEndian(message[^8..]);
                foreach ((ulong Parent, string Name) key in _names.Where(n => n.Value == pruned && !HasNames(pruned)).Select(n => n.Key).ToList())
                    RemoveName(key);
                return 0;
            default:
                throw new InvalidOperationException($"notification {code} is not modelled");
        }
    }

    private sealed class Transport(KernelModel kernel, Func<bool> isDead, Action? drain) : IFuseTransport
    {
        public int Read(Span<byte> buffer)
        {
            if (kernel.IsCut)
                return -(int)Errno.ENODEV;
            while (kernel._waiting.TryPeek(out KernelRequest? next))
            {
                kernel._waiting.Dequeue();
                if (next.Map is { } map)
                {
                    next.Reply = map();
                    continue;
                }
                kernel._read[next.Unique] = next;
                next.Message.CopyTo(buffer);
                return next.Message.Length;
            }
            return -(int)Errno.EAGAIN;
        }

        public unsafe int Write(ReadOnlySpan<byte> head, ReadOnlySpan<MemoryPiece> pieces)
        {
            // The answer to a request that a killed thread had: the collector comes to it at any time, and nobody waits for it.
            if (!CooperativeScheduler.IsOfSimulation)
                return -(int)Errno.ENODEV;
            kernel.Pass();
            drain?.Invoke();
            if (isDead())
                throw new ProcessKilledException();
            if (kernel.IsCut)
                return -(int)Errno.ENODEV;
            ulong unique = BinaryPrimitives.ReadUInt64LittleEndian(head[8..]);
            if (unique == 0)
            {
                int result = kernel.Notify(head, isDead);
                return result < 0 ? result : head.Length;
            }
            if (kernel._read.Remove(unique, out KernelRequest? request))
                request.Reply = head.ToArray();
            return head.Length;
        }
    }

    private void Pass() => scheduler.Pass();
}
