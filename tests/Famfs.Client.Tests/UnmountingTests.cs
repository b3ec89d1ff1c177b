using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Client.Tests;

/// <summary>A mount that nobody uses is taken away, also when it was busy for a moment.</summary>
public sealed class UnmountingTests
{
    private static readonly MountUse s_nobody = new([], []);
    private static readonly MountUse s_somebody = new([new(7, "fio")], []);

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public async Task It_is_tried_again_while_nobody_is_found(int busy)
    {
        Assert.Null(await TryAsync(() => busy-- > 0 ? Errno.EBUSY : 0, () => s_nobody));
        Assert.Equal(-1, busy);
    }

    [Fact]
    public async Task It_ends_when_nobody_is_found_for_long()
    {
        int tries = 0;
        Assert.Same(s_nobody, await TryAsync(() => Count(ref tries), () => s_nobody));
        // A second passes at each look.
        Assert.Equal(Unmounting.Patience.TotalSeconds, tries);
    }

    [Fact]
    public async Task Who_is_found_is_named_at_once()
    {
        int tries = 0;
        Assert.Same(s_somebody, await TryAsync(() => Count(ref tries), () => s_somebody));
        Assert.Equal(1, tries);
    }

    [Fact]
    public async Task Other_errors_end_it() =>
        Assert.Equal(ErrorReason.NotFound, (await Assert.ThrowsAsync<FamfsException>(() => TryAsync(() => Errno.ENOENT, () => s_nobody))).Reason);

    [Fact]
    public void At_most_eight_are_named()
    {
        Assert.Equal("", s_nobody.Used);
        Assert.Equal(", used by fio (7), the mount at /m/x", new MountUse([new(7, "fio")], ["/m/x"]).Used);
        MountUse many = new([.. Enumerable.Range(1, 11).Select(i => new MountHolder(i, "p"))], []);
        Assert.Equal(" by p (1), p (2), p (3), p (4), p (5), p (6), p (7), p (8) and 3 more", many.Words);
    }

    private static int Count(ref int tries)
    {
        tries++;
        return Errno.EBUSY;
    }

    private static Task<MountUse?> TryAsync(Func<int> unmount, Func<MountUse> find)
    {
        StepClock clock = new();
        return Unmounting.TryAsync("/m", unmount, () =>
        {
            clock.Now += clock.TimestampFrequency;
            return find();
        }, clock, Unmounting.Patience, TestContext.Current.CancellationToken);
    }

    private sealed class StepClock : TimeProvider
    {
        public long Now { get; set; }

        public override long GetTimestamp() => Now;
    }
}
