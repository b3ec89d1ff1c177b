using System.Globalization;

namespace Famfs.Core.Interop;

/// <summary>Users and groups by name, as the C library finds them.</summary>
public static unsafe class Accounts
{
    // struct passwd: name, password, uid, gid. struct group: name, password, gid. The same in glibc and musl.
    private const int IdOffset = 16;
    private const int PrimaryGroupOffset = 20;

    /// <summary>Room for struct passwd or group, 48 and 32 bytes. Chosen with slack.</summary>
    private const int EntryBytes = 128;

    /// <summary>Room for the strings of an entry; a group's are its members. Chosen: tens of thousands of them.</summary>
    private const int TextBytes = 1 << 20;

    /// <summary>A user's number and first group, by name or number; a number of no known user has no group. Null when there is
    /// none of that name.</summary>
    public static (uint Uid, uint? Gid)? FindUser(string name)
    {
        byte* entry = stackalloc byte[EntryBytes];
        byte* found = null;
        fixed (byte* text = new byte[TextBytes])
        {
            if (LibcMap.getpwnam_r(name, entry, text, TextBytes, &found) == 0 && found != null)
                return (*(uint*)(found + IdOffset), *(uint*)(found + PrimaryGroupOffset));
            if (!TryNumber(name, out uint uid))
                return null;
            return LibcMap.getpwuid_r(uid, entry, text, TextBytes, &found) == 0 && found != null
                ? (uid, *(uint*)(found + PrimaryGroupOffset))
                : (uid, null);
        }
    }

    /// <summary>A group's number, by name or number. Null when there is none of that name.</summary>
    public static uint? FindGroup(string name)
    {
        byte* entry = stackalloc byte[EntryBytes];
        byte* found = null;
        fixed (byte* text = new byte[TextBytes])
        {
            if (LibcMap.getgrnam_r(name, entry, text, TextBytes, &found) == 0 && found != null)
                return *(uint*)(found + IdOffset);
        }
        return TryNumber(name, out uint gid) ? gid : null;
    }

    private static bool TryNumber(string text, out uint number) =>
        uint.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number) && number != uint.MaxValue;
}
