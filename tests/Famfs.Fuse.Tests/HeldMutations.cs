using System.Collections.Concurrent;
using Famfs.Core;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Xunit;

namespace Famfs.Fuse.Tests;

/// <summary>A port whose changes take as long as a test wishes: each waits here until the test ends it.</summary>
internal sealed class HeldMutations : IMutations
{
    private readonly BlockingCollection<HeldMutation> _begun = [];

    /// <summary>What a change says to a signal.</summary>
    public bool Withdraws { get; set; } = true;

    /// <summary>Called in <see cref="IMutation.Begin"/>, with the change.</summary>
    public Action<HeldMutation>? OnBegin { get; set; }

    /// <summary>Changes that have begun and were not taken by <see cref="Take"/>.</summary>
    public int Waiting => _begun.Count;

    /// <summary>The next change that begins.</summary>
    public HeldMutation Take()
    {
        Assert.True(_begun.TryTake(out HeldMutation? mutation, TimeSpan.FromSeconds(60)), "no change begins");
        return mutation!;
    }

    public MutationAnswer MakeDirectory(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name, uint mode) => Hold("MKDIR", name);

    public MutationAnswer MakeSymlink(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name, ReadOnlySpan<byte> target) => Hold("SYMLINK", name, target);

    public MutationAnswer CreateFile(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name, uint mode, uint openFlags) => Hold("CREATE", name);

    public MutationAnswer Unlink(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name) => Hold("UNLINK", name);

    public MutationAnswer RemoveDirectory(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name) => Hold("RMDIR", name);

    public MutationAnswer Rename(Caller caller, InodeNumber parent, ReadOnlySpan<byte> name, InodeNumber newParent, ReadOnlySpan<byte> newName, uint flags) => Hold($"RENAME {flags}", name, newName);

    public MutationAnswer SetAttributes(Caller caller, InodeNumber inode, in SetAttrIn wish) => Hold($"SETATTR {Convert.ToString(wish.Mode & 0xFFF, 8)}");

    public MutationAnswer SetExtendedAttribute(Caller caller, InodeNumber inode, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, uint flags) => Hold("SETXATTR", name, value);

    public MutationAnswer RemoveExtendedAttribute(Caller caller, InodeNumber inode, ReadOnlySpan<byte> name) => Hold("REMOVEXATTR", name);

    private MutationAnswer Hold(string what, ReadOnlySpan<byte> first = default, ReadOnlySpan<byte> second = default)
    {
        string text = $"{what} {System.Text.Encoding.UTF8.GetString(first)} {System.Text.Encoding.UTF8.GetString(second)}".TrimEnd();
        return MutationAnswer.Begin(new HeldMutation(this, text));
    }

    internal void Add(HeldMutation mutation) => _begun.Add(mutation);
}

/// <summary>One change that waits for the test.</summary>
internal sealed class HeldMutation(HeldMutations port, string what) : IMutation
{
    private readonly ManualResetEventSlim _abandoned = new();
    private int _signals;

    public string What => what;

    public PendingReply Reply { get; private set; } = null!;

    /// <summary>Signals it was told of.</summary>
    public int Signals => Volatile.Read(ref _signals);

    public void Begin(PendingReply reply)
    {
        Reply = reply;
        port.OnBegin?.Invoke(this);
        port.Add(this);
    }

    public bool TryWithdraw()
    {
        Interlocked.Increment(ref _signals);
        return port.Withdraws;
    }

    public void Abandon() => _abandoned.Set();

    public void RequireAbandoned() => Assert.True(_abandoned.Wait(TimeSpan.FromSeconds(60)), $"{what} was not told that the session is over");

    public void RequireKept() => Assert.False(_abandoned.IsSet);
}
