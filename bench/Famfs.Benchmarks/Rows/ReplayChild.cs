using System.Globalization;
using System.Text.Json;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;

namespace Famfs.Benchmarks.Rows;

/// <summary>What a replay process found. <paramref name="Missing"/> says what is not there to be measured.</summary>
internal sealed record ReplayResult(double[] ScansPerSecond, double[] ReplaysPerSecond, double? BytesPerFile, double? BytesPerRemovedFile, string? Missing);

/// <summary>The process that measures replay: its heap holds nothing else. Rates are per second of processor
/// time, which is what "on one core" means and what other work on the machine disturbs least.</summary>
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
        byte[] log = CreationLog.Build();
        List<double> scans = [], replays = [];
        for (int round = 0; round <= rounds; round++)
        {
            double scan = 0, replay = 0;
            for (int half = 0; half < 2; half++)
            {
                if ((round + half) % 2 == 0)
                    scan = Scan(log);
                else
                    replay = ReplayInto(log);
            }
            if (round == 0)
                continue;
            scans.Add(scan);
            replays.Add(replay);
        }
        return new([.. scans], [.. replays], null, null, null);
    }

    // Headers and checksums only: what no replay can do without.
    private static double Scan(byte[] log)
    {
        const int Passes = 4;
        TimeSpan begin = Environment.CpuUsage.TotalTime;
        long records = 0;
        for (int pass = 0; pass < Passes; pass++)
        {
            for (int at = 0; at < log.Length; records++)
                at += Require(log, at).PaddedBytes;
        }
        return records / (Environment.CpuUsage.TotalTime - begin).TotalSeconds;
    }

    // The whole of it: checksum, decoding, namespace.
    private static double ReplayInto(byte[] log)
    {
        using ReplayState state = new(CreationLog.Start, HashKey);
        TimeSpan begin = Environment.CpuUsage.TotalTime;
        long records = Apply(state, log);
        double perSecond = records / (Environment.CpuUsage.TotalTime - begin).TotalSeconds;
        RequireWhole(state);
        return perSecond;
    }

    private static ReplayResult MeasureMemory()
    {
        // A first replay brings in code and buffers that stay whatever the number of files.
        using (ReplayState warm = new(CreationLog.Start, HashKey))
            Apply(warm, CreationLog.Build().AsSpan(0, 64 << 20), mayEndTorn: true);
        long before = AnonymousBytes();
        using ReplayState state = new(CreationLog.Start, HashKey);
        foreach (ReadOnlyMemory<byte> piece in new CreationLog().Pieces())
            Apply(state, piece.Span);
        RequireWhole(state);
        long after = AnonymousBytes();
        return new([], [], (double)(after - before) / CreationLog.Files, MeasureRemoved(state), null);
    }

    // Native memory in use, which is all that a removed file takes here. What was freed stays with the process for what comes next.
    private static double MeasureRemoved(ReplayState state)
    {
        using ReplayState empty = new(CreationLog.Start, HashKey);
        empty.Tree.MakeRoot(InodeNumber.Root, 0x1ED, 0, 0, 0);
        List<InodeNumber> tops = [];
        using (TreeReader reader = state.Tree.RegisterReader())
        {
            using TreeScope scope = reader.Enter();
            DirectoryEntries entries = scope.List(state.Tree.Root, 0);
            while (entries.MoveNext())
                tops.Add(entries.Attributes.Inode);
        }
        foreach (InodeNumber top in tops)
            state.Tree.Remove(top, 0);
        while (state.HasSubtrees)
            state.TakeApart(10_000);
        state.Tree.ReleaseRetired();
        if (state.Tree.DeletedCount != CreationLog.Files)
            throw new InvalidOperationException($"{state.Tree.DeletedCount} files are removed instead of {CreationLog.Files}");
        return (double)(state.Tree.UsedNativeBytes - empty.Tree.UsedNativeBytes) / CreationLog.Files;
    }

    private static UInt128 HashKey => new(0x0123456789abcdef, 0xfedcba9876543210);

    private static long Apply(ReplayState state, ReadOnlySpan<byte> frames, bool mayEndTorn = false)
    {
        long records = 0;
        for (int at = 0; at < frames.Length; records++)
        {
            if (mayEndTorn && RecordFrame.Parse(frames[at..], CreationLog.Seed, out _) == FrameVerdict.Torn)
                break;
            RecordFrame frame = Require(frames, at);
            state.Apply(frame);
            at += frame.PaddedBytes;
        }
        return records;
    }

    private static RecordFrame Require(ReadOnlySpan<byte> frames, int at) =>
        RecordFrame.Parse(frames[at..], CreationLog.Seed, out RecordFrame frame) == FrameVerdict.Good
            ? frame
            : throw new InvalidOperationException($"the frame at {at} is damaged");

    private static void RequireWhole(ReplayState state)
    {
        if (state.Tree.FileCount != CreationLog.Files)
            throw new InvalidOperationException($"{state.Tree.FileCount} files after replay instead of {CreationLog.Files}");
    }

    // Memory of its own that the process has resident: managed and native, free lists and fragments included.
    private static long AnonymousBytes()
    {
        for (int i = 0; i < 3; i++)
        {
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
            GC.WaitForPendingFinalizers();
        }
        string line = File.ReadLines("/proc/self/status").First(l => l.StartsWith("RssAnon:", StringComparison.Ordinal));
        return long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024;
    }
}
