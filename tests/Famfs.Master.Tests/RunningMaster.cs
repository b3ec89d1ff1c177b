using Famfs.Core;
using Famfs.Core.Log;
using Famfs.Master.Changes;
using Famfs.Master.Engine;
using Famfs.Master.Holders;
using Famfs.Master.Queries;
using Famfs.Master.Role;
using Famfs.Master.Rpc;
using Famfs.Master.State;
using Famfs.V1;
using FileInfo = Famfs.V1.FileInfo;

namespace Famfs.Master.Tests;

/// <summary>An engine on a recovered pool, until it is disposed of; without gRPC.</summary>
internal sealed class RunningMaster : IAsyncDisposable
{
    private readonly Recovery.Result _recovered;

    /// <summary>Starts. <paramref name="addressLength"/>: a long address makes restarts take their share of the log.</summary>
    /// <param name="recovered">What it is the master of.</param>
    /// <param name="writer">Around the writer of that; null: itself.</param>
    /// <param name="clock">The engine's.</param>
    /// <param name="zeroing">Where it zeroes; null: in the pool.</param>
    public RunningMaster(Recovery.Result recovered, int addressLength = 1000, ILogWriter? writer = null, TimeProvider? clock = null, ISpaceZeroing? zeroing = null)
    {
        _recovered = recovered;
        Hub = new(State.Pool, recovered.Index, clock ?? TimeProvider.System);
        Hub.Recovered(State.Replay.Position, recovered.Writer.Tail);
        Engine = new(State, writer ?? recovered.Writer, Hub, zeroing ?? new SpaceZeroing(State.Pool), clock ?? TimeProvider.System, new Random(1));
        Engine.Start(new TermStarted { Address = new string('a', addressLength) });
    }

    public SubscriptionHub Hub { get; }

    public MasterEngine Engine { get; }

    public MasterState State => _recovered.State;

    public Task<T> RunAsync<T>(Change<T> change) => Engine.RunAsync(change, Caller.Unknown);

    public Task<T> DecideAsync<T>(Func<ChangeContext, T> decide) => RunAsync(new TestChange<T>(decide));

    public Task<T> QueryAsync<T>(Func<StateReader, T> query) => Engine.QueryAsync(Caller.Unknown, query);

    public Task<LogPosition> PositionAsync() => QueryAsync(reader => reader.Position);

    public Task<long> FreeBytesAsync() => QueryAsync(reader => reader.State.Allocator.FreeBytes);

    public Task<long> DirectoryCountAsync() => QueryAsync(reader => (long)reader.State.Replay.Tree.DirectoryCount);

    public Task<FileInfo> DescribeAsync(string path) => QueryAsync(reader => FileQueries.Describe(reader, FileQueries.Find(reader, path, 0), path, withMap: true));

    public Task<SetPolicyReply> SetPolicyAsync(SetPolicyRequest request) => RunAsync(new PolicyChange(request));

    public Task<CreateFileReply> CreateAsync(CreateFileRequest request) => RunAsync(new FileCreation(request));

    public async Task<FileInfo> MakeDirectoryAsync(string path, bool parents = false) =>
        (await RunAsync(new DirectoryCreation(new() { Path = path, Parents = parents }))).Directory;

    public async ValueTask DisposeAsync()
    {
        await Engine.DisposeAsync();
        _recovered.Claim.Dispose();
        _recovered.State.Dispose();
    }
}

/// <summary>A change that a test makes up.</summary>
internal sealed class TestChange<T>(Func<ChangeContext, T> decide) : Change<T>
{
    public override Verdict Decide(ChangeContext context)
    {
        Reply = decide(context);
        return Verdict.Done;
    }
}
