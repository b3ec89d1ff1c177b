using Famfs.Core;
using Famfs.Core.Log;

namespace Famfs.Master.Engine;

/// <summary>Where the engine brings what may be shown. Its thread calls; it must not wait.</summary>
internal interface IRecordFeed
{
    /// <summary>A batch is published and checked. Its bytes are valid during the call.</summary>
    /// <param name="batch">The frames.</param>
    /// <param name="position">Position of the last.</param>
    /// <param name="segmentId">The segment that they are in.</param>
    /// <param name="tail">Log offset after them, bytes.</param>
    void Publish(RecordBatch batch, LogPosition position, ulong segmentId, long tail);

    /// <summary>The log goes on in another generation, at offset <paramref name="tail"/> of it.</summary>
    /// <param name="position">Position of the last record, in that generation.</param>
    /// <param name="tail">Log offset after it.</param>
    /// <param name="snapshotLast">The last record that its snapshot stands for.</param>
    /// <param name="snapshotEnd">Log offset after the snapshot.</param>
    void Entered(LogPosition position, long tail, LogPosition snapshotLast, long snapshotEnd);

    /// <summary>The engine has ended, and why.</summary>
    void End(Exception error);
}
