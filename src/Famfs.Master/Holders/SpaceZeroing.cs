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
internal sealed class SpaceZeroing(DevicePool pool) : ISpaceZeroing
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
    /// <remarks>Where it was reached through a mount: the kernel may have nothing else there when a file gets this space.</remarks>
    public void LetGo(MapExtent extent) => pool.Find(extent.Device)?.LetGo(extent.OffsetBytes, extent.LengthBytes);

    /// <inheritdoc/>
    public void Stop()
    {
        lock (_threads)
        {
            if (_stopping)
                return;
            _stopping = true;
            _waiting.CompleteAdding();
        }
        foreach (Thread thread in _threads)
            thread.Join();
        _waiting.Dispose();
    }

    private void Run()
    {
        foreach ((NewSpace space, Action zeroed) in _waiting.GetConsumingEnumerable())
        {
            try
            {
                Zero(pool, space, () => _stopping);
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
    internal static void Zero(DevicePool pool, NewSpace space, Func<bool> isStopping)
    {
        foreach (MapExtent extent in space.Extents)
        {
            DaxDevice device = pool.Require(extent.Device);
            for (long done = 0; done < extent.LengthBytes; done += StepBytes)
            {
                if (isStopping())
                    throw new FamfsException(ErrorReason.NotMaster, "the master is stopping");
                device.Zero(extent.OffsetBytes + done, Math.Min(StepBytes, extent.LengthBytes - done));
            }
            // Before any record that names it can be stored, by another thread.
            device.Fence();
        }
    }
}
