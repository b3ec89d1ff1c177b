using Famfs.Benchmarks.Measurement;
using Famfs.Benchmarks.Report;
using Famfs.Benchmarks.Rows;
using Famfs.Benchmarks.Systems;

namespace Famfs.Benchmarks;

/// <summary>One run: owns the scratch directory, goes through the groups of rows, collects their results.</summary>
internal sealed class BenchmarkRun(BenchmarkOptions options, CancellationToken cancellation)
{
    private readonly List<Row> _rows = [];

    public BenchmarkOptions Options { get; } = options;

    public CancellationToken Cancellation { get; } = cancellation;

    public FamfsInstallation Installation { get; } = new(options.FamfsFolder);

    public async Task<IReadOnlyList<Row>> MeasureAsync()
    {
        await using Scratch scratch = await Scratch.CreateAsync();
        if (Options.Wants("P1", "P3"))
            await new MountRows(this, scratch).MeasureAsync();
        if (Options.Wants("P2"))
            await new CacheRows(this, scratch).MeasureAsync();
        if (Options.Wants("P4"))
            await new CreationRows(this, scratch).MeasureAsync();
        if (Options.Wants("P5", "P6"))
            await new ReplayRows(this).MeasureAsync();
        if (Options.Wants("P7"))
            await new VisibilityRows(this, scratch).MeasureAsync();
        if (Options.Wants("P8"))
            await new AllocationRows(this).MeasureAsync();
        if (Options.Wants("P9"))
            await new SubscriberRows(this, scratch).MeasureAsync();
        if (Options.Wants("P10", "P17"))
            await new StartRows(this, scratch).MeasureAsync();
        if (Options.Wants("P12"))
            await new FairnessRows(this, scratch).MeasureAsync();
        if (Options.Wants("P14", "P15"))
            await new RemovalRows(this, scratch).MeasureAsync();
        if (Options.Wants("P16"))
            await new FollowingRows(this, scratch).MeasureAsync();
        return _rows;
    }

    /// <summary>Prepares one side of a comparison. A missing piece leaves it null and says why; an error is
    /// remembered as such, so that it fails the rows instead of ending the run.</summary>
    public static async Task<Side<T>> StartAsync<T>(T system, Func<T, Task> start) where T : class, IAsyncDisposable
    {
        try
        {
            await start(system);
            return new(system, null, false);
        }
        catch (Exception error) when (error is not OperationCanceledException)
        {
            await system.DisposeAsync();
            return new(null, error.Message, error is not NotAvailableException);
        }
        catch
        {
            await system.DisposeAsync();
            throw;
        }
    }

    /// <summary>A file system of the product, as a side whose absence has a reason.</summary>
    public Task<Side<FamfsCluster>> StartClusterAsync(Scratch scratch, long deviceBytes, params string[] mkfsOptions) => StartClusterAsync(scratch, deviceBytes, mkfsOptions, []);

    /// <inheritdoc cref="StartClusterAsync(Scratch, long, string[])"/>
    public async Task<Side<FamfsCluster>> StartClusterAsync(Scratch scratch, long deviceBytes, string[] mkfsOptions, string[] masterOptions)
    {
        try
        {
            return new(await FamfsCluster.StartAsync(scratch, Installation, deviceBytes, Cancellation, mkfsOptions, masterOptions), null, false);
        }
        catch (NotAvailableException error)
        {
            return new(null, error.Message, false);
        }
    }

    /// <summary>Measures one row and keeps it. <paramref name="sides"/> are those whose absence makes it
    /// unavailable; what can be measured is measured nonetheless.</summary>
    public async Task AddAsync(RowDefinition definition, IReadOnlyList<ISide> sides, Func<Task<Row>> measure)
    {
        if (Options.Rows.Count > 0 && !Options.Rows.Contains(definition.Target))
            return;
        Console.Error.WriteLine($"{definition.Target} {definition.What}");
        try
        {
            Row row = await measure();
            // Against itself nothing has a target.
            if (Options.SelfCheck)
                row = row with { Definition = definition with { Now = [], Full = [] } };
            ISide? missing = sides.FirstOrDefault(side => side.Reason is not null);
            _rows.Add(missing is null ? row : row with { Reason = missing.Reason, IsFailed = missing.IsFailed, IsNotAvailable = !missing.IsFailed });
        }
        catch (NotAvailableException error)
        {
            _rows.Add(new Row(definition) { Reason = error.Message, IsNotAvailable = true });
        }
        catch (Exception error) when (error is not OperationCanceledException)
        {
            _rows.Add(new Row(definition) { Reason = error.Message, IsFailed = true });
        }
    }

    public Task<PairedSeries> PairAsync(Func<int, Task<Sample>>? baseline, Func<int, Task<Sample>>? ours) =>
        PairedSeries.MeasureAsync(Options.Rounds, baseline, ours, Cancellation);
}

/// <summary>Why a side of a comparison is missing, if it is.</summary>
internal interface ISide
{
    string? Reason { get; }

    bool IsFailed { get; }
}

/// <summary>A system that runs, or why it does not.</summary>
internal sealed record Side<T>(T? System, string? Reason, bool IsFailed) : ISide, IAsyncDisposable where T : class, IAsyncDisposable
{
    public ValueTask DisposeAsync() => System?.DisposeAsync() ?? ValueTask.CompletedTask;
}
