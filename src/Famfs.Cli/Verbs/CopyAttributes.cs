using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Cli.Verbs;

/// <summary>What the attributes of copies are to be.</summary>
internal sealed record CopyAttributeChoices
{
    private const uint PermissionBits = 0x1FF; // 0777

    /// <summary>What the one who fills a file needs of its mode.</summary>
    private const uint OwnerWrites = 0x180; // 0600

    private const uint OwnerUses = 0x1C0; // 0700
    private const uint SetIdBits = 0xC00; // 06000

    /// <summary>Mode of every copied file; null: that of its source.</summary>
    public uint? Mode { get; init; }

    /// <summary>Owner of every copy; null: this process's user, or the source's when it is kept.</summary>
    public uint? Uid { get; init; }

    /// <summary>Group of every copy; null: as with <see cref="Uid"/>.</summary>
    public uint? Gid { get; init; }

    /// <summary>Mode, times, user attributes and, by root, owners are those of the sources.</summary>
    public bool Preserve { get; init; }

    /// <summary>Bits that files of this process do not have.</summary>
    public uint Umask { get; init; }

    /// <summary>User who copies, and fills files as such.</summary>
    public uint ProcessUid { get; init; } = ProcessOwner.Uid;

    /// <summary>Group of the process.</summary>
    public uint ProcessGid { get; init; } = ProcessOwner.Gid;

    /// <summary>All groups of the process.</summary>
    public IReadOnlyList<uint> ProcessGroups { get; init; } = ProcessOwner.Groups;

    /// <summary>The file system can change attributes of what exists.</summary>
    public bool CanSetLater { get; init; } = true;

    /// <summary>Attributes that a copy has in the end.</summary>
    public (uint Mode, uint Uid, uint Gid) Final(CopyItem item)
    {
        // Only root may give files away.
        bool keepsOwner = Preserve && ProcessUid == 0;
        uint uid = Uid ?? (keepsOwner ? item.Status.Uid : ProcessUid);
        // A file may be given to any group that one is in.
        bool keepsGroup = keepsOwner || (Preserve && ProcessGroups.Contains(item.Status.Gid));
        uint gid = Gid ?? (keepsGroup ? item.Status.Gid : ProcessGid);
        uint mode = Preserve ? item.Status.Mode : item.Status.Mode & PermissionBits & ~Umask;
        // Set-id bits of one user would become those of another.
        if ((uid, gid) != (item.Status.Uid, item.Status.Gid))
            mode &= ~SetIdBits;
        return (item.IsDirectory ? mode : Mode ?? mode, uid, gid);
    }

    /// <summary>Attributes that it is made with: whoever copies can fill it. Throws NOT_SUPPORTED_BY_FORMAT where that cannot be
    /// made good afterwards.</summary>
    public (uint Mode, uint Uid, uint Gid) Initial(CopyItem item)
    {
        (uint mode, uint uid, uint gid) = Final(item);
        // Root fills everything; set-id bits would go with the first write.
        uint initial = (mode & PermissionBits) | (item.IsDirectory ? OwnerUses : OwnerWrites);
        if (CanSetLater)
            return ProcessUid == 0 ? (initial, uid, gid) : (initial, ProcessUid, gid);
        if (ProcessUid == 0 || (uid == ProcessUid && (mode & OwnerWrites) == OwnerWrites))
            return (mode, uid, gid);
        throw new FamfsException(ErrorReason.NotSupportedByFormat, $"{item.Destination}: mode {QuantityText.FormatMode(mode)} of user {uid} cannot be written by user {ProcessUid}, and the file system's format changes no mode later; use --mode")
        { Path = item.Destination };
    }

    /// <summary>A copy is made with all that it has in the end.</summary>
    public bool IsFinalAtOnce(CopyItem item) => !Preserve && Initial(item) == Final(item);

    /// <summary>What is to be set has set-id bits.</summary>
    public static bool HasSetIds(SetAttributesRequest request) => request.HasMode && (request.Mode & SetIdBits) != 0;

    /// <summary>Takes them out.</summary>
    public static void DropSetIds(SetAttributesRequest request) => request.Mode &= ~SetIdBits;

    /// <summary>What is to be set when the content is there; null: nothing. <paramref name="present"/>: as the copy is.</summary>
    public SetAttributesRequest? Remaining(CopyItem item, in FileStatus present)
    {
        if (!CanSetLater)
            return null;
        SetAttributesRequest request = new();
        (uint mode, uint uid, uint gid) = Final(item);
        bool any = false;
        if (present.Mode != mode)
            (request.Mode, any) = (mode, true);
        if (present.Uid != uid)
            (request.Uid, any) = (uid, true);
        if (present.Gid != gid)
            (request.Gid, any) = (gid, true);
        // A new owner takes set-id bits away that are not asked for with it.
        if ((request.HasUid || request.HasGid) && (mode & SetIdBits) != 0)
            request.Mode = mode;
        if (Preserve)
        {
            if (present.ModifyTimeNs != item.Status.ModifyTimeNs)
                (request.ModifyTimeNs, request.AccessTimeNs, any) = (item.Status.ModifyTimeNs, item.Status.AccessTimeNs, true);
            foreach ((byte[] name, byte[] value) in PathAttributes.ReadUser(item.Source))
            {
                // A file of a mount has attributes that its own file system gives.
                if (name.AsSpan().StartsWith("user.famfs."u8))
                    continue;
                request.Attributes.Add(new ExtendedAttribute { Name = ByteString.CopyFrom(name), Value = ByteString.CopyFrom(value) });
                any = true;
            }
        }
        return any ? request : null;
    }
}
