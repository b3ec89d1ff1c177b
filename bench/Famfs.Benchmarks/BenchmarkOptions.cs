using System.Globalization;

namespace Famfs.Benchmarks;

/// <summary>What a run is asked for.</summary>
internal sealed record BenchmarkOptions
{
    public const string Usage = """
        usage: famfs-bench --baseline DIR --famfs DIR --output DIR [options]
          --quick            short rounds (about three minutes); default: long ones, more rows
          --name NAME        name of the result (default: quick or full)
          --rows P1,P4       only these rows
          --rounds N         rounds of each side (default 9)
          --seconds S        seconds of one round of one side (default 0.25, full 2)
          --self-check       measure the baselines against themselves: shows the noise of this machine
        """;

    public required string Name { get; init; }
    public required string BaselineFolder { get; init; }
    public required string FamfsFolder { get; init; }
    public required string OutputFolder { get; init; }
    public bool Quick { get; init; }
    public bool SelfCheck { get; init; }
    public required int Rounds { get; init; }
    public required double RoundSeconds { get; init; }

    /// <summary>Empty: all.</summary>
    public IReadOnlyList<string> Rows { get; init; } = [];

    public bool Wants(params string[] rows) => Rows.Count == 0 || rows.Any(Rows.Contains);

    /// <summary>Throws FormatException with the text to show.</summary>
    public static BenchmarkOptions Parse(string[] arguments)
    {
        HashSet<string> flags = [];
        Dictionary<string, string> values = [];
        for (int i = 0; i < arguments.Length; i++)
        {
            switch (arguments[i])
            {
                case "--quick" or "--self-check":
                    flags.Add(arguments[i]);
                    break;
                case "--name" or "--rows" or "--rounds" or "--seconds" or "--baseline" or "--famfs" or "--output" when i + 1 < arguments.Length:
                    values[arguments[i]] = arguments[++i];
                    break;
                default:
                    throw new FormatException($"unknown or incomplete option {arguments[i]}");
            }
        }
        bool quick = flags.Contains("--quick");
        int rounds = int.Parse(values.GetValueOrDefault("--rounds", "9"), CultureInfo.InvariantCulture);
        double seconds = double.Parse(values.GetValueOrDefault("--seconds", quick ? "0.25" : "2"), CultureInfo.InvariantCulture);
        if (rounds < 1 || seconds <= 0)
            throw new FormatException("rounds and seconds must be positive");
        return new()
        {
            Quick = quick,
            SelfCheck = flags.Contains("--self-check"),
            Name = values.GetValueOrDefault("--name", (quick ? "quick" : "full") + (flags.Contains("--self-check") ? "-self-check" : "")),
            BaselineFolder = Require("--baseline"),
            FamfsFolder = Require("--famfs"),
            OutputFolder = Require("--output"),
            Rounds = rounds,
            RoundSeconds = seconds,
            Rows = values.TryGetValue("--rows", out string? list) ? list.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries) : [],
        };

        string Require(string name) =>
            values.TryGetValue(name, out string? value) ? Path.GetFullPath(value) : throw new FormatException($"{name} is missing");
    }
}
