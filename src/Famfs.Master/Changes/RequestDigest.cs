using Famfs.Core.Format;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Master.Changes;

/// <summary>
/// Digest of what a request asks for, so that a repeated id with other content is noticed: the first 8 bytes
/// of SHA-256 over the request's protobuf bytes without its id and its wait. Recorded, so it stays the same
/// for the life of the format.
/// </summary>
internal static class RequestDigest
{
    private const int StackBytes = 1024;

    // Of many files: without a copy.
    public static ulong Of(CreateFileRequest request)
    {
        ByteString id = request.RequestId;
        Wait? wait = request.Wait;
        request.RequestId = ByteString.Empty;
        request.Wait = null;
        ulong digest = Compute(request, 1);
        request.RequestId = id;
        request.Wait = wait;
        return digest;
    }

    public static ulong Of(MakeDirectoryRequest request) => OfContent(request, 2, static r => (r.RequestId, r.Wait) = (ByteString.Empty, null));

    public static ulong Of(AddDeviceRequest request) => OfContent(request, 3, static r => r.RequestId = ByteString.Empty);

    public static ulong Of(GrantMasterSlotRequest request) => OfContent(request, 4, static r => r.RequestId = ByteString.Empty);

    public static ulong Of(SetAttributesRequest request) => OfContent(request, 5, static r => (r.RequestId, r.Wait) = (ByteString.Empty, null));

    public static ulong Of(RemoveRequest request) => OfContent(request, 6, static r => (r.RequestId, r.Wait) = (ByteString.Empty, null));

    public static ulong Of(RenameRequest request) => OfContent(request, 7, static r => (r.RequestId, r.Wait) = (ByteString.Empty, null));

    public static ulong Of(MakeSymlinkRequest request) => OfContent(request, 8, static r => (r.RequestId, r.Wait) = (ByteString.Empty, null));

    public static ulong Of(SetPolicyRequest request) => OfContent(request, 16, static r => r.RequestId = ByteString.Empty);

    public static ulong Of(ForgetHostRequest request) => OfContent(request, 17, static r => r.RequestId = ByteString.Empty);

    private static ulong OfContent<T>(T request, byte kind, Action<T> strip)
        where T : IMessage<T>
    {
        T content = request.Clone();
        strip(content);
        return Compute(content, kind);
    }

    private static ulong Compute(IMessage message, byte kind)
    {
        int size = message.CalculateSize();
        Span<byte> bytes = size + 1 <= StackBytes ? stackalloc byte[StackBytes] : new byte[size + 1];
        bytes = bytes[..(size + 1)];
        bytes[0] = kind;
        message.WriteTo(bytes[1..]);
        Span<byte> hash = stackalloc byte[Sha256.SizeInBytes];
        Sha256.Hash(bytes, hash);
        return System.Buffers.Binary.BinaryPrimitives.ReadUInt64LittleEndian(hash);
    }
}
