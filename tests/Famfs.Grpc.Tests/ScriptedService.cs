using Famfs.Testing.Rpc;
using Grpc.Core;

namespace Famfs.Grpc.Tests;

/// <summary>A service whose handlers a test sets; those it does not set echo.</summary>
internal sealed class ScriptedService : Scripted.ScriptedBase
{
    public Func<Ask, ServerCallContext, Task<Answer>> OnUnary { get; set; } = (ask, _) => Task.FromResult(Echo(ask));

    public Func<IAsyncStreamReader<Ask>, ServerCallContext, Task<Answer>> OnClientStream { get; set; } = async (asks, _) =>
    {
        Answer answer = new();
        await foreach (Ask ask in asks.ReadAllAsync())
        {
            answer.Text += ask.Text;
            answer.Number++;
        }

        return answer;
    };

    public Func<Ask, IServerStreamWriter<Answer>, ServerCallContext, Task> OnServerStream { get; set; } = async (ask, answers, _) =>
    {
        for (int i = 0; i < ask.Number; i++)
        {
            await answers.WriteAsync(new Answer { Number = i, Text = ask.Text, Data = ask.Data });
        }
    };

    public Func<IAsyncStreamReader<Ask>, IServerStreamWriter<Answer>, ServerCallContext, Task> OnDuplex { get; set; } = async (asks, answers, _) =>
    {
        await foreach (Ask ask in asks.ReadAllAsync())
        {
            await answers.WriteAsync(Echo(ask));
        }
    };

    public static Answer Echo(Ask ask) => new() { Text = ask.Text, Data = ask.Data, Number = ask.Number };

    public override Task<Answer> Unary(Ask request, ServerCallContext context) => OnUnary(request, context);

    public override Task<Answer> ClientStream(IAsyncStreamReader<Ask> requestStream, ServerCallContext context) => OnClientStream(requestStream, context);

    public override Task ServerStream(Ask request, IServerStreamWriter<Answer> responseStream, ServerCallContext context) => OnServerStream(request, responseStream, context);

    public override Task Duplex(IAsyncStreamReader<Ask> requestStream, IServerStreamWriter<Answer> responseStream, ServerCallContext context) => OnDuplex(requestStream, responseStream, context);
}
