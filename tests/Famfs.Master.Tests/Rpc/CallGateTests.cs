using Famfs.Core;
using Famfs.Master.Changes;
using Famfs.Master.Rpc;
using Famfs.V1;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Famfs.Master.Tests.Rpc;

/// <summary>What a call passes before it is one.</summary>
public sealed class CallGateTests
{
    private readonly CallBudget _budget = new();
    private readonly CallBudget.Connection _connection;
    private readonly CallGate _gate;
    private readonly Lifetime _lifetime = new();

    public CallGateTests()
    {
        _connection = _budget.Open("address 10.0.0.1");
        _gate = new(_budget, new Refusals(NullLogger<Refusals>.Instance, TimeProvider.System));
    }

    [Fact]
    public async Task A_call_ends_when_its_trailers_are_taken_and_not_when_its_method_ends()
    {
        FillCalls(CallLimits.CallsOfCaller - 1);
        (HttpContext context, Response response) = Call();
        int served = 0;
        await _gate.RunAsync(context, async inner =>
        {
            served++;
            Assert.Equal(CallLimits.CallBytes + (sizeof(char) * (1 + 3)), _budget.Held);
            Assert.NotNull(inner.Features.Get<MeteredBody>());
            await Task.Yield();
        });
        Assert.Equal((1, 0L), (served, _budget.Held));
        // Its caller has taken nothing yet.
        Assert.False(_connection.TryBeginCall(out _));
        await response.TakeAsync();
        Assert.True(_connection.TryBeginCall(out _));
        Assert.Equal(0, _lifetime.Aborts);
    }

    [Fact]
    public async Task What_is_beyond_the_calls_of_a_caller_is_refused_in_words_and_serves_nothing()
    {
        FillCalls(CallLimits.CallsOfCaller);
        (HttpContext context, Response response) = Call();

        await _gate.RunAsync(context, _ => throw new InvalidOperationException("served"));

        Assert.Equal("8", context.Response.Headers["grpc-status"]);
        Assert.Equal("address 10.0.0.1 has 5000 calls under way, the limit", context.Response.Headers["grpc-message"]);
        ErrorDetail detail = ErrorDetail.Parser.ParseFrom(Convert.FromBase64String(context.Response.Headers[StatusMap.DetailTrailer]!));
        Assert.Equal((ErrorReason.Overloaded, (ulong)CallLimits.CallsOfCaller), (detail.Reason, detail.Limit));
        await response.TakeAsync();
        // The refusal took no place of a call.
        _connection.EndCall();
        Assert.True(_connection.TryBeginCall(out _));
    }

    [Fact]
    public async Task A_connection_that_takes_no_refusals_is_closed_and_one_that_does_is_not()
    {
        FillCalls(CallLimits.CallsOfCaller);
        List<Response> waiting = [];
        for (int i = 0; i < CallLimits.RefusalsOfConnection; i++)
            waiting.Add((await RefuseAsync()).Response);
        Assert.Equal(0, _lifetime.Aborts);
        // One is taken, so there is room for one.
        await waiting[0].TakeAsync();
        (HttpContext answered, _) = await RefuseAsync();
        Assert.Equal("8", answered.Response.Headers["grpc-status"]);
        Assert.Equal(0, _lifetime.Aborts);

        (HttpContext cut, Response last) = await RefuseAsync();

        Assert.Equal(1, _lifetime.Aborts);
        Assert.False(cut.Response.Headers.ContainsKey("grpc-status"));
        // Nor does it count for ever: the end of the connection ends all of them.
        await last.TakeAsync();
        foreach (Response response in waiting[1..])
            await response.TakeAsync();
        for (int i = 0; i < CallLimits.RefusalsOfConnection - 1; i++)
            await RefuseAsync();
        Assert.Equal(1, _lifetime.Aborts);
        await RefuseAsync();
        Assert.Equal(2, _lifetime.Aborts);
    }

    private void FillCalls(int calls)
    {
        for (int i = 0; i < calls; i++)
            Assert.True(_connection.TryBeginCall(out _));
    }

    private async Task<(HttpContext Context, Response Response)> RefuseAsync()
    {
        (HttpContext context, Response response) = Call();
        await _gate.RunAsync(context, _ => throw new InvalidOperationException("served"));
        return (context, response);
    }

    private (HttpContext Context, Response Response) Call()
    {
        Response response = new();
        DefaultHttpContext context = new();
        context.Features.Set<IHttpResponseFeature>(response);
        context.Features.Set<IConnectionLifetimeFeature>(_lifetime);
        context.Features.Set(_connection);
        context.Features.Set(Caller.Unknown with { Address = "10.0.0.1" });
        context.Request.Path = "/famfs.v1.Master/GetFile";
        context.Request.Headers["a"] = "bcd";
        return (context, response);
    }

    /// <summary>An answer that is not taken before the test says so.</summary>
    private sealed class Response : HttpResponseFeature
    {
        private readonly List<(Func<object, Task> Do, object State)> _completed = [];

        public override void OnCompleted(Func<object, Task> callback, object state) => _completed.Add((callback, state));

        public async Task TakeAsync()
        {
            Assert.NotEmpty(_completed);
            foreach ((Func<object, Task> act, object state) in _completed)
                await act(state);
        }
    }

    private sealed class Lifetime : IConnectionLifetimeFeature
    {
        public int Aborts { get; private set; }

        public CancellationToken ConnectionClosed { get; set; }

        public void Abort() => Aborts++;
    }
}
