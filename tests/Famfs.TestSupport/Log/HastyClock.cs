namespace Famfs.TestSupport.Log;

/// <summary>A clock that goes on by <paramref name="stepMs"/> whenever somebody looks: what is waited for by looking again comes at once.</summary>
public sealed class HastyClock(int stepMs = 50) : TimeProvider
{
    private long _now;

    /// <inheritdoc/>
    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    /// <inheritdoc/>
    public override long GetTimestamp() => Interlocked.Add(ref _now, TimeSpan.FromMilliseconds(stepMs).Ticks);

    /// <inheritdoc/>
    public override DateTimeOffset GetUtcNow() => DateTimeOffset.UnixEpoch;
}
