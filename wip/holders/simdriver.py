# into the mutation clone only: mutations that change while the process runs, and a table of them
root='/tmp/w/h/simmut/'
p=root+'tests/Famfs.Simulation/Holders/HolderSimulationTests.cs'
t=open(p).read()
if 'void Table()' not in t:
    t=t.replace('''    private static int? Setting(string name) =>''','''    [Fact]
    public void Table()
    {
        if (Environment.GetEnvironmentVariable("FAMFS_TABLE") is not { Length: > 0 } list)
            return;
        int count = Setting("FAMFS_SEEDS") ?? DefaultSeeds;
        int begin = Setting("FAMFS_FIRST_SEED") ?? 1;
        foreach (string name in System.IO.File.ReadAllLines(list))
        {
            while (System.IO.File.Exists("/tmp/w/hush"))
                System.Threading.Thread.Sleep(1000);
            Famfs.Core.Mutation.Set(name);
            System.Diagnostics.Stopwatch watch = System.Diagnostics.Stopwatch.StartNew();
            TimeSpan cpu = System.Diagnostics.Process.GetCurrentProcess().TotalProcessorTime;
            ConcurrentBag<(int Seed, Exception Error)> failures = [];
            int ran = 0;
            Parallel.For(begin, begin + count, new ParallelOptions { MaxDegreeOfParallelism = Environment.ProcessorCount }, (seed, loop) =>
            {
                try
                {
                    using HolderSimulation simulation = new(seed);
                    _ = simulation.Run();
                }
                catch (Exception error)
                {
                    failures.Add((seed, error));
                    if (name.Length > 0 && name != "none")
                        loop.Stop();
                }
                System.Threading.Interlocked.Increment(ref ran);
            });
            string told = failures.IsEmpty ? "-" : string.Join(" || ", failures.OrderBy(f => f.Seed).Select(f => f.Error.Message.Split((char)10)[0][..Math.Min(220, f.Error.Message.Split((char)10)[0].Length)]));
            System.IO.File.AppendAllText(list + ".out", $"{name}\\t{ran} from {begin}\\t{watch.Elapsed.TotalSeconds:F0} s\\t{(System.Diagnostics.Process.GetCurrentProcess().TotalProcessorTime - cpu).TotalSeconds:F0} cpu\\t{told}\\n");
        }
    }

    private static int? Setting(string name) =>''',1)
    open(p,'w').write(t)
