using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Famfs.Fuse.Protocol;

/// <summary>Why a message is no request, or <see cref="Ok"/>.</summary>
public enum ParseVerdict : byte
{
    Ok = 0,

    /// <summary>Shorter than a header: it cannot even be answered.</summary>
    NoHeader,

    /// <summary>The header's length, or that of its extensions, is not the message's.</summary>
    WrongLength,

    /// <summary>The dialect has no such opcode.</summary>
    UnknownOpcode,

    /// <summary>The fixed part is cut, or something follows where nothing may.</summary>
    WrongSize,

    /// <summary>A name is empty, not terminated, or holds '/' or NUL.</summary>
    BadName,
}

/// <summary>One request, checked: header, fixed part and payload have the lengths that its opcode demands.
/// Points into the buffer it was read to.</summary>
public readonly ref struct FuseRequest
{
    private FuseRequest(in InHeader header, OpcodeRow? row, ReadOnlySpan<byte> body)
    {
        Header = header;
        Row = row;
        Body = body;
    }

    /// <summary>A copy of the head.</summary>
    public InHeader Header { get; }

    /// <summary>What kind of request; null with <see cref="ParseVerdict.UnknownOpcode"/> or before the opcode was
    /// looked at.</summary>
    public OpcodeRow? Row { get; }

    /// <summary>Everything between the header and the extensions.</summary>
    public ReadOnlySpan<byte> Body { get; }

    /// <summary>The node the request is about.</summary>
    public ulong NodeId => Header.NodeId;

    /// <summary>False when the kernel waits for no reply. A message of unknown kind is answered.</summary>
    public bool Replies => Row is not { Replies: false };

    /// <summary>The fixed part, whose size has been checked. <typeparamref name="T"/> is the struct of the row, or
    /// this throws <see cref="InvalidOperationException"/>.</summary>
    public ref readonly T Fixed<T>()
        where T : unmanaged
    {
        if (Row?.In != typeof(T))
            ThrowNotTheRowsStruct(Row, typeof(T));
        return ref MemoryMarshal.AsRef<T>(Body[..Unsafe.SizeOf<T>()]);
    }

    /// <summary>What follows the fixed part.</summary>
    public ReadOnlySpan<byte> Payload => Body[(Row?.InBytes ?? 0)..];

    /// <summary>The one name that follows the fixed part, without its NUL.</summary>
    public ReadOnlySpan<byte> Name => Payload[..^1];

    /// <summary>The first of two things that follow the fixed part: a name, without its NUL.</summary>
    public ReadOnlySpan<byte> First => Payload[..Payload.IndexOf((byte)0)];

    /// <summary>The second of them: a name or text, without its NUL.</summary>
    public ReadOnlySpan<byte> Second => Payload[(First.Length + 1)..^1];

    /// <summary>The second of them: a value.</summary>
    public ReadOnlySpan<byte> Value => Payload[(First.Length + 1)..];

    /// <summary>Checks a message against a dialect's opcodes. Unless the verdict is
    /// <see cref="ParseVerdict.NoHeader"/>, <paramref name="request"/> has the header, so that an error can be
    /// replied.</summary>
    public static ParseVerdict Parse(ReadOnlySpan<byte> message, OpcodeTable opcodes, out FuseRequest request)
    {
        if (message.Length < Unsafe.SizeOf<InHeader>())
        {
            request = default;
            return ParseVerdict.NoHeader;
        }
        ref readonly InHeader header = ref MemoryMarshal.AsRef<InHeader>(message[..Unsafe.SizeOf<InHeader>()]);
        OpcodeRow? row = opcodes.Find(header.Opcode);
        ReadOnlySpan<byte> body = message[Unsafe.SizeOf<InHeader>()..];
        request = new FuseRequest(header, row, default);
        int extensionBytes = header.ExtensionWords * 8;
        if (header.LengthBytes != (uint)message.Length || extensionBytes > body.Length)
            return ParseVerdict.WrongLength;
        body = body[..^extensionBytes];
        if (row is null)
            return ParseVerdict.UnknownOpcode;
        if (body.Length < row.InBytes || (row.Payload == PayloadKind.None && body.Length != row.InBytes))
            return ParseVerdict.WrongSize;
        request = new FuseRequest(header, row, body);
        return IsPayloadSound(body[row.InBytes..], row.Payload) ? ParseVerdict.Ok : ParseVerdict.BadName;
    }

    private static void ThrowNotTheRowsStruct(OpcodeRow? row, Type asked) =>
        throw new InvalidOperationException($"{row?.Name} does not begin with {asked.Name}");

    private static bool IsPayloadSound(ReadOnlySpan<byte> payload, PayloadKind kind)
    {
        if (kind is PayloadKind.None or PayloadKind.Data)
            return true;
        int end = payload.IndexOf((byte)0);
        if (end <= 0)
            return false;
        if (kind is not (PayloadKind.AttributeName or PayloadKind.AttributeNameAndValue) && payload[..end].Contains((byte)'/'))
            return false;
        ReadOnlySpan<byte> rest = payload[(end + 1)..];
        return kind switch
        {
            PayloadKind.Name or PayloadKind.AttributeName => rest.IsEmpty,
            PayloadKind.TwoNames => rest.Length >= 2 && rest.IndexOf((byte)0) == rest.Length - 1 && !rest.Contains((byte)'/'),
            PayloadKind.NameAndTarget => rest.Length >= 2 && rest.IndexOf((byte)0) == rest.Length - 1,
            _ => true,
        };
    }
}
