using Famfs.Core;
using Famfs.Master.Changes;
using Famfs.Master.Engine;
using Xunit;

namespace Famfs.Master.Tests.Engine;

/// <summary>Order and turns of waiting operations, without an engine.</summary>
public sealed class TurnQueueTests
{
    /// <summary>The smallest operations of one turn.</summary>
    private const int OperationsPerTurn = ChangeContext.FilesPerTurn / 4;

    private readonly TurnQueue _queue = new(capacity: 10_000);
    private readonly Caller _bulk = Caller.Unknown with { };
    private readonly Caller _other = Caller.Unknown with { };
    private readonly Caller _lone = Caller.Unknown with { };

    [Fact]
    public void One_connection_is_served_in_its_order()
    {
        for (int i = 0; i < 1000; i++)
            Add(_bulk, i);
        Assert.Equal(Enumerable.Range(0, 1000), TakeAll().Select(t => t.Number));
    }

    [Fact]
    public void Connections_take_turns()
    {
        for (int i = 0; i < 1000; i++)
            Add(_bulk, i);
        for (int i = 0; i < 1000; i++)
            Add(_other, i);
        List<(Caller Caller, int Number)> taken = TakeAll();
        Assert.Equal(2000, taken.Count);
        foreach (Caller caller in (Caller[])[_bulk, _other])
            Assert.Equal(Enumerable.Range(0, 1000), taken.Where(t => ReferenceEquals(t.Caller, caller)).Select(t => t.Number));
        // Nobody is served for longer than a turn while the other waits.
        int run = 0;
        for (int i = 1; i < 2 * (1000 - OperationsPerTurn); i++)
        {
            run = ReferenceEquals(taken[i].Caller, taken[i - 1].Caller) ? run + 1 : 0;
            Assert.InRange(run, 0, OperationsPerTurn - 1);
        }
    }

    [Fact]
    public void A_lone_request_comes_before_those_who_have_had_a_turn()
    {
        for (int i = 0; i < 1000; i++)
        {
            Add(_bulk, i);
            Add(_other, i);
        }
        for (int i = 0; i < 3 * OperationsPerTurn; i++)
            Take();
        Add(_lone, 7);
        Assert.Equal((_lone, 7), Take());
    }

    [Fact]
    public void Who_is_always_back_at_once_does_not_starve_the_others()
    {
        for (int i = 0; i < 1000; i++)
            Add(_bulk, i);
        int served = 0;
        for (int i = 0; i < 2 * OperationsPerTurn; i++)
        {
            Add(_lone, i);
            (Caller caller, _) = Take();
            served += ReferenceEquals(caller, _bulk) ? 1 : 0;
        }
        Assert.InRange(served, OperationsPerTurn / 2, 2 * OperationsPerTurn);
    }

    [Fact]
    public void A_lone_request_comes_before_all_bulk_parts_of_any_connection_its_own_included()
    {
        Caller[] bulks = [.. Enumerable.Range(0, 16).Select(_ => Caller.Unknown with { })];
        foreach (Caller caller in bulks)
            Add(caller, 1, files: 250);
        Add(bulks[7], 7);
        Add(_lone, 8);
        Assert.Equal((bulks[7], 7), Take());
        Assert.Equal((_lone, 8), Take());
        // A stream whose next part comes when it has been served comes after the others, and is not fresh.
        Assert.Equal((bulks[0], 1), Take());
        Assert.Equal((bulks[1], 1), Take());
        Add(bulks[0], 2, files: 250);
        Add(_lone, 9);
        Assert.Equal((_lone, 9), Take());
        Assert.Equal((bulks[2], 1), Take());
    }

    [Fact]
    public void Requests_that_never_end_leave_bulk_parts_half_of_the_time()
    {
        for (int i = 0; i < 40; i++)
            Add(_bulk, i, files: 250);
        int few = 0;
        int many = 0;
        while (many < 40 * 250)
        {
            Add(_lone, 0);
            Add(_other, 0);
            if (ReferenceEquals(Take().Caller, _bulk))
                many += 250;
            else
                few += 4;
        }
        Assert.InRange(few, many / 2, many + 1000);
    }

    [Fact]
    public void Operations_that_take_long_are_more_of_a_turn()
    {
        for (int i = 0; i < 8; i++)
        {
            Add(_bulk, i);
            Add(_other, i);
        }
        List<Caller> order = [];
        for (int i = 0; i < 16; i++)
        {
            Assert.True(_queue.TryTake(out EngineOperation? operation, TimeSpan.Zero));
            _queue.Charge(operation, TimeSpan.FromMilliseconds(10));
            order.Add(operation.Caller);
        }
        for (int i = 0; i < 16; i++)
            Assert.Same(i / 2 % 2 == 0 ? _bulk : _other, order[i]);
    }

    [Fact]
    public void A_turn_of_bulk_parts_has_as_many_files_as_any()
    {
        for (int i = 0; i < 40; i++)
        {
            Add(_bulk, i, files: 250);
            Add(_other, i, files: 250);
        }
        List<(Caller Caller, int Number)> taken = TakeAll();
        for (int i = 0; i < 80; i++)
            Assert.Same(i / 4 % 2 == 0 ? _bulk : _other, taken[i].Caller);
    }

    [Fact]
    public void What_has_had_its_turn_stays_first_of_its_connection_and_lets_others_come()
    {
        Add(_bulk, 0);
        Add(_bulk, 1);
        Assert.True(_queue.TryTake(out EngineOperation? begun, TimeSpan.Zero));
        Add(_other, 5);
        _queue.EndTurn(begun);
        Assert.Equal([5, 0, 1], TakeAll().Select(t => t.Number));
    }

    [Fact]
    public void A_full_queue_refuses_and_a_closed_one_gives_what_it_has()
    {
        TurnQueue small = new(capacity: 2);
        Assert.True(small.TryAdd(new Numbered(_bulk, 0)));
        Assert.True(small.TryAdd(new Numbered(_other, 0)));
        Assert.False(small.TryAdd(new Numbered(_lone, 0)));
        Assert.True(small.TryReturn(new Numbered(_lone, 1)));
        small.CompleteAdding();
        Assert.Throws<InvalidOperationException>(() => small.TryAdd(new Numbered(_bulk, 1)));
        Assert.False(small.TryReturn(new Numbered(_bulk, 1)));
        for (int i = 0; i < 3; i++)
        {
            Assert.False(small.IsCompleted);
            Assert.True(small.TryTake(out _, TimeSpan.Zero));
        }
        Assert.True(small.IsCompleted);
        Assert.False(small.TryTake(out _, TimeSpan.FromDays(1)));
    }

    private void Add(Caller caller, int number, int files = 1) => Assert.True(_queue.TryAdd(new Numbered(caller, number, files)));

    private (Caller Caller, int Number) Take()
    {
        Assert.True(_queue.TryTake(out EngineOperation? operation, TimeSpan.Zero));
        return (operation.Caller, ((Numbered)operation).Number);
    }

    private List<(Caller Caller, int Number)> TakeAll()
    {
        List<(Caller, int)> taken = [];
        while (_queue.TryTake(out EngineOperation? operation, TimeSpan.Zero))
            taken.Add((operation.Caller, ((Numbered)operation).Number));
        return taken;
    }

    private sealed class Numbered(Caller caller, int number, int files = 1) : EngineOperation(caller)
    {
        public int Number => number;

        public override int Files => files;

        public override void GiveUp(ChangeContext context, FamfsException error)
        {
        }

        protected override Verdict Decide(ChangeContext context) => Verdict.Done;

        protected override void Answer(Exception? error)
        {
        }
    }
}
