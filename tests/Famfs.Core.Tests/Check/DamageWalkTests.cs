using System.Globalization;
using System.Text;
using Famfs.Core;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Core.Tests.Log;
using Famfs.TestSupport;
using Famfs.TestSupport.Damage;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Core.Tests.Check;

/// <summary>
/// Walks the native rows of the table of docs/safety.md. After each damage a check, a reader and the start of a master in each slot
/// say what they find; a master that starts publishes a record, and all is read again.
/// </summary>
public sealed class DamageWalkTests(ITestOutputHelper output)
{
    /// <summary>Lines of frames in each image: more than 300 frames.</summary>
    private const int MostFrameLines = 900;

    /// <summary>Two looks at what looks damaged are enough; the anchors are not read whole at each poll.</summary>
    private const int ClockStepMs = 700;

    [Theory]
    [InlineData(1, true)]
    [InlineData(2, true)]
    [InlineData(2, false)]
    [InlineData(40, true)]
    public Task No_damaged_line_loses_anything_silently(int segments, bool withLine)
    {
        // Where a slot has two terms, its older claims and active copies are stale lines too.
        DamageImage image = new(segments, withLine, startsAgain: !withLine);
        return DamageWalk.RunAsync(() => new Walk(image), $"{segments} segment(s) {(withLine ? "with a mount" : "without a mount, a slot's second term")}", output);
    }

    /// <summary>An image, and what is sound in it.</summary>
    private sealed class Walk : DamageWalk
    {
        /// <summary>What somebody says who goes on with something else than what is sound.</summary>
        private const string Shorter = "another history, without a word";

        private readonly DamageImage _image;
        private readonly int[] _slots;
        private readonly SegmentRef[] _chain;
        private readonly long _tail;
        private readonly List<int> _sound;
        private readonly HashSet<int> _holders;

        public Walk(DamageImage image)
            : base(image.Whole, image.Earlier)
        {
            _image = image;
            _slots = image.Master.Mastership.Term.Slot == 0 ? [0] : [0, 1];
            _tail = image.Master.Writer.Tail;
            Assert.Empty(Check().Findings);
            using DevicePool pool = OpenPool();
            LogReader reader = new(pool, new HastyClock());
            using ReplayState state = image.NewState();
            _sound = Replay(reader, state);
            _chain = [.. reader.Chain];
            _holders = [.. Holders()];
        }

        protected override IEnumerable<DamageCase> Cases(Random random)
        {
            foreach (long start in new[] { 0L, MediaLayout.SuperblockCopyOffset })
            {
                foreach (DamageCase one in Lines("superblock", start, MediaLayout.SuperblockBytes, allBits: false, random))
                    yield return one;
            }
            foreach (int slot in _slots)
            {
                foreach ((string structure, long start, int length, bool allBits) in new[]
                    {
                        ("claim", 0L, 2 * Line, true), ("tail", 128, Line, true), ("unused line", 192, 2048 - 192, false),
                        ("active copy", 2048, 2 * ActiveAnchor.Size, true),
                        ("unused line", 2048 + 2 * ActiveAnchor.Size, (int)MediaLayout.AnchorStride - 2048 - 2 * ActiveAnchor.Size, false),
                    })
                {
                    foreach (DamageCase one in Lines(structure, LogBench.SlotOffset(slot) + start, length, allBits, random))
                        yield return one;
                }
            }
            foreach (DamageCase one in Lines("unused slot", LogBench.SlotOffset(7), MediaLayout.AnchorStride, allBits: false, random))
                yield return one;
            foreach (DamageCase one in Lines("host line", MediaLayout.HostTableOffset, 2 * MediaLayout.HostEntryBytes, allBits: true, random))
                yield return one;
            long left = MostFrameLines * Line;
            foreach (SegmentRef segment in _chain)
            {
                foreach (DamageCase one in Lines("segment header", segment.Offset, MediaLayout.SegmentHeaderBytes, allBits: false, random))
                    yield return one;
                long bytes = segment.SealedBytes == SegmentRef.Open ? _tail - segment.AbsoluteStart : segment.SealedBytes;
                bytes = Math.Min((bytes + Line - 1) / Line * Line, left);
                left -= bytes;
                foreach (DamageCase one in Lines("record", segment.Offset + MediaLayout.SegmentHeaderBytes, bytes, allBits: false, random))
                    yield return one;
            }
        }

        protected override DamageVerdict Judge(DamageCase one, out string why)
        {
            CheckResult check = Check();
            string read = Read();
            bool refused = read.Length > 0;
            bool lost = read == Shorter || !_holders.IsSubsetOf(Holders());
            StringBuilder all = new();
            all.Append(CultureInfo.InvariantCulture, $"check {(check.Findings.Count > 0 ? check.Findings[0] : "clean")}; read {read}");
            foreach (int slot in _slots)
            {
                Damage(one);
                string started = Start(slot);
                refused |= started.Length > 0;
                lost |= started == Shorter;
                all.Append(CultureInfo.InvariantCulture, $"; start of slot {slot} {started}");
            }
            why = all.ToString();
            return lost ? DamageVerdict.SilentLoss : refused ? DamageVerdict.Detected : check.Findings.Count > 0 ? DamageVerdict.Healed : DamageVerdict.Harmless;
        }

        private DevicePool OpenPool() => TestFormats.All.Open([Memory.Attach()]);

        private CheckResult Check()
        {
            using DaxDevice device = Memory.Attach();
            return FileSystemCheck.Run([device], TestFormats.All, new HastyClock(ClockStepMs));
        }

        /// <summary>Entries of the host table whose mounts may hold memory.</summary>
        private List<int> Holders()
        {
            using DevicePool pool = OpenPool();
            return [.. new MountLineTable(pool).ReadInUse().Where(e => e.Unreadable || e.Line is not { State: MountState.Ended }).Select(e => e.Index)];
        }

        /// <summary>What a daemon says that reads everything; empty: nothing, and it has everything.</summary>
        private string Read()
        {
            try
            {
                using DevicePool pool = OpenPool();
                using ReplayState state = _image.NewState();
                return Replay(new LogReader(pool, new HastyClock(ClockStepMs)), state).SequenceEqual(_sound) ? "" : Shorter;
            }
            catch (Exception error) when (error is FamfsException or DeviceFaultException)
            {
                return error.Message;
            }
        }

        /// <summary>What a master says that starts and publishes a record; empty: nothing, and everything is there.</summary>
        private string Start(int slot)
        {
            try
            {
                using DevicePool pool = OpenPool();
                Mastership mastership = Mastership.Claim(pool, slot, slot == 0 ? LogBench.HostA : LogBench.HostB, Guid.NewGuid(), new HastyClock(ClockStepMs));
                List<HostEntry> lines = new MountLineTable(pool).ReadInUse();
                using ReplayState state = _image.NewState();
                if (!Replay(mastership.Reader, state).SequenceEqual(_sound))
                    return IsTold(lines, state) is { } told ? told : Shorter;
                if (IsTold(lines, state) is { } line)
                    return line;
                LogWriter writer = mastership.Activate([.. state.Segments.Where(s => s.Slot == slot).Select(s => new SegmentSpace(s.Extent.Device, s.Extent.OffsetBytes, s.Extent.LengthBytes))]);
                RecordBatch batch = new();
                batch.Start(writer.Position.Sequence, writer.Term, writer.Seed);
                batch.Add(RecordType.DirectoryMade, new DirectoryMade { Inode = state.NextInode.Value, Parent = 1, Name = ByteString.CopyFromUtf8("after"), Mode = 0x1ED });
                writer.Publish(batch);
            }
            catch (Exception error) when (error is FamfsException or DeviceFaultException)
            {
                return error.Message;
            }
            // What it stored is behind everything, and everything is still there.
            using DevicePool after = OpenPool();
            using ReplayState all = _image.NewState();
            try
            {
                List<int> read = Replay(new LogReader(after, new HastyClock(ClockStepMs)), all);
                return read.Count == _sound.Count + 1 && read.Take(_sound.Count).SequenceEqual(_sound) ? "" : Shorter;
            }
            catch (FamfsException error)
            {
                // Who reads from the start meets older damage; a start does not make it worse.
                return error.Message;
            }
        }

        private static string? IsTold(List<HostEntry> lines, ReplayState state) =>
            lines.Select(l => l.Line).OfType<MountLine>().FirstOrDefault(l => HostHistory.Contradicts(l, state)) is { } line ? HostHistory.Explain(line, state) : null;

        /// <summary>Replays as anybody does, and gives a digest of the history up to each record. Throws what a reader throws, and what
        /// it says instead of the end.</summary>
        private static List<int> Replay(LogReader reader, ReplayState state)
        {
            List<int> digests = [];
            HashCode digest = default;
            PollVerdict verdict;
            while ((verdict = reader.Poll(out LogBlock block)) is PollVerdict.Records or PollVerdict.LookAgain)
            {
                if (verdict == PollVerdict.LookAgain)
                    continue;
                state.ApplyFrames(block.Frames.Span);
                ReadOnlySpan<byte> frames = block.Frames.Span;
                while (!frames.IsEmpty)
                {
                    int bytes = RecordFrame.ReadVerified(frames).PaddedBytes;
                    digest.AddBytes(frames[..bytes]);
                    digests.Add(digest.ToHashCode());
                    frames = frames[bytes..];
                }
            }
            return verdict == PollVerdict.UpToDate ? digests : throw new FamfsException(ErrorReason.NotMaster, $"{verdict}");
        }
    }
}
