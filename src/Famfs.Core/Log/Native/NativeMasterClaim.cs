using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log.Native;

/// <summary>The place of a native master: the slot of this host, its lock, no living master beside it, a claim.</summary>
internal sealed class NativeMasterClaim : MasterClaim
{
    /// <summary>How long heartbeats are watched before a start (chosen: ten times their interval).</summary>
    private static readonly TimeSpan HeartbeatWatch = TimeSpan.FromSeconds(1);

    private readonly Mastership _mastership;
    private readonly Guid _host;
    private readonly IDisposable _slotLock;

    private NativeMasterClaim(Mastership mastership, List<MountLine> lines, Guid host, IDisposable slotLock)
    {
        _mastership = mastership;
        HostLines = lines;
        _host = host;
        _slotLock = slotLock;
    }

    /// <inheritdoc/>
    public override ILogReader Reader => _mastership.Reader;

    /// <inheritdoc/>
    public override IReadOnlyList<MountLine> HostLines { get; }

    /// <inheritdoc/>
    public override LogSequence? AdoptedFrom => _mastership.Reader.AdoptedFrom;

    /// <summary>Takes the place, or throws why not; nothing has been written in that case.</summary>
    public static async Task<NativeMasterClaim> TakeAsync(DevicePool pool, ClaimRequest request, CancellationToken cancel)
    {
        if (NativeFormat.SuperblockOf(pool).ReadOnly)
            throw new FamfsException(ErrorReason.ReadOnly, $"{pool.PrimaryDevice.Path}: has features that this version can only read");
        (int slot, TermStarted? last, bool ended) = FindSlot(pool, request);
        if (!DeviceLock.TryTake(pool.PrimaryDevice, request.Host.Locks, pool.Primary.FileSystem, slot, out IDisposable? slotLock))
            throw new FamfsException(ErrorReason.NotMaster, $"{pool.PrimaryDevice.Path}: a master of this host is running (slot {slot} is locked)");
        try
        {
            if (!request.TakeOver && !ended)
            {
                int? living = await Mastership.DetectLiveMasterAsync(pool, slot, HeartbeatWatch, request.Clock, cancel).ConfigureAwait(false);
                if (living is not null)
                {
                    throw new FamfsException(ErrorReason.NotMaster,
                        $"{pool.PrimaryDevice.Path}: the master of slot {living} is running{(last is { Address.Length: > 0 } ? $" at {last.Address}" : "")}; --take-over replaces it")
                    { MasterAddress = last?.Address ?? "" };
                }
            }
            Guid master = Guid.NewGuid();
            Mastership mastership = Mastership.Claim(pool, slot, request.Host.Host, master, request.Clock, request.EndsAtDamage, pool.Format.EntersGenerations);
            List<MountLine> lines = [.. new MountLineTable(pool).ReadInUse().Select(entry => entry.Line).OfType<MountLine>()];
            return new(mastership, lines, request.Host.Host, slotLock) { Master = master, Slot = slot };
        }
        catch
        {
            slotLock.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override ILogWriter Activate(IReadOnlyDictionary<int, Guid> slots, IReadOnlyList<(int Slot, SegmentSpace Space)> segments)
    {
        if (!slots.TryGetValue(Slot, out Guid owner) || owner != _host)
            throw new FamfsException(ErrorReason.NotMaster, $"master slot {Slot} is not this host's in the log");
        return _mastership.Activate([.. segments.Where(s => s.Slot == Slot).Select(s => s.Space)]);
    }

    /// <inheritdoc/>
    public override void Dispose() => _slotLock.Dispose();

    /// <summary>Reads the log as any reader may, for the slot that it gives to this host.</summary>
    private static (int Slot, TermStarted? Last, bool Ended) FindSlot(DevicePool pool, ClaimRequest request)
    {
        LogReader reader = new(pool, request.Clock) { EntersGenerations = pool.Format.EntersGenerations };
        LogSurvey survey = request.Survey(reader);
        foreach ((int slot, Guid owner) in survey.MasterSlots)
        {
            if (owner == request.Host.Host)
                return (slot, survey.LastTermStarted, survey.TermHasEnded && survey.ReachedEnd && reader.Anchor!.Term == reader.Position.Term);
        }
        // A claim that never became active hides the rest of the log; what is this host's beyond doubt is the
        // slot in which it has claimed before, and slot 0 for the host that ran mkfs.
        AnchorArea anchors = new(pool.PrimaryDevice, pool.Primary.FileSystem);
        for (int slot = 0; slot < Term.SlotCount; slot++)
        {
            if (anchors.ReadSlot(slot).Claim is { } claim && claim.Host == request.Host.Host)
                return (slot, survey.LastTermStarted, false);
        }
        if (NativeFormat.SuperblockOf(pool).MkfsHost == request.Host.Host)
            return (0, survey.LastTermStarted, false);
        throw new FamfsException(ErrorReason.NotMaster,
            $"host {request.Host.Host} has no master slot in this file system; while a master runs, `famfs master-slot` on this host asks for one")
        { MasterAddress = survey.LastTermStarted?.Address ?? "" };
    }
}
