using Famfs.Core;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Famfs2;
using Famfs.Famfs2.Codec;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Famfs2;
using Famfs.V1;
using Xunit;

namespace Famfs.Famfs2.Tests;

/// <summary>Logs and damage made by dice, judged by rules that know nothing of how a check or a repair works.</summary>
public sealed class RandomDamageTests : IDisposable
{
    private const int Units = 12;

    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-damage-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    /// <summary>After a repair every entry that was whole and counted by either counter is counted, what replay saw is seen, no
    /// byte outside the log header is another, and a second repair has nothing to do. A loss is told.</summary>
    [Theory]
    [InlineData(1, 100)]
    public void Repair_of_a_randomly_damaged_famfs_2_log_loses_nothing_that_was_good(int firstSeed, int runs)
    {
        int repaired = 0;
        for (int seed = firstSeed; seed < firstSeed + runs; seed++)
        {
            Random random = new(seed);
            Famfs2Image image = MakeImage(random);
            List<string> sound = Replay(image) ?? throw new InvalidOperationException($"seed {seed}: cannot be read");
            bool countersTouched = Damage(image, random);
            byte[] before = BytesOf(image.Memory);
            (Famfs2HeaderVerdict _, ulong lower, ulong higher) = Counters(before);
            List<string>? seen = Replay(image);

            CheckResult first = FileSystemCheck.Run([image.Memory.Attach("c")], TestFormats.All, TimeProvider.System);
            Assert.Equal(before, BytesOf(image.Memory));
            if (!countersTouched && (seen is null || !seen.SequenceEqual(sound)))
                Assert.True(first.ErrorCount > 0, $"seed {seed}: what is lost is not told");
            if (first.Repairs.Count == 0)
                continue;
            repaired++;
            FileSystemRepair.Apply(first.Repairs, Path.Combine(_directory, $"{seed}"));
            image.Memory.Settle();

            byte[] after = BytesOf(image.Memory);
            Assert.True(before.AsSpan(0, (int)Famfs2Layout.LogOffset).SequenceEqual(after.AsSpan(0, (int)Famfs2Layout.LogOffset)), $"seed {seed}: bytes before the log are others");
            int behind = (int)Famfs2Layout.LogOffset + Famfs2LogHeader.Size;
            Assert.True(before.AsSpan(behind).SequenceEqual(after.AsSpan(behind)), $"seed {seed}: bytes behind the header are others");
            (Famfs2HeaderVerdict verdict, ulong counted, ulong _) = Counters(after);
            Assert.True(verdict == Famfs2HeaderVerdict.Good, $"seed {seed}: the header is not good");
            ulong room = Famfs2Layout.LastIndexOf(Famfs2Layout.MinLogBytes) + 1;
            for (ulong index = counted; index < Math.Min(higher, room); index++)
                Assert.True(new Famfs2Entry(before.AsSpan((int)Famfs2Layout.EntryOffset(index))).Judge(index) != Famfs2EntryVerdict.Good, $"seed {seed}: entry {index} was good and is dropped");
            Assert.True(counted >= lower || new Famfs2Entry(before.AsSpan((int)Famfs2Layout.EntryOffset(counted))).Judge(counted) != Famfs2EntryVerdict.Good, $"seed {seed}: good entries are dropped");
            List<string> now = Replay(image) ?? throw new InvalidOperationException($"seed {seed}: cannot be read after the repair");
            Assert.True(seen is null || seen.SequenceEqual(now.Take(seen.Count)), $"seed {seed}: what was there is not");

            CheckResult second = FileSystemCheck.Run([image.Memory.Attach("c")], TestFormats.All, TimeProvider.System);
            Assert.True(second.Repairs.Count == 0, $"seed {seed}: a repair is left");
        }
        Assert.InRange(repaired, runs / 10, runs);
    }

    /// <summary>As above of superblocks, anchors and log of the native format: a file that is lost is told, and a repair writes
    /// superblocks and segment headers only, as they were.</summary>
    [Theory]
    [InlineData(1, 100)]
    public void A_randomly_damaged_native_file_system_loses_nothing_untold_and_repair_restores_superblocks_and_headers_only(int firstSeed, int runs)
    {
        int repaired = 0;
        int lost = 0;
        for (int seed = firstSeed; seed < firstSeed + runs; seed++)
        {
            Random random = new(seed);
            Famfs2Image image = new(Units);
            image.Directory("d");
            for (int i = Famfs2Image.FirstFreeUnit; i < Units - 3; i++)
                image.Add(Famfs2Image.File($"d/f{i}", 1, Famfs2Image.Extent(i)));
            Famfs2Format.Instance.Migration.Run([image.Memory.Attach("m")], () => new("aaaaaaaa-1111-4111-8111-111111111111"), TimeProvider.System);
            NativeMedia.ReadSuperblock(image.Memory.Attach("m"), out NativeSuperblock? superblock, out _);
            image.Memory.Settle();
            List<string> sound = Replay(image) ?? throw new InvalidOperationException($"seed {seed}: cannot be read");
            byte[] whole = BytesOf(image.Memory);
            for (int left = random.Next(1, 4); left > 0; left--)
            {
                (long start, int length) = random.Next(4) switch
                {
                    0 => (0L, 1024),
                    1 => (MediaLayout.SuperblockCopyOffset, 1024),
                    2 => (MediaLayout.AnchorOffset, 4 * DaxDevice.LineBytes),
                    _ => (superblock!.FirstSegmentOffset, 4096),
                };
                long at = start + random.Next(length);
                if (random.Next(2) == 0)
                    image.Flip(at, (byte)(1 << random.Next(8)));
                else
                    image.Memory.WriteMemory(at / DaxDevice.LineBytes * DaxDevice.LineBytes, new byte[DaxDevice.LineBytes]);
            }
            byte[] before = BytesOf(image.Memory);
            List<string>? seen = Replay(image);
            CheckResult first = FileSystemCheck.Run([image.Memory.Attach("c")], TestFormats.All, TimeProvider.System);
            Assert.Equal(before, BytesOf(image.Memory));
            if (seen is null || !seen.SequenceEqual(sound))
            {
                lost++;
                Assert.True(first.ErrorCount > 0, $"seed {seed}: what is lost is not told");
            }
            if (first.Repairs.Count == 0)
                continue;
            repaired++;
            FileSystemRepair.Apply(first.Repairs, Path.Combine(_directory, $"native{seed}"));
            image.Memory.Settle();
            byte[] after = BytesOf(image.Memory);
            foreach (Repair repair in first.Repairs)
            {
                Assert.Contains(repair.Offset, (long[])[0, MediaLayout.SuperblockCopyOffset, superblock!.FirstSegmentOffset]);
                Assert.True(whole.AsSpan((int)repair.Offset, repair.Bytes.Length).SequenceEqual(after.AsSpan((int)repair.Offset, repair.Bytes.Length)), $"seed {seed}: what is repaired is not as it was");
                before.AsSpan((int)repair.Offset, repair.Bytes.Length).CopyTo(after.AsSpan((int)repair.Offset));
            }
            Assert.Equal(before, after);
            Assert.Empty(FileSystemCheck.Run([image.Memory.Attach("c")], TestFormats.All, TimeProvider.System).Repairs);
        }
        Assert.True(repaired > runs / 10 && lost > runs / 10, $"{repaired} repaired, {lost} lost");
    }

    private static Famfs2Image MakeImage(Random random)
    {
        Famfs2Image image = new(Units);
        List<string> directories = [""];
        int entries = random.Next(0, 12);
        for (int i = 0; i < entries; i++)
        {
            string path = directories[random.Next(directories.Count)] + $"n{random.Next(20)}";
            if (random.Next(2) == 0)
            {
                image.Directory(path);
                directories.Add(path + "/");
            }
            else
            {
                // Some lie over others or outside the device: those have no effect.
                image.Add(Famfs2Image.File(path, (ulong)random.Next(1, 3 * Famfs2Image.Unit), Famfs2Image.Extent(random.Next(Famfs2Image.FirstFreeUnit - 1, Units), random.Next(1, 3))));
            }
        }
        for (int unit = Famfs2Image.FirstFreeUnit; unit < Units; unit++)
            image.Memory.WriteMemory((long)unit * Famfs2Image.Unit, [(byte)unit, 1, 2, 3]);
        return image;
    }

    /// <summary>Does one to three kinds of damage; true when counters are among it, of which the format has no checksum.</summary>
    private static bool Damage(Famfs2Image image, Random random)
    {
        bool counters = false;
        for (int left = random.Next(1, 4); left > 0; left--)
        {
            ulong entry = (ulong)random.Next((int)image.Count + 2);
            switch (random.Next(7))
            {
                case 0: // a bit of an entry
                    image.Flip(Famfs2Layout.EntryOffset(entry) + random.Next(Famfs2Layout.EntryBytes), (byte)(1 << random.Next(8)));
                    break;
                case 1: // a line of the log that was never written back
                    image.Memory.WriteMemory((Famfs2Layout.EntryOffset(entry) + random.Next(Famfs2Layout.EntryBytes)) / DaxDevice.LineBytes * DaxDevice.LineBytes, new byte[DaxDevice.LineBytes]);
                    counters |= entry == 0;
                    break;
                case 2: // the tail
                    for (ulong i = entry; i < image.Count; i++)
                        image.Memory.WriteMemory(Famfs2Layout.EntryOffset(i) + 40, [0xEE]);
                    break;
                case 3: // one counter
                    counters = true;
                    byte[] value = BitConverter.GetBytes(random.Next(4) == 0 ? (ulong)random.NextInt64() : entry);
                    image.Memory.WriteMemory(Famfs2Layout.LogOffset + Famfs2LogHeader.CountersOffset + (random.Next(2) * 8), value);
                    break;
                case 4: // a bit of what the header's checksum covers, and of it
                    image.Flip(Famfs2Layout.LogOffset + random.Next(Famfs2LogHeader.CountersOffset), (byte)(1 << random.Next(8)));
                    break;
                case 5: // both counters
                    counters = true;
                    image.WriteHeader(entry, entry);
                    break;
                default: // an entry where another one belongs
                    byte[] moved = new byte[Famfs2Layout.EntryBytes];
                    image.Memory.ReadMemory(Famfs2Layout.EntryOffset(entry), moved);
                    image.Memory.WriteMemory(Famfs2Layout.EntryOffset((ulong)random.Next((int)image.Count + 2)), moved);
                    break;
            }
        }
        return counters;
    }

    private static (Famfs2HeaderVerdict Verdict, ulong Lower, ulong Higher) Counters(byte[] memory)
    {
        Famfs2HeaderVerdict verdict = Famfs2LogHeader.Parse(memory.AsSpan((int)Famfs2Layout.LogOffset), Famfs2Layout.MinLogBytes, out Famfs2LogHeader header, out _);
        return (verdict, Math.Min(header.NextIndex, header.NextSequence), Math.Max(header.NextIndex, header.NextSequence));
    }

    private static byte[] BytesOf(FakeSharedMemory memory)
    {
        byte[] bytes = new byte[memory.LengthBytes];
        memory.ReadMemory(0, bytes);
        return bytes;
    }

    /// <summary>What a host sees before it meets damage; null when it cannot open the file system.</summary>
    private static List<string>? Replay(Famfs2Image image)
    {
        DevicePool pool;
        try
        {
            pool = image.Open("r");
        }
        catch (FamfsException)
        {
            return null;
        }
        using DevicePool opened = pool;
        using ReplayState state = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), default, null);
        ILogReader reader = pool.Format.OpenReader(pool, TimeProvider.System);
        try
        {
            while (reader.Poll(out LogBlock block) == PollVerdict.Records)
                state.ApplyFrames(block.Frames.Span);
        }
        catch (FamfsException)
        {
            // What came before the damage is in the tree.
        }
        return Famfs2Image.Describe(state.Tree);
    }
}
