using System.Globalization;
using Famfs.Benchmarks.Measurement;
using Famfs.Benchmarks.Report;
using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.V1;

namespace Famfs.Benchmarks.Rows;

/// <summary>P8: the allocator alone, in a pool of 64 TiB against one of 1 TiB with as many devices. Rates are per second of
/// processor time; what is counted is one run given and one taken.</summary>
internal sealed class AllocationRows(BenchmarkRun run)
{
    private const int Devices = 16;
    private const long UnitBytes = 2L << 20;
    private const int MaxRunUnits = 64;
    private const long SmallPoolBytes = 1L << 40;
    private const long LargePoolBytes = 64L << 40;

    public async Task MeasureAsync()
    {
        int pairs = run.Options.Quick ? 200_000 : 2_000_000;
        foreach (int percent in new[] { 50, 90, 99 })
        {
            RowDefinition definition = new("P8", string.Create(CultureInfo.InvariantCulture, $"give and take of 1–{MaxRunUnits} units, 64 TiB, {percent} % full"), "pairs/CPU s", "1 TiB",
                [Goal.OursAtLeast(1e6)], [Goal.OursAtLeast(1e6)]);
            await run.AddAsync(definition, [], () => Task.Run(async () =>
            {
                Churn small = new(SmallPoolBytes, percent);
                Churn large = new(LargePoolBytes, percent);
                return Row.OfRates(definition, await run.PairAsync(
                    _ => Task.FromResult(new Sample(small.Run(pairs), double.NaN, double.NaN, double.NaN)),
                    _ => Task.FromResult(new Sample(large.Run(pairs), double.NaN, double.NaN, double.NaN))));
            }));
        }
    }

    /// <summary>A pool kept at one fill by files that come and go.</summary>
    private sealed class Churn
    {
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

        public double Run(int pairs)
        {
            TimeSpan begin = Environment.CpuUsage.TotalTime;
            for (int done = 0; done < pairs;)
            {
                if (_allocator.FreeBytes >= _freeBytes && TryGive())
                    done++;
                else
                    Take();
            }
            return pairs / (Environment.CpuUsage.TotalTime - begin).TotalSeconds;
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
