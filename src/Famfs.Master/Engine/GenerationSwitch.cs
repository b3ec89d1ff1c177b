using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Master.Changes;
using Famfs.V1;

namespace Famfs.Master.Engine;

/// <summary>The end of a compaction, on the engine's thread: the record that says so, which ends its batch, then the last records are
/// copied, and the log goes on in the other generation.</summary>
/// <param name="next">The other generation, which then is nobody else's.</param>
/// <param name="reader">Reads the records that it does not have; nobody else's either.</param>
/// <param name="clock">For the time of the record.</param>
internal sealed class GenerationSwitch(INextGeneration next, ILogReader reader, TimeProvider clock) : EngineOperation(Caller.Master)
{
    /// <summary>Bytes that are left when it is entered: the log needs them to reserve the next segment.</summary>
    public const long MarginBytes = 4L * ChangeContext.ReservationMargin;

    private const int PayloadBytes = 64;

    private readonly TaskCompletionSource<LogPosition> _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private FamfsException? _failure;
    private LogPosition _position;

    /// <summary>The position of the record, in the other generation.</summary>
    public Task<LogPosition> Task => _completion.Task;

    /// <summary>The other generation.</summary>
    public INextGeneration Next => next;

    /// <summary>Records that it has copied.</summary>
    public long Copied { get; private set; }

    /// <summary>Bytes of the log before and after. Of the engine's thread until it is complete.</summary>
    public (long Before, long After) LogBytes { get; set; }

    /// <summary>Segments that are deleted after it, and their bytes. Of the engine's thread until it is complete.</summary>
    public (int Count, long Bytes) Freed { get; set; }

    /// <summary>The record is in the batch.</summary>
    public bool IsRecorded { get; private set; }

    /// <inheritdoc/>
    public override void GiveUp(ChangeContext context, FamfsException error) => Complete(error);

    /// <summary>Records that were read and had no room in it; null: none.</summary>
    public LogBlock? Left { get; private set; }

    /// <summary>Copies the records up to <paramref name="last"/>, which are published and checked. False: that fails, and the log stays
    /// where it is.</summary>
    public bool TryCatchUp(LogPosition last)
    {
        try
        {
            while (reader.Position.Sequence.Value < last.Sequence.Value)
            {
                if (reader.Poll(out LogBlock block) != PollVerdict.Records)
                    throw new FamfsException(ErrorReason.MediaCorrupt, $"the log in memory cannot be read after {reader.Position}: it stays in generation {last.Generation}");
                if (next.RemainingBytes < block.Frames.Length + MarginBytes)
                {
                    Left = block;
                    throw new FamfsException(ErrorReason.Overloaded, $"records come faster than they are copied to generation {next.Generation}: the log stays in generation {last.Generation}");
                }
                next.Add(block);
                Copied += block.Count;
            }
            next.Complete();
            _position = last with { Generation = next.Generation };
            return true;
        }
        catch (FamfsException error)
        {
            _failure = error;
            return false;
        }
    }

    protected override Verdict Decide(ChangeContext context)
    {
        if (!context.HasRoom(1, PayloadBytes, out Verdict verdict))
            return verdict;
        context.Append(RecordType.GenerationChanged, new GenerationChanged
        {
            TimeNs = clock.GetUtcNow().ToUnixTimeMilliseconds() * 1_000_000,
            NewGeneration = next.Generation,
            SnapshotSequence = next.SnapshotLast.Next.Value,
        });
        IsRecorded = true;
        return new(VerdictKind.Last);
    }

    protected override void Answer(Exception? error)
    {
        if (error is null && _failure is null)
            _completion.TrySetResult(_position);
        else
            _completion.TrySetException(error ?? _failure!);
    }
}
