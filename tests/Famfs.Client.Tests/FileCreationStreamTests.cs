using System.Collections.Concurrent;
using Famfs.Core;
using Famfs.ScriptedMaster;
using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;

namespace Famfs.Client.Tests;

public sealed class FileCreationStreamTests
{
    private static readonly TimeSpan s_long = TimeSpan.FromMinutes(1);

    [Fact]
    public async Task Results_come_in_order_and_one_bad_request_does_not_end_the_stream()
    {
        ConcurrentQueue<int> batches = new();
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFiles = async (requests, replies, _) =>
            {
                while (await requests.MoveNext(CancellationToken.None))
                {
                    batches.Enqueue(requests.Current.Files.Count);
                    await replies.WriteAsync(Answer(requests.Current.Files));
                }
            },
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);

        List<CreateFileResult> results = await CollectAsync(client, Names(1000), new() { BatchSize = 64, MaxInFlight = 128 });

        Assert.Equal(1000, results.Count);
        Assert.Equal(ErrorReason.BadPath, results[13].Error.Reason);
        Assert.Equal(Enumerable.Range(0, 1000).Where(i => i != 13).Select(i => $"f{i}"), results.Where(r => r.Reply is not null).Select(r => r.Reply.File.Path));
        Assert.All(batches, size => Assert.InRange(size, 1, 64));
    }

    [Fact]
    public async Task A_stream_that_breaks_goes_on_with_what_was_not_answered_under_the_same_ids()
    {
        ConcurrentDictionary<string, ConcurrentBag<ByteString>> ids = new();
        int streams = 0;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFiles = async (requests, replies, _) =>
            {
                int stream = Interlocked.Increment(ref streams);
                int answered = 0;
                while (await requests.MoveNext(CancellationToken.None))
                {
                    foreach (CreateFileRequest file in requests.Current.Files)
                        ids.GetOrAdd(file.Path, _ => []).Add(file.RequestId);
                    // Half of the batch is answered, then the master dies.
                    if (stream < 3 && answered >= 100)
                    {
                        await replies.WriteAsync(Answer(requests.Current.Files.Take(5)));
                        throw new RpcException(new Status(StatusCode.Unavailable, "dies"));
                    }
                    await replies.WriteAsync(Answer(requests.Current.Files));
                    answered += requests.Current.Files.Count;
                }
            },
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);

        List<CreateFileResult> results = await CollectAsync(client, Names(500), new() { BatchSize = 20, MaxInFlight = 60 });

        Assert.Equal(3, streams);
        Assert.Equal(500, results.Count);
        Assert.Equal(Enumerable.Range(0, 500).Where(i => i != 13).Select(i => $"f{i}"), results.Where(r => r.Reply is not null).Select(r => r.Reply.File.Path));
        Assert.All(ids.Values, used => Assert.Single(used.Distinct()));
        Assert.Equal(500, ids.Values.Select(used => used.First()).Distinct().Count());
        Assert.Contains(ids.Values, used => used.Count > 1);
    }

    [Fact]
    public async Task A_result_that_says_not_master_sends_the_rest_to_the_master_it_names()
    {
        await using FakeMaster next = await FakeMaster.StartAsync(new() { CreateFiles = AnswerAllAsync });
        await using FakeMaster deposed = await FakeMaster.StartAsync(new()
        {
            CreateFiles = async (requests, replies, _) =>
            {
                Assert.True(await requests.MoveNext(CancellationToken.None));
                CreateFilesReply reply = Answer(requests.Current.Files.Take(3));
                reply.Results.Add(new CreateFileResult { Error = new() { Reason = ErrorReason.NotMaster, MasterAddress = next.Address } });
                await replies.WriteAsync(reply);
                while (await requests.MoveNext(CancellationToken.None))
                {
                    // Reads on, answers nothing.
                }
            },
        });
        using FamfsClient client = FamfsClientTests.ClientOf(deposed.Address);

        List<CreateFileResult> results = await CollectAsync(client, Names(50), new() { BatchSize = 10, MaxInFlight = 20 });

        Assert.Equal(50, results.Count);
        Assert.DoesNotContain(results, r => r.Error is { Reason: ErrorReason.NotMaster });
    }

    [Fact]
    public async Task Never_more_than_the_window_is_on_its_way()
    {
        int open = 0;
        int most = 0;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFiles = async (requests, replies, _) =>
            {
                List<CreateFileRequest> held = [];
                while (true)
                {
                    Task<bool> next = requests.MoveNext(CancellationToken.None);
                    // Answers only when the client has nothing more to send for now.
                    if (!next.IsCompleted && held.Count > 0 && await Task.WhenAny(next, Task.Delay(50)) != next)
                    {
                        await replies.WriteAsync(Answer(held));
                        open -= held.Count;
                        held.Clear();
                    }
                    if (!await next)
                        break;
                    held.AddRange(requests.Current.Files);
                    open += requests.Current.Files.Count;
                    most = Math.Max(most, open);
                }
                if (held.Count > 0)
                    await replies.WriteAsync(Answer(held));
            },
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);

        List<CreateFileResult> results = await CollectAsync(client, Names(200), new() { BatchSize = 10, MaxInFlight = 40 });

        Assert.Equal(200, results.Count);
        Assert.Equal(40, most);
    }

    [Fact]
    public async Task An_error_of_the_source_ends_the_creation_with_that_error()
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new() { CreateFiles = AnswerAllAsync });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);

        static IEnumerable<CreateFileRequest> Failing()
        {
            yield return new() { Path = "a" };
            throw new InvalidDataException("list is torn");
        }

        InvalidDataException e = await Assert.ThrowsAsync<InvalidDataException>(() => CollectAsync(client, Failing(), new()));
        Assert.Equal("list is torn", e.Message);
    }

    [Fact]
    public async Task A_master_that_answers_nothing_is_a_timeout()
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFiles = async (requests, _, context) => await Task.Delay(Timeout.Infinite, context.CancellationToken),
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);

        FamfsException e = await Assert.ThrowsAsync<FamfsException>(() => CollectAsync(client, Names(3), new() { StallTimeout = TimeSpan.FromMilliseconds(300) }));
        Assert.Equal(ErrorReason.Timeout, e.Reason);
    }

    [Fact]
    public async Task Without_any_master_the_creation_gives_up()
    {
        using FamfsClient client = FamfsClientTests.ClientOf("unix:/nowhere/at/all");

        FamfsException e = await Assert.ThrowsAsync<FamfsException>(() => CollectAsync(client, Names(3), new() { StallTimeout = TimeSpan.FromSeconds(1) }));
        Assert.Equal(ErrorReason.NotMaster, e.Reason);
    }

    [Fact]
    public async Task What_has_gathered_is_sent_while_the_source_is_slow()
    {
        TaskCompletionSource firstAnswered = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using FakeMaster master = await FakeMaster.StartAsync(new() { CreateFiles = AnswerAllAsync });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);

        async IAsyncEnumerable<CreateFileRequest> SlowAsync()
        {
            yield return new() { Path = "a" };
            await firstAnswered.Task;
            yield return new() { Path = "b" };
        }

        List<string> seen = [];
        await foreach (CreateFileResult result in client.CreateFilesAsync(SlowAsync(), cancel: Limit.Minute()))
        {
            seen.Add(result.Reply.File.Path);
            firstAnswered.TrySetResult();
        }
        Assert.Equal(["a", "b"], seen);
    }

    [Fact]
    public async Task A_consumer_that_stops_early_stops_the_stream()
    {
        TaskCompletionSource ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFiles = async (requests, replies, context) =>
            {
                try
                {
                    await AnswerAllAsync(requests, replies, context);
                }
                finally
                {
                    ended.SetResult();
                }
            },
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);

        await foreach (CreateFileResult _ in client.CreateFilesAsync(Names(int.MaxValue), cancel: Limit.Minute()))
            break;

        await ended.Task.WaitAsync(s_long, Limit.Minute());
    }

    [Fact]
    public async Task A_client_that_is_ahead_of_the_master_makes_all_its_files()
    {
        ConcurrentQueue<bool> refused = new();
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFiles = async (requests, replies, context) =>
            {
                while (await requests.MoveNext(context.CancellationToken))
                {
                    CreateFilesReply reply = Answer(requests.Current.Files);
                    for (int i = 0; i < reply.Results.Count; i++)
                    {
                        ErrorDetail? late = Untimely.Of(requests.Current.Files[i].RequestId);
                        refused.Enqueue(late is not null);
                        if (late is not null)
                            reply.Results[i] = new() { Error = late };
                    }
                    await replies.WriteAsync(reply);
                }
            },
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);

        List<CreateFileResult> results = await CollectAsync(client, Names(10), new());

        Assert.Equal(Enumerable.Range(0, 10).Select(i => $"f{i}"), results.Select(r => r.Reply.File.Path));
        Assert.Single(refused, late => late);
    }

    [Fact]
    public async Task A_file_that_was_sent_and_not_answered_keeps_its_id_and_is_perhaps_made()
    {
        ConcurrentDictionary<string, ConcurrentBag<ByteString>> ids = new();
        int streams = 0;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFiles = async (requests, replies, context) =>
            {
                bool dies = Interlocked.Increment(ref streams) == 1;
                while (await requests.MoveNext(context.CancellationToken))
                {
                    foreach (CreateFileRequest file in requests.Current.Files)
                        ids.GetOrAdd(file.Path, _ => []).Add(file.RequestId);
                    if (dies)
                        throw new RpcException(new Status(StatusCode.Unavailable, "dies"));
                    CreateFilesReply reply = Answer(requests.Current.Files);
                    for (int i = 0; i < reply.Results.Count; i++)
                    {
                        if (Untimely.Of(requests.Current.Files[i].RequestId) is { } late)
                            reply.Results[i] = new() { Error = late };
                    }
                    await replies.WriteAsync(reply);
                }
            },
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);

        List<CreateFileResult> results = await CollectAsync(client, Names(5), new());

        Assert.Equal(ErrorReason.Unspecified, results[0].Error.Reason);
        Assert.StartsWith("perhaps made", results[0].Error.Message, StringComparison.Ordinal);
        Assert.Equal(["f1", "f2", "f3", "f4"], results.Skip(1).Select(r => r.Reply?.File.Path));
        Assert.Equal(2, ids["f0"].Count);
        Assert.Single(ids["f0"].Distinct());
    }

    [Theory]
    [InlineData(3, 0)]
    [InlineData(int.MaxValue, 1)]
    public async Task Files_whose_space_is_pending_are_waited_for_in_order_until_one_waits_in_vain(int refusals, int failed)
    {
        ConcurrentQueue<string> asked = new();
        int left = refusals;
        ErrorDetail full = new() { Reason = ErrorReason.NoSpace, Message = "no space", PendingBytes = 1 << 20 };
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFiles = async (requests, replies, _) =>
            {
                while (await requests.MoveNext(CancellationToken.None))
                {
                    CreateFilesReply reply = Answer(requests.Current.Files);
                    for (int i = 0; i < reply.Results.Count; i++)
                    {
                        // The second has no space for good.
                        if (requests.Current.Files[i].Path is "f1" or "f2" or "f4")
                            reply.Results[i] = new() { Error = requests.Current.Files[i].Path == "f1" ? new(full) { PendingBytes = 0 } : new(full) };
                    }
                    await replies.WriteAsync(reply);
                }
            },
            CreateFile = (request, _) =>
            {
                asked.Enqueue(request.Path);
                return left-- > 0 ? throw FakeMaster.Error(StatusCode.ResourceExhausted, full) : FakeMaster.Reply(request);
            },
        });
        using FamfsClient client = FamfsClientTests.ClientOf(master.Address);

        List<CreateFileResult> results = [];
        await foreach (CreateFileResult result in client.CreateFilesWaitingForSpaceAsync([.. Names(6)], null, failed > 0 ? TimeSpan.FromSeconds(2) : s_long, Limit.Minute()))
            results.Add(result);

        Assert.Equal(6, results.Count);
        Assert.Equal(["f2", .. failed > 0 ? [] : new[] { "f4" }], asked.Distinct());
        Assert.True(asked.Count(p => p == "f2") > 1);
        int[] errors = [.. Enumerable.Range(0, 6).Where(i => results[i].Error is not null)];
        Assert.Equal(failed > 0 ? [1, 2, 4] : new[] { 1 }, errors);
        Assert.All(errors, i => Assert.Equal((ErrorReason.NoSpace, "no space"), (results[i].Error.Reason, results[i].Error.Message)));
        Assert.Equal(Enumerable.Range(0, 6).Except(errors).Select(i => $"f{i}"), results.Where(r => r.Reply is not null).Select(r => r.Reply.File.Path));
    }

    private static async Task AnswerAllAsync(IAsyncStreamReader<CreateFilesRequest> requests, IServerStreamWriter<CreateFilesReply> replies, ServerCallContext context)
    {
        while (await requests.MoveNext(context.CancellationToken))
            await replies.WriteAsync(Answer(requests.Current.Files));
    }

    private static CreateFilesReply Answer(IEnumerable<CreateFileRequest> files)
    {
        CreateFilesReply reply = new();
        foreach (CreateFileRequest file in files)
        {
            reply.Results.Add(file.Path == "f13"
                ? new CreateFileResult { Error = new() { Reason = ErrorReason.BadPath } }
                : new CreateFileResult { Reply = new() { File = new() { Path = file.Path } } });
        }
        return reply;
    }

    private static IEnumerable<CreateFileRequest> Names(int count)
    {
        for (int i = 0; i < count; i++)
            yield return new() { Path = $"f{i}" };
    }

    private static async Task<List<CreateFileResult>> CollectAsync(FamfsClient client, IEnumerable<CreateFileRequest> files, CreateFilesOptions options)
    {
        List<CreateFileResult> results = [];
        await foreach (CreateFileResult result in client.CreateFilesAsync(files, options, Limit.Minute()))
            results.Add(result);
        return results;
    }
}
