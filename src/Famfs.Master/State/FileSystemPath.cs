using System.Text;
using Famfs.Core;
using Famfs.V1;

namespace Famfs.Master.State;

/// <summary>A path as callers give it: relative to the root, components separated by single slashes. "" and
/// "." name the root where that makes sense.</summary>
internal static class FileSystemPath
{
    /// <summary>Longest path, bytes of UTF-8.</summary>
    public const int MaxPathBytes = 4095;

    /// <summary>Longest component, bytes of UTF-8.</summary>
    public const int MaxComponentBytes = 255;

    private static readonly UTF8Encoding StrictUtf8 = new(false, throwOnInvalidBytes: true);

    /// <summary>Gives the components; throws BAD_PATH with the rule that is broken. An empty path gives none
    /// when <paramref name="allowRoot"/>.</summary>
    public static List<byte[]> Parse(string path, bool allowRoot)
    {
        byte[] bytes;
        try
        {
            bytes = StrictUtf8.GetBytes(path);
        }
        catch (EncoderFallbackException)
        {
            throw Bad(path, "is not valid text", 0);
        }
        // What decoders put in place of bytes that are no UTF-8: the caller means a name that it cannot say.
        if (path.Contains('\uFFFD', StringComparison.Ordinal))
            throw Bad(path, "is not valid UTF-8, or has the character U+FFFD which stands for that", 0);
        if (bytes.Length > MaxPathBytes)
            throw Bad(path, $"is {bytes.Length} bytes long, the limit is {MaxPathBytes}", MaxPathBytes);
        if (bytes.Length == 0 || path == ".")
            return allowRoot ? [] : throw Bad(path, "is the root itself", 0);
        if (bytes[0] == (byte)'/')
            throw Bad(path, "is absolute; paths are relative to the file system's root", 0);
        List<byte[]> components = [];
        int start = 0;
        while (start <= bytes.Length)
        {
            int end = Array.IndexOf(bytes, (byte)'/', start);
            if (end < 0)
                end = bytes.Length;
            components.Add(RequireComponent(bytes[start..end], path));
            start = end + 1;
        }
        if (components[0].AsSpan().SequenceEqual(".meta"u8) || components[0].AsSpan().SequenceEqual(".staged"u8))
            throw Bad(path, $"begins with {Encoding.UTF8.GetString(components[0])}, which belongs to the file system", 0);
        return components;
    }

    /// <summary>Shows a path in one line, however odd its characters.</summary>
    public static string Show(string path)
    {
        StringBuilder text = new();
        foreach (char c in path.Length > 200 ? path[..200] : path)
            text.Append(char.IsControl(c) ? $"\\x{(int)c:x2}" : c);
        return path.Length > 200 ? text.Append('…').ToString() : text.ToString();
    }

    private static byte[] RequireComponent(byte[] component, string path)
    {
        if (component.Length == 0)
            throw Bad(path, "has an empty component", 0);
        if (component.Length > MaxComponentBytes)
            throw Bad(path, $"has a component of {component.Length} bytes, the limit is {MaxComponentBytes}", MaxComponentBytes);
        if (component.AsSpan().SequenceEqual("."u8) || component.AsSpan().SequenceEqual(".."u8))
            throw Bad(path, "has a component \".\" or \"..\"", 0);
        if (component.AsSpan().Contains((byte)0))
            throw Bad(path, "has a NUL character", 0);
        return component;
    }

    private static FamfsException Bad(string path, string why, ulong limit) =>
        new(ErrorReason.BadPath, $"path \"{Show(path)}\" {why}") { Path = Show(path), Limit = limit };
}
