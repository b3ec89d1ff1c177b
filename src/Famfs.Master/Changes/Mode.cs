using Famfs.Core;
using Famfs.V1;

namespace Famfs.Master.Changes;

/// <summary>Permission bits as callers give them.</summary>
internal static class Mode
{
    private const uint PermissionBits = 0xFFF;

    /// <summary>The bits that are asked for, or <paramref name="byDefault"/>. Throws INVALID_ARGUMENT for others than 07777.</summary>
    public static uint Require(uint mode, bool set, uint byDefault)
    {
        if (!set && mode == 0)
            return byDefault;
        return mode <= PermissionBits
            ? mode
            : throw new FamfsException(ErrorReason.BadRequest, $"mode 0{Convert.ToString(mode, 8)} has bits besides the permission bits 07777") { Limit = PermissionBits };
    }
}
