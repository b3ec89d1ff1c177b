using System.Globalization;
using System.Numerics;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.TestSupport;
using Famfs.V1;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>Real programs on memory of which one line was damaged, or the end was lost (SAFETY S24–S26).</summary>
public sealed class LineDamageTests
{
    private const int Files = 100;
    private const int TailWord = 128;
    private const ulong OffsetMask = (1ul << 48) - 1;

    /// <summary>The bits of the tag and of the offset that a stale or flipped tail may have; the word as zeros and ones.</summary>
    [Theory]
    [InlineData("bit 48")]
    [InlineData("lower")]
    [InlineData("zeros")]
    [InlineData("ones")]
    [InlineData("stale")]
    public async Task A_damaged_tail_word_of_a_killed_master_loses_no_file(string damage)
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 8L << 30);
        ulong stale = 0;
        for (int term = 0; term < 2; term++)
        {
            (ServerProcess master, string address) = cluster.StartMaster("a");
            await CreateAsync(address, $"t{term}-");
            stale = term == 0 ? ReadTail(cluster) : stale;
            master.Signal("KILL");
            master.AwaitExit();
        }
        ulong sound = ReadTail(cluster);
        WriteTail(cluster, damage switch
        {
            "zeros" => 0,
            "ones" => ulong.MaxValue,
            "stale" => stale,
            // The highest bit of the offset: everything before it is a smaller one.
            "lower" => sound & ~(1ul << BitOperations.Log2(sound & OffsetMask)),
            _ => sound ^ (1ul << int.Parse(damage[4..], CultureInfo.InvariantCulture)),
        });

        // Whoever looks says it, although the files that it sees are fewer.
        Assert.NotEmpty(cluster.Check().Findings);
        (ServerProcess next, string there) = cluster.StartMaster("a");
        Assert.Equal(2 * Files, await CountAsync(there));
        next.Signal("TERM");
        Assert.Equal(0, next.AwaitExit());
        CheckResult after = cluster.Check();
        Assert.Empty(after.Findings);
        Assert.Equal(2 * Files, after.Files);
        // The term says that it went on behind what no tail covered.
        Assert.Contains("adopted", cluster.Famfs(["log", "dump", .. cluster.Devices]), StringComparison.OrdinalIgnoreCase);
    }

    /// <summary>Nobody but a repair may say where such a log ends: below the tail everything was acknowledged.</summary>
    [Fact]
    public async Task A_tail_word_that_is_too_high_stops_a_start_until_it_is_repaired_and_no_file_is_lost()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 8L << 30);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        await CreateAsync(address, "f");
        master.Signal("KILL");
        master.AwaitExit();
        WriteTail(cluster, ReadTail(cluster) + 8192);
        Assert.Contains("log-end", cluster.Check().Findings.Select(f => f.Code));
        Assert.Contains("checksum is wrong", RunRefused(cluster), StringComparison.Ordinal);
        (int exit, string output) = cluster.TryFamfs(["check", "--repair", "--host-state", cluster.StateOf("a"), .. cluster.Devices]);
        Assert.True(exit == 1, $"{exit}: {output}");
        Assert.Contains("repaired log-end", output, StringComparison.Ordinal);
        string there = cluster.StartMaster("a").Address;
        Assert.Equal(Files, await CountAsync(there));
        await CreateAsync(there, "g");
    }

    [Fact]
    public async Task A_flipped_bit_of_an_active_copy_of_a_slots_first_term_loses_no_file()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 8L << 30);
        for (int term = 0; term < 2; term++)
        {
            (ServerProcess master, string address) = cluster.StartMaster("a");
            if (term == 0)
                cluster.Famfs("master-slot", "--master", address, "--host-state", cluster.StateOf("b"));
            await CreateAsync(address, $"a{term}-");
            master.Signal("KILL");
            master.AwaitExit();
        }
        (ServerProcess other, string elsewhere) = cluster.StartMaster("b");
        await CreateAsync(elsewhere, "b-");
        other.Signal("KILL");
        other.AwaitExit();

        // Its segment is in this line of the first copy.
        Flip(cluster, MediaLayout.AnchorOffset + MediaLayout.AnchorStride + 2048 + 300, 1);
        Assert.DoesNotContain(cluster.Check().Findings, f => f.Severity == FindingSeverity.Error);
        (ServerProcess next, string there) = cluster.StartMaster("a");
        Assert.Equal(3 * Files, await CountAsync(there));
        next.Signal("TERM");
        Assert.Equal(0, next.AwaitExit());
        Assert.Equal(3 * Files, cluster.Check().Files);
    }

    /// <summary>A living master's tick makes the tail right; nobody reports anything.</summary>
    [Fact]
    public async Task A_living_master_heals_its_tail()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 8L << 30);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        await CreateAsync(address, "f");
        ulong sound = ReadTail(cluster);
        WriteTail(cluster, 0);
        Cluster.Await("the right tail", () => ReadTail(cluster) == sound);
        await CreateAsync(address, "g");
        master.Signal("TERM");
        Assert.Equal(0, master.AwaitExit());
        Assert.Empty(cluster.Check().Findings);
    }

    /// <summary>A mount that follows the memory says that the tail is lost, serves read-only, and serves writes again when a
    /// master has started.</summary>
    [Fact]
    public async Task A_mount_whose_log_lost_its_tail_is_read_only_until_a_master_starts()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 8L << 30);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        (ServerProcess daemon, string mount) = cluster.Mount("b", address);
        await CreateAsync(address, "f");
        string file = Path.Combine(mount, $"f{Files - 1}");
        Cluster.Await("the files", () => File.Exists(file));
        master.Signal("KILL");
        master.AwaitExit();
        WriteTail(cluster, ReadTail(cluster) ^ (1ul << 48));
        daemon.Await("read-only from now on");
        Cluster.Await("the read-only mount", () => FamfsMount.Require(mount, out _).IsReadOnly);
        Assert.Contains("tail-lost", FamfsMount.Require(mount, out _).ReadDamage(), StringComparison.Ordinal);
        (int exit, string status) = cluster.TryFamfs("status", mount);
        Assert.True(exit == 6, status);
        Assert.Contains($"{mount} is read-only: ", status, StringComparison.Ordinal);
        Assert.Contains("tail-lost", status, StringComparison.Ordinal);
        Assert.Contains("live", cluster.Famfs("hosts", mount), StringComparison.Ordinal);
        Assert.True(File.Exists(file));
        Assert.Equal(30, Assert.ThrowsAny<IOException>(() => Write(file, 1)).HResult); // EROFS

        cluster.StartMasterAt("a", address);
        Cluster.Await("the writable mount", () => !FamfsMount.Require(mount, out _).IsReadOnly);
        Assert.Null(FamfsMount.Require(mount, out _).ReadDamage());
        Write(file, 2);
        Assert.Equal(2, File.ReadAllBytes(file)[0]);
        await CreateAsync(address, "g");
        Cluster.Await("new files", () => File.Exists(Path.Combine(mount, $"g{Files - 1}")));
        Assert.Equal(2 * Files, await CountAsync(address));
    }

    /// <summary>The end of the log is lost without a trace in the log, as in memory that was set back. The mounts know better.</summary>
    [Fact]
    public async Task A_start_over_lost_records_needs_each_mounts_name_and_the_mount_must_be_made_anew()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 8L << 30);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        (ServerProcess one, string first) = cluster.Mount("b", address);
        (ServerProcess two, string second) = cluster.Mount("c", address);
        await CreateAsync(address, "kept");
        byte[] before = ReadLog(cluster);
        await CreateAsync(address, "lost");
        foreach (string mount in (string[])[first, second])
            Cluster.Await("the files", () => File.Exists(Path.Combine(mount, $"lost{Files - 1}")));
        FileStream held = new(Path.Combine(first, "lost1"), FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        ulong end = (await StatusAsync(address)).Position.Sequence;
        Cluster.Await("both lines", () => Lines(cluster).Count(l => l.ReplayedSequence.Value >= end) == 2);
        master.Signal("KILL");
        master.AwaitExit();
        one.Signal("STOP");
        two.Signal("STOP");
        WriteLog(cluster, before);
        string[] mounts = [.. Lines(cluster).Where(l => l.ReplayedSequence.Value >= end).Select(l => $"{l.Mount}")];
        Assert.Equal(2, mounts.Length);

        (int exit, string check) = cluster.TryFamfs(["check", .. cluster.Devices]);
        Assert.Equal(4, exit);
        Assert.All(mounts, mount => Assert.Contains($"mount {mount}", check, StringComparison.Ordinal));
        foreach (string[] options in (string[][])[[], ["--accept-loss", mounts[0]], ["--accept-loss", $"{Guid.NewGuid()}"]])
        {
            ServerProcess refused = cluster.LaunchMaster("a", options).Process;
            Assert.Equal(1, refused.AwaitExit());
            Assert.Contains($"--accept-loss {(options.Contains(mounts[0]) ? mounts[1] : "")}", refused.Output, StringComparison.Ordinal);
        }
        Assert.Contains("is not the uuid of a mount", RunRefused(cluster, "--accept-loss", "b"), StringComparison.Ordinal);

        ServerProcess next = cluster.StartMasterAt("a", address, "--accept-loss", mounts[0], "--accept-loss", mounts[1]);
        Assert.Contains("must be made anew", next.Output, StringComparison.Ordinal);
        Assert.Equal(Files, await CountAsync(address));
        await CreateAsync(address, "new");

        // What was known as it was is refused, and shows no byte of a new file under an old name.
        one.Signal("CONT");
        one.Await("read-only from now on");
        Assert.Contains("not in the log any more", one.Output, StringComparison.Ordinal);
        Assert.Equal(116, Assert.ThrowsAny<IOException>(() => File.ReadAllBytes(Path.Combine(first, "lost0"))).HResult); // ESTALE
        using (held)
            Assert.Equal(116, Assert.ThrowsAny<IOException>(() => held.ReadByte()).HResult);
        one.Await("declared gone");
        two.Signal("CONT");
        two.Await("declared gone");
        cluster.Famfs("umount", first);
        string again = cluster.Mount("b", address).Path;
        Cluster.Await("what there is now", () => File.Exists(Path.Combine(again, $"new{Files - 1}")) && File.Exists(Path.Combine(again, "kept0")));
        Assert.False(File.Exists(Path.Combine(again, "lost0")));

        // It is recorded, so the next start asks no more.
        next.Signal("TERM");
        Assert.Equal(0, next.AwaitExit());
        cluster.StartMasterAt("a", address);
        Assert.Equal(2 * Files, await CountAsync(address));
    }

    private static string RunRefused(Cluster cluster, params string[] options)
    {
        ServerProcess refused = cluster.LaunchMaster("a", options).Process;
        Assert.Equal(1, refused.AwaitExit());
        return refused.Output;
    }

    private static async Task CreateAsync(string address, string prefix)
    {
        using FamfsClient client = Cluster.Connect(address);
        CreateFileRequest[] files = [.. Enumerable.Range(0, Files).Select(i => new CreateFileRequest { Path = $"{prefix}{i}", SizeBytes = 1 })];
        await foreach (CreateFileResult result in client.CreateFilesAsync(files, cancel: TestContext.Current.CancellationToken))
            Assert.NotNull(result.Reply);
    }

    private static async Task<int> CountAsync(string address)
    {
        using FamfsClient client = Cluster.Connect(address);
        int count = 0;
        await foreach (Famfs.V1.FileInfo _ in client.ListDirectoryAsync(new(), cancel: TestContext.Current.CancellationToken))
            count++;
        return count;
    }

    private static async Task<GetStatusReply> StatusAsync(string address)
    {
        using FamfsClient client = Cluster.Connect(address);
        return await client.GetStatusAsync(cancel: TestContext.Current.CancellationToken);
    }

    private static void Write(string path, byte value)
    {
        using FileStream file = new(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0);
        file.WriteByte(value);
    }

    private static List<MountLine> Lines(Cluster cluster)
    {
        using DevicePool pool = TestFormats.All.Open([DaxDevice.Open(cluster.Devices[0], readOnly: true)]);
        return [.. new MountLineTable(pool).ReadInUse().Select(e => e.Line).OfType<MountLine>().Where(l => l.State == MountState.Live)];
    }

    /// <summary>Anchors and the first segment.</summary>
    private static byte[] ReadLog(Cluster cluster)
    {
        using DaxDevice device = DaxDevice.Open(cluster.Devices[0], readOnly: true);
        byte[] bytes = new byte[Anchors + Segment(device).LengthBytes];
        device.Read(MediaLayout.AnchorOffset, bytes.AsSpan(0, Anchors));
        device.Read(Segment(device).Offset, bytes.AsSpan(Anchors));
        return bytes;
    }

    private static void WriteLog(Cluster cluster, byte[] bytes)
    {
        using DaxDevice device = DaxDevice.Open(cluster.Devices[0]);
        device.Write(MediaLayout.AnchorOffset, bytes.AsSpan(0, Anchors));
        device.Write(Segment(device).Offset, bytes.AsSpan(Anchors));
    }

    private const int Anchors = Term.SlotCount * MediaLayout.AnchorStride;

    private static (long Offset, long LengthBytes) Segment(DaxDevice device)
    {
        Assert.Equal(SuperblockVerdict.Good, NativeMedia.ReadSuperblock(device, out NativeSuperblock? superblock, out _));
        return (superblock!.FirstSegmentOffset, superblock.FirstSegmentLengthBytes);
    }

    private static ulong ReadTail(Cluster cluster)
    {
        using DaxDevice device = DaxDevice.Open(cluster.Devices[0], readOnly: true);
        return device.ReadWord(MediaLayout.AnchorOffset + TailWord);
    }

    private static void WriteTail(Cluster cluster, ulong word)
    {
        using DaxDevice device = DaxDevice.Open(cluster.Devices[0]);
        device.WriteWord(MediaLayout.AnchorOffset + TailWord, word);
    }

    private static void Flip(Cluster cluster, long offset, byte mask)
    {
        using DaxDevice device = DaxDevice.Open(cluster.Devices[0]);
        byte[] one = new byte[1];
        device.Read(offset, one);
        one[0] ^= mask;
        device.Write(offset, one);
    }
}
