namespace Famfs.TestSupport.Log;

/// <summary>A clock that goes on by 50 ms whenever somebody looks: what is waited for by looking again comes at once.</summary>
public sealed class HastyClock : TimeProvider
{
    private long _now;

    /// <inheritdoc/>
    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    /// <inheritdoc/>
    public override long GetTimestamp() => Interlocked.Add(ref _now, TimeSpan.FromMilliseconds(50).Ticks);

    /// <inheritdoc/>
    public override DateTimeOffset GetUtcNow() => DateTimeOffset.UnixEpoch;
}
