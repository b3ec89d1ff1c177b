namespace Famfs.Master.Holders;

/// <summary>Spreads bytes over time, so that zeroing leaves the memory's bandwidth to others. Any thread.</summary>
/// <param name="bytesPerSecond">At most; above 0.</param>
/// <param name="clock">The clock.</param>
internal sealed class ZeroingPace(long bytesPerSecond, TimeProvider clock)
{
    private readonly Lock _gate = new();
    private readonly long _began = clock.GetTimestamp();
    private TimeSpan _free; // since it began: when all that was asked for is done

    /// <summary>Bytes that are asked for at a time: a twentieth of a second's, by whole pages.</summary>
    public long StepBytes { get; } = Math.Max(4096, bytesPerSecond / 20 / 4096 * 4096);

    /// <summary>How long to wait before these bytes are stored. Who waits less is not held back.</summary>
    public TimeSpan Reserve(long bytes)
    {
        lock (_gate)
        {
            TimeSpan now = clock.GetElapsedTime(_began);
            // What was not used is lost: after a rest there is no burst.
            TimeSpan start = _free > now ? _free : now;
            _free = start + TimeSpan.FromSeconds((double)bytes / bytesPerSecond);
            return start - now;
        }
    }
}
