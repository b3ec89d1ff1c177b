using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Famfs.Core;
using Famfs.Core.Format;

namespace Famfs.Benchmarks.Rows;

/// <summary>What a replay process found. <paramref name="Missing"/> says what is not there to be measured.</summary>
internal sealed record ReplayResult(double[] ScansPerSecond, double[] ReplaysPerSecond, double? BytesPerFile, string? Missing);

/// <summary>The process that measures replay: its heap holds nothing else.</summary>
internal static class ReplayChild
{
    public const string Verb = "replay-child";
    public const string Replay = "replay";
    public const string Memory = "memory";

    public static int Run(string[] arguments)
    {
        int rounds = int.Parse(arguments[1], CultureInfo.InvariantCulture);
        ReplayResult result = arguments[0] == Memory ? MeasureMemory() : MeasureReplay(rounds);
        Console.WriteLine(JsonSerializer.Serialize(result));
        return 0;
    }

    private static ReplayResult MeasureReplay(int rounds)
    {
        CreationLog log = CreationLog.Build();
        List<double> scans = [];
        for (int round = 0; round <= rounds; round++)
        {
            long begin = Stopwatch.GetTimestamp();
            long records = Scan(log);
            double perSecond = records / Stopwatch.GetElapsedTime(begin).TotalSeconds;
            if (round > 0)
                scans.Add(perSecond);
        }
        return new([.. scans], [], null, "the namespace and its replay are not merged yet");
    }

    private static ReplayResult MeasureMemory() => new([], [], null, "the namespace and its replay are not merged yet");

    // Headers and checksums only: what no replay can do without.
    private static long Scan(CreationLog log)
    {
        long records = 0;
        LogSequence last = default;
        for (int at = 0; at < log.Bytes.Length; records++)
        {
            if (RecordFrame.Parse(log.Bytes.AsSpan(at), log.Seed, out RecordFrame frame) != FrameVerdict.Good)
                throw new InvalidOperationException($"frame at {at} is damaged");
            last = frame.Sequence;
            at += frame.PaddedBytes;
        }
        return last.Value > 0 ? records : 0;
    }
}
