namespace Famfs.Master.Role;

/// <summary>Says when a process that stands by should try to become master. It decides about availability only: whoever tries is
/// kept in order by claims (SAFETY S2, S3).</summary>
internal interface ICandidacy
{
    /// <summary>Ends when it should try.</summary>
    Task WaitForTurnAsync(CancellationToken cancel);
}

/// <summary>Tries at once: an operator started it.</summary>
internal sealed class AtOnce : ICandidacy
{
    /// <inheritdoc/>
    public Task WaitForTurnAsync(CancellationToken cancel) => Task.CompletedTask;
}
