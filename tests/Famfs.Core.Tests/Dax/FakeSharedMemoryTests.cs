using Famfs.Core.Dax;
using Famfs.TestSupport.Dax;
using Xunit;

namespace Famfs.Core.Tests.Dax;

/// <summary>The fake is the judge of everything built on it, so what it lets happen and what it forbids is
/// tested here, over many seeds: a "may" must happen under some seed, a "must not" under none.</summary>
public sealed class FakeSharedMemoryTests
{
    private const int Seeds = 200;

    [Fact]
    public void A_store_that_is_not_written_back_may_stay_unseen()
    {
        Assert.True(Some(coherent: false, (memory, a, b) =>
        {
            a.WriteWord(0, 1);
            a.Fence();
            return b.ReadWord(0) == 0;
        }));
    }

    [Fact]
    public void A_store_may_be_seen_before_it_is_written_back()
    {
        Assert.True(Some(coherent: false, (memory, a, b) =>
        {
            a.WriteWord(0, 1);
            return b.ReadWord(0) == 1;
        }));
    }

    [Fact]
    public void A_write_back_without_a_fence_may_stay_unseen()
    {
        Assert.True(Some(coherent: false, (memory, a, b) =>
        {
            a.WriteWord(0, 1);
            a.WriteBack(0, 8);
            return b.ReadWord(0) == 0;
        }));
    }

    [Fact]
    public void A_load_may_be_stale_until_it_is_invalidated_and_never_after()
    {
        bool Stale(DaxDevice a, DaxDevice b, bool invalidate)
        {
            b.ReadWord(0);
            a.WriteWord(0, 1);
            a.WriteBack(0, 8);
            a.Fence();
            if (invalidate)
                b.Invalidate(0, 8);
            return b.ReadWord(0) == 0;
        }

        Assert.True(Some(coherent: false, (memory, a, b) => Stale(a, b, invalidate: false)));
        Assert.False(Some(coherent: false, (memory, a, b) => Stale(a, b, invalidate: true)));
    }

    [Fact]
    public void Unfenced_lines_land_in_any_order_and_fenced_ones_in_program_order()
    {
        bool SecondWithoutFirst(FakeSharedMemory memory, DaxDevice a, bool fenceBetween)
        {
            bool seen = false;
            memory.BeforeAccess = (_, _, _) =>
            {
                Span<byte> one = stackalloc byte[1];
                memory.ReadMemory(640, one);
                byte second = one[0];
                memory.ReadMemory(0, one);
                seen |= second == 1 && one[0] == 0;
            };
            a.WriteWord(0, 1);
            a.WriteBack(0, 8);
            if (fenceBetween)
                a.Fence();
            a.WriteWord(640, 1);
            a.WriteBack(640, 8);
            a.Fence();
            a.ReadWord(4096);
            return seen;
        }

        Assert.True(Some(coherent: false, (memory, a, b) => SecondWithoutFirst(memory, a, fenceBetween: false)));
        Assert.False(Some(coherent: false, (memory, a, b) => SecondWithoutFirst(memory, a, fenceBetween: true)));
    }

    [Fact]
    public void A_store_after_the_write_back_is_not_covered_by_its_fence()
    {
        Assert.True(Some(coherent: false, (memory, a, b) =>
        {
            a.WriteWord(0, 1);
            a.WriteBack(0, 8);
            a.WriteWord(0, 2);
            a.Fence();
            return b.ReadWord(0) == 1;
        }));
    }

    [Fact]
    public void A_fence_covers_its_own_handle_only()
    {
        Assert.True(Some(coherent: false, (memory, a, b) =>
        {
            DaxDevice second = memory.Attach("a");
            a.WriteWord(0, 1);
            a.WriteBack(0, 8);
            second.Fence();
            return b.ReadWord(0) == 0;
        }));
    }

    [Fact]
    public void Handles_of_one_host_share_its_cache()
    {
        Assert.False(Some(coherent: false, (memory, a, b) =>
        {
            DaxDevice second = memory.Attach("a");
            second.ReadWord(0);
            a.WriteWord(0, 1);
            return second.ReadWord(0) != 1;
        }));
    }

    [Fact]
    public void A_line_lands_whole_and_takes_another_hosts_bytes_with_it()
    {
        Assert.True(Some(coherent: false, (memory, a, b) =>
        {
            a.WriteWord(0, 1);
            b.WriteWord(8, 2);
            b.WriteBack(8, 8);
            b.Fence();
            a.WriteBack(0, 8);
            a.Fence();
            byte[] line = new byte[16];
            memory.ReadMemory(0, line);
            return line[8] == 0 && line[0] == 1;
        }));
    }

    [Fact]
    public void A_line_may_be_caught_between_two_stores_of_one_write_but_a_word_is_never()
    {
        bool Torn(FakeSharedMemory memory, DaxDevice a, int bytes)
        {
            a.Write(0, Enumerable.Repeat((byte)7, bytes).ToArray());
            memory.Crash("a");
            byte[] seen = new byte[bytes];
            memory.ReadMemory(0, seen);
            return seen.Distinct().Count() > 1;
        }

        foreach (bool coherent in new[] { false, true })
        {
            Assert.True(Some(coherent, (memory, a, b) => Torn(memory, a, 64)));
            Assert.False(Some(coherent, (memory, a, b) => Torn(memory, a, 8)));
        }
    }

    [Fact]
    public void A_crash_loses_some_dirty_lines_and_no_fenced_one()
    {
        var outcomes = new HashSet<int>();
        for (int seed = 0; seed < Seeds; seed++)
        {
            var memory = new FakeSharedMemory(1 << 20, seed) { AccidentOneIn = 0 };
            FakeDaxDevice a = memory.Attach("a");
            a.WriteWord(0, 1);
            a.WriteBack(0, 8);
            a.Fence();
            a.WriteWord(64, 1);
            a.WriteWord(128, 1);
            a.WriteBack(128, 8);
            a.Crash();
            byte[] seen = new byte[192];
            memory.ReadMemory(0, seen);
            Assert.Equal(1, seen[0]);
            outcomes.Add(seen[64] + 2 * seen[128]);
        }

        Assert.Equal([0, 1, 2, 3], outcomes.Order());
    }

    [Fact]
    public void A_crashed_hosts_handles_throw_and_its_locks_are_free()
    {
        var memory = new FakeSharedMemory(1 << 20, 1);
        FakeDaxDevice a = memory.Attach("a");
        Assert.True(a.TryLockByte(1, out IDisposable? held));
        Assert.True(memory.Attach("b").TryLockByte(1, out _), "locks are of one host");
        a.Crash();
        Assert.Throws<FakeHostCrashedException>(() => a.ReadWord(0));
        Assert.Throws<FakeHostCrashedException>(() => a.WriteWord(0, 1));
        Assert.Throws<FakeHostCrashedException>(() => a.Fence());
        FakeDaxDevice again = memory.Attach("a");
        Assert.True(again.TryLockByte(1, out _));
        held.Dispose();
        Assert.False(again.TryLockByte(1, out _));
        Assert.Equal(0UL, again.ReadWord(0));
    }

    [Fact]
    public void On_coherent_memory_a_later_load_may_pass_an_unfenced_store()
    {
        // Two hosts each store, then look for the other's store: without fences both may miss it.
        bool BothMiss(DaxDevice a, DaxDevice b, bool fence)
        {
            a.WriteWord(0, 1);
            b.WriteWord(64, 1);
            if (fence)
            {
                a.Fence();
                b.Fence();
            }

            return a.ReadWord(64) == 0 && b.ReadWord(0) == 0;
        }

        Assert.True(Some(coherent: true, (memory, a, b) => BothMiss(a, b, fence: false)));
        Assert.False(Some(coherent: true, (memory, a, b) => BothMiss(a, b, fence: true)));
    }

    [Fact]
    public void On_coherent_memory_stores_are_seen_in_order()
    {
        Assert.False(Some(coherent: true, (memory, a, b) =>
        {
            for (ulong i = 1; i < 20; i++)
            {
                a.WriteWord(0, i);
                a.WriteWord(640, i);
                if (b.ReadWord(640) is var second && b.ReadWord(0) < second)
                    return true;
            }

            return false;
        }));
    }

    [Fact]
    public void The_hook_may_crash_the_host_before_any_step_of_a_publication()
    {
        var steps = new List<string>();
        Publish(new FakeSharedMemory(1 << 20, 1), steps.Add, int.MaxValue);
        Assert.Contains(FakeOperation.Store, steps);
        Assert.Contains(FakeOperation.WriteBack, steps);
        Assert.Contains(FakeOperation.Fence, steps);
        Assert.Contains(FakeOperation.Land, steps);
        for (int seed = 0; seed < 50; seed++)
        {
            for (int stopAt = 0; stopAt < steps.Count; stopAt++)
            {
                var memory = new FakeSharedMemory(1 << 20, seed);
                Assert.Throws<FakeHostCrashedException>(() => Publish(memory, _ => { }, stopAt));
                DaxDevice reader = memory.Attach("b");
                if (reader.ReadWord(4096) == 1)
                {
                    byte[] record = new byte[200];
                    reader.Read(0, record);
                    Assert.All(record, b => Assert.Equal(9, b));
                }
            }
        }

        static void Publish(FakeSharedMemory memory, Action<string> step, int crashBefore)
        {
            memory.AccidentOneIn = 0;
            int count = 0;
            FakeDaxDevice writer = memory.Attach("a");
            memory.BeforeAccess = (host, operation, _) =>
            {
                if (host != "a")
                    return;
                step(operation);
                if (count++ == crashBefore)
                    memory.Crash("a");
            };
            writer.Write(0, Enumerable.Repeat((byte)9, 200).ToArray());
            writer.WriteBack(0, 200);
            writer.Fence();
            writer.WriteWord(4096, 1);
            writer.WriteBack(4096, 8);
            writer.Fence();
        }
    }

    [Fact]
    public void Poison_faults_on_the_hosts_it_is_for()
    {
        var memory = new FakeSharedMemory(1 << 20, 1);
        DaxDevice a = memory.Attach("a");
        DaxDevice b = memory.Attach("b");
        memory.Poison(1000, 10, "a");
        byte[] bytes = new byte[100];
        Assert.Throws<DeviceFaultException>(() => a.Read(950, bytes));
        Assert.Throws<DeviceFaultException>(() => a.Write(1009, bytes));
        Assert.Throws<DeviceFaultException>(() => a.ReadWord(1000));
        Assert.Throws<DeviceFaultException>(() => a.Zero(0, 2000));
        a.Read(1010, bytes);
        a.Read(900, bytes);
        b.Read(950, bytes);
        memory.ClearPoison();
        a.Read(950, bytes);
    }

    [Fact]
    public void The_same_seed_gives_the_same_history()
    {
        Assert.Equal(History(7), History(7));
        Assert.NotEqual(History(7), History(8));

        static string History(int seed)
        {
            var memory = new FakeSharedMemory(1 << 16, seed);
            var log = new System.Text.StringBuilder();
            memory.BeforeAccess = (host, operation, offset) => log.Append(host).Append(operation).Append(offset).Append(' ');
            DaxDevice[] hosts = [memory.Attach("a"), memory.Attach("b")];
            var script = new Random(0);
            byte[] bytes = new byte[300];
            for (int i = 0; i < 300; i++)
            {
                DaxDevice host = hosts[script.Next(2)];
                long offset = script.Next(60_000);
                switch (script.Next(5))
                {
                    case 0: host.Read(offset, bytes); log.Append(Convert.ToHexString(bytes)); break;
                    case 1: script.NextBytes(bytes); host.Write(offset, bytes); break;
                    case 2: host.WriteBack(offset, 300); break;
                    case 3: host.Invalidate(offset, 300); break;
                    default: host.Fence(); break;
                }
            }

            return log.ToString();
        }
    }

    [Fact]
    public void A_device_of_64_TiB_costs_what_is_stored_in_it()
    {
        var memory = new FakeSharedMemory(64L << 40, 1);
        DaxDevice a = memory.Attach("a");
        foreach (long offset in new[] { 0, 1L << 40, (64L << 40) - 8 })
        {
            a.WriteWord(offset, 5);
            a.WriteBack(offset, 8);
        }

        a.Fence();
        Assert.Equal(5UL, a.ReadWord(1L << 40));
        Assert.InRange(memory.AllocatedBytes, 1, 1 << 20);
        a.Zero(1L << 40, 1L << 30);
        Assert.Equal(0UL, a.ReadWord(1L << 40));
    }

    [Fact]
    public void A_long_quiet_time_settles_everything()
    {
        foreach (bool coherent in new[] { false, true })
        {
            Assert.False(Some(coherent, (memory, a, b) =>
            {
                b.ReadWord(0);
                a.WriteWord(0, 1);
                memory.Settle();
                return b.ReadWord(0) != 1;
            }));
        }
    }

    private static bool Some(bool coherent, Func<FakeSharedMemory, DaxDevice, DaxDevice, bool> happens)
    {
        for (int seed = 0; seed < Seeds; seed++)
        {
            var memory = new FakeSharedMemory(1 << 20, seed, coherent);
            if (happens(memory, memory.Attach("a"), memory.Attach("b")))
                return true;
        }

        return false;
    }
}
