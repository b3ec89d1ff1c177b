using Famfs.Core.Allocation;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Core.Check;

/// <summary>What a check saw.</summary>
/// <param name="Position">Last record read.</param>
/// <param name="Files">Files in the namespace.</param>
/// <param name="Directories">Directories, the root included.</param>
/// <param name="UsedBytes">Bytes of all extents.</param>
/// <param name="Findings">What is wrong; empty when nothing is.</param>
public sealed record CheckResult(LogPosition Position, long Files, long Directories, long UsedBytes, IReadOnlyList<Finding> Findings)
{
    /// <summary>Format of the media; null when not even that could be told.</summary>
    public MediaFormat? Format { get; init; }

    /// <summary>Findings that can be made good without guessing.</summary>
    public IReadOnlyList<Repair> Repairs { get; init; } = [];

    /// <summary>Code of the finding that a take-over makes good (<see cref="TailRepair"/>); null: none.</summary>
    public string? TailFinding { get; init; }

    /// <summary>Errors among the findings.</summary>
    public int ErrorCount => Findings.Count(f => f.Severity == FindingSeverity.Error);
}

/// <summary>
/// Reads a file system of any format from its devices and checks what everybody relies on: superblocks, anchors
/// or log header, every record, names, extents (inside their device, aligned, long enough, nobody else's),
/// device table, hosts. Changes nothing; may run beside a master, and then sees a prefix.
/// </summary>
public sealed class FileSystemCheck : IReplayObserver
{
    private const string TailLostCode = "tail-lost";

    private readonly MediaFormats _formats;
    private readonly CheckReport _report;
    private readonly TimeProvider _clock;
    private bool _tailLost;
    private ExtentAllocator _space = new();

    private Func<DeviceIndex, string?> _findAbsence = _ => null;

    private FileSystemCheck(MediaFormats formats, TimeProvider clock, Action<string>? phase)
    {
        _formats = formats;
        _report = new(phase);
        _clock = clock;
    }

    /// <summary>Checks the file system of <paramref name="pool"/>; the rest as for devices.</summary>
    public static CheckResult Run(DevicePool pool, TimeProvider clock, Action<string>? phase = null) => Run([.. pool.Present.Select(pool.Require)], new([pool.Format]), clock, phase, pool.FindAbsence);

    /// <summary>Checks the file system on <paramref name="devices"/>, which stay the caller's. Each phase is told to
    /// <paramref name="phase"/> when it begins. Findings of devices that cannot be used at all are findings
    /// too; what this process is short of is thrown (<see cref="FamfsException.IsShortage"/>). <paramref name="clock"/>: measures how
    /// long something has looked damaged. <paramref name="findAbsence"/>: why a device is not among them, where that is known.</summary>
    public static CheckResult Run(IReadOnlyList<DaxDevice> devices, MediaFormats formats, TimeProvider clock, Action<string>? phase = null, Func<DeviceIndex, string?>? findAbsence = null)
    {
        FileSystemCheck check = new(formats, clock, phase) { _findAbsence = findAbsence ?? (_ => null) };
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
        _report.Begin("superblocks");
        foreach (DaxDevice device in devices)
        {
            if (!_formats.All.Any(format => format.CheckSuperblock(device, devices, _report)))
                Add("superblock", device.Path, _formats.Default.Explain(device).Message);
        }
        DevicePool pool;
        try
        {
            pool = _formats.Open(devices);
        }
        catch (FamfsException error) when (!FamfsException.IsShortage(error))
        {
            // Whoever reads this has the path beside it and runs the check already.
            string cause = error.Message.Replace("; run `famfs check`", "", StringComparison.Ordinal);
            if (devices is [DaxDevice only] && cause.StartsWith(only.Path + ": ", StringComparison.Ordinal))
                cause = cause[(only.Path.Length + 2)..];
            Add("unusable", string.Join(", ", devices.Select(d => d.Path)), cause);
            foreach (MediaFormat format in _formats.All)
                format.CheckUnopened(devices, _report);
            return Result(default, 0, 0, 0, null);
        }
        _space = new(pool.UnitBytes);
        using ReplayState state = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), default, this);
        // Before the log: a living mount writes its line from records that are in memory already.
        List<HostEntry> lines = new MountLineTable(pool).ReadInUse();
        LogCheck log = pool.Format.OpenCheck(pool, _clock);
        bool logIsBad = log.CheckStructures(_report);
        _report.Begin("records");
        bool complete = false;
        try
        {
            complete = Replay(log.Reader, state);
        }
        catch (FamfsException error) when (!FamfsException.IsShortage(error))
        {
            // Else the check of the log has said what is wrong with it, entry by entry.
            if (!logIsBad)
                Add("log", state.Position.ToString(), error.Message);
        }
        // Every log begins with the record of mkfs, so a tail before it has lost its line.
        if (complete && state.FileSystem is null)
            Add("log-empty", state.Position.ToString(), "the log does not even have the record that mkfs wrote: where it ends was lost, its files are not seen");
        log.CheckEntries(_report);
        _report.Begin("names");
        CheckNames(state.Tree);
        _report.Begin("devices and hosts");
        CheckDevices(pool, state);
        if (pool.Format.Limits.HasHostTable)
            CheckHosts(pool, state, lines, complete);
        return Result(state.Position, state.Tree.FileCount, state.Tree.DirectoryCount, state.UsedBytes, pool.Format);
    }

    private CheckResult Result(LogPosition position, long files, long directories, long usedBytes, MediaFormat? format) =>
        new(position, files, directories, usedBytes, _report.Findings)
        {
            Format = format,
            Repairs = _report.Repairs,
            // Without terms there is nobody to take over from.
            TailFinding = format?.Limits.HasTerms == true ? _report.Findings.Select(f => f.Code).FirstOrDefault(c => c is TailLostCode or CheckReport.UnpublishedCode or CheckReport.LogEndCode) : null,
        };

    private void Add(string code, string where, string what, FindingSeverity severity = FindingSeverity.Error) => _report.Add(code, where, what, severity);

    /// <summary>True: to its end.</summary>
    private bool Replay(ILogReader reader, ReplayState state)
    {
        while (true)
        {
            switch (reader.PollSettled(out LogBlock block))
            {
                case PollVerdict.Records:
                    state.ApplyFrames(block.Generation, block.Frames.Span);
                    break;
                case PollVerdict.UpToDate:
                    return true;
                case PollVerdict.TailLost:
                    _tailLost = true;
                    // Else the check of the log has seen what lies behind it, and says so.
                    if (!reader.TailMayBeRight)
                        Add(TailLostCode, state.Position.ToString(), reader.TailDamage);
                    return false;
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
                Add("device-missing", $"device {index}", $"{(device.Name.Length > 0 ? device.Name : device.DeviceUuid.ToGuid("device uuid").ToString())} is not among the devices given{(_findAbsence(index) is { } cause ? $": {cause}" : "")}");
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

    private void CheckHosts(DevicePool pool, ReplayState state, List<HostEntry> lines, bool complete)
    {
        MountLineTable table = new(pool);
        int capacity = table.HostCapacity;
        foreach (HostRecord host in state.Hosts.Values)
        {
            if ((uint)host.Slot >= (uint)capacity)
                Add("host-slot", $"host {host.Host}", $"has block {host.Slot} of a host table of {capacity}");
        }
        foreach (HostEntry entry in lines)
        {
            string where = $"host table entry {entry.Index}";
            // The mount may have been storing the copy: then it is whole by now.
            if (entry.HasLostCopy && table.ReadBlock(entry.HostSlot).Any(e => e.Index == entry.Index && e.HasLostCopy))
                Add("host-copy", where, "one of its two copies is damaged, and the other one is whole: repaired by the next line that the mount writes", FindingSeverity.Warning);
            if (entry.Line is not { } line)
                Add("host-unreadable", where, "is damaged: somebody of unknown identity may hold memory");
            else if (state.IsForeign(entry.Index, line))
            {
                // The owner may have written since.
                if (table.ReadBlock(entry.HostSlot).Any(e => e.Index == entry.Index && e.Line is { } now && state.IsForeign(e.Index, now)))
                    Add("host-foreign", where, $"is of mount {line.Mount} of host {line.Host}, which was forgotten, in the block of host {state.FindBlockOwner(entry.HostSlot)}: somebody of that host may hold memory; its next mount makes the line good");
            }
            // What was there when its host was forgotten means nothing; what came later is in a block that no other host gets.
            else if (state.ForgottenBlocks.ContainsKey(entry.HostSlot) && !(state.Hosts.TryGetValue(line.Host, out HostRecord? owner) && owner.Slot == entry.HostSlot))
                continue;
            else if (!state.Hosts.TryGetValue(line.Host, out HostRecord? host))
                Add("host-unknown", where, $"is of host {line.Host}, which is not registered");
            else if (host.Slot != entry.HostSlot)
                Add("host-block", where, $"is of host {line.Host}, whose block is {host.Slot}");
            else if (!HostHistory.IsGenerationOf(state, line.Generation) && line.ReplayedSequence.Value != 0)
                Add("host-position", where, $"mount {line.Mount} is in generation {line.Generation}", FindingSeverity.Warning);
            // What lies behind an end that was not reached is not known to be lost.
            else if (HostHistory.Contradicts(line, state) && (complete || _tailLost || line.ReplayedSequence.Value <= state.Position.Sequence.Value))
                Add("host-history", where, HostHistory.Explain(line, state) + (_tailLost ? "; the start of a master may bring them back" : ""));
        }
    }
}
