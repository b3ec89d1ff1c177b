using Famfs.Core.Allocation;
using Famfs.Core.Dialects;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Dialects;

/// <summary>Where the kernel says how much room it has for the reply to GET_FMAP, and what it is told when that is
/// not enough.</summary>
public enum FmapSizing
{
    /// <summary>A: the request says; the short reply is <see cref="FmapSizeOut"/>.</summary>
    RoomInRequest,

    /// <summary>B0, B: always <see cref="FuseConstants.FirstFmapRoomBytes"/> at first; the short reply is
    /// <see cref="FmapSizeOut"/>. A second request looks like the first. No map this server makes needs one: 32 extents,
    /// or 32 strips behind their head, are less than 1 KiB.</summary>
    FixedRoom,

    /// <summary>D: the request says, as for GETXATTR; the short reply is the map's header alone, which holds the size of the
    /// whole message.</summary>
    HeaderFirst,
}

/// <summary>
/// One generation of the kernel's interface, as a value: what opcode numbers mean, what INIT asks for beyond
/// the stock flags, how files are opened, what maps it takes and how. Chosen once, at INIT
/// (<see cref="DialectTable"/>); nothing else in the server asks which kernel it talks to.
/// </summary>
/// <param name="Name">For messages and --dialect: <c>stock</c>, <c>A</c>, <c>B0</c>, <c>B</c>, <c>D</c>.</param>
/// <param name="MinMinor">Recognises the dialect: lowest minor version.</param>
/// <param name="MaxMinor">Recognises the dialect: highest minor version.</param>
/// <param name="FmapFlag">Recognises the dialect, and is asked for in INIT: its FUSE_DAX_FMAP; 0 for stock.</param>
/// <param name="OpenFlags">FOPEN_… for regular files, or null where the mount's cache mode decides.</param>
public sealed record Dialect(string Name, uint MinMinor, uint MaxMinor, ulong FmapFlag, uint? OpenFlags)
{
    /// <summary>The opcode that is GET_FMAP, whatever else that number means elsewhere; null: there is none.</summary>
    public uint? FmapOpcode { get; init; }

    /// <summary>The opcode that is GET_DAXDEV; null: there is none.</summary>
    public uint? DaxDeviceOpcode { get; init; }

    /// <summary>What maps the kernel takes; null when it takes none and the server reads and writes for it.</summary>
    public FmapLimits? Fmaps { get; init; }

    /// <summary>How a map that is larger than the kernel's buffer is served.</summary>
    public FmapSizing Sizing { get; init; }

    /// <summary>Devices are pushed by ioctl before a map may name them; otherwise the kernel asks by GET_DAXDEV.</summary>
    public bool PushesDevices { get; init; }

    /// <summary>The kernel with this minor version and these offered flags can be served in this dialect.</summary>
    public bool Matches(uint minor, ulong offered) =>
        minor >= MinMinor && minor <= MaxMinor && (offered & FmapFlag) == FmapFlag;
}

/// <summary>The dialects, and how one is chosen.</summary>
public static class DialectTable
{
    /// <summary>Lowest minor version served: 7.31, Linux 5.4. Older ones have other message layouts.</summary>
    public const uint MinMinor = 31;

    /// <summary>Mainline Linux: the server reads and writes on behalf of programs.</summary>
    public static readonly Dialect Stock = new("stock", MinMinor, uint.MaxValue, 0, null);

    /// <summary>First and second request for comments of 2025, on 7.42.</summary>
    public static readonly Dialect A = new("A", 42, 42, FuseConstants.FUSE_DAX_FMAP_A, FuseConstants.FOPEN_KEEP_CACHE)
    {
        FmapOpcode = FuseConstants.FUSE_GET_FMAP_A,
        DaxDeviceOpcode = FuseConstants.FUSE_GET_DAXDEV_A,
        Fmaps = FmapLimits.A,
        Sizing = FmapSizing.RoomInRequest,
    };

    /// <summary>The first V3, on 7.44.</summary>
    public static readonly Dialect B0 = new("B0", 44, 44, (ulong)InitFlags.FUSE_DAX_FMAP, FuseConstants.FOPEN_KEEP_CACHE)
    {
        FmapOpcode = FuseConstants.FUSE_GET_FMAP_A,
        DaxDeviceOpcode = FuseConstants.FUSE_GET_DAXDEV_A,
        Fmaps = FmapLimits.B0,
        Sizing = FmapSizing.FixedRoom,
    };

    /// <summary>V3 to V10 of 2026, from 7.45 on.</summary>
    public static readonly Dialect B = new("B", 45, uint.MaxValue, (ulong)InitFlags.FUSE_DAX_FMAP, FuseConstants.FOPEN_KEEP_CACHE)
    {
        FmapOpcode = FuseConstants.FUSE_GET_FMAP,
        DaxDeviceOpcode = FuseConstants.FUSE_GET_DAXDEV,
        Fmaps = FmapLimits.B,
        Sizing = FmapSizing.FixedRoom,
    };

    /// <summary>The variant of mid 2026 to which devices are pushed. INIT looks as in <see cref="B"/>.</summary>
    public static readonly Dialect D = new("D", 45, uint.MaxValue, (ulong)InitFlags.FUSE_DAX_FMAP, FuseConstants.FOPEN_KEEP_CACHE)
    {
        FmapOpcode = FuseConstants.FUSE_GET_FMAP,
        Fmaps = FmapLimits.D,
        Sizing = FmapSizing.HeaderFirst,
        PushesDevices = true,
    };

    /// <summary>Every dialect, in the order they are tried; the last one matches any kernel that is served.</summary>
    public static IReadOnlyList<Dialect> All { get; } = [A, B0, B, D, Stock];

    /// <summary>The dialect of that name; null when there is none.</summary>
    public static Dialect? Find(string name) => All.FirstOrDefault(dialect => dialect.Name.Equals(name, StringComparison.OrdinalIgnoreCase));

    /// <summary>The first dialect whose marks the kernel shows, null when it is too old for any. <see cref="B"/>
    /// stands for <see cref="D"/> too, until <see cref="ResolveFromPush"/> has told them apart.</summary>
    public static Dialect? Detect(uint minor, ulong offered) => All.FirstOrDefault(dialect => dialect.Matches(minor, offered));

    /// <summary>
    /// Tells <see cref="D"/> from <see cref="B"/> by what the kernel said to the push of a first device, right after INIT:
    /// no reply to INIT and no flag does. Success is D. ENOTTY is what a kernel says to an ioctl it does not have, ENOSYS
    /// what a sandbox says; EINVAL and EPERM are what mainline's FUSE_DEV_IOC_BACKING_OPEN says, should the number be that
    /// one, to an argument with an index, and where passthrough was not agreed on. Anything else comes from a kernel that
    /// has the ioctl and looked at the device: it is D, but what it says of the device stands.
    /// </summary>
    /// <param name="pushed">0, or the error.</param>
    /// <param name="dialect">What the kernel speaks.</param>
    /// <returns>False when it is D and did not take the device.</returns>
    public static bool ResolveFromPush(Errno pushed, out Dialect dialect)
    {
        dialect = pushed is Errno.ENOTTY or Errno.ENOSYS or Errno.EINVAL or Errno.EPERM ? B : D;
        return dialect == B || pushed == Errno.None;
    }
}
