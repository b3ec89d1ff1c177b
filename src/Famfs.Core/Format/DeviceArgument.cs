using System.Globalization;
using Famfs.V1;

namespace Famfs.Core.Format;

/// <summary>
/// A device as people name it: a path, or for a regular file <c>PATH:offset=BYTES</c> when the device does not
/// start where the file does (a memory that is a namespace of virtual machines has a header of theirs before
/// what the machines see as <c>/dev/daxX.Y</c>).
/// </summary>
/// <param name="Path">The file or character device.</param>
/// <param name="OffsetBytes">Where the device starts in the file; a multiple of the page size.</param>
internal readonly record struct DeviceArgument(string Path, long OffsetBytes)
{
    private const string OffsetMark = ":offset=";
    private const string Suffixes = "KMGT";

    /// <summary>Takes an argument apart at the last mark, so a file whose name has one is named with another
    /// one behind it (<c>:offset=0</c>). Errors:
    /// BAD_REQUEST for an offset that is no number or not a multiple of the page size.</summary>
    public static DeviceArgument Parse(string text)
    {
        ArgumentException.ThrowIfNullOrEmpty(text);
        int mark = text.LastIndexOf(OffsetMark, StringComparison.Ordinal);
        if (mark <= 0)
            return new(text, 0);
        string number = text[(mark + OffsetMark.Length)..];
        int suffix = number.Length > 0 ? Suffixes.IndexOf(char.ToUpperInvariant(number[^1]), StringComparison.Ordinal) : -1;
        int shift = 10 * (suffix + 1);
        if (!long.TryParse(suffix < 0 ? number : number[..^1], NumberStyles.None, CultureInfo.InvariantCulture, out long value) || value > long.MaxValue >> shift)
            throw new FamfsException(ErrorReason.BadRequest, $"{text}: '{number}' is not an offset; write bytes, or a number with K, M, G or T") { Path = text };
        long bytes = value << shift;
        if (bytes % Environment.SystemPageSize != 0)
            throw new FamfsException(ErrorReason.BadRequest, $"{text}: an offset is a multiple of {Environment.SystemPageSize} bytes") { Path = text, Limit = (ulong)Environment.SystemPageSize };
        return new(text[..mark], bytes);
    }
}
