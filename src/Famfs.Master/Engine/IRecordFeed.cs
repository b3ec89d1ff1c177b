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

    /// <summary>The engine has ended, and why.</summary>
    void End(Exception error);
}
