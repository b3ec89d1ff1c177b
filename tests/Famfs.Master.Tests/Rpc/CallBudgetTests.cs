using System.Buffers.Binary;
using System.IO.Pipelines;
using Famfs.Core;
using Famfs.Master.Rpc;
using Famfs.Master.State;
using Famfs.V1;
using Grpc.Core;
using Xunit;

namespace Famfs.Master.Tests.Rpc;

/// <summary>What callers may make a master keep: the budget, and the meter of what a call receives.</summary>
public sealed class CallBudgetTests
{
    private const int Large = 20_000;

    [Fact]
    public void A_connection_has_its_limit_and_all_have_one_and_a_refused_charge_is_none()
    {
        CallBudget budget = new(total: 5 * Large, small: Large, ofConnection: 3 * Large);
        int refused = 0;
        budget.Refused += () => refused++;
        CallBudget.Connection first = budget.Open("caller");
        CallBudget.Connection second = budget.Open("caller");
        first.Take(3 * Large);
        FamfsException own = Assert.Throws<FamfsException>(() => first.Take(1));
        Assert.Equal((ErrorReason.Overloaded, 3ul * Large), (own.Reason, own.Limit));
        second.Take(2 * Large);
        FamfsException all = Assert.Throws<FamfsException>(() => second.Take(Large));
        Assert.Equal((ErrorReason.Overloaded, 5ul * Large), (all.Reason, all.Limit));
        Assert.Equal((2, 5L * Large), (refused, budget.Held));
        // A lone change passes while streams have taken all.
        second.Take(1000);
        second.Return(1000);
        first.Return(3 * Large);
        second.Return(2 * Large);
        Assert.Equal(0, budget.Held);
    }

    [Fact]
    public async Task What_a_call_receives_is_charged_until_it_is_taken_over_or_the_call_ends()
    {
        CallBudget budget = new();
        Pipe pipe = new();
        using (MeteredBody body = new(pipe.Reader, budget.Open("caller"), "M", 1000))
        {
            long call = budget.Held;
            byte[] message = Message(100);
            await pipe.Writer.WriteAsync(message, TestContext.Current.CancellationToken);
            ReadResult read = await body.ReadAsync(TestContext.Current.CancellationToken);
            Assert.Equal(call + message.Length, budget.Held);
            // Looked at twice, charged once.
            body.AdvanceTo(read.Buffer.Start, read.Buffer.End);
            await pipe.Writer.WriteAsync(message, TestContext.Current.CancellationToken);
            read = await body.ReadAsync(TestContext.Current.CancellationToken);
            Assert.Equal(call + (2 * message.Length), budget.Held);
            body.AdvanceTo(read.Buffer.GetPosition(message.Length));
            Assert.Equal(message.Length, body.TakeCharge());
            Assert.Equal(0, body.TakeCharge());
            body.Budget.Return(message.Length);
            Assert.Equal(call + message.Length, budget.Held);
        }
        Assert.Equal(0, budget.Held);
    }

    [Fact]
    public async Task A_message_that_is_too_large_is_refused_by_its_length_before_it_is_there()
    {
        CallBudget budget = new();
        Pipe pipe = new();
        using MeteredBody body = new(pipe.Reader, budget.Open("caller"), "Barrier", 1000);
        await pipe.Writer.WriteAsync(Message(1001).AsMemory(0, 6), TestContext.Current.CancellationToken);
        RpcException error = await Assert.ThrowsAsync<RpcException>(async () => await body.ReadAsync(TestContext.Current.CancellationToken));
        Assert.Equal((StatusCode.ResourceExhausted, "a message of Barrier has 1001 bytes, the limit is 1000"), (error.StatusCode, error.Status.Detail));
        ErrorDetail detail = ErrorDetail.Parser.ParseFrom(error.Trailers.GetValueBytes(StatusMap.DetailTrailer));
        Assert.Equal((ErrorReason.BadRequest, 1000ul), (detail.Reason, detail.Limit));
    }

    [Fact]
    public async Task A_compressed_message_is_refused_by_its_flag()
    {
        Pipe pipe = new();
        using MeteredBody body = new(pipe.Reader, new CallBudget().Open("caller"), "Subscribe", 1000);
        byte[] message = Message(100);
        message[0] = 1;
        await pipe.Writer.WriteAsync(message.AsMemory(0, 5), TestContext.Current.CancellationToken);
        RpcException error = await Assert.ThrowsAsync<RpcException>(async () => await body.ReadAsync(TestContext.Current.CancellationToken));
        Assert.Equal((StatusCode.Unimplemented, "a message of Subscribe is compressed; messages are taken as they are"), (error.StatusCode, error.Status.Detail));
    }

    [Fact]
    public void Metadata_are_charged_until_the_call_ends()
    {
        CallBudget budget = new();
        using (new MeteredBody(new Pipe().Reader, budget.Open("caller"), "Barrier", 1000, headerBytes: 7000))
            Assert.Equal(CallLimits.CallBytes + 7000, budget.Held);
        Assert.Equal(0, budget.Held);
    }

    [Fact]
    public async Task What_does_not_fit_the_budget_ends_the_call_with_overloaded()
    {
        CallBudget budget = new(total: CallLimits.CallBytes + 50, small: 0, ofConnection: 1 << 20);
        Pipe pipe = new();
        using (MeteredBody body = new(pipe.Reader, budget.Open("caller"), "M", 1000))
        {
            await pipe.Writer.WriteAsync(Message(100), TestContext.Current.CancellationToken);
            RpcException error = await Assert.ThrowsAsync<RpcException>(async () => await body.ReadAsync(TestContext.Current.CancellationToken));
            Assert.Equal(ErrorReason.Overloaded, ErrorDetail.Parser.ParseFrom(error.Trailers.GetValueBytes(StatusMap.DetailTrailer)).Reason);
        }
        Assert.Equal(0, budget.Held);
    }

    [Fact]
    public void There_are_only_so_many_calls_in_all_and_of_one_caller()
    {
        CallBudget budget = new();
        // Callers whose shares are different.
        CallBudget.Connection[] callers = [.. Enumerable.Range(0, 1000).Select(i => $"address 10.0.0.{i}").DistinctBy(RecentRequests.ShareOf).Take(5).Select(budget.Open)];
        foreach (CallBudget.Connection caller in callers.Take(4))
        {
            for (int i = 0; i < CallLimits.CallsOfCaller; i++)
                Assert.True(caller.TryBeginCall(out _));
            Assert.False(caller.TryBeginCall(out int limit));
            Assert.Equal(CallLimits.CallsOfCaller, limit);
        }
        Assert.False(callers[4].TryBeginCall(out int all));
        Assert.Equal(CallLimits.Calls, all);
        Assert.False(callers[4].TryBeginCall(out _));
        callers[0].EndCall();
        Assert.True(callers[4].TryBeginCall(out _));
        Assert.False(callers[0].TryBeginCall(out _));
        Assert.False(budget.Open("address 10.0.0.0").TryBeginCall(out int ofCaller));
        Assert.Equal(CallLimits.Calls, ofCaller);
    }

    [Fact]
    public void There_are_only_so_many_connections_of_one_caller()
    {
        CallBudget budget = new(connections: 2);
        string[] callers = [.. Enumerable.Range(0, 100).Select(i => $"address 10.0.0.{i}").DistinctBy(RecentRequests.ShareOf).Take(2)];
        CallBudget.Connection? first = budget.TryOpen(callers[0], out _);
        Assert.NotNull(first);
        Assert.NotNull(budget.TryOpen(callers[0], out _));
        Assert.Null(budget.TryOpen(callers[0], out int limit));
        Assert.Equal(2, limit);
        Assert.NotNull(budget.TryOpen(callers[1], out _));
        first.Close();
        Assert.NotNull(budget.TryOpen(callers[0], out _));
        Assert.Null(budget.TryOpen(callers[0], out _));
    }

    [Fact]
    public void What_is_there_already_is_charged_beyond_the_limit_and_the_next_is_refused()
    {
        CallBudget budget = new(total: 100_000, small: 0, ofConnection: 50_000);
        CallBudget.Connection connection = budget.Open("caller");
        connection.Add(60_000);
        Assert.Equal(60_000, budget.Held);
        Assert.Equal(ErrorReason.Overloaded, Assert.Throws<FamfsException>(() => connection.Take(1)).Reason);
        connection.Return(60_000);
        connection.Take(1);
        Assert.Equal(1, budget.Held);
    }

    [Fact]
    public void What_a_call_holds_is_given_back_when_it_ends()
    {
        CallBudget budget = new(total: 100_000, small: 0, ofConnection: 50_000);
        CallBudget.Connection connection = budget.Open("caller");
        using (MeteredBody body = new(new Pipe().Reader, connection, "ListHosts", 1000))
        {
            body.Hold(20_000);
            body.Hold(-5_000);
            Assert.Equal(CallLimits.CallBytes + 15_000, budget.Held);
            Assert.Equal(ErrorReason.Overloaded, Assert.Throws<FamfsException>(() => body.Hold(40_000)).Reason);
            Assert.Equal(CallLimits.CallBytes + 15_000, budget.Held);
        }
        Assert.Equal(0, budget.Held);
    }

    [Fact]
    public async Task Bytes_of_a_message_may_count_more_than_once()
    {
        CallBudget budget = new();
        Pipe pipe = new();
        using (MeteredBody body = new(pipe.Reader, budget.Open("caller"), "SetAttributes", 1000, perByte: 4))
        {
            await pipe.Writer.WriteAsync(Message(100), TestContext.Current.CancellationToken);
            ReadResult read = await body.ReadAsync(TestContext.Current.CancellationToken);
            Assert.Equal(CallLimits.CallBytes + (4 * 105), budget.Held);
            body.AdvanceTo(read.Buffer.End);
            Assert.Equal(4 * 105, body.TakeCharge());
            Assert.Equal(CallLimits.CallBytes + (4 * 105), budget.Held);
        }
        // Whoever took the charge gives it back.
        Assert.Equal(4 * 105, budget.Held);
    }

    private static byte[] Message(int bytes)
    {
        byte[] message = new byte[5 + bytes];
        BinaryPrimitives.WriteInt32BigEndian(message.AsSpan(1), bytes);
        return message;
    }
}
