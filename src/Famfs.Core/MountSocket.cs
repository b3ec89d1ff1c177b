using System.Globalization;
using System.Text;
using Famfs.V1;

namespace Famfs.Core;

/// <summary>
/// The socket at which a mount's daemon takes devices while it serves (docs/decisions/0057). It has a name and no file: the name
/// goes with the daemon, and holds in its network namespace.
/// <code>
/// request   attach LF PATH           UTF-8, until the caller closes its side
/// answer    ok LF INDEX              or   REASON LF TEXT, where REASON is the number of an ErrorReason
/// </code>
/// </summary>
public static class MountSocket
{
    /// <summary>Most bytes of a request, and of an answer (chosen: the longest path, with room).</summary>
    public const int MaxBytes = 8192;

    private const string Attach = "attach";
    private const string Done = "ok";

    /// <summary>The socket's address: a NUL, which is what makes it a name and no path (unix(7)), and the mount.</summary>
    public static string AddressOf(Guid mount) => $"\0famfs/mount/{mount}";

    /// <summary>A request to attach a device.</summary>
    public static byte[] FormatAttach(string path) => Encoding.UTF8.GetBytes($"{Attach}\n{path}");

    /// <summary>The path of such a request. Throws BAD_REQUEST for anything else.</summary>
    public static string ParseAttach(ReadOnlySpan<byte> request)
    {
        string text = Encoding.UTF8.GetString(request);
        int end = text.IndexOf('\n', StringComparison.Ordinal);
        if (end < 0 || text[..end] != Attach)
            throw new FamfsException(ErrorReason.BadRequest, $"a mount takes the request '{Attach}' and no other");
        string path = text[(end + 1)..];
        if (!path.StartsWith('/') || path.Contains('\0', StringComparison.Ordinal))
            throw new FamfsException(ErrorReason.BadRequest, "the path of a device begins with / and has no NUL");
        return path;
    }

    /// <summary>The answer to a request that was carried out.</summary>
    public static byte[] FormatDone(DeviceIndex index) => Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{Done}\n{index.Value}"));

    /// <summary>The answer to one that was refused.</summary>
    public static byte[] FormatRefusal(FamfsException error)
    {
        byte[] answer = Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{(int)error.Reason}\n{error.Message}"));
        return answer.Length <= MaxBytes ? answer : answer[..MaxBytes];
    }

    /// <summary>The device's index; throws the refusal that an answer is, and HOST_GONE for none.</summary>
    public static DeviceIndex ParseAnswer(ReadOnlySpan<byte> answer, string path)
    {
        string text = Encoding.UTF8.GetString(answer);
        int end = text.IndexOf('\n', StringComparison.Ordinal);
        if (end < 0)
            throw new FamfsException(ErrorReason.HostGone, $"{path}: the mount's daemon ended before it answered") { Path = path };
        string rest = text[(end + 1)..];
        if (text[..end] == Done && ushort.TryParse(rest, NumberStyles.None, CultureInfo.InvariantCulture, out ushort index))
            return new(index);
        throw new FamfsException(int.TryParse(text[..end], NumberStyles.None, CultureInfo.InvariantCulture, out int reason) ? (ErrorReason)reason : ErrorReason.Unspecified, rest) { Path = path };
    }
}
