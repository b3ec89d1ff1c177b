using System.Runtime.InteropServices;
using Famfs.Benchmarks;
using Famfs.Benchmarks.Report;
using Famfs.Benchmarks.Rows;

if (args is [ReplayChild.Verb, ..])
    return ReplayChild.Run(args[1..]);
if (args is [BulkChild.Verb, ..])
    return await BulkChild.RunAsync(args[1..]);

BenchmarkOptions options;
try
{
    options = BenchmarkOptions.Parse(args);
}
catch (FormatException error)
{
    Console.Error.WriteLine($"famfs-bench: {error.Message}\n{BenchmarkOptions.Usage}");
    return 2;
}

// Ctrl-C and SIGTERM unwind the run, so that every mount, process and file is given back.
using CancellationTokenSource interrupted = new();
void Interrupt(PosixSignalContext context)
{
    context.Cancel = true;
    interrupted.Cancel();
}
using PosixSignalRegistration onInterrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Interrupt);
using PosixSignalRegistration onTerminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Interrupt);
using PosixSignalRegistration onHangup = PosixSignalRegistration.Create(PosixSignal.SIGHUP, Interrupt);

BenchmarkRun run = new(options, interrupted.Token);
try
{
    MachineFacts facts = await MachineFacts.ReadAsync(options, TimeProvider.System, interrupted.Token);
    IReadOnlyList<Row> rows = await run.MeasureAsync();
    Directory.CreateDirectory(options.OutputFolder);
    string file = Path.Combine(options.OutputFolder, options.Name + ".json");
    await File.WriteAllTextAsync(file, ReportJson.Format(facts, rows));
    Console.WriteLine(ReportTable.Format(facts, rows));
    Console.WriteLine(file);
    // Short rows are results; only a row that broke fails the run.
    return rows.Any(row => row.Verdict == Verdict.Failed) ? 1 : 0;
}
catch (OperationCanceledException) when (interrupted.IsCancellationRequested)
{
    Console.Error.WriteLine("famfs-bench: interrupted; everything started was stopped and removed");
    return 130;
}
