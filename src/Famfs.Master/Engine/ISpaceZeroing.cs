using Famfs.Core;
using Famfs.Master.Changes;

namespace Famfs.Master.Engine;

/// <summary>Where space is zeroed while the engine goes on.</summary>
internal interface ISpaceZeroing
{
    /// <summary>Takes space; calls <paramref name="zeroed"/> on a thread of its own when it is zeroed, or could not be
    /// (<see cref="NewSpace.Failure"/>). That call may wait. Throws NOT_MASTER after <see cref="Stop"/>. Any thread.</summary>
    void Start(NewSpace space, Action zeroed);

    /// <summary>Space that was zeroed is about to be given back: nothing of this process is there any more. No thread of
    /// this object uses it.</summary>
    void LetGo(MapExtent extent);

    /// <summary>Ends, and waits for its threads; what is not zeroed soon has failed. When it returns nothing is stored any more. The
    /// engine's thread.</summary>
    void Stop();
}
