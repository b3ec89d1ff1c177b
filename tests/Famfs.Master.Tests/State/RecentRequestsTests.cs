using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Master.State;
using Famfs.V1;
using Xunit;

namespace Famfs.Master.Tests.State;

public sealed class RecentRequestsTests
{
    private readonly ManualClock _clock = new();

    [Fact]
    public void Repeated_id_finds_its_record()
    {
        RecentRequests window = new(_clock);
        Guid id = NewId();
        Assert.False(window.TryFind(id, 7, out _));
        window.Add(Trace(id, 7, 1));
        Assert.True(window.TryFind(id, 7, out RequestTrace found));
        Assert.Equal(1u, found.Sequence.Value);
    }

    [Fact]
    public void Same_id_with_other_content_is_refused()
    {
        RecentRequests window = new(_clock);
        Guid id = NewId();
        window.Add(Trace(id, 7, 1));
        Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => window.TryFind(id, 8, out _)).Reason);
    }

    [Fact]
    public void Id_that_may_have_been_forgotten_is_refused_and_never_taken_for_new()
    {
        RecentRequests window = new(_clock);
        Guid id = NewId();
        window.Add(Trace(id, 7, 1));
        _clock.Now += RecentRequests.Span + RecentRequests.MaxAhead + TimeSpan.FromSeconds(1);
        window.Add(Trace(NewId(), 7, 2));
        Assert.Equal(ErrorReason.RequestExpired, Assert.Throws<FamfsException>(() => window.TryFind(id, 7, out _)).Reason);
    }

    [Fact]
    public void Id_forgotten_for_its_age_stays_refused_when_the_clock_goes_back()
    {
        RecentRequests window = new(_clock);
        Guid id = NewId();
        window.Add(Trace(id, 7, 1));
        DateTimeOffset right = _clock.Now + TimeSpan.FromSeconds(1);
        _clock.Now += TimeSpan.FromHours(1);
        window.Add(Trace(NewId(), 7, 2));
        _clock.Now = right;
        Assert.Equal(ErrorReason.RequestExpired, Assert.Throws<FamfsException>(() => window.TryFind(id, 7, out _)).Reason);
        Assert.False(window.TryFind(NewId(), 7, out _));
    }

    [Fact]
    public void Ids_beyond_the_limit_push_out_the_oldest_and_those_are_refused()
    {
        RecentRequests window = new(_clock, capacity: 2);
        Guid first = NewId();
        window.Add(Trace(first, 1, 1));
        _clock.Now += TimeSpan.FromMilliseconds(5);
        window.Add(Trace(NewId(), 1, 2));
        window.Add(Trace(NewId(), 1, 3));
        Assert.Equal(2, window.Count);
        Assert.Equal(ErrorReason.RequestExpired, Assert.Throws<FamfsException>(() => window.TryFind(first, 1, out _)).Reason);
        Assert.False(window.TryFind(NewId(), 1, out _));
    }

    [Fact]
    public void Id_from_far_ahead_or_of_another_version_is_refused()
    {
        RecentRequests window = new(_clock);
        Guid ahead = Guid.CreateVersion7(_clock.Now + RecentRequests.MaxAhead + TimeSpan.FromMilliseconds(1));
        FamfsException error = Assert.Throws<FamfsException>(() => window.TryFind(ahead, 1, out _));
        Assert.Equal((ErrorReason.BadRequest, (ulong)_clock.Now.ToUnixTimeMilliseconds()), (error.Reason, error.MasterTimeMs));
        Assert.False(window.TryFind(Guid.CreateVersion7(_clock.Now + RecentRequests.MaxAhead), 1, out _));
        Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => window.TryFind(Guid.NewGuid(), 1, out _)).Reason);
        Assert.False(window.TryFind(Guid.Empty, 1, out _));
    }

    [Fact]
    public void Ids_pushed_out_by_the_newest_possible_ones_lock_nobody_out_for_longer_than_they_may_be_ahead()
    {
        RecentRequests window = new(_clock, capacity: 2);
        for (ulong i = 1; i <= 10; i++)
        {
            Guid newest = Guid.CreateVersion7(_clock.Now + RecentRequests.MaxAhead);
            Assert.False(window.TryFind(newest, 1, out _));
            window.Add(Trace(newest, 1, i));
            _clock.Now += TimeSpan.FromMilliseconds(1);
        }
        _clock.Now += RecentRequests.MaxAhead + TimeSpan.FromMilliseconds(1);
        Assert.False(window.TryFind(NewId(), 1, out _));
    }

    [Fact]
    public void A_known_id_is_found_when_the_clock_has_gone_back_behind_it()
    {
        RecentRequests window = new(_clock);
        Guid id = NewId();
        window.Add(Trace(id, 1, 1));
        _clock.Now -= TimeSpan.FromMinutes(1);
        Assert.True(window.TryFind(id, 1, out _));
    }

    [Fact]
    public void A_caller_that_asks_for_much_pushes_out_its_own_ids_and_bars_nobody_else()
    {
        const int Capacity = 4000;
        const int Honest = 1;
        const int Flooding = 2;
        RecentRequests window = new(_clock, Capacity);
        List<Guid> honest = [];
        for (int i = 0; i < 100; i++)
        {
            honest.Add(NewId());
            window.Add(Trace(honest[i], 1, 1), Honest);
        }
        Guid first = default;
        for (int i = 0; i < 10 * Capacity; i++)
        {
            if (i % 100 == 0)
                _clock.Now += TimeSpan.FromMilliseconds(1);
            // As far ahead as they may be.
            Guid flood = Guid.CreateVersion7(_clock.Now + RecentRequests.MaxAhead);
            first = i == 0 ? flood : first;
            window.Add(Trace(flood, 1, 1), Flooding);
            if (i % 1000 != 0)
                continue;
            honest.Add(NewId());
            Assert.False(window.TryFind(honest[^1], 1, out _, Honest), "a new id of another caller is refused");
            window.Add(Trace(honest[^1], 1, 1), Honest);
        }
        Assert.Equal(Capacity, window.Count);
        Assert.All(honest, id => Assert.True(window.TryFind(id, 1, out _, Honest)));
        // Found by whoever asks, as long as it is remembered.
        Assert.True(window.TryFind(honest[0], 1, out _, Flooding));
        Assert.Equal(ErrorReason.RequestExpired, Assert.Throws<FamfsException>(() => window.TryFind(first, 1, out _, Flooding)).Reason);
    }

    [Fact]
    public void What_the_log_had_and_was_forgotten_is_refused_to_everybody()
    {
        RecentRequests window = new(_clock, capacity: 2);
        Guid first = NewId();
        window.Add(Trace(first, 1, 1));
        _clock.Now += TimeSpan.FromMilliseconds(5);
        window.Add(Trace(NewId(), 1, 2));
        window.Add(Trace(NewId(), 1, 3));
        Assert.Equal(ErrorReason.RequestExpired, Assert.Throws<FamfsException>(() => window.TryFind(first, 1, out _, 7)).Reason);
    }

    [Fact]
    public void Every_caller_has_a_share_that_is_not_the_logs()
    {
        HashSet<int> shares = [.. Enumerable.Range(0, 10_000).Select(i => RecentRequests.ShareOf($"address 10.0.{i / 256}.{i % 256}"))];
        Assert.True(shares.Min() > RecentRequests.LogShare && shares.Max() < RecentRequests.ShareCount);
        Assert.True(shares.Count > RecentRequests.ShareCount * 9 / 10, $"{shares.Count} shares");
        Assert.Equal(RecentRequests.ShareOf("user 0"), RecentRequests.ShareOf("user 0"));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(RecentRequests.ShareCount)]
    public void It_remembers_what_dictionaries_and_queues_of_each_share_would(int shares)
    {
        const int Capacity = 3000;
        Random random = new(4);
        RecentRequests window = new(_clock, Capacity);
        Dictionary<Guid, (RequestTrace Trace, int Share)> ever = [];
        List<Guid> order = [];
        for (ulong sequence = 1; sequence <= 20_000; sequence++)
        {
            if (random.Next(2000) == 0)
                _clock.Now += random.Next(3) * RecentRequests.Span;
            _clock.Now += TimeSpan.FromMilliseconds(random.Next(3));
            Guid id = random.Next(10) == 0 && order.Count > 0 ? order[random.Next(order.Count)] : NewId();
            int share = ever.TryGetValue(id, out var before) ? before.Share : random.Next(shares);
            bool wasKnown = ever.ContainsKey(id) && IsKnown(window, id, ever[id]);
            RequestTrace trace = Trace(id, sequence, sequence);
            window.Add(trace, share);
            if (!wasKnown)
                ever[id] = (trace, share);
            order.Add(id);
            Assert.InRange(window.Count, 1, Capacity);

            // Whatever is asked for is the first that was remembered, or refused; it is never taken for new.
            Guid asked = order[random.Next(order.Count)];
            IsKnown(window, asked, ever[asked]);
        }
        // With one share what is forgotten is the oldest.
        List<Guid> distinct = [.. ever.OrderBy(e => e.Value.Trace.Sequence.Value).Select(e => e.Key)];
        int known = distinct.Count(id => IsKnown(window, id, ever[id]));
        Assert.Equal(window.Count, known);
        if (shares == 1)
            Assert.All(distinct.TakeLast(known), id => Assert.True(IsKnown(window, id, ever[id])));
    }

    private static bool IsKnown(RecentRequests window, Guid id, (RequestTrace Trace, int Share) expected)
    {
        try
        {
            Assert.True(window.TryFind(id, expected.Trace.Digest, out RequestTrace found, expected.Share), "an id that was used is taken for new");
            Assert.Equal(expected.Trace, found);
            return true;
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.RequestExpired)
        {
            return false;
        }
    }

    private Guid NewId() => Guid.CreateVersion7(_clock.Now);

    private RequestTrace Trace(Guid id, ulong digest, ulong sequence) =>
        new(id, digest, _clock.Now.ToUnixTimeMilliseconds() * 1_000_000, RecordType.FileCreated, new(16), new(sequence), new(64));

    private sealed class ManualClock : TimeProvider
    {
        public DateTimeOffset Now { get; set; } = new(2026, 1, 2, 3, 4, 5, TimeSpan.Zero);

        public override DateTimeOffset GetUtcNow() => Now;
    }
}
