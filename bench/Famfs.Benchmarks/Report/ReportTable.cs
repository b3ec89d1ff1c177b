using System.Globalization;
using System.Text;

namespace Famfs.Benchmarks.Report;

/// <summary>The printed table.</summary>
internal static class ReportTable
{
    private static readonly string[] s_heads = ["row", "what", "baseline", "", "ours", "ratio", "quartiles", "p99 b/o µs", "p99", "now", "full", "verdict"];

    /// <summary>Three significant figures, with k and M.</summary>
    public static string Number(double value) => Math.Abs(value) switch
    {
        double.NaN => "–",
        >= 1e6 => (value / 1e6).ToString("0.00", CultureInfo.InvariantCulture) + " M",
        >= 1e4 => (value / 1e3).ToString("0.0", CultureInfo.InvariantCulture) + " k",
        >= 100 => value.ToString("0", CultureInfo.InvariantCulture),
        _ => value.ToString("0.##", CultureInfo.InvariantCulture),
    };

    public static string Format(MachineFacts facts, IReadOnlyList<Row> rows)
    {
        StringBuilder text = new();
        text.AppendLine(CultureInfo.InvariantCulture, $"{facts.Cpu}, {facts.Cores} cores, {facts.MemoryMiB} MiB, Linux {facts.Kernel}, .NET {facts.Dotnet}, load {facts.LoadAverage} at start");
        text.AppendLine(CultureInfo.InvariantCulture, $"{facts.Date}, commit {facts.Commit}, {facts.Rounds} rounds in alternation, medians");
        if (facts.IsBusy)
            text.AppendLine("WARNING: the machine was busy with other work; these figures say little, and the latencies nothing");
        text.AppendLine();
        List<string[]> lines = [s_heads, .. rows.Select(Cells)];
        int[] widths = [.. Enumerable.Range(0, s_heads.Length).Select(column => lines.Max(line => line[column].Length))];
        foreach (string[] line in lines)
            text.AppendLine(string.Join("  ", line.Select((cell, column) => column is >= 4 and <= 8 or 2 ? cell.PadLeft(widths[column]) : cell.PadRight(widths[column]))).TrimEnd());

        text.AppendLine();
        foreach (Row row in rows.Where(r => r.Verdict == Verdict.Short))
        {
            IEnumerable<string> misses = row.Definition.Now.Where(goal => !goal.IsMet(row)).Select(goal => $"{Measured(goal, row)} where {goal} is to be reached now");
            text.AppendLine($"SHORT  {row.Definition.Target} {row.Definition.What}: {string.Join("; ", misses)}");
        }
        foreach (Row row in rows.Where(r => r.Verdict == Verdict.ReachedNow))
        {
            IEnumerable<string> misses = row.Definition.Full.Where(goal => !goal.IsMet(row)).Select(goal => $"{Measured(goal, row)}, full target {goal}");
            text.AppendLine($"below full target  {row.Definition.Target} {row.Definition.What}: {string.Join("; ", misses)}");
        }
        foreach (IGrouping<string, Row> group in rows.Where(r => r.Verdict == Verdict.NotAvailable).GroupBy(r => r.Reason ?? ""))
            text.AppendLine($"not available  {Names(group)}: {group.Key}");
        foreach (IGrouping<string, Row> group in rows.Where(r => r.Verdict == Verdict.Failed).GroupBy(r => r.Reason ?? ""))
            text.AppendLine($"FAILED  {Names(group)}: {group.Key}");
        text.Append(string.Join(", ", Enum.GetValues<Verdict>().Select(v => $"{rows.Count(r => r.Verdict == v)} {Label(v)}")));
        text.Append(CultureInfo.InvariantCulture, $"; {rows.Count} rows");
        return text.ToString();
    }

    public static string Label(Verdict verdict) => verdict switch
    {
        Verdict.Full => "full",
        Verdict.ReachedNow => "reached now",
        Verdict.Short => "SHORT",
        Verdict.NoTarget => "no target",
        Verdict.NotAvailable => "not available",
        _ => "FAILED",
    };

    private static string Names(IEnumerable<Row> rows) =>
        string.Join(", ", rows.GroupBy(r => r.Definition.Target).Select(g => $"{g.Key} ({g.Count()})"));

    private static string Measured(Goal goal, Row row) =>
        goal.Measure == GoalMeasure.Ours ? $"{Number(row.Ours)} {row.Definition.Unit}" : Times(goal.ValueOf(row));

    private static string Times(double ratio) => double.IsNaN(ratio) ? "–" : ratio.ToString("0.00", CultureInfo.InvariantCulture) + "×";

    private static string[] Cells(Row row) =>
    [
        row.Definition.Target,
        row.Definition.What,
        Number(row.Baseline),
        row.Definition.BaselineName,
        $"{Number(row.Ours)} {row.Definition.Unit}",
        Times(row.Ratio),
        double.IsNaN(row.RatioQuartiles.Low) ? "–" : string.Create(CultureInfo.InvariantCulture, $"{row.RatioQuartiles.Low:0.00}–{row.RatioQuartiles.High:0.00}"),
        $"{Number(row.BaselineP99Us)}/{Number(row.OursP99Us)}",
        Times(row.P99Ratio),
        string.Join(", ", row.Definition.Now.Select(g => g.ToString())),
        string.Join(", ", row.Definition.Full.Select(g => g.ToString())),
        Label(row.Verdict),
    ];
}
