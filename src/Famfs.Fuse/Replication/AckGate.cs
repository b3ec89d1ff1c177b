using Famfs.Core;

namespace Famfs.Fuse.Replication;

/// <summary>Is told each position that may be acknowledged. Called under the gate's lock; neither blocks nor throws.</summary>
internal interface IAcknowledgements
{
    void Acknowledge(LogPosition position);
}

/// <summary>
/// Up to where this mount has followed the log: applied, then told to the kernel (<see cref="Notified"/>), then good to be
/// acknowledged (<see cref="Acknowledged"/>). The last two differ only while a device that a record brought has not been
/// looked for: who is told that this mount has a file may use it.
/// <para>Any thread. Its lock is held for a few instructions and an <see cref="IAcknowledgements"/>, and nothing is
/// called under it that takes another of this program.</para>
/// </summary>
internal sealed class AckGate(LogPosition start)
{
    private readonly Lock _gate = new(); // guards the block below
    private readonly Queue<LogPosition> _applied = new(); // not yet told to the kernel
    private LogSequence _lastApplied = start.Sequence;
    private ulong _heldAfter = ulong.MaxValue; // last sequence that may be acknowledged meanwhile
    private ulong _joinedAfter; // the newest device joined after this one
    private IAcknowledgements? _listener;

    // Written under _gate, read anywhere.
    private volatile PositionBox _notified = new(start);
    private volatile PositionBox _acknowledged = new(start);

    /// <summary>Last record that the kernel was told of.</summary>
    public LogPosition Notified => _notified.Value;

    /// <summary>Last record that a master may be told of, by whatever way.</summary>
    public LogPosition Acknowledged => _acknowledged.Value;

    /// <summary>Where acknowledgements go from now on.</summary>
    public void SendTo(IAcknowledgements listener)
    {
        lock (_gate)
            _listener = listener;
    }

    /// <summary>Records up to <paramref name="position"/> are in the tree. <paramref name="told"/>: there is no kernel
    /// that would have to be told.</summary>
    public void Applied(LogPosition position, bool told)
    {
        lock (_gate)
        {
            _lastApplied = position.Sequence;
            if (told)
                Move(position);
            else
                _applied.Enqueue(position);
        }
    }

    /// <summary>The kernel was told of everything up to <paramref name="sequence"/>.</summary>
    public void Told(LogSequence sequence)
    {
        lock (_gate)
        {
            LogPosition last = default;
            while (_applied.TryPeek(out LogPosition next) && next.Sequence.Value <= sequence.Value)
                last = _applied.Dequeue();
            if (last.Sequence.Value != 0)
                Move(last);
        }
    }

    /// <summary>A record that is being applied brings a device.</summary>
    public void DeviceJoins()
    {
        lock (_gate)
        {
            _joinedAfter = _lastApplied.Value;
            _heldAfter = Math.Min(_heldAfter, _joinedAfter);
        }
    }

    /// <summary>The devices that records up to <paramref name="position"/> name were looked for, found or not.</summary>
    public void DevicesLookedFor(LogPosition position)
    {
        lock (_gate)
        {
            if (_heldAfter == ulong.MaxValue || position.Sequence.Value <= _joinedAfter)
                return;
            _heldAfter = ulong.MaxValue;
            Acknowledge(Notified);
        }
    }

    private void Move(LogPosition position)
    {
        _notified = new(position);
        if (position.Sequence.Value <= _heldAfter)
            Acknowledge(position);
    }

    private void Acknowledge(LogPosition position)
    {
        _acknowledged = new(position);
        _listener?.Acknowledge(position);
    }

    /// <summary>A position read as one reference.</summary>
    private sealed record PositionBox(LogPosition Value);
}
