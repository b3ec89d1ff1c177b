using Famfs.Core;
using Famfs.Master.Role;
using Famfs.V1;
using Xunit;

namespace Famfs.Master.Tests.Role;

public sealed class MasterRoleTests
{
    [Fact]
    public async Task A_process_waits_for_its_turn_claims_and_serves_until_its_term_ends()
    {
        Turn turn = new();
        MasterRole role = new(turn);
        TaskCompletionSource<int> claiming = new();
        bool asked = false;
        Task<int> becoming = role.BecomeActiveAsync(_ =>
        {
            asked = true;
            return claiming.Task;
        }, TestContext.Current.CancellationToken);
        Assert.Equal((RoleState.Standby, false), (role.State, asked));
        Refuses(role, "");
        turn.Come.SetResult();
        await WaitAsync(() => role.State == RoleState.Claiming);
        Refuses(role, "");
        claiming.SetResult(7);
        Assert.Equal(7, await becoming);
        Assert.Equal(RoleState.Active, role.State);
        role.RequireActive();
        role.End(null);
        Assert.Equal(RoleState.Standby, role.State);
        Refuses(role, "");
    }

    [Fact]
    public async Task A_claim_that_fails_leaves_a_standby_that_knows_who_is_master_and_may_try_again()
    {
        MasterRole role = new(new AtOnce());
        FamfsException cause = new(ErrorReason.NotMaster, "another is") { MasterAddress = "http://there:1" };
        Assert.Same(cause, await Assert.ThrowsAsync<FamfsException>(() => role.BecomeActiveAsync<int>(_ => throw cause, TestContext.Current.CancellationToken)));
        Assert.Equal(RoleState.Standby, role.State);
        Refuses(role, "http://there:1");
        await role.BecomeActiveAsync(_ => Task.FromResult(1), TestContext.Current.CancellationToken);
        role.RequireActive();
    }

    [Fact]
    public async Task A_deposed_process_stays_deposed()
    {
        MasterRole role = new(new AtOnce());
        Assert.Throws<InvalidOperationException>(() => role.End(null));
        await role.BecomeActiveAsync(_ => Task.FromResult(1), TestContext.Current.CancellationToken);
        role.End(new FamfsException(ErrorReason.NotMaster, "term 65 has claimed"));
        Assert.Equal(RoleState.Deposed, role.State);
        Assert.Contains("term 65 has claimed", Refuses(role, "").Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<InvalidOperationException>(() => role.BecomeActiveAsync(_ => Task.FromResult(1), TestContext.Current.CancellationToken));
        Assert.Throws<InvalidOperationException>(() => role.End(null));
    }

    private static FamfsException Refuses(MasterRole role, string address)
    {
        FamfsException error = Assert.Throws<FamfsException>(role.RequireActive);
        Assert.Equal((ErrorReason.NotMaster, address), (error.Reason, error.MasterAddress));
        return error;
    }

    private static async Task WaitAsync(Func<bool> condition)
    {
        using CancellationTokenSource patience = new(TimeSpan.FromMinutes(2));
        while (!condition())
            await Task.Delay(1, patience.Token);
    }

    private sealed class Turn : ICandidacy
    {
        public TaskCompletionSource Come { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task WaitForTurnAsync(CancellationToken cancel) => Come.Task.WaitAsync(cancel);
    }
}
