using System.Threading.Channels;
using Famfs.Core;
using Famfs.Master.Changes;
using Famfs.Master.Engine;
using Famfs.V1;
using Grpc.Core;

namespace Famfs.Master.Rpc;

/// <summary>
/// One stream of CreateFiles. Its messages are taken apart, and few parts are decided ahead of the one that is answered: a
/// caller that does not read its results makes the master keep a thousand of them, and a message, and no more.
/// </summary>
internal sealed class BulkCall(MasterEngine engine, PatientWriter patient, Caller caller, CallBudget.Connection budget, MeteredBody body, ServerCallContext context)
{
    /// <summary>Files of a part (chosen: a turn has several, and what waits of 16 streams is few MiB).</summary>
    private const int PartFiles = 256;

    /// <summary>Parts that wait for their answer, beside the one that is being answered and the one that is being added (chosen:
    /// one is decided while another waits for its turn).</summary>
    private const int PartsAhead = 2;

    private readonly Channel<Part> _decided = Channel.CreateBounded<Part>(PartsAhead);

    /// <summary>Serves the stream to its end. Results go back in the order of the requests while later ones are being
    /// decided.</summary>
    public async Task RunAsync(IAsyncStreamReader<CreateFilesRequest> requests, IServerStreamWriter<CreateFilesReply> responses)
    {
        using CancellationTokenSource ending = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken);
        Task answering = AnswerAsync(responses, ending);
        try
        {
            while (await requests.MoveNext(ending.Token).ConfigureAwait(false))
                await DecideAsync(requests.Current, body.TakeCharge(), ending.Token).ConfigureAwait(false);
            _decided.Writer.Complete();
        }
        catch (Exception error)
        {
            // What was decided before is still answered. Nothing writes to the call after this method has ended.
            _decided.Writer.TryComplete();
            await answering.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            ReturnRest();
            // An answer that failed ended the reading, too, and says why.
            if (answering.IsFaulted && error is OperationCanceledException)
                await answering.ConfigureAwait(false);
            throw;
        }
        try
        {
            await answering.ConfigureAwait(false);
        }
        finally
        {
            ReturnRest();
        }
    }

    private async Task DecideAsync(CreateFilesRequest request, long charge, CancellationToken cancel)
    {
        int count = request.Files.Count;
        int first = 0;
        budget.TakeOrReturn((long)count * CallLimits.RequestBytes, charge);
        charge += (long)count * CallLimits.RequestBytes;
        do
        {
            int files = Math.Min(PartFiles, count - first);
            // The message is there until its last part is answered.
            long held = (long)files * CallLimits.FileBytes + (first + files == count ? charge : 0);
            budget.TakeOrReturn((long)files * CallLimits.FileBytes, charge);
            Part part = new(new(new FilesCreation(request, first, files), caller), held);
            try
            {
                engine.Enqueue(part.Operation);
                await _decided.Writer.WriteAsync(part, cancel).ConfigureAwait(false);
            }
            catch
            {
                budget.Return(part.Held + (first + files == count ? 0 : charge));
                throw;
            }
            first += files;
        }
        while (first < count);
    }

    /// <summary>Answers what was decided, in order. An answer that cannot be given ends the reading of requests, too.</summary>
    private async Task AnswerAsync(IServerStreamWriter<CreateFilesReply> responses, CancellationTokenSource ending)
    {
        try
        {
            await foreach (Part part in _decided.Reader.ReadAllAsync(ending.Token).ConfigureAwait(false))
            {
                long held = part.Held;
                try
                {
                    CreateFilesReply all = await part.Operation.Task.ConfigureAwait(false);
                    long extents = all.Results.Sum(result => (long)(result.Reply?.File?.Map?.Extents.Count ?? 0)) * CallLimits.ExtentBytes;
                    budget.Add(extents);
                    held += extents;
                    foreach (Range some in ReplyLimits.Split(all.Results))
                    {
                        CreateFilesReply reply = some.Start.Value == 0 && some.End.Value == all.Results.Count ? all : new() { Results = { all.Results.Take(some) } };
                        await patient.WriteChargedAsync(responses, reply, context, ending.Token).ConfigureAwait(false);
                    }
                }
                finally
                {
                    budget.Return(held);
                }
            }
        }
        catch
        {
            await ending.CancelAsync().ConfigureAwait(false);
            throw;
        }
    }

    // What nobody answers any more.
    private void ReturnRest()
    {
        while (_decided.Reader.TryRead(out Part? part))
            budget.Return(part.Held);
    }

    private sealed record Part(ChangeOperation<CreateFilesReply> Operation, long Held);
}
