using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Core.Check;

/// <summary>
/// The mounts of a file system as the memory has them, for when no master can be asked: their lines, what the log says of their hosts,
/// and whether the lines move. Nothing is written.
/// </summary>
public static class MountsInMemory
{
    /// <summary>How long lines are watched: they move every second, and may be late (chosen).</summary>
    public static readonly TimeSpan Watch = TimeSpan.FromSeconds(3);

    private static readonly TimeSpan s_look = TimeSpan.FromMilliseconds(100);

    /// <summary>Reads them. Of a dialect the line has a number, which <paramref name="nameOfDialect"/> names. A mount whose line stood still for all of <paramref name="watch"/> is silent. A line that cannot be read is a
    /// mount without ids. Throws NOT_MASTER in a format without lines, MEDIA_CORRUPT when the log cannot be read.</summary>
    public static ListHostsReply Read(DevicePool pool, Func<uint, string> nameOfDialect, TimeProvider clock, TimeSpan watch)
    {
        if (!pool.Format.Limits.HasHostTable)
            throw new FamfsException(ErrorReason.NotMaster, $"{pool.Format.Name} has no host table: only a master knows its mounts, and none answers");
        long start = clock.GetTimestamp();
        Dictionary<int, ulong> first = pool.Format.ReadMountLines(pool).Where(e => e.Line is not null).ToDictionary(e => e.Index, e => e.Line!.Counter);
        using ReplayState state = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), default);
        ILogReader reader = pool.Format.OpenReader(pool, clock);
        while (reader.PollSettled(out LogBlock block) == PollVerdict.Records)
            state.ApplyFrames(block.Generation, block.Frames.Span);
        HashSet<int> moving = [];
        IReadOnlyList<HostEntry> entries;
        while (true)
        {
            entries = pool.Format.ReadMountLines(pool);
            moving.UnionWith(entries.Where(e => e.Line is { } line && (!first.TryGetValue(e.Index, out ulong counter) || counter != line.Counter)).Select(e => e.Index));
            if (clock.GetElapsedTime(start) >= watch || entries.All(e => e.Line is not { State: MountState.Live } || moving.Contains(e.Index)))
                break;
            Thread.Sleep(s_look);
        }
        ListHostsReply reply = new() { Position = state.Position.ToMessage() };
        reply.Hosts.AddRange(entries.Select(e => Describe(e, state, nameOfDialect, moving.Contains(e.Index), clock.GetElapsedTime(start))).OrderBy(h => Convert.ToHexString(h.MountId.Span), StringComparer.Ordinal));
        return reply;
    }

    private static HostStatus Describe(HostEntry entry, ReplayState state, Func<uint, string> nameOfDialect, bool moves, TimeSpan watched)
    {
        if (entry.Line is not { } line)
            return new() { Name = $"(line {entry.Index} cannot be read)", State = HostState.Silent, SilentMs = (ulong)watched.TotalMilliseconds };
        if (state.IsForeign(entry.Index, line))
            return new() { Name = $"(line {entry.Index} is of a forgotten host, {line.Host}, and may hide one of host {state.FindBlockOwner(entry.HostSlot)})", State = HostState.Silent, SilentMs = (ulong)watched.TotalMilliseconds };
        GoneEvidence? gone = state.FindGone(line.Host, line.Mount, line.ReplayedSequence)?.Evidence;
        if (line.State == MountState.Ended)
            gone ??= GoneEvidence.CleanUnmount;
        // Both are read while mounts go on: a line may be ahead of the log that was read.
        ulong lag = state.Position.Sequence.Value - Math.Min(state.Position.Sequence.Value, line.ReplayedSequence.Value);
        using TreeReader reader = state.Tree.RegisterReader();
        using TreeScope scope = reader.Enter();
        HostStatus mount = new()
        {
            HostId = line.Host.ToByteString(),
            Name = state.Hosts.TryGetValue(line.Host, out HostRecord? host) ? host.Name : "",
            MountId = line.Mount.ToByteString(),
            BootId = line.Boot.ToByteString(),
            State = gone is not null ? HostState.Gone : !moves ? HostState.Silent : lag > 0 ? HostState.Lagging : HostState.Live,
            Evidence = gone ?? GoneEvidence.Unspecified,
            Position = new LogPosition(state.Position.FileSystem, line.Generation, line.ReplayedSequence, line.ReplayedTerm).ToMessage(),
            LagRecords = gone is not null ? 0 : lag,
            SilentMs = moves ? 0 : (ulong)watched.TotalMilliseconds,
            Dialect = nameOfDialect(line.Dialect),
            HeldInodes = (ulong)line.Exceptions.Length,
        };
        foreach (InodeNumber inode in line.Exceptions.Where(_ => gone is null).OrderBy(i => i.Value))
        {
            ulong bytes = 0;
            if (scope.TryGetMap(inode, out MapView map))
            {
                for (int i = 0; i < map.ExtentCount; i++)
                    bytes += (ulong)map[i].LengthBytes;
            }
            // The memory has no names of what is removed.
            mount.HeldFiles.Add(new HeldFile { Inode = inode.Value, SpaceBytes = bytes });
        }
        return mount;
    }
}
