using Famfs.Core.Dax;

namespace Famfs.Core.Log;

/// <summary>What of a <see cref="MkfsRequest"/> a format understands.</summary>
[Flags]
public enum MkfsChoices
{
    None = 0,
    Label = 1,
    MaxHosts = 2,

    /// <summary>The host that gets master slot 0.</summary>
    Host = 4,
    LogLength = 8,

    /// <summary>The system that alone may write.</summary>
    SystemUuidFile = 16,
}

/// <summary>What mkfs is asked for, whatever the format; each format takes its <see cref="MediaFormat.MkfsChoices"/>.</summary>
public sealed record MkfsRequest
{
    /// <summary>Gives this host's id; asked when nothing is in the way.</summary>
    public required Func<Guid> Host { get; init; }
    public required TimeProvider Clock { get; init; }
    public string Label { get; init; } = "";
    public int MaxHosts { get; init; } = 512;
    public uint RootUid { get; init; }
    public uint RootGid { get; init; }

    /// <summary>Bytes of the log; null: the least.</summary>
    public long? LogLengthBytes { get; init; }

    /// <summary>File with the uuid of this system; made when it is not there.</summary>
    public string SystemUuidFile { get; init; } = "";

    /// <summary>Overwrites what is on the devices.</summary>
    public bool Force { get; init; }

    /// <summary>Writes zeros over all space that files will get.</summary>
    public bool Zero { get; init; }
}

/// <summary>What mkfs made.</summary>
/// <param name="FileSystem">Uuid.</param>
/// <param name="UnitBytes">Bytes of the allocation unit.</param>
public sealed record MkfsResult(Guid FileSystem, long UnitBytes)
{
    /// <summary>What else there is to tell, by its name in JSON: text, uuids and numbers of 64 bits.</summary>
    public IReadOnlyList<(string Name, object Value)> Facts { get; init; } = [];

    /// <summary>The same for people, as one phrase; may be empty.</summary>
    public string Remark { get; init; } = "";

    /// <summary>What an operator should know before he relies on it, a line each.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];
}

/// <summary>Makes file systems of another format native, where they are.</summary>
public interface IMigration
{
    /// <summary>Migrates the file system on <paramref name="devices"/>, which stay the caller's: all of its devices.
    /// The <paramref name="host"/>, asked for when nothing is in the way, gets master slot 0. Throws before any change
    /// when something is. Run again after a crash, it goes on. The caller holds a <see cref="MaintenanceLock"/>.</summary>
    MigrationResult Run(IReadOnlyList<Dax.DaxDevice> devices, Func<Guid> host, TimeProvider clock);
}

/// <summary>What came of a migration.</summary>
/// <param name="FileSystem">Uuid.</param>
/// <param name="Files">Files that the native log names.</param>
/// <param name="Directories">Directories, without the root.</param>
/// <param name="Completed">True: an interrupted migration was completed, nothing else was to do.</param>
public sealed record MigrationResult(Guid FileSystem, long Files, long Directories, bool Completed);
