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

    [Theory]
    [InlineData(0)]
    [InlineData((1L << 31) - 5000)]
    [InlineData((1L << 32) - 5000)]
    public void It_remembers_what_a_dictionary_and_a_queue_would(long firstPosition)
    {
        const int Capacity = 3000;
        Random random = new(4);
        RecentRequests window = new(_clock, Capacity, firstPosition);
        Dictionary<Guid, RequestTrace> model = [];
        Queue<Guid> order = new();
        List<Guid> ever = [];
        for (ulong sequence = 1; sequence <= 20_000; sequence++)
        {
            if (random.Next(2000) == 0)
                _clock.Now += random.Next(3) * RecentRequests.Span;
            _clock.Now += TimeSpan.FromMilliseconds(random.Next(3));
            Guid id = random.Next(10) == 0 && ever.Count > 0 ? ever[random.Next(ever.Count)] : NewId();
            RequestTrace trace = Trace(id, sequence, sequence);
            window.Add(trace);
            ever.Add(id);
            if (!model.TryAdd(id, trace))
                continue;
            order.Enqueue(id);
            long oldestNs = (_clock.Now - RecentRequests.Span - RecentRequests.MaxAhead).ToUnixTimeMilliseconds() * 1_000_000;
            while (order.TryPeek(out Guid first) && (model[first].TimeNs < oldestNs || model.Count > Capacity))
                model.Remove(order.Dequeue());

            Assert.Equal(model.Count, window.Count);
            Guid asked = ever[random.Next(ever.Count)];
            if (model.TryGetValue(asked, out RequestTrace expected))
            {
                Assert.True(window.TryFind(asked, expected.Digest, out RequestTrace found));
                Assert.Equal(expected, found);
            }
            else
            {
                Assert.Equal(ErrorReason.RequestExpired, Assert.Throws<FamfsException>(() => window.TryFind(asked, 0, out _)).Reason);
            }
        }
        Assert.All(model, m => Assert.True(window.TryFind(m.Key, m.Value.Digest, out RequestTrace found) && found == m.Value));
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
