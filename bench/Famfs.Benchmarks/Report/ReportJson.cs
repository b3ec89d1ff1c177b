using System.Text.Json;
using System.Text.Json.Nodes;
using Famfs.Benchmarks.Measurement;

namespace Famfs.Benchmarks.Report;

/// <summary>The same results for machines. A number that was not measured is null.</summary>
internal static class ReportJson
{
    private static readonly JsonSerializerOptions s_indented = new() { WriteIndented = true };

    public static string Format(MachineFacts facts, IReadOnlyList<Row> rows)
    {
        JsonObject root = new()
        {
            ["machine"] = JsonSerializer.SerializeToNode(facts),
            ["rows"] = new JsonArray([.. rows.Select(RowNode)]),
        };
        return root.ToJsonString(s_indented) + "\n";
    }

    private static JsonNode RowNode(Row row) => new JsonObject
    {
        ["target"] = row.Definition.Target,
        ["what"] = row.Definition.What,
        ["unit"] = row.Definition.Unit,
        ["baselineName"] = row.Definition.BaselineName,
        ["baseline"] = Value(row.Baseline),
        ["ours"] = Value(row.Ours),
        ["ratio"] = Value(row.Ratio),
        ["ratioLowerQuartile"] = Value(row.RatioQuartiles.Low),
        ["ratioUpperQuartile"] = Value(row.RatioQuartiles.High),
        ["baselineP99Us"] = Value(row.BaselineP99Us),
        ["oursP99Us"] = Value(row.OursP99Us),
        ["p99Ratio"] = Value(row.P99Ratio),
        ["reachNow"] = new JsonArray([.. row.Definition.Now.Select(g => (JsonNode)g.ToString())]),
        ["fullTarget"] = new JsonArray([.. row.Definition.Full.Select(g => (JsonNode)g.ToString())]),
        ["verdict"] = ReportTable.Label(row.Verdict),
        ["reason"] = row.Reason,
        ["baselineRounds"] = Rounds(row.BaselineSamples),
        ["oursRounds"] = Rounds(row.OursSamples),
    };

    private static JsonArray Rounds(IReadOnlyList<Sample> samples) =>
        new([.. samples.Select(s => (JsonNode)new JsonObject
        {
            ["perSecond"] = Value(s.PerSecond),
            ["p50Us"] = Value(s.P50Us),
            ["p99Us"] = Value(s.P99Us),
            ["maxUs"] = Value(s.MaxUs),
        })]);

    private static JsonNode? Value(double value) => double.IsFinite(value) ? JsonValue.Create(Math.Round(value, 4)) : null;
}
