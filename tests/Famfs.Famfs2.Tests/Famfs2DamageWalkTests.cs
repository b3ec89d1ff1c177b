using Famfs.Core;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Famfs2.Codec;
using Famfs.TestSupport;
using Famfs.TestSupport.Damage;
using Famfs.TestSupport.Famfs2;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Famfs2.Tests;

/// <summary>
/// Walks the famfs-2 rows of the table of docs/safety.md. After each damage a check, a reader and the start of a master say what
/// they find; a master that starts publishes a record, and all is read again. Two losses are listed there, which a check tells and
/// a start does not: counters that are both of an earlier time, and a device length, which no checksum covers, that leaves files out.
/// </summary>
public sealed class Famfs2DamageWalkTests(ITestOutputHelper output)
{
    private const int Units = 40;

    [Theory]
    [InlineData(1)]
    [InlineData(40)]
    [InlineData(300)]
    public Task No_damaged_line_of_a_famfs_2_log_loses_anything_that_is_not_listed(int entries)
    {
        Famfs2Image image = new(Units);
        byte[] earlier = [];
        for (int i = 0; i < entries; i++)
        {
            if (i % 10 == 9)
                image.Add(Famfs2Image.File($"f{i}", 100, Famfs2Image.Extent(Famfs2Image.FirstFreeUnit + (i / 10))));
            else
                image.Directory($"d{i}");
            if (i == entries / 2)
                earlier = Snapshot(image);
        }
        return DamageWalk.RunAsync(() => new Walk(image, earlier), $"famfs-2 with {entries} entries", output);
    }

    private static byte[] Snapshot(Famfs2Image image)
    {
        byte[] bytes = new byte[image.Memory.LengthBytes];
        image.Memory.ReadMemory(0, bytes);
        return bytes;
    }

    /// <summary>An image, and what is sound in it.</summary>
    private sealed class Walk : DamageWalk
    {
        private const string Counters = "famfs-2 log header and counters";
        private const string Superblock = "famfs-2 superblock";
        private const string Shorter = "another history, without a word";

        private readonly Famfs2Image _image;
        private readonly List<int> _sound;

        public Walk(Famfs2Image image, byte[] earlier)
            : base(Snapshot(image), earlier)
        {
            _image = image;
            Assert.Empty(Check().Findings);
            using DevicePool pool = OpenPool();
            _sound = Replay(new Famfs2LogReader(pool), NewState(pool));
        }

        protected override IEnumerable<DamageCase> Cases(Random random)
        {
            const long header = Famfs2Layout.LogOffset;
            long end = Famfs2Layout.EntryOffset(_image.Count);
            return Lines(Superblock, 0, (Famfs2Superblock.Size + Line - 1) / Line * Line, allBits: true, random)
                .Concat(Lines("famfs-2 unused line", 4096, 8 * Line, allBits: false, random))
                .Concat(Lines(Counters, header, Line, allBits: true, random))
                .Concat(Lines("famfs-2 entry", header + Line, (end - header - 1) / Line * Line, allBits: false, random))
                .Concat(Lines("famfs-2 unused entry", Famfs2Layout.EntryOffset(_image.Count + 2) / Line * Line, 16 * Line, allBits: false, random));
        }

        protected override DamageVerdict Judge(DamageCase one, out string why)
        {
            CheckResult check = Check();
            bool told = check.Findings.Count > 0;
            string read = Read();
            string started = Start();
            why = $"check {(told ? check.Findings[0] : "clean")}; read {read}; start {started}";
            if (started == Shorter)
            {
                bool listed = one.Structure == Counters && one.Damage == LineDamage.Stale ? check.Findings.Any(f => f.Code == "unpublished")
                    : one.Structure == Superblock && check.Findings.Any(f => f.Code == "extent-range");
                return listed ? DamageVerdict.ListedLoss : DamageVerdict.SilentLoss;
            }
            // Between its two stores a header vouches for the lower counter, so a reader cannot say more than a check.
            if (read == Shorter)
                return check.ErrorCount > 0 && started.Length > 0 ? DamageVerdict.Detected : DamageVerdict.SilentLoss;
            return read.Length > 0 || started.Length > 0 ? DamageVerdict.Detected : told ? DamageVerdict.Healed : DamageVerdict.Harmless;
        }

        private static ReplayState NewState(DevicePool pool) => new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), default);

        private DevicePool OpenPool() => TestFormats.All.Open([Memory.Attach()]);

        private CheckResult Check()
        {
            using DaxDevice device = Memory.Attach();
            return FileSystemCheck.Run([device], TestFormats.All, new HastyClock(2000));
        }

        /// <summary>What a daemon says that reads everything; empty: nothing, and it has everything.</summary>
        private string Read()
        {
            try
            {
                using DevicePool pool = OpenPool();
                using ReplayState state = NewState(pool);
                return Replay(new Famfs2LogReader(pool), state).SequenceEqual(_sound) ? "" : Shorter;
            }
            catch (Exception error) when (error is FamfsException or DeviceFaultException)
            {
                return error.Message;
            }
        }

        /// <summary>What a master says that starts and publishes a record; empty: nothing, and everything is there.</summary>
        private string Start()
        {
            try
            {
                using DevicePool pool = OpenPool();
                Famfs2Mastership mastership = Famfs2Mastership.Take(pool, _image.Superblock.System, takeOver: false);
                using ReplayState state = NewState(pool);
                List<int> read = Replay(mastership.Reader, state);
                Famfs2LogWriter writer = mastership.Activate();
                if (!read.SequenceEqual(_sound))
                    return Shorter;
                RecordBatch batch = new();
                batch.Start(writer.Position.Sequence, writer.Term, writer.Seed);
                batch.Add(RecordType.DirectoryMade, new DirectoryMade { Inode = pool.Format.NextInode(writer.Position.Sequence, state.NextInode).Value, Parent = 1, Name = ByteString.CopyFromUtf8("after"), Mode = 0x1ED });
                writer.Publish(batch);
                using DevicePool after = OpenPool();
                using ReplayState all = NewState(after);
                read = Replay(new Famfs2LogReader(after), all);
                return read.Count == _sound.Count + 1 && read.Take(_sound.Count).SequenceEqual(_sound) ? "" : Shorter;
            }
            catch (Exception error) when (error is FamfsException or DeviceFaultException)
            {
                return error.Message;
            }
        }

        /// <summary>Replays to the end, and gives a digest of the history up to each entry. Throws what a reader throws.</summary>
        private static List<int> Replay(Famfs2LogReader reader, ReplayState state)
        {
            List<int> digests = [];
            HashCode digest = default;
            PollVerdict verdict;
            while ((verdict = reader.Poll(out LogBlock block)) == PollVerdict.Records)
            {
                state.ApplyFrames(block.Frames.Span);
                ReadOnlySpan<byte> frames = block.Frames.Span;
                while (!frames.IsEmpty)
                {
                    RecordFrame frame = RecordFrame.ReadVerified(frames);
                    if (frame.Sequence.Value > Famfs2Translator.PrologueRecords)
                    {
                        digest.AddBytes(frames[..frame.PaddedBytes]);
                        digests.Add(digest.ToHashCode());
                    }
                    frames = frames[frame.PaddedBytes..];
                }
            }
            return verdict == PollVerdict.UpToDate ? digests : throw new FamfsException(ErrorReason.NotMaster, $"{verdict}");
        }
    }
}
