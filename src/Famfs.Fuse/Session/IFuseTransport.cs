using Famfs.Core.Interop;

namespace Famfs.Fuse.Session;

/// <summary>Carries whole messages between the kernel and this server. Calls return bytes, or a negative error
/// number. One transport is one descriptor, or an array in a test.</summary>
public interface IFuseTransport
{
    /// <summary>Waits for the next request.</summary>
    int Read(Span<byte> buffer);

    /// <summary>Sends a reply or a notification: <paramref name="head"/>, then what the pieces point to.</summary>
    int Write(ReadOnlySpan<byte> head, ReadOnlySpan<MemoryPiece> pieces);
}

/// <summary>A descriptor of /dev/fuse.</summary>
public sealed class DeviceTransport(FuseChannel channel) : IFuseTransport
{
    /// <inheritdoc/>
    public int Read(Span<byte> buffer) => channel.Read(buffer);

    /// <inheritdoc/>
    public int Write(ReadOnlySpan<byte> head, ReadOnlySpan<MemoryPiece> pieces) =>
        pieces.IsEmpty ? channel.Write(head) : channel.Write(head, pieces);
}
