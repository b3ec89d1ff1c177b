using Famfs.Core;
using Famfs.V1;

namespace Famfs.Master.Role;

/// <summary>What a process is to its file system.</summary>
internal enum RoleState
{
    /// <summary>It could become master.</summary>
    Standby,

    /// <summary>It is trying.</summary>
    Claiming,

    /// <summary>It is the master.</summary>
    Active,

    /// <summary>It was, and another has taken over, or its engine broke. For good: its memory of the log may be wrong.</summary>
    Deposed,
}

/// <summary>
/// Whether this process is the master: standby → claiming → active → deposed. A claim that fails and a term that ends in order lead
/// back to standby. In every state but active, calls get NOT_MASTER, with the address of the master if it is known.
/// <para>One thread moves it; any may read it.</para>
/// </summary>
internal sealed class MasterRole(ICandidacy candidacy)
{
    // Replaced whole.
    private volatile Standing _standing = new(RoleState.Standby, "this process is not the master", "", null);

    /// <summary>What it is now.</summary>
    public RoleState State => _standing.State;

    /// <summary>Waits for its turn and becomes active, or throws why not and stands by. <paramref name="claim"/>: takes the lock,
    /// claims, replays and activates.</summary>
    public async Task<T> BecomeActiveAsync<T>(Func<CancellationToken, Task<T>> claim, CancellationToken cancel)
    {
        Require(RoleState.Standby);
        await candidacy.WaitForTurnAsync(cancel).ConfigureAwait(false);
        _standing = new(RoleState.Claiming, "this process is trying to become master", _standing.MasterAddress, null);
        try
        {
            T claimed = await claim(cancel).ConfigureAwait(false);
            _standing = new(RoleState.Active, "", "", null);
            return claimed;
        }
        catch (Exception error)
        {
            _standing = new(RoleState.Standby, $"this process is not the master: {error.Message}", (error as FamfsException)?.MasterAddress ?? "", error);
            throw;
        }
    }

    /// <summary>Its term is over: in order when <paramref name="failure"/> is null.</summary>
    public void End(Exception? failure)
    {
        Require(RoleState.Active);
        _standing = failure is null
            ? new(RoleState.Standby, "the master has stopped", "", null)
            : new(RoleState.Deposed, $"this is not the master any more: {failure.Message}", (failure as FamfsException)?.MasterAddress ?? "", failure);
    }

    /// <summary>Throws NOT_MASTER unless it is active. Any thread.</summary>
    public void RequireActive()
    {
        if (_standing is { State: not RoleState.Active } standing)
            throw new FamfsException(ErrorReason.NotMaster, standing.Why, standing.Cause) { MasterAddress = standing.MasterAddress };
    }

    private void Require(RoleState state)
    {
        if (_standing.State != state)
            throw new InvalidOperationException($"the role is {_standing.State}, not {state}");
    }

    private sealed record Standing(RoleState State, string Why, string MasterAddress, Exception? Cause);
}
