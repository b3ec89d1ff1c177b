using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Master.Changes;

/// <summary>
/// Takes the block of the host table from a host of which nothing is left (SAFETY S11). The record has the counters of the lines, by
/// which, with their mounts, one that is written later is known. Whether one was, before the record was published, is for <see cref="HostRegistration"/>
/// to see, which gives the block to another host.
/// </summary>
internal sealed class HostForgetting : Change<ForgetHostReply>
{
    // A HostForgotten record takes less.
    private const int RecordBytes = 512;

    private const int MaxName = 64;

    private readonly ForgetHostRequest _request;
    private readonly Guid _host;

    /// <summary>Takes a request. Throws NOT_PERMITTED for a caller that may not, BAD_REQUEST for what nobody can mean.</summary>
    public HostForgetting(ForgetHostRequest request, Caller caller)
    {
        _request = request;
        caller.RequireAdministrator("forgetting a host");
        if (caller.Kind == CallerKind.Unknown)
            throw new FamfsException(ErrorReason.NotPermitted, "forgetting a host needs root at the master's unix socket, or a certificate; nobody knows who is behind an open port");
        _host = request.HostId.ToGuid("host_id");
        if (_host == Guid.Empty && request.Name.Length == 0)
            throw new FamfsException(ErrorReason.BadRequest, "neither host_id nor name names the host");
        if (_host != Guid.Empty && request.Name.Length > 0)
            throw new FamfsException(ErrorReason.BadRequest, "host_id and name are both given: one names the host");
        if (request.Name.Length > MaxName)
            throw new FamfsException(ErrorReason.BadRequest, $"name has {request.Name.Length} characters, the limit is {MaxName}") { Limit = MaxName };
    }

    /// <summary>The host as it was registered; null: an equal request has made the record before. Once it is decided.</summary>
    public HostRecord? Forgotten { get; private set; }

    /// <summary>What the record has of the block; null: the host has been forgotten again since. Once it is decided.</summary>
    public ForgottenBlock? Block { get; private set; }

    /// <summary>A stream of a mount of a host as a phrase, or null. Any thread.</summary>
    public Func<Guid, string?> FindStream { get; init; } = static _ => null;

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        ReplayState replay = context.State.Replay;
        ulong digest = RequestDigest.Of(_request);
        if (context.TryFindMade(_request.RequestId.ToGuid("request_id"), digest, RecordType.HostForgotten, out RequestTrace trace))
        {
            // Which block it was is known as long as the host has not been forgotten again.
            ForgottenBlock made = replay.ForgottenBlocks.Values.FirstOrDefault(b => b.Sequence == trace.Sequence);
            Block = made.Host == Guid.Empty ? null : made;
            Reply = new() { Position = context.PositionOf(trace), HostId = made.Host == Guid.Empty ? _request.HostId : made.Host.ToByteString(), HostSlot = (uint)made.Slot };
            return Verdict.Done;
        }
        context.State.Format.Require("a host table");
        HostRecord host = Find(replay);
        IReadOnlyList<HostEntry> lines = LinesOf(context.State.Pool, host.Slot);
        if (FindLeft(replay, host, lines) is { } left)
            throw new FamfsException(ErrorReason.HostConflict, $"host {host.Host}{(host.Name.Length > 0 ? $" (\"{host.Name}\")" : "")} cannot be forgotten: {left}");
        if (!context.HasRoom(1, RecordBytes, out Verdict verdict))
            return verdict;
        context.Append(RecordType.HostForgotten, new HostForgotten
        {
            TimeNs = context.NowNs,
            RequestId = _request.RequestId,
            RequestDigest = _request.RequestId.IsEmpty ? 0 : digest,
            HostId = host.Host.ToByteString(),
            HostSlot = (uint)host.Slot,
            LineCounters = { CountersOf(lines) },
            LineMounts = { MountsOf(lines).Select(m => m == Guid.Empty ? ByteString.Empty : m.ToByteString()) },
        });
        Forgotten = host;
        Block = replay.ForgottenBlocks[host.Slot];
        Reply = new() { Position = context.Position.ToMessage(), HostId = host.Host.ToByteString(), HostSlot = (uint)host.Slot };
        return Verdict.Done;
    }

    /// <summary>The lines of a forgotten block are now, in memory, as its record has them: nobody has written there since. Any thread.</summary>
    public static bool IsUntouched(DevicePool pool, in ForgottenBlock block)
    {
        IReadOnlyList<HostEntry> lines = LinesOf(pool, block.Slot);
        return lines.All(e => e.Line is not null) && CountersOf(lines).AsSpan().SequenceEqual(block.LineCounters.AsSpan()) && MountsOf(lines).AsSpan().SequenceEqual(block.LineMounts.AsSpan());
    }

    private static IReadOnlyList<HostEntry> LinesOf(DevicePool pool, int slot) => pool.Format.ReadMountLines(pool, slot);

    private static ulong[] CountersOf(IReadOnlyList<HostEntry> lines)
    {
        ulong[] counters = new ulong[MediaLayout.EntriesPerHost];
        foreach (HostEntry entry in lines)
            counters[entry.Index % MediaLayout.EntriesPerHost] = entry.Line?.Counter ?? entry.FormerCounter;
        return counters;
    }

    private static Guid[] MountsOf(IReadOnlyList<HostEntry> lines)
    {
        Guid[] mounts = new Guid[MediaLayout.EntriesPerHost];
        foreach (HostEntry entry in lines)
            mounts[entry.Index % MediaLayout.EntriesPerHost] = entry.Line?.Mount ?? Guid.Empty;
        return mounts;
    }

    private HostRecord Find(ReplayState replay)
    {
        if (_host != Guid.Empty)
            return replay.Hosts.TryGetValue(_host, out HostRecord? known) ? known : throw new FamfsException(ErrorReason.NotFound, $"host {_host} is not registered");
        List<HostRecord> named = [.. replay.Hosts.Values.Where(h => h.Name == _request.Name)];
        return named.Count switch
        {
            0 => throw new FamfsException(ErrorReason.NotFound, $"no host is registered with the name \"{_request.Name}\""),
            1 => named[0],
            _ => throw new FamfsException(ErrorReason.BadRequest, $"{named.Count} hosts are registered with the name \"{_request.Name}\": name one by its id"),
        };
    }

    /// <summary>What is left of a host, as a phrase; null: nothing.</summary>
    private string? FindLeft(ReplayState replay, HostRecord host, IReadOnlyList<HostEntry> lines)
    {
        // Its masters' reservations and quarantines are of a term of its slot.
        foreach ((int slot, Guid owner) in replay.MasterSlots)
        {
            if (owner == host.Host)
                return $"it has master slot {slot}, which is given for good";
        }
        foreach (HostEntry entry in lines)
        {
            if (entry.Line is not { } line)
                return $"line {entry.Index} of the host table, in its block, cannot be read: somebody of unknown identity may hold memory";
            if (replay.IsForeign(entry.Index, line))
                return $"line {entry.Index} of the host table, in its block, is of mount {line.Mount} of host {line.Host}, and may hide one of its own; a mount of the file system on it makes that good";
            if (line.State != MountState.Ended && replay.FindGone(line.Host, line.Mount, line.ReplayedSequence) is not { Evidence: not GoneEvidence.LossAccepted })
                return $"its mount {line.Mount} has not ended and is not proved to be gone; `famfs hosts` shows it";
        }
        return FindStream(host.Host);
    }
}
