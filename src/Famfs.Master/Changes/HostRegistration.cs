using System.Collections.Immutable;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Master.Changes;

/// <summary>Gives a host a block of lines in the host table (SAFETY S11), or finds the one that it has. The reply is its
/// slot.</summary>
/// <param name="host">The host.</param>
/// <param name="hostCapacity">Hosts that the host table has room for.</param>
/// <param name="limit">Of this master.</param>
internal sealed class HostRegistration(HostClaim host, int hostCapacity, RegistrationLimit limit) : Change<int>
{
    // A SHA-512. What hosts of this version send is a SHA-256.
    private const int MaxDigestBytes = 64;

    private const int MaxName = 64;

    // A HostRegistered record takes less.
    private const int RecordBytes = 1024;

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        context.Caller.RequireAdministrator("registering a host");
        Require(host);
        context.State.Format.Require("a host table");
        Reply = FindSlot(context, host);
        if (Reply >= 0)
            return Verdict.Done;
        HashSet<int> taken = [.. context.State.Replay.Hosts.Values.Select(h => h.Slot)];
        bool isUnknown = context.Caller.Kind == CallerKind.Unknown;
        int room = isUnknown ? RegistrationLimit.RoomOf(hostCapacity) : hostCapacity;
        int slot = FindFree(context, taken, out int early, out int touched);
        if (slot < 0 && early > 0)
            return new(VerdictKind.NextBatch, RecordBytes);
        if (slot < 0)
        {
            string why = touched == 0 ? "as many are registered" : $"{taken.Count} are registered; {touched} {(touched == 1 ? "block has a line that was" : "blocks have lines that were")} written after its host was forgotten, and {(touched == 1 ? "is" : "are")} for that host only";
            throw new FamfsException(ErrorReason.NoSpace, $"the host table is full: it has room for {hostCapacity} hosts, and {why}; `famfs hosts forget` takes the block of a host that is not used any more") { Limit = (ulong)hostCapacity };
        }
        if (taken.Count >= room)
            throw new FamfsException(ErrorReason.NoSpace, $"{taken.Count} hosts are registered; the rest of the host table is for callers that are known: use a certificate, or the socket of the master's host") { Limit = (ulong)room };
        if (!context.HasRoom(1, RecordBytes, out Verdict verdict))
            return verdict;
        if (isUnknown)
            limit.Take(context.Clock, context.Caller.Name);
        context.Append(RecordType.HostRegistered, new HostRegistered
        {
            TimeNs = context.NowNs,
            HostId = host.Host.ToByteString(),
            HostSlot = (uint)slot,
            MachineDigest = host.MachineDigest,
            Name = host.Name.Length > MaxName ? host.Name[..MaxName] : host.Name,
        });
        Reply = slot;
        return Verdict.Done;
    }

    /// <summary>A block for the host, or −1: the one that was taken from it, in which only its own lines may have come since; one that nobody
    /// has had; or one of another host, after a look at its lines (SAFETY S11).</summary>
    /// <param name="context">The state.</param>
    /// <param name="taken">Blocks that hosts have.</param>
    /// <param name="early">Blocks whose record is in the batch at hand: nobody can have read it yet.</param>
    /// <param name="touched">Blocks in which a line was written after their record.</param>
    private int FindFree(ChangeContext context, HashSet<int> taken, out int early, out int touched)
    {
        (early, touched) = (0, 0);
        ImmutableDictionary<int, ForgottenBlock> forgotten = context.State.Replay.ForgottenBlocks;
        foreach (ForgottenBlock block in forgotten.Values)
        {
            if (block.Host == host.Host && !taken.Contains(block.Slot))
                return block.Slot;
        }
        for (int slot = 0; slot < hostCapacity; slot++)
        {
            if (!taken.Contains(slot) && !forgotten.ContainsKey(slot))
                return slot;
        }
        foreach (ForgottenBlock block in forgotten.Values.Where(b => !taken.Contains(b.Slot)).OrderBy(b => b.Sequence.Value))
        {
            // Whoever writes a line there after this look reads the record before it opens anything, if the record was published before.
            if (block.Sequence.Value > context.Published.Value)
                early++;
            else if (HostForgetting.IsUntouched(context.State.Pool, block))
                return block.Slot;
            else
                touched++;
        }
        return -1;
    }

    /// <summary>Throws INVALID_ARGUMENT for a claim that names no host.</summary>
    public static void Require(in HostClaim host)
    {
        if (host.Host == Guid.Empty)
            throw new FamfsException(ErrorReason.BadRequest, "host_id is empty");
        if (host.MachineDigest.Length > MaxDigestBytes)
            throw new FamfsException(ErrorReason.BadRequest, $"machine_digest has {host.MachineDigest.Length} bytes, the limit is {MaxDigestBytes}") { Limit = MaxDigestBytes };
    }

    /// <summary>The host's slot, or −1. Throws HOST_CONFLICT when its id is bound to another machine.</summary>
    public static int FindSlot(ChangeContext context, in HostClaim host)
    {
        if (!context.State.Replay.Hosts.TryGetValue(host.Host, out HostRecord? known))
            return -1;
        if (known.MachineDigest != host.MachineDigest && !known.MachineDigest.IsEmpty)
            throw new FamfsException(ErrorReason.HostConflict, $"host id {host.Host} is bound to another machine (\"{known.Name}\"); its state directory was copied");
        return known.Slot;
    }
}

/// <summary>How many hosts callers that nobody knows may register: only an operator takes a block of the host table back. For the thread that
/// decides.</summary>
internal sealed class RegistrationLimit
{
    /// <summary>Most in an hour (chosen: a few racks at once).</summary>
    public const int MostInAnHour = 128;

    /// <summary>Most of them of one caller (chosen: half, so that nobody keeps out the others).</summary>
    public const int MostOfCaller = MostInAnHour / 2;

    /// <summary>Part of the host table that is left to callers that are known (chosen).</summary>
    private const int KnownPart = 8;

    private static readonly TimeSpan Hour = TimeSpan.FromHours(1);

    // Oldest first.
    private readonly Queue<(long Timestamp, string Caller)> _taken = new();

    /// <summary>Hosts that callers may fill the table with that nobody knows.</summary>
    public static int RoomOf(int hostCapacity) => hostCapacity - hostCapacity / KnownPart;

    /// <summary>Counts one. Throws OVERLOADED, and counts nothing.</summary>
    public void Take(TimeProvider clock, string caller)
    {
        while (_taken.TryPeek(out (long Timestamp, string) oldest) && clock.GetElapsedTime(oldest.Timestamp) >= Hour)
            _taken.Dequeue();
        if (_taken.Count >= MostInAnHour)
            throw new FamfsException(ErrorReason.Overloaded, $"{MostInAnHour} hosts were registered within an hour by callers that are not known, the limit; use a certificate, or wait") { Limit = MostInAnHour };
        if (_taken.Count(t => t.Caller == caller) >= MostOfCaller)
            throw new FamfsException(ErrorReason.Overloaded, $"{MostOfCaller} hosts were registered within an hour by {caller}, the limit of a caller that is not known; use a certificate, or wait") { Limit = MostOfCaller };
        _taken.Enqueue((clock.GetTimestamp(), caller));
    }
}
