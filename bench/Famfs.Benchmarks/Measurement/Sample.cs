namespace Famfs.Benchmarks.Measurement;

/// <summary>One round of one system: <paramref name="PerSecond"/> in the row's unit, latencies in
/// microseconds (0: not measured).</summary>
internal readonly record struct Sample(double PerSecond, double P50Us = 0, double P99Us = 0, double MaxUs = 0);

internal static class Statistics
{
    /// <summary>Median; the mean of the middle two of an even number. NaN of nothing.</summary>
    public static double Median(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        if (sorted.Length == 0)
            return double.NaN;
        int middle = sorted.Length / 2;
        return sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }

    /// <summary>First and third quartile, by nearest rank.</summary>
    public static (double Low, double High) Quartiles(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return (Percentile(sorted, 0.25), Percentile(sorted, 0.75));
    }

    /// <summary>Nearest-rank percentile of sorted values.</summary>
    public static double Percentile(ReadOnlySpan<double> sorted, double share) =>
        sorted.IsEmpty ? double.NaN : sorted[Math.Min(sorted.Length - 1, (int)(sorted.Length * share))];
}
