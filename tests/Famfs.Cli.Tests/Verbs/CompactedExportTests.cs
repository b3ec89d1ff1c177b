using System.Buffers.Binary;
using System.Text.Json;
using Famfs.Cli.Verbs;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.TestSupport;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Cli.Tests.Verbs;

/// <summary>A log that is compacted while it is exported, and exports of one that was.</summary>
public sealed class CompactedExportTests : IDisposable
{
    private const int Directories = 14_000;

    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-export-").FullName;
    private readonly string _device;
    private readonly string _export;
    private readonly DevicePool _pool;
    private readonly TestMaster _master;
    private ulong _next = 1000;

    public CompactedExportTests()
    {
        _device = Path.Combine(_directory, "device");
        _export = Path.Combine(_directory, "log");
        using (FileStream file = File.Create(_device))
            file.SetLength(1L << 30);
        Guid host = Guid.NewGuid();
        using (DaxDevice device = DaxDevice.Open(_device))
            NativeFormatter.Format([device], new() { Host = host, Clock = TimeProvider.System });
        _pool = TestFormats.All.Open([DaxDevice.Open(_device)]);
        _master = TestMaster.Start(_pool, 0, host);
    }

    public void Dispose()
    {
        _pool.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    /// <summary>Whether or not the segments that it reads are somebody else's by then.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_export_during_a_compaction_is_of_one_generation_and_whole(bool gone)
    {
        MakeDirectories(Directories);
        // The first look is the one that finds the log, and then comes the first block.
        HookedClock clock = new(looks =>
        {
            if (looks != 3)
                return;
            Compact();
            if (!gone)
                return;
            foreach (SegmentSpace space in _master.History.SpacesOf(0).Where(s => s.Offset < _master.Writer.Segment.Offset))
                _pool.PrimaryDevice.Zero(space.Offset, Math.Min(space.LengthBytes, 2 << 20));
        });
        using (JsonDocument reply = JsonDocument.Parse(await RequireAsync(0, clock, "log", "export", "--json", _export, _device)))
            Assert.InRange(reply.RootElement.GetProperty("records").GetInt32(), Directories, Directories + 100);
        Assert.InRange(clock.Looks, 4, int.MaxValue);
        Assert.Equal((2U, 1UL, 2UL), HeaderOf(File.ReadAllBytes(_export)));
        Assert.Contains($"{Directories} directories beside the root", await ImportAsync(0), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_log_that_is_compacted_whenever_it_is_read_is_not_exported()
    {
        MakeDirectories(Directories);
        int compactions = 0;
        // Whenever one has read some of it.
        HookedClock clock = new(looks =>
        {
            if (looks < 3)
                return;
            compactions++;
            Compact();
        });
        string refused = await RequireAsync(1, clock, "log", "export", _export, _device);
        Assert.Contains("compacted each of the 5 times", refused, StringComparison.Ordinal);
        Assert.InRange(compactions, 5, 1000);
        Assert.False(File.Exists(_export));
    }

    [Fact]
    public async Task A_damaged_export_of_a_compacted_log_is_refused_and_the_device_stays_as_it_is()
    {
        MakeDirectories(20);
        Compact();
        MakeDirectories(3);
        await RequireAsync(0, TimeProvider.System, "log", "export", _export, _device);
        byte[] whole = File.ReadAllBytes(_export);
        byte[] device = File.ReadAllBytes(_device)[..(8 << 20)];
        for (int cut = 0; cut < whole.Length; cut += 31)
            await RefuseAsync(whole[..cut], "");
        for (int at = LogExport.HeaderBytes; at < whole.Length; at += 37)
        {
            byte[] bad = [.. whole];
            bad[at] ^= 0x10;
            await RefuseAsync(bad, "");
        }
        // Of another version, or of a generation that it cannot be of.
        await RefuseAsync(With(whole, 8, 1), "damaged record");
        await RefuseAsync(With(whole, 8, 3), "has version 3");
        await RefuseAsync(With(whole, 40, 1), "is of generation 1 of a file system that begins with 1");
        await RefuseAsync(With(whole, 32, 2), "is of generation 2 of a file system that begins with 2");
        await RefuseAsync(With(whole, 40, 3), "damaged record");
        // Blocks that are whole: the snapshot is cut between two frames, or is not there.
        (ulong segment, byte[] frames) = SnapshotOf(whole, out int snapshotBytes, out int lastFrame);
        await RefuseAsync(Rebuild(whole, segment, frames[..lastFrame]), "ends inside a snapshot");
        await RefuseAsync(Rebuild(whole, segment, [.. frames[..lastFrame], .. whole[(LogExport.HeaderBytes + 16 + snapshotBytes)..]]), "");
        await RefuseAsync([.. whole[..LogExport.HeaderBytes], .. whole[(LogExport.HeaderBytes + 16 + snapshotBytes)..]], "");
        Assert.True(device.AsSpan().SequenceEqual(File.ReadAllBytes(_device).AsSpan(0, device.Length)));

        File.WriteAllBytes(_export, whole);
        Assert.Contains("23 directories beside the root", await ImportAsync(0), StringComparison.Ordinal);
    }

    /// <summary>The block of the snapshot, where its last frame begins, and its bytes.</summary>
    private (ulong Segment, byte[] Frames) SnapshotOf(byte[] file, out int bytes, out int lastFrame)
    {
        using MemoryStream stream = new(file);
        (Guid fileSystem, _, ulong generation) = LogExport.ReadHeader(stream, _export);
        (ulong segment, byte[] frames) = LogExport.ReadBlock(stream, fileSystem, generation, _export)!.Value;
        lastFrame = 0;
        for (int at = 0; at < frames.Length;)
        {
            RecordFrame frame = RecordFrame.ReadVerified(frames.AsSpan(at));
            Assert.True(frame.Flags.HasFlag(FrameFlags.Snapshot));
            lastFrame = at;
            at += frame.PaddedBytes;
        }
        bytes = frames.Length;
        return (segment, frames);
    }

    private static byte[] Rebuild(byte[] file, ulong segment, byte[] frames)
    {
        using MemoryStream stream = new();
        stream.Write(file, 0, LogExport.HeaderBytes);
        LogExport.WriteBlock(stream, segment, frames);
        LogExport.WriteEnd(stream);
        return stream.ToArray();
    }

    private static byte[] With(byte[] file, int at, byte value)
    {
        byte[] changed = [.. file];
        changed[at] = value;
        return changed;
    }

    private static (uint Version, ulong First, ulong Generation) HeaderOf(byte[] file) =>
        (BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(8)), BinaryPrimitives.ReadUInt64LittleEndian(file.AsSpan(32)), BinaryPrimitives.ReadUInt64LittleEndian(file.AsSpan(40)));

    private async Task RefuseAsync(byte[] file, string why)
    {
        File.WriteAllBytes(_export, file);
        string refused = await ImportAsync(2);
        Assert.Contains(_export, refused, StringComparison.Ordinal);
        Assert.Contains(why, refused, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', refused.Trim());
    }

    private Task<string> ImportAsync(int code) => RequireAsync(code, TimeProvider.System, "log", "import", "--force", _export, code == 0 ? Other() : _device, "--host-state", _directory);

    /// <summary>A device that has nothing: that of the test is the master's.</summary>
    private string Other()
    {
        string other = Path.Combine(_directory, "other");
        using FileStream file = File.Create(other);
        file.SetLength(1L << 30);
        return other;
    }

    private void MakeDirectories(int count)
    {
        for (int i = 0; i < count; i++, _next++)
            _master.Publish(RecordType.DirectoryMade, new DirectoryMade { Inode = _next, Parent = InodeNumber.Root.Value, Name = ByteString.CopyFromUtf8($"d{_next}"), Mode = 0x1ED });
    }

    private void Compact() =>
        Assert.True(_master.TryCompact(TestFormats.All.Open([DaxDevice.Open(_device)]), new HastyClock(), static least => Math.Max(least, 2 << 20), requests: RememberedRequests.None));

    private static async Task<string> RequireAsync(int code, TimeProvider clock, params string[] arguments)
    {
        using StringWriter output = new();
        ExitCode exit = await FamfsCommand.RunAsync(arguments, new() { Formats = TestFormats.All, Out = output, Error = output, Variable = _ => null, Clock = clock }, TestContext.Current.CancellationToken);
        Assert.True(code == (int)exit, $"{string.Join(' ', arguments)} exited with {(int)exit}: {output}");
        return output.ToString();
    }

    /// <summary>Calls <paramref name="look"/> with how often it was looked at.</summary>
    private sealed class HookedClock(Action<int> look) : TimeProvider
    {
        public int Looks { get; private set; }

        public override long GetTimestamp()
        {
            look(++Looks);
            return System.GetTimestamp();
        }
    }
}
