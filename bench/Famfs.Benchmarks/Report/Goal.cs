using System.Globalization;

namespace Famfs.Benchmarks.Report;

/// <summary>What of a row a goal is about.</summary>
internal enum GoalMeasure
{
    /// <summary>Ours / baseline.</summary>
    Ratio,

    /// <summary>99th percentile, ours / baseline.</summary>
    P99Ratio,

    /// <summary>Our own value in the row's unit.</summary>
    Ours,
}

/// <summary>One bound that a row must keep.</summary>
internal sealed record Goal(GoalMeasure Measure, bool AtLeast, double Value)
{
    public static Goal RatioAtLeast(double value) => new(GoalMeasure.Ratio, true, value);

    public static Goal RatioAtMost(double value) => new(GoalMeasure.Ratio, false, value);

    public static Goal P99RatioAtMost(double value) => new(GoalMeasure.P99Ratio, false, value);

    public static Goal OursAtLeast(double value) => new(GoalMeasure.Ours, true, value);

    public static Goal OursAtMost(double value) => new(GoalMeasure.Ours, false, value);

    public override string ToString()
    {
        string number = Measure == GoalMeasure.Ours ? ReportTable.Number(Value) : Value.ToString("0.##", CultureInfo.InvariantCulture) + "×";
        return $"{(Measure == GoalMeasure.P99Ratio ? "p99 " : "")}{(AtLeast ? "≥" : "≤")} {number}";
    }

    /// <summary>A value that could not be measured (NaN) meets no goal.</summary>
    public bool IsMet(Row row)
    {
        double value = ValueOf(row);
        return AtLeast ? value >= Value : value <= Value;
    }

    public double ValueOf(Row row) => Measure switch
    {
        GoalMeasure.Ratio => row.Ratio,
        GoalMeasure.P99Ratio => row.P99Ratio,
        _ => row.Ours,
    };
}
