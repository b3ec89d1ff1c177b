using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log.Native;
using Famfs.Master.Holders;
using Famfs.Master.State;
using Famfs.TestSupport;
using Famfs.V1;
using Xunit;

namespace Famfs.Master.Tests.Holders;

public sealed class GoneMountsTests : IDisposable
{
    private static readonly TimeSpan Lease = TimeSpan.FromSeconds(10);

    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-watch-").FullName;
    private readonly HostIdentity _host = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "test");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void Line_is_of_an_earlier_boot_only_when_one_of_another_boot_was_seen_to_move()
    {
        string path = Path.Combine(_directory, "0");
        using MasterState state = Format(path);
        SteppingClock clock = new();
        MountLineTable table = new(state.Pool);
        MountLine first = Line();
        MountLine second = Line();
        table.Write(0, first);
        table.Write(1, second);
        GoneMounts gone = new(state, clock);

        // Both have stood still for ever, and are seen one moment apart: when the first has been looked at for the
        // lease, the second has not yet.
        clock.Step = 1;
        Assert.Empty(gone.FindEarlierBoots(table.ReadInUse()));
        clock.Step = 0;
        clock.Now = clock.First + (long)(Lease.TotalSeconds * clock.TimestampFrequency);
        Assert.Empty(gone.FindEarlierBoots(table.ReadInUse()));

        table.Write(1, second with { Counter = 2 });
        Assert.Equal([first.Mount], gone.FindEarlierBoots(table.ReadInUse()).Select(end => end.Mount));
    }

    /// <summary>Two machines with one identity, or a mount that is stopped while another one of its boot is not: none of them is proved gone.</summary>
    [Theory]
    [InlineData(true, false, true)]
    [InlineData(false, true, false)]
    [InlineData(false, false, false)]
    public void A_line_that_moves_and_one_of_the_same_boot_or_of_another_host_are_not_of_an_earlier_boot(bool moves, bool sameBoot, bool sameHost)
    {
        using MasterState state = Format(Path.Combine(_directory, "0"));
        SteppingClock clock = new();
        MountLineTable table = new(state.Pool);
        MountLine line = Line();
        MountLine other = Line();
        if (sameBoot)
            other = other with { Boot = line.Boot };
        if (!sameBoot && !sameHost)
            other = other with { Host = Guid.NewGuid() };
        GoneMounts gone = new(state, clock);
        for (ulong counter = 1; counter <= 4; counter++)
        {
            if (moves || counter == 1)
                table.Write(0, line with { Counter = counter });
            table.Write(1, other with { Counter = counter });
            Assert.Empty(gone.FindEarlierBoots(table.ReadInUse()));
            clock.Now += (long)(Lease.TotalSeconds * clock.TimestampFrequency / 2);
        }
    }

    /// <summary>Of mounts of others, and by other evidence, it has no knowledge: an operator has.</summary>
    [Fact]
    public void A_host_is_believed_of_its_own_mounts_and_of_what_its_kernel_shows()
    {
        using MasterState state = Format(Path.Combine(_directory, "0"));
        MountRegistry mounts = new(state, new(state.Pool), TimeProvider.System);
        (Guid own, Guid foreign, Guid unknown) = (Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid());
        mounts.Subscribed(own, _host.Host, _host.Boot, "stock", "");
        mounts.Subscribed(foreign, Guid.NewGuid(), Guid.NewGuid(), "stock", "");
        foreach (GoneEvidence evidence in Enum.GetValues<GoneEvidence>())
        {
            List<OlderMount> said = [.. ((Guid[])[foreign, own, unknown]).Select(mount => new OlderMount { MountId = mount.ToByteString(), Evidence = evidence })];
            Guid[] believed = evidence is GoneEvidence.CleanUnmount or GoneEvidence.SuperblockGone ? [own] : [];
            Assert.Equal(believed, GoneMounts.Accept(_host.Host, said, mounts).Select(end => end.Mount));
        }
    }

    /// <summary>A damaged copy of an older boot's line leaves the copy before it. A mount of this boot that is stopped is alive.</summary>
    [Fact]
    public void A_damaged_line_of_an_earlier_boot_has_not_moved()
    {
        string path = Path.Combine(_directory, "0");
        using MasterState state = Format(path);
        SteppingClock clock = new();
        MountLineTable table = new(state.Pool);
        MountLine earlier = Line();
        MountLine stopped = Line();
        for (ulong counter = 1; counter <= 2; counter++)
        {
            table.Write(0, earlier with { Counter = counter });
            table.Write(1, stopped with { Counter = counter });
        }
        GoneMounts gone = new(state, clock);
        Assert.Empty(gone.FindEarlierBoots(table.ReadInUse()));
        clock.Now += (long)(Lease.TotalSeconds * clock.TimestampFrequency);
        state.Pool.PrimaryDevice.Write(((NativeSuperblock)state.Pool.Primary).HostTableOffset + MountLine.Size + 40, [1, 2, 3]);
        Assert.Equal(1UL, table.ReadInUse()[0].Line!.Counter);
        Assert.Empty(gone.FindEarlierBoots(table.ReadInUse()));
        table.Write(0, earlier with { Counter = 3 });
        Assert.Equal([stopped.Mount], gone.FindEarlierBoots(table.ReadInUse()).Select(end => end.Mount));
    }

    private MasterState Format(string path)
    {
        using (FileStream file = File.Create(path))
            file.SetLength(16 << 20);
        using (DaxDevice device = DaxDevice.Open(path))
            NativeFormatter.Format([device], new() { Host = _host.Host, Clock = TimeProvider.System });
        return new(TestFormats.All.Open([DaxDevice.Open(path)]), TimeProvider.System, new Random(1));
    }

    private MountLine Line() => new() { Counter = 1, State = MountState.Live, Host = _host.Host, Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };

    /// <summary>Steps at each look.</summary>
    private sealed class SteppingClock : TimeProvider
    {
        public long Now { get; set; } = 1000;

        public long Step { get; set; }

        public long First { get; private set; }

        public override long GetTimestamp()
        {
            Now += Step;
            if (Step > 0 && First == 0)
                First = Now;
            return Now;
        }
    }
}
