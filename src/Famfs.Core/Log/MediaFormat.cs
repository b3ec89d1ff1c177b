using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log;

/// <summary>
/// One format of the media: the seam behind which all is that differs from format to format. It recognises devices, opens
/// their pool, reads and writes the log as records of the native format, checks, makes, and says what it can express.
/// Nothing beside it asks which format it is. Stateless; any thread.
/// </summary>
public abstract class MediaFormat
{
    /// <summary>Name, as users say it.</summary>
    public abstract string Name { get; }

    /// <summary>What it can express.</summary>
    public abstract FormatLimits Limits { get; }

    /// <summary>What a file system of this format with so many devices cannot promise, one line each, for an operator.</summary>
    public virtual IReadOnlyList<string> FindWarnings(int devices) => Limits.Warnings;

    /// <summary>Inode numbers of what the file system uses itself.</summary>
    public abstract SystemInodes SystemInodes { get; }

    /// <summary>What <see cref="Make"/> understands.</summary>
    public abstract MkfsChoices MkfsChoices { get; }

    /// <summary>Where this host keeps the uuid of its system, in a format that knows its writer by one; else null.</summary>
    public virtual string? SystemUuidFile => null;

    /// <summary>How file systems of this format become native; null: they do not.</summary>
    public virtual IMigration? Migration => null;

    /// <summary>The uuids in the superblock of a device, which alone is looked at; null when it is no sound one of this
    /// format.</summary>
    public abstract (Guid FileSystem, Guid Device)? ReadUuids(DaxDevice device);

    /// <summary>Whether the device has a sound superblock of this format.</summary>
    public bool Knows(DaxDevice device) => ReadUuids(device) is not null;

    /// <summary>Whether a device says that it is of this format, by the part of its superblock that all formats share. What else
    /// is in it may be wrong, and is this format's to complain of.</summary>
    public virtual bool IsNamedBy(DaxDevice device) => Knows(device);

    /// <summary>What a device says of its place; null when it has no sound superblock of this format.</summary>
    public abstract DeviceClaim? Recognize(DaxDevice device);

    /// <summary>The error that tells a user why a device is none of this format.</summary>
    public abstract FamfsException Explain(DaxDevice device);

    /// <summary>Indices of those claims, all of one file system of this format, that are of its first device: one, unless
    /// nothing tells. May give claims without a log, when there is none with.</summary>
    public abstract IReadOnlyList<int> FindFirst(IReadOnlyList<DeviceClaim> claims);

    /// <summary>Makes a pool of open devices, which it owns from then on. One of them must be the first of a file system, the
    /// others must belong to it. Otherwise throws and leaves them to the caller.</summary>
    public abstract DevicePool Open(IReadOnlyList<DaxDevice> devices);

    /// <summary>What a device is that is to be attached to <paramref name="pool"/>. Throws when it does not belong there.</summary>
    public abstract DeviceIdentity Identify(DevicePool pool, DaxDevice device);

    /// <summary>Throws when a device cannot join a pool of this format: it is too short, in use on this host, or not blank and
    /// <paramref name="force"/> does not say that it may be overwritten. Keeps it for this process alone while it is open.</summary>
    public abstract void RequireJoinable(DaxDevice device, bool force);

    /// <summary>Writes the superblock of a device that is about to join, and gives the record that makes it join, without time
    /// and request id. <paramref name="inode"/>: the next inode number.</summary>
    public abstract PreparedDevice PrepareDevice(DevicePool pool, DaxDevice device, DeviceIndex index, InodeNumber inode, bool force, TimeProvider clock);

    /// <summary>A log of the format may be followed from one generation to the next, as a compaction makes it.</summary>
    public virtual bool EntersGenerations => false;

    /// <summary>Reads the log of <paramref name="pool"/> from its start.</summary>
    /// <param name="pool">The devices.</param>
    /// <param name="clock">Measures how long something has looked damaged.</param>
    /// <param name="wholeAfter">Every record after this one is handed out as a record, also where a snapshot stands for it, as long as
    /// the memory has it. Null: the newest snapshot, if there is one, then the records after it.</param>
    public abstract ILogReader OpenReader(DevicePool pool, TimeProvider clock, LogSequence? wholeAfter = null);

    /// <summary>Invalidates and reads the lines of the mounts, as they are now. Empty where mounts have none.</summary>
    public virtual IReadOnlyList<HostEntry> ReadMountLines(DevicePool pool) => [];

    /// <summary>The same of the mounts of one host, by its block. Throws MEDIA_CORRUPT for a block that the table does not have.</summary>
    public virtual IReadOnlyList<HostEntry> ReadMountLines(DevicePool pool, int hostSlot) => [];

    /// <summary>Log offset behind the record <paramref name="last"/> of a block that ends at <paramref name="endOffset"/>, in which
    /// <paramref name="bytesBehind"/> bytes of frames follow that record. Here log offsets count the bytes of frames.</summary>
    public virtual long OffsetBehind(LogSequence last, long endOffset, int bytesBehind) => endOffset - bytesBehind;

    /// <summary>Number of the inode that the record behind <paramref name="last"/> makes. <paramref name="next"/>: the one
    /// after the highest so far.</summary>
    public virtual InodeNumber NextInode(LogSequence last, InodeNumber next) => next;

    /// <summary>Takes the place of the master, or throws why not.</summary>
    public abstract Task<MasterClaim> ClaimAsync(DevicePool pool, ClaimRequest request, CancellationToken cancel);

    /// <summary>Number of bytes, from 0 on, of which a master of what is on the device may hold the lock on this host.</summary>
    public abstract int CountMasterLocks(DaxDevice device);

    /// <summary>For a tool that holds the locks of <see cref="CountMasterLocks"/>: throws when this device's file system has a
    /// master elsewhere that lives, or may not be changed from here. <paramref name="isFirst"/>: it is the first device.</summary>
    public abstract Task RequireNoMasterAsync(DaxDevice device, bool isFirst, MaintenanceRequest request, CancellationToken cancel);

    /// <summary>For mkfs, which holds those locks: throws EXISTS when a master or a mount of what is on the device lives, as far
    /// as the format shows it within <paramref name="watch"/>.</summary>
    public abstract Task RequireIdleAsync(DaxDevice device, TimeSpan watch, TimeProvider clock, CancellationToken cancel);

    /// <summary>Checks the superblock of one of <paramref name="devices"/>; false, without a word, when what is there, intact
    /// or not, is not this format's.</summary>
    public abstract bool CheckSuperblock(DaxDevice device, IReadOnlyList<DaxDevice> devices, CheckReport report);

    /// <summary>Checks devices that do not open as a pool, for what can be made good before they do.</summary>
    public virtual void CheckUnopened(IReadOnlyList<DaxDevice> devices, CheckReport report)
    {
    }

    /// <summary>Begins the check of a pool. <paramref name="clock"/>: measures how long something has looked damaged.</summary>
    public abstract LogCheck OpenCheck(DevicePool pool, TimeProvider clock);

    /// <summary>Throws BAD_REQUEST when one memory is among the devices twice, under whatever paths.</summary>
    public static void RequireDistinct(IReadOnlyList<DaxDevice> devices)
    {
        if (devices.GroupBy(d => d.MemoryIdentity, StringComparer.Ordinal).FirstOrDefault(g => g.Count() > 1) is { } twice)
        {
            (DaxDevice first, DaxDevice second) = (twice.First(), twice.Skip(1).First());
            throw new FamfsException(ErrorReason.BadRequest, $"{second.Path}: given twice{(first.Path == second.Path ? "" : $", it is {first.Path}")}") { Path = second.Path };
        }
    }

    /// <summary>mkfs: the first device becomes device 0. Throws before any change when one cannot be used.</summary>
    public abstract MkfsResult Make(IReadOnlyList<DaxDevice> devices, MkfsRequest request);
}

/// <summary>A device that is about to join a pool.</summary>
/// <param name="Identity">What it is.</param>
/// <param name="Record">What makes it join.</param>
public sealed record PreparedDevice(DeviceIdentity Identity, DeviceAdded Record);
