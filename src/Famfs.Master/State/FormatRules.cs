using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Master.State;

/// <summary>What the media format of a file system can express. The native format can everything; what another
/// cannot is refused here, before anything changes, with the format that can.</summary>
internal sealed class FormatRules(DevicePool pool)
{
    private readonly FormatLimits _limits = pool.Format.Limits;

    /// <summary>Name of the format.</summary>
    public string Name => pool.Format.Name;

    /// <summary>Records have times.</summary>
    public bool HasTimes => _limits.HasTimes;

    /// <summary>New files are zeroed before they are made (SAFETY, last section).</summary>
    public bool ZeroesNewFiles => _limits.ZeroesNewFiles;

    /// <summary>Masters announce themselves in the log.</summary>
    public bool HasTerms => _limits.HasTerms;

    /// <summary>Mounts register in memory.</summary>
    public bool HasHostTable => _limits.HasHostTable;

    /// <summary>A log may continue in another generation, as a compaction makes it.</summary>
    public bool EntersGenerations => pool.Format.EntersGenerations;

    /// <summary>What the format cannot promise with so many devices, for an operator.</summary>
    public IReadOnlyList<string> FindWarnings(int devices) => pool.Format.FindWarnings(devices);

    /// <summary>Number of the inode that the record behind <paramref name="state"/> makes.</summary>
    public InodeNumber NextInode(ReplayState state) => pool.Format.NextInode(state.Position.Sequence, state.NextInode);

    /// <summary>The refusal of something that only the native format has, or null.</summary>
    public FamfsException? FindRefusal(string what) =>
        _limits.IsComplete ? null : new(ErrorReason.NotSupportedByFormat, $"{what}: not in the {Name} format; the native format has it");

    /// <summary>Throws NOT_SUPPORTED_BY_FORMAT unless the format has <paramref name="what"/>.</summary>
    public void Require(string what)
    {
        if (FindRefusal(what) is { } refusal)
            throw refusal;
    }

    /// <summary>Throws NOT_SUPPORTED_BY_FORMAT for a path that does not fit.</summary>
    public void RequirePath(List<byte[]> components, string path)
    {
        int bytes = components.Sum(c => c.Length) + components.Count - 1;
        if (_limits.MaxPathBytes is { } limit && bytes > limit)
        {
            throw new FamfsException(ErrorReason.NotSupportedByFormat, $"path \"{FileSystemPath.Show(path)}\" is {bytes} bytes long, the limit of {Name} is {limit}; the native format has {FileSystemPath.MaxPathBytes}")
            { Path = FileSystemPath.Show(path), Limit = (ulong)limit };
        }
    }

    /// <summary>The layout within what the format can map.</summary>
    public AllocationRequest RequireLayout(AllocationRequest request, DevicePool devices, ReplayState state)
    {
        if (_limits.MaxExtents is { } limit)
        {
            if (request.Strips > limit && request.Strips <= AllocationRequest.KernelMaxExtents)
                throw new FamfsException(ErrorReason.NotSupportedByFormat, $"{request.Strips} strips: the limit of {Name} is {limit}; the native format has {AllocationRequest.KernelMaxExtents}") { Limit = (ulong)limit };
            request = request with { MaxExtents = limit, MaxStrips = limit };
        }
        if (_limits.ZeroesNewFiles)
        {
            // The master zeroes new files, so only devices that it has will do.
            foreach (DeviceIndex wished in request.Devices ?? [])
            {
                if (wished.Value < state.Devices.Length)
                    devices.Require(wished);
            }
            request = request with { Devices = request.Devices is { Count: > 0 } ? request.Devices : [.. devices.Present] };
        }
        // No kernel takes chunks of smaller units.
        return pool.UnitBytes < MediaLayout.UnitBytes && request.ChunkBytes == 0 ? request with { ChunkBytes = MediaLayout.UnitBytes } : request;
    }
}
