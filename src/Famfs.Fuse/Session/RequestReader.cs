using Famfs.Core.Dax;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Session;

/// <summary>What came of one attempt to read a request.</summary>
public enum ReadOutcome
{
    /// <summary>A message; its <see cref="ParseVerdict"/> says whether it is a request.</summary>
    Message,

    /// <summary>Nothing this time: interrupted, or the request was withdrawn while it was being read.</summary>
    Again,

    /// <summary>The connection is over: unmounted or aborted.</summary>
    Ended,

    /// <summary>An error that cannot be lived with.</summary>
    Broken,
}

/// <summary>Reads requests into one buffer that it owns. One thread.</summary>
public sealed class RequestReader : IDisposable
{
    // Header and fixed part of a WRITE fit in this, before its data.
    private const int HeadroomBytes = 4096;

    private readonly IFuseTransport _transport;
    private readonly OpcodeTable _opcodes;

    /// <summary>Makes a reader for a dialect's requests, whose buffer holds the largest WRITE agreed on.</summary>
    public RequestReader(IFuseTransport transport, OpcodeTable opcodes, int maxWriteBytes)
    {
        _transport = transport;
        _opcodes = opcodes;
        Buffer = new StagingBuffer(Math.Max(maxWriteBytes + HeadroomBytes, FuseConstants.FUSE_MIN_READ_BUFFER));
    }

    /// <summary>Where requests are read to; the data of a WRITE goes from there to its device.</summary>
    public StagingBuffer Buffer { get; }

    /// <summary>The error number of the last <see cref="ReadOutcome.Broken"/>.</summary>
    public Errno LastError { get; private set; }

    /// <summary>Waits for a message and checks it. The request points into this reader's buffer until the next call.</summary>
    public ReadOutcome Read(out FuseRequest request, out ParseVerdict verdict)
    {
        Span<byte> buffer = Buffer.Bytes;
        int count = _transport.Read(buffer);
        if (count >= 0)
        {
            verdict = FuseRequest.Parse(buffer[..count], _opcodes, out request);
            return ReadOutcome.Message;
        }
        request = default;
        verdict = ParseVerdict.NoHeader;
        LastError = (Errno)(-count);
        return LastError switch
        {
            // ENOENT: the asking program was killed between queue and read.
            Errno.EINTR or Errno.EAGAIN or Errno.ENOENT => ReadOutcome.Again,

            // ECONNABORTED is what ENODEV becomes with FUSE_ABORT_ERROR when someone aborted the connection.
            Errno.ENODEV or Errno.ECONNABORTED => ReadOutcome.Ended,
            _ => ReadOutcome.Broken,
        };
    }

    /// <inheritdoc/>
    public void Dispose() => Buffer.Dispose();
}
