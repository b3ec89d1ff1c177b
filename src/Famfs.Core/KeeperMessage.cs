using System.Text;
using System.Text.Unicode;
using Famfs.V1;

namespace Famfs.Core;

/// <summary>
/// What a daemon and a keeper of this host tell each other, over a unix socket that keeps messages apart (SOCK_SEQPACKET). Text in
/// UTF-8, at most <see cref="MaxBytes"/>; open files travel with it (unix(7), SCM_RIGHTS).
/// <code>
/// any message   VERSION LF WORD LF REST         VERSION is 1
/// requests      put   KEY  with 1 to 253 files  keep these under KEY, in place of what was there; the caller holds KEY
///               get   KEY                       answered with copies of the files; the caller holds KEY
///               drop  KEY                       close them
///               list                            what is kept
/// answers       ok      TEXT                    of list: a line "PID COUNT KEY" each, PID 0 when nobody holds it,
///                                               2147483647 when its process cannot be seen from the keeper's
///               absent                          there is no such KEY
///               busy    PID                     another holds KEY, and was asked to leave it
///               refused TEXT                    nothing was done
/// to a holder   leave   KEY                     another waits for KEY
/// to who waits  left    KEY                     after busy: nobody holds KEY any more; older keepers do not tell
/// </code>
/// A connection holds what it put or got until it closes, drops it, or its process is about to die. What nobody holds stays.
/// </summary>
/// <param name="Word">Which message.</param>
/// <param name="Rest">The key, or text.</param>
public readonly record struct KeeperMessage(string Word, string Rest)
{
    /// <summary>Most bytes of a message (chosen: a list of all keys, with room).</summary>
    public const int MaxBytes = 64 * 1024;

    /// <summary>Most bytes of a key: a path.</summary>
    public const int MaxKeyBytes = 512;

    /// <summary>Keep files.</summary>
    public const string Put = "put";

    /// <summary>Give files.</summary>
    public const string Get = "get";

    /// <summary>Close files.</summary>
    public const string Drop = "drop";

    /// <summary>Tell what is kept.</summary>
    public const string List = "list";

    /// <summary>Done.</summary>
    public const string Ok = "ok";

    /// <summary>Nothing is kept under that key.</summary>
    public const string Absent = "absent";

    /// <summary>Another holds it.</summary>
    public const string Busy = "busy";

    /// <summary>Nothing was done.</summary>
    public const string Refused = "refused";

    /// <summary>Another waits for it.</summary>
    public const string Leave = "leave";

    /// <summary>Its holder has left it.</summary>
    public const string Left = "left";

    private const string Version = "1";

    /// <summary>Its bytes. What is too long is cut.</summary>
    public byte[] Format()
    {
        byte[] bytes = Encoding.UTF8.GetBytes($"{Version}\n{Word}\n{Rest}");
        return bytes.Length <= MaxBytes ? bytes : bytes[..MaxBytes];
    }

    /// <summary>Reads one. Throws BAD_REQUEST for what is none of this version.</summary>
    public static KeeperMessage Parse(ReadOnlySpan<byte> bytes)
    {
        if (!Utf8.IsValid(bytes))
            throw new FamfsException(ErrorReason.BadRequest, "a message to or from a keeper is UTF-8");
        string[] parts = Encoding.UTF8.GetString(bytes).Split('\n', 3);
        if (parts.Length != 3)
            throw new FamfsException(ErrorReason.BadRequest, "a message to or from a keeper has three parts");
        if (parts[0] != Version)
            throw new FamfsException(ErrorReason.BadRequest, $"messages of version {(parts[0].Length <= 8 ? parts[0] : "?")} are not known here, only those of version {Version}");
        return new(parts[1], parts[2]);
    }

    /// <summary>Why something is no key; null when it is one.</summary>
    public static string? FindKeyFault(string key) =>
        key.Length == 0 || Encoding.UTF8.GetByteCount(key) > MaxKeyBytes ? $"a key has 1 to {MaxKeyBytes} bytes"
        : key.AsSpan().ContainsAny('\n', '\0') ? "a key has no line end and no NUL"
        : null;
}
