using System.Runtime.CompilerServices;

namespace Grpc.Core;

/// <summary>A stream of incoming messages. One read at a time.</summary>
/// <typeparam name="T">Message type.</typeparam>
public interface IAsyncStreamReader<out T>
{
    /// <summary>The message the last successful <see cref="MoveNext"/> reached.</summary>
    T Current { get; }

    /// <summary>Advances to the next message; false at the end of the stream.</summary>
    Task<bool> MoveNext(CancellationToken cancellationToken);
}

/// <summary>A stream of outgoing messages. One write at a time.</summary>
/// <typeparam name="T">Message type.</typeparam>
public interface IAsyncStreamWriter<in T>
{
    /// <summary>Flags of the next writes; null means none.</summary>
    WriteOptions? WriteOptions { get; set; }

    /// <summary>Writes one message. With <see cref="WriteFlags.BufferHint"/> it may stay in a buffer until a later write, read or the end.</summary>
    Task WriteAsync(T message);

    /// <summary>Writes one message; a token that fires during the write ends the call.</summary>
    Task WriteAsync(T message, CancellationToken cancellationToken)
    {
        if (cancellationToken.CanBeCanceled)
        {
            throw new NotSupportedException("This stream writer takes no cancellation token.");
        }

        return WriteAsync(message);
    }
}

/// <summary>Outgoing messages of a server.</summary>
/// <typeparam name="T">Message type.</typeparam>
public interface IServerStreamWriter<in T> : IAsyncStreamWriter<T>
{
}

/// <summary>Outgoing messages of a client.</summary>
/// <typeparam name="T">Message type.</typeparam>
public interface IClientStreamWriter<in T> : IAsyncStreamWriter<T>
{
    /// <summary>Ends the stream of requests; the call goes on until the server ends it.</summary>
    Task CompleteAsync();
}

/// <summary>Flags of a write.</summary>
[Flags]
public enum WriteFlags
{
    /// <summary>More messages follow soon: this one need not be flushed by itself.</summary>
    BufferHint = 0x1,

    /// <summary>Send uncompressed; nothing is ever compressed here.</summary>
    NoCompress = 0x2,
}

/// <summary>How messages are written.</summary>
public class WriteOptions
{
    /// <summary>No flags.</summary>
    public static readonly WriteOptions Default = new();

    /// <summary>Options with those flags.</summary>
    public WriteOptions(WriteFlags flags = default)
    {
        Flags = flags;
    }

    /// <summary>The flags.</summary>
    public WriteFlags Flags { get; }
}

/// <summary>Conveniences over stream readers.</summary>
public static class AsyncStreamReaderExtensions
{
    /// <summary>Advances without a token.</summary>
    public static Task<bool> MoveNext<T>(this IAsyncStreamReader<T> streamReader)
        where T : class
    {
        ArgumentNullException.ThrowIfNull(streamReader);
        return streamReader.MoveNext(CancellationToken.None);
    }

    /// <summary>All remaining messages, for <c>await foreach</c>.</summary>
    public static async IAsyncEnumerable<T> ReadAllAsync<T>(
        this IAsyncStreamReader<T> streamReader,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(streamReader);
        while (await streamReader.MoveNext(cancellationToken).ConfigureAwait(false))
        {
            yield return streamReader.Current;
        }
    }
}
