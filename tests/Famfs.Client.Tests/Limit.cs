namespace Famfs.Client.Tests;

/// <summary>Ends what a test waits for in vain: a failure, not a hang.</summary>
internal static class Limit
{
    /// <summary>Cancelled with the test, or a minute from now.</summary>
    public static CancellationToken Minute()
    {
        // Not disposed: it lives as long as the test's last wait.
        CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        limit.CancelAfter(TimeSpan.FromMinutes(1));
        return limit.Token;
    }
}
