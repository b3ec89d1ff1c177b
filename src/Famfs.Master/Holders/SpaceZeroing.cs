using System.Collections.Concurrent;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Log;
using Famfs.Master.Changes;
using Famfs.Master.Engine;
using Famfs.V1;

namespace Famfs.Master.Holders;

/// <summary>
/// Zeroes space on threads of its own: the engine's thread has a heartbeat to keep and others' requests to answer. That of new
/// files, in a format that promises zeros, is zeroed before a record names it; that of deleted ones before a record gives it back.
/// Only when the zeros are fenced is it said that they are there.
/// </summary>
/// <param name="pool">The devices.</param>
/// <param name="pace">Of removed files' space; null: as fast as the memory is.</param>
internal sealed class SpaceZeroing(DevicePool pool, ZeroingPace? pace = null) : ISpaceZeroing
{
    /// <summary>Bytes between two looks at whether to go on (chosen: some tens of milliseconds).</summary>
    private const long StepBytes = 64L << 20;

    /// <summary>The same for a whole device, which nobody waits for but its caller.</summary>
    private const long DeviceStepBytes = 1L << 30;

    /// <summary>Chosen: a small file does not wait for one large one, and memory is not any faster with more.</summary>
    private const int ThreadCount = 4;

    private readonly BlockingCollection<(NewSpace Space, Action Zeroed)> _waiting = [];
    private readonly List<Thread> _threads = [];

    // Set under the lock of _threads, read by the zeroing ones.
    private volatile bool _stopping;
    private readonly ManualResetEventSlim _over = new();

    /// <summary>Zeroes a whole device, which may take minutes. Ends early when cancelled.</summary>
    public static void ZeroDevice(DaxDevice device, CancellationToken cancel)
    {
        for (long at = 0; at < device.LengthBytes; at += DeviceStepBytes)
        {
            cancel.ThrowIfCancellationRequested();
            device.Zero(at, Math.Min(DeviceStepBytes, device.LengthBytes - at));
        }
        device.Fence();
    }

    /// <inheritdoc/>
    public void Start(NewSpace space, Action zeroed)
    {
        lock (_threads)
        {
            if (_stopping)
                throw new FamfsException(ErrorReason.NotMaster, "the master is stopping");
            while (_threads.Count < ThreadCount)
            {
                Thread thread = new(Run) { Name = "zeroing", IsBackground = true };
                _threads.Add(thread);
                thread.Start();
            }
            _waiting.Add((space, zeroed));
        }
    }

    /// <inheritdoc/>
    public void Stop()
    {
        lock (_threads)
        {
            if (_stopping)
                return;
            _stopping = true;
            _over.Set();
            _waiting.CompleteAdding();
        }
        foreach (Thread thread in _threads)
            thread.Join();
        _waiting.Dispose();
        _over.Dispose();
    }

    private void Run()
    {
        foreach ((NewSpace space, Action zeroed) in _waiting.GetConsumingEnumerable())
        {
            try
            {
                Zero(pool, space, () => _stopping, space.IsOfRemoved ? pace : null, _over);
            }
            catch (Exception error)
            {
                // Nothing names the space yet: this file fails, and nothing else.
                space.Failure = error as FamfsException ?? new FamfsException(ErrorReason.DeviceMissing, $"the space of the new file cannot be zeroed: {error.Message}", error);
            }
            zeroed();
        }
    }

    /// <summary>Zeroes space, and fences. Throws NOT_MASTER when it is to end before that.</summary>
    internal static void Zero(DevicePool pool, NewSpace space, Func<bool> isStopping, ZeroingPace? pace = null, ManualResetEventSlim? over = null)
    {
        long step = Math.Min(StepBytes, pace?.StepBytes ?? StepBytes);
        foreach (MapExtent extent in space.Extents)
        {
            DaxDevice device = pool.Require(extent.Device);
            for (long done = 0; done < extent.LengthBytes; done += step)
            {
                long bytes = Math.Min(step, extent.LengthBytes - done);
                if (pace is not null)
                    over!.Wait(pace.Reserve(bytes));
                if (isStopping())
                    throw new FamfsException(ErrorReason.NotMaster, "the master is stopping");
                device.Zero(extent.OffsetBytes + done, bytes);
            }
            // Before any record that names it can be stored, by another thread.
            device.Fence();
        }
    }
}
