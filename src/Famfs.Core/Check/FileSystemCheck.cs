using Famfs.Core.Allocation;
using Famfs.Core.Dax;
using Famfs.Core.Famfs2;
using Famfs.Core.Format;
using Famfs.Core.Format.Famfs2;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Core.Check;

/// <summary>How bad a finding is.</summary>
public enum FindingSeverity
{
    /// <summary>Something is lost, cannot be read, or contradicts itself.</summary>
    Error,

    /// <summary>Odd, but nothing depends on it.</summary>
    Warning,
}

/// <summary>Something that a check found.</summary>
/// <param name="Code">Stable name of the kind of finding.</param>
/// <param name="Where">What it is about.</param>
/// <param name="What">One line for people.</param>
/// <param name="Severity">How bad it is.</param>
public readonly record struct Finding(string Code, string Where, string What, FindingSeverity Severity = FindingSeverity.Error);

/// <summary>What a check saw.</summary>
/// <param name="Position">Last record read.</param>
/// <param name="Files">Files in the namespace.</param>
/// <param name="Directories">Directories, the root included.</param>
/// <param name="UsedBytes">Bytes of all extents.</param>
/// <param name="Findings">What is wrong; empty when nothing is.</param>
public sealed record CheckResult(LogPosition Position, long Files, long Directories, long UsedBytes, IReadOnlyList<Finding> Findings)
{
    /// <summary>Format of the media; null when not even that could be told.</summary>
    public FileSystemFormat? Format { get; init; }

    /// <summary>Findings that can be made good without guessing.</summary>
    public IReadOnlyList<Repair> Repairs { get; init; } = [];

    /// <summary>Errors among the findings.</summary>
    public int ErrorCount => Findings.Count(f => f.Severity == FindingSeverity.Error);
}

/// <summary>
/// Reads a file system of either format from its devices and checks what everybody relies on: superblocks, anchors
/// or log header, every record, names, extents (inside their device, aligned, long enough, nobody else's),
/// device table, hosts. Changes nothing; may run beside a master, and then sees a prefix.
/// </summary>
public sealed class FileSystemCheck : IReplayObserver
{
    private readonly Action<string> _phase;
    private readonly List<Finding> _findings = [];
    private readonly List<Repair> _repairs = [];
    private ExtentAllocator _space = new();
    private Guid? _nativePrimary;

    private FileSystemCheck(Action<string> phase) => _phase = phase;

    /// <summary>Checks the file system of <paramref name="pool"/>.</summary>
    public static CheckResult Run(DevicePool pool) => Run([.. pool.Present.Select(pool.Require)]);

    /// <summary>Checks the file system on <paramref name="devices"/>, which stay the caller's. Each phase is told to
    /// <paramref name="phase"/> when it begins. Findings of devices that cannot be used at all are findings
    /// too.</summary>
    public static CheckResult Run(IReadOnlyList<DaxDevice> devices, Action<string>? phase = null)
    {
        FileSystemCheck check = new(phase ?? (static _ => { }));
        try
        {
            return check.RunAll(devices);
        }
        catch (DeviceFaultException error)
        {
            check.Add("device-fault", devices[0].Path, error.Message);
            return check.Result(default, 0, 0, 0, null);
        }
    }

    void IReplayObserver.EntryChanged(InodeNumber parent, ReadOnlySpan<byte> name)
    {
    }

    void IReplayObserver.InodeChanged(InodeNumber inode)
    {
    }

    void IReplayObserver.FileDeleted(InodeNumber inode)
    {
    }

    void IReplayObserver.ExtentsTaken(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
    {
        foreach (MapExtent extent in extents)
        {
            if (!_space.TryReserve(extent))
                Add("overlap", $"inode {inode}", $"extent {extent.OffsetBytes}+{extent.LengthBytes} of device {extent.Device} belongs to another inode too");
        }
    }

    void IReplayObserver.ExtentsFreed(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
    {
        foreach (MapExtent extent in extents)
        {
            if (!_space.TryFree(extent))
                Add("double-free", $"inode {inode}", $"extent {extent.OffsetBytes}+{extent.LengthBytes} of device {extent.Device} was free already");
        }
    }

    void IReplayObserver.DeviceAdded(DeviceAdded device) => _space.AddDevice(new((ushort)device.Index), (long)device.LengthBytes);

    void IReplayObserver.RequestSeen(in RequestTrace request)
    {
    }

    private CheckResult RunAll(IReadOnlyList<DaxDevice> devices)
    {
        _phase("superblocks");
        foreach (DaxDevice device in devices)
        {
            if (DevicePool.ReadSuperblock(device, out Superblock? superblock, out _) == SuperblockVerdict.Native && superblock!.IsPrimary)
                _nativePrimary = superblock.FileSystem;
        }
        foreach (DaxDevice device in devices)
            CheckSuperblock(device);
        DevicePool pool;
        try
        {
            pool = DevicePool.Open(devices);
        }
        catch (FamfsException error)
        {
            // Whoever reads this has the path beside it and runs the check already.
            string cause = error.Message.Replace("; run `famfs check`", "", StringComparison.Ordinal);
            if (devices is [DaxDevice only] && cause.StartsWith(only.Path + ": ", StringComparison.Ordinal))
                cause = cause[(only.Path.Length + 2)..];
            Add("unusable", string.Join(", ", devices.Select(d => d.Path)), cause);
            // A damaged log header is the one thing that can be made good before the file system opens.
            foreach (DaxDevice device in DevicePool.FindFamfs2First(devices))
                Famfs2LogCheck.RunOnHeader(device, _findings, _repairs);
            return Result(default, 0, 0, 0, null);
        }
        _space = new(pool.UnitBytes);
        using ReplayState state = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), default, this);
        ILogReader reader = FileSystemLog.OpenReader(pool);
        bool logIsBad = false;
        if (pool.Format == FileSystemFormat.Native)
        {
            _phase("anchors");
            CheckAnchors(pool);
        }
        else
        {
            _phase("log");
            int before = _findings.Count;
            Famfs2LogCheck.Run(pool.PrimaryDevice, _findings, _repairs);
            logIsBad = _findings.Skip(before).Any(f => f.Severity == FindingSeverity.Error);
        }
        _phase("records");
        bool complete = false;
        try
        {
            complete = Replay(reader, state);
        }
        catch (FamfsException error) when (!logIsBad)
        {
            Add("log", state.Position.ToString(), error.Message);
        }
        catch (FamfsException)
        {
            // The check of the log has said what is wrong with it, entry by entry.
        }
        // Every log begins with the record of mkfs, so a tail before it has lost its line.
        if (complete && state.FileSystem is null)
            Add("log-empty", state.Position.ToString(), "the log does not even have the record that mkfs wrote: where it ends was lost, its files are not seen");
        if (reader is Famfs2LogReader famfs2)
        {
            foreach (Famfs2Finding finding in famfs2.Translator.Findings)
                Add(finding.Code, $"entry {finding.Index}", finding.Cause + (finding.PassedOver ? "; it has no effect" : ""), finding.PassedOver ? FindingSeverity.Error : FindingSeverity.Warning);
            AddUnlisted(famfs2.Translator.PassedOverCount, "entries have no effect", FindingSeverity.Error);
            AddUnlisted(famfs2.Translator.RemarkCount, "remarks on entries", FindingSeverity.Warning);
        }
        _phase("names");
        CheckNames(state.Tree);
        _phase("devices and hosts");
        CheckDevices(pool, state);
        if (pool.Format == FileSystemFormat.Native)
            CheckHosts(pool, state);
        return Result(state.Position, state.Tree.FileCount, state.Tree.DirectoryCount, state.UsedBytes, pool.Format);
    }

    private CheckResult Result(LogPosition position, long files, long directories, long usedBytes, FileSystemFormat? format) =>
        new(position, files, directories, usedBytes, _findings) { Format = format, Repairs = _repairs };

    private void Add(string code, string where, string what, FindingSeverity severity = FindingSeverity.Error) => _findings.Add(new(code, where, what, severity));

    private void AddUnlisted(long found, string what, FindingSeverity severity)
    {
        if (found > Famfs2Translator.MaxFindings)
            Add("more", "log", $"{found - Famfs2Translator.MaxFindings} more {what}", severity);
    }

    private void CheckSuperblock(DaxDevice device)
    {
        if (device.LengthBytes < MediaLayout.UnitBytes)
            return;
        byte[][] copies = [new byte[MediaLayout.SuperblockBytes], new byte[MediaLayout.SuperblockBytes]];
        long[] offsets = [0, MediaLayout.SuperblockCopyOffset];
        SuperblockVerdict[] verdicts = new SuperblockVerdict[2];
        Superblock?[] parsed = new Superblock?[2];
        string[] causes = ["", ""];
        for (int i = 0; i < 2; i++)
        {
            device.Invalidate(offsets[i], copies[i].Length);
            device.Read(offsets[i], copies[i]);
            verdicts[i] = Superblock.Parse(copies[i], out parsed[i], out causes[i]);
        }
        if (DevicePool.FindUnfinished(device) is { } unfinished && _nativePrimary == unfinished.FileSystem)
        {
            Add("migration", device.Path, "its file system became native, its own superblock did not: run `famfs migrate` again");
            return;
        }
        if (verdicts[0] == SuperblockVerdict.Famfs2 || Superblock.LooksLikeFamfs2(copies[0]))
        {
            if (Famfs2Media.ReadSuperblock(device, out Famfs2Superblock? famfs2, out string cause) is not SuperblockVerdict.Famfs2)
                Add("superblock", device.Path, $"{cause}; famfs-2 has no second copy");
            else if (famfs2!.System == Guid.Empty)
                Add("system-uuid", device.Path, "the superblock names no system, so none may append; `famfs-master --take-over` makes it this one's", FindingSeverity.Warning);
            return;
        }
        if (verdicts[0] == SuperblockVerdict.Native)
        {
            if (!copies[0].AsSpan().SequenceEqual(copies[1]))
            {
                Add("superblock-copy", $"{device.Path} at {offsets[1]}", $"the second copy differs from the first{(causes[1].Length > 0 ? $": {causes[1]}" : "")}");
                _repairs.Add(new("superblock-copy", device, offsets[1], copies[0], "the second copy of the superblock is written from the first"));
            }
        }
        else if (verdicts[0] == SuperblockVerdict.Damaged && verdicts[1] == SuperblockVerdict.Native && Superblock.IsCopyOf(parsed[1]!, copies[0]))
        {
            Add("superblock", $"{device.Path} at 0", causes[0]);
            _repairs.Add(new("superblock", device, 0, copies[1], "the superblock is written from its second copy"));
        }
        else
        {
            Add("superblock", device.Path, causes[0]);
        }
    }

    private void CheckAnchors(DevicePool pool)
    {
        AnchorArea anchors = new(pool.PrimaryDevice, pool.Primary.FileSystem);
        for (int slot = 0; slot < Term.SlotCount; slot++)
        {
            SlotState state = anchors.ReadSlot(slot);
            if (state.Unreadable)
                Add("anchor", $"anchor slot {slot}", "is damaged and may hide a newer master: nobody may become master, hosts wait");
            else if (state.Active is not null && (state.Claim is null || state.Claim.Value.Term < state.Active.Term))
                Add("anchor-claim", $"anchor slot {slot}", $"term {state.Active.Term} is active, and its claim is gone");
        }
    }

    /// <summary>True: to its end.</summary>
    private bool Replay(ILogReader reader, ReplayState state)
    {
        while (true)
        {
            switch (reader.Poll(out LogBlock block))
            {
                case PollVerdict.Records:
                    state.ApplyFrames(block.Frames.Span);
                    break;
                case PollVerdict.UpToDate:
                    return true;
                default:
                    Add("unsettled", state.Position.ToString(), "a master has claimed a term that is not active: the log cannot be read to its end");
                    return false;
            }
        }
    }

    private void CheckNames(InodeTree tree)
    {
        using TreeReader reader = tree.RegisterReader();
        using TreeScope scope = reader.Enter();
        InodeNumber at = default;
        while (scope.TryGetNext(at, out InodeAttributes inode))
        {
            at = inode.Inode;
            if (inode.Kind == InodeKind.File && (!scope.TryGetMap(at, out MapView map) || !Covers(map)))
                Add("extent-short", $"inode {at}", $"its extents hold less than its {inode.SizeBytes} bytes");
            if (inode.Status != InodeStatus.Published || inode.Kind == InodeKind.System || at == InodeNumber.Root)
                continue;
            if (!scope.TryGetName(at, out InodeNumber parent, out ReadOnlySpan<byte> name)
                || !scope.TryGet(parent, out InodeAttributes directory) || directory.Kind != InodeKind.Directory
                || !scope.TryLookup(parent, name, out InodeAttributes found) || found.Inode != at)
                Add("name", $"inode {at}", $"its name in directory {parent} does not lead back to it");
        }
    }

    /// <summary>True when every byte of the file is somewhere.</summary>
    private static bool Covers(in MapView map)
    {
        ulong at = 0;
        while (at < map.SizeBytes)
        {
            if (!map.TryResolve((long)at, out _, out _, out long run) || run <= 0)
                return false;
            at += (ulong)run;
        }
        return true;
    }

    private void CheckDevices(DevicePool pool, ReplayState state)
    {
        foreach (DeviceAdded device in state.Devices)
        {
            DeviceIndex index = new((ushort)device.Index);
            if (pool.Find(index) is null)
                Add("device-missing", $"device {index}", $"{(device.Name.Length > 0 ? device.Name : device.DeviceUuid.ToGuid("device uuid").ToString())} is not among the devices given");
            else if (pool.FindUuid(index) != device.DeviceUuid.ToGuid("device uuid"))
                Add("device-uuid", $"device {index}", $"{pool.Require(index).Path} is device {pool.FindUuid(index)}, the log says {device.DeviceUuid.ToGuid("device uuid")}");
            else if ((ulong)pool.Require(index).LengthBytes < device.LengthBytes)
                Add("device-length", $"device {index}", $"{pool.Require(index).Path} has {pool.Require(index).LengthBytes} bytes, the log says {device.LengthBytes}");
        }
        foreach (DeviceIndex index in pool.Present)
        {
            if (!state.Devices.IsEmpty && index.Value >= state.Devices.Length)
                Add("device-unknown", pool.Require(index).Path, $"says that it is device {index}, which the log does not have", FindingSeverity.Warning);
        }
    }

    private void CheckHosts(DevicePool pool, ReplayState state)
    {
        HostTable table = new(pool);
        foreach (HostRecord host in state.Hosts.Values)
        {
            if ((uint)host.Slot >= (uint)table.HostCapacity)
                Add("host-slot", $"host {host.Host}", $"has block {host.Slot} of a host table of {table.HostCapacity}");
        }
        foreach (HostEntry entry in table.ReadInUse())
        {
            string where = $"host table entry {entry.Index}";
            if (entry.Line is not { } line)
                Add("host-unreadable", where, "is damaged: somebody of unknown identity may hold memory");
            else if (!state.Hosts.TryGetValue(line.Host, out HostRecord? host))
                Add("host-unknown", where, $"is of host {line.Host}, which is not registered");
            else if (host.Slot != entry.HostSlot)
                Add("host-block", where, $"is of host {line.Host}, whose block is {host.Slot}");
            // A line is written from records that its host has; beside a living master they may be newer than this replay.
            else if (line.Generation != pool.Primary.Generation && line.ReplayedSequence.Value != 0)
                Add("host-position", where, $"mount {line.Mount} is in generation {line.Generation}", FindingSeverity.Warning);
        }
    }
}
