using System.Globalization;
using Famfs.Benchmarks.Measurement;
using Famfs.Benchmarks.Report;
using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.V1;

namespace Famfs.Benchmarks.Rows;

/// <summary>P8: the allocator alone, in a pool of 64 TiB against one of 1 TiB with as many devices. Rates are per second of
/// processor time. Allocations and frees take turns, a batch of each, and have a row each.</summary>
internal sealed class AllocationRows(BenchmarkRun run)
{
    private const int Devices = 16;
    private const long UnitBytes = 2L << 20;
    private const int MaxRunUnits = 64;
    private const long SmallPoolBytes = 1L << 40;
    private const long LargePoolBytes = 64L << 40;

    public async Task MeasureAsync()
    {
        int count = run.Options.Quick ? 200_000 : 2_000_000;
        foreach (int percent in new[] { 50, 90, 99 })
        {
            string pool = string.Create(CultureInfo.InvariantCulture, $"runs of 1–{MaxRunUnits} units, 64 TiB, {percent} % full");
            RowDefinition allocations = new("P8", $"allocate {pool}", "/CPU s", "1 TiB", [Goal.OursAtLeast(1e6)], [Goal.OursAtLeast(1e6)]);
            RowDefinition frees = new("P8", $"free {pool}", "/CPU s", "1 TiB", [], []);
            List<(double Allocations, double Frees)> ofSmall = [], ofLarge = [];
            await run.AddAsync(allocations, [], () => Task.Run(async () =>
            {
                Churn small = new(SmallPoolBytes, percent);
                Churn large = new(LargePoolBytes, percent);
                return Row.OfRates(allocations, await run.PairAsync(_ => RunAsync(small, ofSmall), _ => RunAsync(large, ofLarge)));
            }));
            await run.AddAsync(frees, [], async () => Row.OfRates(frees, await run.PairAsync(
                round => Task.FromResult(SampleOf(ofSmall[round].Frees)), round => Task.FromResult(SampleOf(ofLarge[round].Frees)))));

            Task<Sample> RunAsync(Churn churn, List<(double Allocations, double Frees)> results)
            {
                results.Add(churn.Run(count));
                return Task.FromResult(SampleOf(results[^1].Allocations));
            }
        }
    }

    private static Sample SampleOf(double perSecond) => new(perSecond, double.NaN, double.NaN, double.NaN);

    /// <summary>A pool kept at one fill by files that come and go.</summary>
    private sealed class Churn
    {
        // Chosen: far less than the hundredth of the small pool that is free at 99 %.
        private const int Batch = 100;

        private readonly Random _random = new(1);
        private readonly ExtentAllocator _allocator = new(UnitBytes);
        private readonly List<(MapExtent First, MapExtent[]? More)> _files = [];
        private readonly List<MapExtent> _extents = [];
        private readonly long _freeBytes;

        public Churn(long poolBytes, int percent)
        {
            for (ushort i = 0; i < Devices; i++)
                _allocator.AddDevice(new(i), poolBytes / Devices);
            _freeBytes = poolBytes / 100 * (100 - percent);
            // Full first, then holes at random, as a pool has them that was used for long.
            while (TryGive())
            {
            }
            while (_allocator.FreeBytes < _freeBytes)
                Take();
        }

        /// <summary>At least that many of each; how many of each per second of processor time.</summary>
        public (double Allocations, double Frees) Run(int count)
        {
            TimeSpan allocating = default, freeing = default;
            long allocated = 0, freed = 0;
            while (allocated < count)
            {
                TimeSpan begin = Environment.CpuUsage.TotalTime;
                for (int i = 0; i < Batch || _allocator.FreeBytes < _freeBytes; i++, freed++)
                    Take();
                TimeSpan middle = Environment.CpuUsage.TotalTime;
                for (int i = 0; i < Batch && TryGive(); i++)
                    allocated++;
                allocating += Environment.CpuUsage.TotalTime - middle;
                freeing += middle - begin;
            }
            return (allocated / allocating.TotalSeconds, freed / freeing.TotalSeconds);
        }

        private bool TryGive()
        {
            _extents.Clear();
            AllocationRequest request = new(_random.Next(1, MaxRunUnits + 1) * UnitBytes) { Kind = LayoutKind.Contiguous };
            if (!_allocator.TryAllocate(request, _random, _extents, out _))
                return false;
            _files.Add((_extents[0], _extents.Count > 1 ? [.. _extents.Skip(1)] : null));
            return true;
        }

        private void Take()
        {
            int which = _random.Next(_files.Count);
            (MapExtent first, MapExtent[]? more) = _files[which];
            _allocator.Free(first);
            foreach (MapExtent extent in more ?? [])
                _allocator.Free(extent);
            _files[which] = _files[^1];
            _files.RemoveAt(_files.Count - 1);
        }
    }
}
