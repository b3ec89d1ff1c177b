namespace Famfs.Core.Interop;

/// <summary>Timestamps of CLOCK_BOOTTIME, in nanoseconds: they go on while the machine is suspended, so what waits for a time to pass
/// does not wait longer because of that (SAFETY S15). Everything else is of the system's clock. Any thread.</summary>
public sealed class BootClock : TimeProvider
{
    /// <summary>The only one that is needed.</summary>
    public static BootClock Instance { get; } = new();

    private BootClock()
    {
    }

    /// <inheritdoc/>
    public override long TimestampFrequency => 1_000_000_000;

    /// <inheritdoc/>
    public override unsafe long GetTimestamp()
    {
        Libc.timespec time;
        // Fails for a clock that the kernel does not have, and this one came with Linux 2.6.39.
        _ = Libc.clock_gettime(Libc.CLOCK_BOOTTIME, &time);
        return (time.Seconds * 1_000_000_000) + time.Nanoseconds;
    }
}
