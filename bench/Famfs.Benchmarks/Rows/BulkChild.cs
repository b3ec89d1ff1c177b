using System.Globalization;
using Famfs.Benchmarks.Systems;
using Famfs.V1;
using Grpc.Core;
using Grpc.Net.Client;

namespace Famfs.Benchmarks.Rows;

/// <summary>The process that makes files in bulk until it is ended: streams of CreateFiles, each over a connection of its own, with
/// <see cref="MessagesInFlight"/> messages of <see cref="FilesPerMessage"/> files each. What it does for its own part must not
/// delay the caller that is measured.</summary>
internal static class BulkChild
{
    public const string Verb = "bulk-child";
    private const int FilesPerMessage = 1000;
    private const int MessagesInFlight = 2;
    private const ulong FileBytes = 4096;

    /// <summary>Arguments: the master's address, the number of streams, a prefix of names.</summary>
    public static async Task<int> RunAsync(string[] arguments)
    {
        int streams = int.Parse(arguments[1], CultureInfo.InvariantCulture);
        await Task.WhenAll(Enumerable.Range(0, streams).Select(stream => Task.Run(() => CreateAsync(arguments[0], $"{arguments[2]}-{stream}"))));
        return 0;
    }

    private static async Task CreateAsync(string address, string prefix)
    {
        using GrpcChannel channel = GrpcChannel.ForAddress(address);
        using AsyncDuplexStreamingCall<CreateFilesRequest, CreateFilesReply> call = new Master.MasterClient(channel).CreateFiles();
        using SemaphoreSlim files = new(MessagesInFlight * FilesPerMessage);
        Task reading = ReadAsync();
        for (long next = 0; !reading.IsCompleted; next += FilesPerMessage)
        {
            CreateFilesRequest request = new() { OmitMaps = true };
            for (int i = 0; i < FilesPerMessage; i++)
            {
                request.Files.Add(FamfsCluster.Create($"{prefix}-{next + i}", FileBytes));
                await files.WaitAsync();
            }
            await call.RequestStream.WriteAsync(request);
        }
        await reading;

        async Task ReadAsync()
        {
            await foreach (CreateFilesReply reply in call.ResponseStream.ReadAllAsync())
            {
                FamfsCluster.RequireCreated(reply);
                files.Release(reply.Results.Count);
            }
        }
    }
}
