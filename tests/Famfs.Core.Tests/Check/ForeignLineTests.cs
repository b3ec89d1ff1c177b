using Famfs.Core.Check;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Check;

public sealed class ForeignLineTests
{
    [Fact]
    public void A_line_of_a_forgotten_host_in_anothers_block_is_reported_and_what_was_there_before_is_not()
    {
        const int Entry = MediaLayout.EntriesPerHost;
        FakeSharedMemory memory = new(64L << 20, seed: 1) { AccidentOneIn = 0 };
        (Guid host, Guid former, Guid owner) = (Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid());
        NativeFormatter.Format([memory.Attach("a")], new() { Host = host, Clock = TimeProvider.System });
        using DevicePool pool = TestFormats.All.Open([memory.Attach("b")]);
        MountLineTable table = new(pool);
        TestMaster master = TestMaster.Start(pool, 0, host);
        master.Publish(RecordType.HostRegistered, new HostRegistered { HostId = former.ToByteString(), HostSlot = 1 });
        MountLine line = new() { Counter = 1, State = MountState.Ended, Host = former, Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };
        table.Write(Entry, line);
        master.Publish(RecordType.HostForgotten, new HostForgotten { HostId = former.ToByteString(), HostSlot = 1, LineCounters = { 1, 0, 0, 0, 0, 0, 0, 0 }, LineMounts = { Enumerable.Range(0, MediaLayout.EntriesPerHost).Select(i => i == 0 ? line.Mount.ToByteString() : Google.Protobuf.ByteString.Empty) } });
        Assert.Empty(Findings());
        master.Publish(RecordType.HostRegistered, new HostRegistered { HostId = owner.ToByteString(), HostSlot = 1 });
        Assert.Empty(Findings());
        Assert.Equal(line.Mount.ToByteString(), Assert.Single(Mounts()).MountId);

        table.Write(Entry, line with { Counter = 2, State = MountState.Live });
        Finding finding = Assert.Single(Findings());
        Assert.Equal(("host-foreign", "host table entry 8", FindingSeverity.Error), (finding.Code, finding.Where, finding.Severity));
        Assert.Contains($"of host {former}, which was forgotten, in the block of host {owner}", finding.What, StringComparison.Ordinal);
        HostStatus unknown = Assert.Single(Mounts());
        Assert.Equal((true, HostState.Silent), (unknown.MountId.IsEmpty, unknown.State));
        Assert.Contains($"(line 8 is of a forgotten host, {former}, and may hide one of host {owner})", unknown.Name, StringComparison.Ordinal);

        table.Write(Entry, line with { Counter = 3, Host = owner });
        Assert.Empty(Findings());

        IEnumerable<Finding> Findings() => FileSystemCheck.Run(pool, new HastyClock(), _ => { }).Findings.Where(f => f.Code.StartsWith("host-", StringComparison.Ordinal) && f.Code != "host-copy");

        IEnumerable<HostStatus> Mounts() => MountsInMemory.Read(pool, _ => "", TimeProvider.System, TimeSpan.Zero).Hosts;
    }
}
