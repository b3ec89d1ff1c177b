using Grpc.Core;

namespace Grpc.Wire;

/// <summary>Metadata entries to and from header fields.</summary>
internal static class MetadataCodec
{
    /// <summary>Field value of an entry: its text, or its bytes in base64 without padding.</summary>
    public static string Encode(Metadata.Entry entry) =>
        entry.IsBinary ? Convert.ToBase64String(entry.RawBytes).TrimEnd('=') : entry.Value;

    /// <summary>
    /// Adds one header field. A binary field may hold several values joined by commas, since HTTP lets any hop join
    /// fields of one name.
    /// </summary>
    /// <exception cref="FormatException">A binary value is not base64.</exception>
    public static void Decode(Metadata metadata, string name, string value)
    {
        string key = name.ToLowerInvariant();
        if (!key.EndsWith(Metadata.BinaryHeaderSuffix, StringComparison.Ordinal))
        {
            metadata.Add(Metadata.Entry.FromWire(key, value));
            return;
        }

        foreach (Range part in value.AsSpan().Split(','))
        {
            metadata.Add(Metadata.Entry.FromWire(key, FromBase64(value.AsSpan()[part].Trim())));
        }
    }

    private static byte[] FromBase64(ReadOnlySpan<char> text)
    {
        ReadOnlySpan<char> digits = text.TrimEnd('=');
        int padding = (4 - (digits.Length & 3)) & 3;
        if (padding == 3)
        {
            throw new FormatException("A binary metadata value has a length no base64 text has.");
        }

        char[] padded = new char[digits.Length + padding];
        digits.CopyTo(padded);
        padded.AsSpan(digits.Length).Fill('=');
        return Convert.FromBase64CharArray(padded, 0, padded.Length);
    }
}
