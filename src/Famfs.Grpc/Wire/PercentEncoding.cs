using System.Buffers;
using System.Text;

namespace Grpc.Wire;

/// <summary>
/// Text of grpc-message: UTF-8 with every byte outside 0x20..0x7E, and the percent sign, written as %XX. A broken
/// escape decodes as the characters it is made of, because a peer's bad text must not hide its status.
/// </summary>
internal static class PercentEncoding
{
    private static readonly SearchValues<char> Plain =
        SearchValues.Create([.. Enumerable.Range(0x20, 0x7F - 0x20).Select(c => (char)c).Where(c => c != '%')]);

    public static string Encode(string text)
    {
        if (text.AsSpan().IndexOfAnyExcept(Plain) < 0)
        {
            return text;
        }

        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        StringBuilder encoded = new(utf8.Length + 16);
        foreach (byte b in utf8)
        {
            if (b is >= 0x20 and < 0x7F and not (byte)'%')
            {
                encoded.Append((char)b);
            }
            else
            {
                encoded.Append('%').Append(HexDigit(b >> 4)).Append(HexDigit(b & 15));
            }
        }

        return encoded.ToString();

        static char HexDigit(int value) => (char)(value < 10 ? '0' + value : 'A' + value - 10);
    }

    public static string Decode(string text)
    {
        if (!text.Contains('%', StringComparison.Ordinal))
        {
            return text;
        }

        ArrayBufferWriter<byte> bytes = new(text.Length);
        for (int i = 0; i < text.Length; i++)
        {
            char c = text[i];
            if (c == '%' && i + 2 < text.Length && char.IsAsciiHexDigit(text[i + 1]) && char.IsAsciiHexDigit(text[i + 2]))
            {
                bytes.Write([(byte)((HexValue(text[i + 1]) << 4) | HexValue(text[i + 2]))]);
                i += 2;
            }
            else
            {
                Encoding.UTF8.GetBytes([c], bytes);
            }
        }

        return Encoding.UTF8.GetString(bytes.WrittenSpan);

        static int HexValue(char c) => c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
    }
}
