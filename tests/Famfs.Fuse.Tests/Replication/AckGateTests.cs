using Famfs.Core;
using Famfs.Fuse.Replication;
using Xunit;

namespace Famfs.Fuse.Tests.Replication;

/// <summary>What may be acknowledged, without threads, a kernel or a master.</summary>
public sealed class AckGateTests
{
    private static readonly Guid FileSystem = Guid.NewGuid();
    private readonly AckGate _gate = new(At(0));
    private readonly Heard _heard = new();

    public AckGateTests() => _gate.SendTo(_heard);

    [Fact]
    public void Without_a_kernel_what_is_applied_is_told_and_acknowledged()
    {
        _gate.Applied(At(5), told: true);
        Require(5, 5, 5);
    }

    [Fact]
    public void What_is_applied_is_acknowledged_once_the_kernel_was_told()
    {
        _gate.Applied(At(1), told: false);
        _gate.Applied(At(4), told: false);
        _gate.Applied(At(9), told: false);
        Require(0, 0);
        _gate.Told(new LogSequence(3)); // inside the second block, which counts as a whole
        Require(1, 1, 1);
        _gate.Told(new LogSequence(9));
        Require(9, 9, 1, 9);
        _gate.Told(new LogSequence(9));
        Require(9, 9, 1, 9);
    }

    [Fact]
    public void A_device_that_joins_holds_what_follows_until_it_was_looked_for()
    {
        _gate.Applied(At(1), told: false);
        _gate.DeviceJoins(); // in a record of the next block
        _gate.Applied(At(3), told: false);
        _gate.Told(new LogSequence(3));
        Require(3, 0);
        _gate.DevicesLookedFor(At(1)); // began before it joined
        Require(3, 0);
        _gate.DevicesLookedFor(At(3));
        Require(3, 3, 3);
        _gate.DevicesLookedFor(At(3));
        Require(3, 3, 3);
    }

    [Fact]
    public void What_came_before_a_device_is_not_held_by_it()
    {
        _gate.Applied(At(1), told: false);
        _gate.DeviceJoins();
        _gate.Applied(At(2), told: false);
        _gate.Told(new LogSequence(1));
        Require(1, 1, 1);
        _gate.Told(new LogSequence(2));
        Require(2, 1, 1);
    }

    [Fact]
    public void A_second_device_is_looked_for_too()
    {
        _gate.DeviceJoins();
        _gate.Applied(At(1), told: false);
        _gate.DeviceJoins();
        _gate.Applied(At(2), told: false);
        _gate.Told(new LogSequence(2));
        _gate.DevicesLookedFor(At(1));
        Require(2, 0);
        _gate.DevicesLookedFor(At(2));
        Require(2, 2, 2);
    }

    private static LogPosition At(ulong sequence) => new(FileSystem, 1, new LogSequence(sequence), new Term(64));

    private void Require(ulong notified, ulong acknowledged, params ulong[] heard)
    {
        Assert.Equal((notified, acknowledged), (_gate.Notified.Sequence.Value, _gate.Acknowledged.Sequence.Value));
        Assert.Equal(heard, _heard.Sequences);
    }

    private sealed class Heard : IAcknowledgements
    {
        public List<ulong> Sequences { get; } = [];

        public void Acknowledge(LogPosition position) => Sequences.Add(position.Sequence.Value);
    }
}
