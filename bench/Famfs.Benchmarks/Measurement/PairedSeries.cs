namespace Famfs.Benchmarks.Measurement;

/// <summary>
/// Rounds of two systems, measured in alternation: which of them goes first changes with every round, so
/// that drift of the machine falls on both. Ratios are taken inside a round and their median is reported,
/// because what disturbs one round then disturbs both of its halves.
/// </summary>
internal sealed class PairedSeries
{
    private PairedSeries(IReadOnlyList<Sample> baseline, IReadOnlyList<Sample> ours)
    {
        Baseline = baseline;
        Ours = ours;
    }

    public IReadOnlyList<Sample> Baseline { get; }

    /// <summary>Empty when there was nothing of ours to measure.</summary>
    public IReadOnlyList<Sample> Ours { get; }

    /// <summary>Measures <paramref name="rounds"/> rounds behind one that is thrown away. Either side may be
    /// missing.</summary>
    public static async Task<PairedSeries> MeasureAsync(int rounds, Func<int, Task<Sample>>? baseline, Func<int, Task<Sample>>? ours, CancellationToken cancellation)
    {
        List<Sample> ofBaseline = [], ofOurs = [];
        for (int round = 0; round <= rounds; round++)
        {
            bool oursFirst = round % 2 == 1;
            for (int half = 0; half < 2; half++)
            {
                cancellation.ThrowIfCancellationRequested();
                bool isOurs = oursFirst == (half == 0);
                if ((isOurs ? ours : baseline) is not { } measure)
                    continue;
                Sample sample = await measure(round);
                if (round > 0)
                    (isOurs ? ofOurs : ofBaseline).Add(sample);
            }
        }
        return new(ofBaseline, ofOurs);
    }

    public double BaselineMedian(Func<Sample, double> of) => Statistics.Median(Baseline.Select(of));

    public double OursMedian(Func<Sample, double> of) => Statistics.Median(Ours.Select(of));

    /// <summary>Ours / baseline of every round; empty when a side is missing.</summary>
    public IEnumerable<double> Ratios(Func<Sample, double> of) => Baseline.Zip(Ours, (b, o) => of(o) / of(b));
}
