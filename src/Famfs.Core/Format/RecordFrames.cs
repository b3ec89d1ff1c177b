namespace Famfs.Core.Format;

/// <summary>Whole frames one after another, whose checksums have been verified before: those of a
/// <see cref="Log.LogBlock"/>, of a batch. For <c>foreach</c>.</summary>
/// <param name="frames">The frames, padding included.</param>
public ref struct RecordFrames(ReadOnlySpan<byte> frames)
{
    private ReadOnlySpan<byte> _rest = frames;

    /// <summary>The frame that the enumeration has reached.</summary>
    public RecordFrame Current { get; private set; }

    /// <summary>Itself.</summary>
    public readonly RecordFrames GetEnumerator() => this;

    /// <summary>Goes to the next frame; false at the end.</summary>
    public bool MoveNext()
    {
        if (_rest.IsEmpty)
            return false;
        Current = RecordFrame.ReadVerified(_rest);
        _rest = _rest[Current.PaddedBytes..];
        return true;
    }
}
