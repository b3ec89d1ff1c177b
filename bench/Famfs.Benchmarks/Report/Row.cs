using Famfs.Benchmarks.Measurement;

namespace Famfs.Benchmarks.Report;

/// <summary>How a row ended.</summary>
internal enum Verdict
{
    /// <summary>Every full target is met.</summary>
    Full,

    /// <summary>What is to be reached now is met, a full target is not.</summary>
    ReachedNow,

    /// <summary>Falls short of what is to be reached now.</summary>
    Short,

    /// <summary>Measured for information; no target is set.</summary>
    NoTarget,

    /// <summary>A piece is missing.</summary>
    NotAvailable,

    /// <summary>Something broke.</summary>
    Failed,
}

/// <summary>What a row is about: names, unit and goals.</summary>
internal sealed record RowDefinition(string Target, string What, string Unit, string BaselineName, Goal[] Now, Goal[] Full);

/// <summary>One line of the table.</summary>
internal sealed record Row(RowDefinition Definition)
{
    public double Baseline { get; init; } = double.NaN;
    public double Ours { get; init; } = double.NaN;
    public double Ratio { get; init; } = double.NaN;

    /// <summary>First and third quartile of the rounds' ratios: how much the median can be trusted.</summary>
    public (double Low, double High) RatioQuartiles { get; init; } = (double.NaN, double.NaN);
    public double BaselineP99Us { get; init; } = double.NaN;
    public double OursP99Us { get; init; } = double.NaN;
    public double P99Ratio { get; init; } = double.NaN;

    /// <summary>Why the row is not available or failed; otherwise a remark.</summary>
    public string? Reason { get; init; }
    public bool IsFailed { get; init; }
    public bool IsNotAvailable { get; init; }
    public IReadOnlyList<Sample> BaselineSamples { get; init; } = [];
    public IReadOnlyList<Sample> OursSamples { get; init; } = [];

    public Verdict Verdict =>
        IsFailed ? Verdict.Failed
        : IsNotAvailable ? Verdict.NotAvailable
        : Definition.Now.Length + Definition.Full.Length == 0 ? Verdict.NoTarget
        : !Definition.Now.All(goal => goal.IsMet(this)) ? Verdict.Short
        : Definition.Full.All(goal => goal.IsMet(this)) ? Verdict.Full
        : Verdict.ReachedNow;

    /// <summary>A row of rates: more is better.</summary>
    public static Row OfRates(RowDefinition definition, PairedSeries series) => Of(definition, series, sample => sample.PerSecond);

    /// <summary>A row of one of the samples' values. The p99 ratio is filled when latencies were taken.</summary>
    public static Row Of(RowDefinition definition, PairedSeries series, Func<Sample, double> value) => new(definition)
    {
        Baseline = series.BaselineMedian(value),
        Ours = series.OursMedian(value),
        Ratio = Statistics.Median(series.Ratios(value)),
        RatioQuartiles = Statistics.Quartiles(series.Ratios(value)),
        BaselineP99Us = series.BaselineMedian(s => s.P99Us),
        OursP99Us = series.OursMedian(s => s.P99Us),
        P99Ratio = Statistics.Median(series.Ratios(s => s.P99Us)),
        BaselineSamples = series.Baseline,
        OursSamples = series.Ours,
    };
}
