using System.Buffers.Binary;
using System.IO.Pipelines;
using Famfs.Core;
using Famfs.Master.Rpc;
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
        CallBudget.Connection first = budget.Open();
        CallBudget.Connection second = budget.Open();
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
        using (MeteredBody body = new(pipe.Reader, budget.Open(), "M", 1000))
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
        using MeteredBody body = new(pipe.Reader, budget.Open(), "Barrier", 1000);
        await pipe.Writer.WriteAsync(Message(1001).AsMemory(0, 6), TestContext.Current.CancellationToken);
        RpcException error = await Assert.ThrowsAsync<RpcException>(async () => await body.ReadAsync(TestContext.Current.CancellationToken));
        Assert.Equal((StatusCode.ResourceExhausted, "a message of Barrier has 1001 bytes, the limit is 1000"), (error.StatusCode, error.Status.Detail));
        ErrorDetail detail = ErrorDetail.Parser.ParseFrom(error.Trailers.GetValueBytes(StatusMap.DetailTrailer));
        Assert.Equal((ErrorReason.BadRequest, 1000ul), (detail.Reason, detail.Limit));
    }

    [Fact]
    public async Task What_does_not_fit_the_budget_ends_the_call_with_overloaded()
    {
        CallBudget budget = new(total: CallLimits.CallBytes + 50, small: 0, ofConnection: 1 << 20);
        Pipe pipe = new();
        using (MeteredBody body = new(pipe.Reader, budget.Open(), "M", 1000))
        {
            await pipe.Writer.WriteAsync(Message(100), TestContext.Current.CancellationToken);
            RpcException error = await Assert.ThrowsAsync<RpcException>(async () => await body.ReadAsync(TestContext.Current.CancellationToken));
            Assert.Equal(ErrorReason.Overloaded, ErrorDetail.Parser.ParseFrom(error.Trailers.GetValueBytes(StatusMap.DetailTrailer)).Reason);
        }
        Assert.Equal(0, budget.Held);
    }

    [Fact]
    public void There_are_only_so_many_calls()
    {
        CallBudget budget = new();
        for (int i = 0; i < CallLimits.Calls; i++)
            Assert.True(budget.TryBeginCall());
        Assert.False(budget.TryBeginCall());
        Assert.False(budget.TryBeginCall());
        budget.EndCall();
        Assert.True(budget.TryBeginCall());
    }

    private static byte[] Message(int bytes)
    {
        byte[] message = new byte[5 + bytes];
        BinaryPrimitives.WriteInt32BigEndian(message.AsSpan(1), bytes);
        return message;
    }
}
