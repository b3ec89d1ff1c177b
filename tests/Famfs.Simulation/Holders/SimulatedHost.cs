using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Fuse.Protocol;
using Famfs.Fuse.Replication;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.V1;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Simulation.Holders;

/// <summary>A host: its boots, the kernel's mounts, what its state directory has, and its programs.</summary>
internal sealed class SimulatedHost(HolderSimulation simulation, string name, Guid id, bool reachesMemory, uint kernelMinor)
{
    // Lines in which programs store, of each unit of a file: words that tell whose they are, and which stores those were.
    private const int PlacesOfUnit = 2;

    private int _boots;

    public string Name => name;

    /// <summary>A famfs kernel.</summary>
    public bool ReachesMemory => reachesMemory;

    /// <summary>The kind of thread that answers OPENs later; only where the kernel reaches memory.</summary>
    public const int FirstOpens = 3;

    public uint KernelMinor => kernelMinor;

    public HostIdentity Identity { get; private set; } = new(id, BootId(id, 0), new byte[32], name);

    /// <summary>Without power.</summary>
    public bool IsOff { get; set; }

    /// <summary>One of its mounts is to end, so that another one comes.</summary>
    public bool IsToMountAnew { get; set; }

    /// <summary>What mounts of this boot have left in the state directory.</summary>
    public HashSet<Guid> Receipts { get; } = [];

    /// <summary>Mounts of this boot.</summary>
    public List<KernelModel> Kernels { get; } = [];

    /// <summary>Daemons of this boot.</summary>
    public List<SimulatedMount> Mounts { get; } = [];

    /// <summary>Its kernel lives as long.</summary>
    public SimulatedLife Life { get; private set; } = new();

    public IEnumerable<OpenFile> Reachable => Kernels.SelectMany(k => k.Reachable);

    /// <summary>What is left of older mounts, for people.</summary>
    public override string ToString() =>
        $"{name} has receipts [{string.Join(' ', Receipts.Select(r => r.ToString()[..4]))}] and superblocks [{string.Join(' ', Kernels.Where(k => !k.IsGone).Select(k => $"{k.Mount.ToString()[..4]}{(k.IsCut ? " cut" : "")} open {k.Open.Count}"))}]";

    public void Crash()
    {
        Kernels.Clear();
        Mounts.Clear();
        Receipts.Clear(); // another boot's are of no use
        Life = new();
        Identity = Identity with { Boot = BootId(id, ++_boots) };
    }

    /// <summary>An operator unmounts and mounts, when all is calm.</summary>
    public void MountAnew() => IsToMountAnew = true;

    /// <summary>Older mounts of this boot whose superblock is gone.</summary>
    public IReadOnlyCollection<Guid> FindGone(Guid own) =>
        [.. Receipts.Where(mount => mount != own && Kernels.All(k => k.Mount != mount || k.IsGone))];

    /// <summary>One life of a daemon.</summary>
    public void LiveAsDaemon(SimulatedProcess process, Random random)
    {
        CooperativeScheduler scheduler = simulation.Scheduler;
        scheduler.Sleep(random.Next(1, scheduler.IsCalm ? 20 : simulation.MountPatience));
        // A famfs kernel gives its devices to one mount at a time.
        if (scheduler.Quiescing || IsOff || (reachesMemory && Kernels.Any(k => !k.IsGone)))
            return;
        Replica replica = new(TestFormats.All.Open([simulation.Memory.Attach(name)]), id, new UInt128(1, (ulong)random.Next()), simulation.Clock, reader => new Tap(reader, simulation.Space, name));
        SimulatedMount? mount = null;
        try
        {
            PollVerdict verdict;
            while ((verdict = replica.PollMemory()) != PollVerdict.UpToDate)
            {
                if (verdict != PollVerdict.Records)
                    scheduler.Yield();
                if (scheduler.Quiescing)
                    return;
            }
            _ = replica.PurgeDeleted();
            if (reachesMemory)
                replica.Reused.RefreshAll(replica.Pool);
            mount = new(simulation, this, replica, simulation.NextId(), random);
            process.Life = mount.Life;
            mount.Life.Threads++;
            Kernels.Add(mount.Kernel);
            Mounts.Add(mount);
            simulation.Note($"{name} mounts {mount.Id.ToString()[..4]}");
            mount.KeepUp();
        }
        finally
        {
            if (mount is not null)
            {
                mount.Life.IsOver = true;
                mount.Kernel.IsCut = true;
                mount.Life.Threads--;
                process.Life = null;
                Mounts.Remove(mount);
                simulation.Note($"{name}: the daemon of {mount.Id.ToString()[..4]} has ended");
                simulation.Bury(mount.Life, mount);
            }
            else
            {
                replica.Dispose();
            }
        }
    }

    /// <summary>A thread of a daemon: serves whichever of the host's has none of its kind.</summary>
    public void LiveAsThread(SimulatedProcess process, int kind)
    {
        bool IsWithout(SimulatedMount mount) => !mount.Life.IsOver && !mount.IsEnding && !mount.Kinds.Contains(kind);
        if (Mounts.Find(IsWithout) is not { } mount)
        {
            simulation.Scheduler.WaitFor(() => Mounts.Exists(IsWithout), 2000);
            return;
        }
        mount.Kinds.Add(kind);
        process.Life = mount.Life;
        mount.Life.Threads++;
        try
        {
            if (kind == 0)
                mount.Notify();
            else if (kind == 1)
                mount.Release();
            else if (kind == FirstOpens)
                mount.AnswerOpens();
            else
                mount.Work();
        }
        finally
        {
            mount.Life.Threads--;
            mount.Kinds.Remove(kind);
            process.Life = null;
        }
    }

    /// <summary>A program.</summary>
    public void LiveAsProgram(SimulatedProcess process, Random random)
    {
        CooperativeScheduler scheduler = simulation.Scheduler;
        if (IsOff)
        {
            scheduler.WaitFor(() => !IsOff, 500);
            return;
        }
        List<OpenFile> open = [];
        process.Life = Life;
        FakeDaxDevice memory = simulation.Memory.Attach(name);
        try
        {
            while (!scheduler.Quiescing)
            {
                int done = simulation.Counts.Uses;
                Use(random, open, memory);
                scheduler.Sleep(random.Next(1, simulation.Counts.Uses > done ? 20 : 400));
            }
        }
        finally
        {
            process.Life = null;
            memory.Dispose(); // what it has stored is on its way
            foreach (OpenFile file in open)
                file.Mount.Close(file);
        }
    }

    private void Use(Random random, List<OpenFile> open, FakeDaxDevice memory)
    {
        bool calm = simulation.Scheduler.IsCalm;
        // umount(8) of what nobody uses.
        foreach (KernelModel old in Kernels.Where(k => k.IsCut && k.Open.Count == 0 && random.Next(10) == 0))
            old.IsGone = true;
        foreach (OpenFile dead in open.Where(f => calm || (f.Mount.IsCut && random.Next(f.Mount.ReachesMemory ? 12 : 4) == 0)).ToList())
        {
            open.Remove(dead);
            Close(dead, memory);
        }
        KernelModel[] kernels = [.. Kernels.Where(k => !k.IsCut)];
        if (kernels.Length == 0 || calm)
            return; // and the kernel keeps the names that it has, for as long as nobody tells it otherwise
        KernelModel mount = kernels[random.Next(kernels.Length)];
        if (simulation.Meetings.IsAborted(mount))
        {
            simulation.Counts.Aborts++;
            simulation.Note($"{name}: the connection of {mount.Mount.ToString()[..4]} is aborted");
            mount.IsCut = true;
            return;
        }
        switch (random.Next(8))
        {
            case 0 or 1 or 2 when open.Count < simulation.MostOpen:
                if (Open(mount, random) is { } opened)
                    open.Add(opened);
                break;
            case 3 when open.Count > 0:
                OpenFile closed = open[random.Next(open.Count)];
                open.Remove(closed);
                Close(closed, memory);
                break;
            case 4:
                mount.Evict(random);
                break;
            default:
                if (open.Count > 0)
                    Touch(open[random.Next(open.Count)], random, memory);
                break;
        }
    }

    private static void Close(OpenFile file, FakeDaxDevice memory)
    {
        try
        {
            if (memory.Coherent)
                memory.Fence(); // a call of the kernel lets stores go
        }
        finally
        {
            file.Mount.Close(file); // who is killed here has it open no more
        }
    }

    private OpenFile? Open(KernelModel mount, Random random)
    {
        KernelInode at = mount.TakeRoot();
        try
        {
            // Mostly what a listing would show.
            string path = random.Next(4) > 0 && simulation.Space.AnyFile(random) is { Length: > 0 } file ? file : simulation.AnyPath(random);
            foreach (string part in path.Split('/'))
            {
                if (mount.Lookup(at, part) is not { } found)
                    return null;
                mount.PutBack(at);
                at = found;
            }
            return OpenInode(mount, at);
        }
        finally
        {
            mount.PutBack(at);
        }
    }

    // The caller has the inode.
    private OpenFile? OpenInode(KernelModel mount, KernelInode inode)
    {
        bool wasOver = mount.IsTakenAway();
        if (KernelModel.ErrorOf(mount.Ask(FuseOpcode.FUSE_OPEN, inode.Number, new OpenIn { Flags = 2 })) != Errno.None)
            return null;
        if (wasOver)
            throw new InvalidOperationException($"S16 broken: {name} opens inode {inode.Number} by a mount that is over");
        MapExtent[]? extents = simulation.Space.EverOf(inode.Number);
        if (mount.ReachesMemory)
        {
            if (inode.Map is null)
            {
                SimulatedMount? daemon = Mounts.Find(m => m.Kernel == mount);
                MapExtent[]? map = null;
                bool answered = daemon is not null && mount.Ask(FuseOpcode.FUSE_READ, inode.Number, [], () => { map = daemon.GetMap(inode.Number); return new byte[16]; }) is not null;
                if (!answered || map is null)
                    return null;
                inode.Map = map;
            }
            extents = inode.Map;
        }
        inode.Opens++;
        OpenFile file = new(mount, inode, extents ?? throw new InvalidOperationException($"{name} opens inode {inode.Number}, which nobody made"));
        mount.Open.Add(file);
        if (mount.ReachesMemory || !(mount.IsCut || mount.IsTakenAway()))
            simulation.RequireReach(name, file);
        simulation.Counts.Opens++;
        simulation.Counts.Uses++;
        return file;
    }

    /// <summary>Stores the file's number somewhere in it, or loads: it must be the file's, or zero.</summary>
    private void Touch(OpenFile file, Random random, FakeDaxDevice memory)
    {
        int units = (int)(file.Extents.Sum(e => e.LengthBytes) / MediaLayout.UnitBytes);
        if (units == 0)
            return;
        long at = (random.Next(units) * MediaLayout.UnitBytes) + (random.Next(PlacesOfUnit) * (long)DaxDevice.LineBytes) + (random.Next(simulation.WordsOfLine) * sizeof(ulong));
        ulong number = file.Inode.Number;
        bool writes = random.Next(2) == 0;
        simulation.Counts.Touches++;
        simulation.Counts.Uses++;
        if (file.Mount.ReachesMemory)
        {
            long place = PlaceOf(file, at);
            if (writes)
            {
                memory.WriteWord(place, simulation.Words.NextOf(number));
                if (random.Next(simulation.FlushesOneIn) == 0)
                {
                    memory.WriteBack(place, sizeof(ulong));
                    memory.Fence();
                }
                return;
            }
            simulation.Words.RequireOwn(name, number, memory.ReadWord(place));
            return;
        }
        bool wasOver = file.Mount.IsTakenAway();
        ulong word = writes ? simulation.Words.Begin(number, at) : 0;
        long began = simulation.Words.Now;
        byte[]? reply = writes
            ? file.Mount.Ask(FuseOpcode.FUSE_WRITE, number, new WriteIn { Offset = (ulong)at, SizeBytes = sizeof(ulong) }, BitConverter.GetBytes(word))
            : file.Mount.Ask(FuseOpcode.FUSE_READ, number, new ReadIn { Offset = (ulong)at, SizeBytes = sizeof(ulong) });
        Errno error = KernelModel.ErrorOf(reply);
        if (wasOver && error == Errno.None)
            throw new InvalidOperationException($"S16 broken: {name} {(writes ? "writes" : "reads")} inode {number} by a mount that is over");
        // A log that is not whole at this moment is nothing to write beside.
        if (error is Errno.ENODEV || (error is Errno.EROFS && writes) || (error != Errno.None && file.Mount.IsTakenAway()))
            return;
        if (error != Errno.None)
            throw new InvalidOperationException($"{name}: inode {number}, which is open, answers {error}");
        if (writes)
            simulation.Words.End(number, at, word);
        else if (reply!.Length == 16 + sizeof(ulong))
            simulation.Words.RequireRead(name, number, at, BitConverter.ToUInt64(reply, 16), began);
    }

    private static long PlaceOf(OpenFile file, long at)
    {
        foreach (MapExtent extent in file.Extents)
        {
            if (at < extent.LengthBytes)
                return extent.OffsetBytes + at;
            at -= extent.LengthBytes;
        }
        throw new InvalidOperationException($"{at} bytes after the end of inode {file.Inode.Number}");
    }

    private static Guid BootId(Guid host, int boot)
    {
        byte[] bytes = host.ToByteArray();
        bytes[15] = (byte)(boot + 1);
        bytes[0] ^= 0xB0;
        return new(bytes);
    }

    /// <summary>Shows what a host reads to whoever sees everything.</summary>
    private sealed class Tap(ILogReader reader, SettledSpace space, string who) : ILogReader
    {
        public LogPosition Position => reader.Position;

        public long Offset => reader.Offset;

        public string TailDamage => reader.TailDamage;

        public bool TailMayBeRight => reader.TailMayBeRight;

        public void Resume(LogPosition position, long offset) => reader.Resume(position, offset);

        public PollVerdict Poll(out LogBlock block)
        {
            PollVerdict verdict = reader.Poll(out block);
            if (verdict == PollVerdict.Records)
                space.Rely(who, block.Frames.Span);
            if (verdict == PollVerdict.Diverged)
                throw new InvalidOperationException($"P1 broken: {who} is told that its past is another one");
            return verdict;
        }
    }
}
