using Famfs.V1;

namespace Famfs.Core.Format;

/// <summary>Takes records in the order in which they are to be read. One thread.</summary>
public interface IFrameSink
{
    /// <summary>Room for a payload of at most <paramref name="maxBytes"/>, which is at most <see cref="RecordFrame.MaxPayloadBytes"/>;
    /// follow with <see cref="Commit"/>.</summary>
    Span<byte> Reserve(int maxBytes);

    /// <summary>Ends the record whose payload was written into the room.</summary>
    void Commit(int payloadBytes, RecordType type, FrameFlags flags, LogSequence sequence, Term term);
}
