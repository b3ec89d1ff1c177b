using Famfs.V1;

namespace Famfs.Core.Format;

/// <summary>Positions in a log as the messages of the gRPC service have them.</summary>
public static class LogPositions
{
    /// <summary>The position as a message.</summary>
    public static Position ToMessage(this LogPosition position) => new()
    {
        FileSystemUuid = position.FileSystem.ToByteString(),
        Generation = position.Generation,
        Sequence = position.Sequence.Value,
        Term = position.Term.Value,
    };
}
