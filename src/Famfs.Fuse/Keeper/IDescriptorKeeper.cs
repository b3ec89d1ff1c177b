using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Fuse.Keeper;

/// <summary>What came of asking a keeper for the files of a mount.</summary>
internal enum TakeOutcome
{
    /// <summary>It has none.</summary>
    Absent = 0,

    /// <summary>Another process holds them, and was asked to leave them.</summary>
    Busy,

    /// <summary>Here they are; they are this process's, and nobody else's until it ends.</summary>
    Taken,
}

/// <summary>What a keeper has to tell.</summary>
internal enum KeeperNews
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>Another process waits for what this one holds.</summary>
    Leave,

    /// <summary>The keeper is gone.</summary>
    Lost,
}

/// <summary>Holds the open files of a mount beyond the death of its daemon. One thread at a time; no other call waits longer than a few
/// seconds. Errors of the calls: <see cref="IOException"/>, in a line; the keeper is then gone, or has refused.</summary>
internal interface IDescriptorKeeper : IDisposable
{
    /// <summary>What an operator calls it.</summary>
    string Name { get; }

    /// <summary>Asks for what is kept under a key.</summary>
    TakeOutcome TryTake(string key, out SafeFileHandle[] descriptors, out int holder);

    /// <summary>After <see cref="TakeOutcome.Busy"/>: waits until the other has left. False when that was not told in time; it may have
    /// left all the same.</summary>
    bool AwaitLeft(TimeSpan patience);

    /// <summary>Has copies of these files kept in place of what was.</summary>
    void Keep(string key, IReadOnlyList<SafeHandle> descriptors);

    /// <summary>Has them closed.</summary>
    void Drop(string key);

    /// <summary>What it has told since. Does not wait.</summary>
    KeeperNews Poll();
}
