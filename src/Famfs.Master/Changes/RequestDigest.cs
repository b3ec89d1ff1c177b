using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
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

    public static ulong Of(MakeDirectoryRequest request)
    {
        ByteString id = request.RequestId;
        Wait? wait = request.Wait;
        request.RequestId = ByteString.Empty;
        request.Wait = null;
        ulong digest = Compute(request, 2);
        request.RequestId = id;
        request.Wait = wait;
        return digest;
    }

    public static ulong Of(AddDeviceRequest request)
    {
        AddDeviceRequest content = request.Clone();
        content.RequestId = ByteString.Empty;
        return Compute(content, 3);
    }

    public static ulong Of(GrantMasterSlotRequest request)
    {
        GrantMasterSlotRequest content = request.Clone();
        content.RequestId = ByteString.Empty;
        return Compute(content, 4);
    }

    public static ulong Of(SetAttributesRequest request)
    {
        SetAttributesRequest content = request.Clone();
        content.RequestId = ByteString.Empty;
        content.Wait = null;
        return Compute(content, 5);
    }

    public static ulong Of(MakeSymlinkRequest request)
    {
        MakeSymlinkRequest content = request.Clone();
        content.RequestId = ByteString.Empty;
        content.Wait = null;
        return Compute(content, 8);
    }

    public static ulong Of(RemoveRequest request)
    {
        RemoveRequest content = request.Clone();
        content.RequestId = ByteString.Empty;
        content.Wait = null;
        return Compute(content, 6);
    }

    public static ulong Of(RenameRequest request)
    {
        RenameRequest content = request.Clone();
        content.RequestId = ByteString.Empty;
        content.Wait = null;
        return Compute(content, 7);
    }

    public static ulong Of(SetPolicyRequest request)
    {
        SetPolicyRequest content = request.Clone();
        content.RequestId = ByteString.Empty;
        return Compute(content, 16);
    }

    /// <summary>The refusal of an id that another kind of request has used.</summary>
    public static FamfsException OtherKind(in RequestTrace trace) =>
        new(ErrorReason.BadRequest, $"request id {trace.RequestId} was used before by another kind of request");

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
