using System.Collections.Concurrent;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Log;
using Famfs.V1;

namespace Famfs.Master;

/// <summary>Space that a new file has got in memory only: no record names it, so a crash leaves it free.</summary>
/// <param name="Owner">The request that it was allocated for.</param>
/// <param name="RequestId">Its request id, which equal requests wait by; empty: none do.</param>
/// <param name="Extents">Where.</param>
/// <param name="ChunkBytes">Chunk of the layout, 0 for simple extents.</param>
internal sealed record NewSpace(object Owner, Guid RequestId, IReadOnlyList<MapExtent> Extents, long ChunkBytes)
{
    /// <summary>Why it could not be zeroed, or null. Written by the zeroing thread before it gives the operation back.</summary>
    public FamfsException? Failure { get; set; }

    /// <summary>A record names it. Engine's thread.</summary>
    public bool Used { get; set; }
}

/// <summary>
/// Zeroes the space of new files in a format that promises zeros, on threads of its own: the engine's thread has a
/// heartbeat to keep and others' requests to answer. An operation that needs zeroed space comes here with it and goes
/// back to the engine's queue when the zeros are fenced; only then is a record published that names the space.
/// </summary>
internal sealed class SpaceZeroing
{
    /// <summary>Bytes between two looks at whether to go on (chosen: some tens of milliseconds).</summary>
    private const long StepBytes = 64L << 20;

    /// <summary>Chosen: a small file does not wait for one large one, and memory is not any faster with more.</summary>
    private const int ThreadCount = 4;

    private readonly DevicePool _pool;
    private readonly Action<EngineOperation> _giveBack;
    private readonly BlockingCollection<EngineOperation> _waiting = [];
    private readonly List<Thread> _threads = [];

    // Set by the engine's thread, read by the zeroing ones.
    private volatile bool _stopping;

    /// <summary><paramref name="giveBack"/> takes each operation when its space is zeroed or could not be; it may wait.</summary>
    public SpaceZeroing(DevicePool pool, Action<EngineOperation> giveBack)
    {
        _pool = pool;
        _giveBack = giveBack;
    }

    /// <summary>Takes an operation whose <see cref="EngineOperation.Space"/> is to be zeroed. Engine's thread.</summary>
    public void Start(EngineOperation operation)
    {
        while (_threads.Count < ThreadCount)
        {
            Thread thread = new(Run) { Name = "zeroing", IsBackground = true };
            _threads.Add(thread);
            thread.Start();
        }
        _waiting.Add(operation);
    }

    /// <summary>Ends: what is not zeroed by the end of a step is given back as failed. Engine's thread.</summary>
    public void Stop()
    {
        _stopping = true;
        _waiting.CompleteAdding();
        foreach (Thread thread in _threads)
            thread.Join();
        _waiting.Dispose();
    }

    private void Run()
    {
        foreach (EngineOperation operation in _waiting.GetConsumingEnumerable())
        {
            NewSpace space = operation.Space!;
            try
            {
                Zero(space);
            }
            catch (Exception error)
            {
                // Nothing names the space yet: this file fails, and nothing else.
                space.Failure = error as FamfsException ?? new FamfsException(ErrorReason.DeviceMissing, $"the space of the new file cannot be zeroed: {error.Message}", error);
            }
            _giveBack(operation);
        }
    }

    private void Zero(NewSpace space)
    {
        foreach (MapExtent extent in space.Extents)
        {
            DaxDevice device = _pool.Require(extent.Device);
            for (long done = 0; done < extent.LengthBytes; done += StepBytes)
            {
                if (_stopping)
                    throw new FamfsException(ErrorReason.NotMaster, "the master is stopping");
                device.Zero(extent.OffsetBytes + done, Math.Min(StepBytes, extent.LengthBytes - done));
            }
            // Before any record that names it can be stored, by another thread.
            device.Fence();
        }
    }
}

/// <summary>The operation goes on when its space is zeroed, or when an equal request has had its turn; it has changed
/// nothing since its last record.</summary>
internal sealed class NeedsZeroingException(NewSpace? space, Guid waitFor = default) : Exception
{
    /// <summary>What is to be zeroed; null: wait for <see cref="WaitFor"/>.</summary>
    public NewSpace? Space { get; } = space;

    /// <summary>Request id of the operation that is waited for.</summary>
    public Guid WaitFor { get; } = waitFor;
}
