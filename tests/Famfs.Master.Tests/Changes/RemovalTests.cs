using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.Master.Queries;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Master.Tests.Changes;

/// <summary>Removing names, and giving other ones. Rights are compared with the kernel's in <see cref="KernelRightsTests"/>.</summary>
public sealed class RemovalTests
{
    private static readonly Caller s_user = new(CallerKind.Process) { Uid = 1001, Gid = 2001 };

    [Fact]
    public void A_removed_file_is_one_record_and_its_space_waits()
    {
        using Deciding on = new();
        ulong inode = Make(on, "f");
        (long free, long used) = (on.State.Allocator.FreeBytes, on.State.Replay.UsedBytes);
        on.Begin();
        MutationReply removed = on.Decide(new Removal(new() { Path = "f" }));
        Assert.Equal([RecordType.Deleted], on.Types());
        Assert.Equal(on.Context.Position.Sequence.Value, removed.Position.Sequence);
        Assert.Equal((free, used, MediaLayout.UnitBytes), (on.State.Allocator.FreeBytes, on.State.Replay.UsedBytes, on.State.Replay.PendingReclaimBytes));
        foreach (Func<InodeAttributes> find in (Func<InodeAttributes>[])[() => FileQueries.Find(on.Context.Reader, "f", 0), () => FileQueries.Find(on.Context.Reader, null, inode)])
            Assert.Equal(ErrorReason.NotFound, Assert.Throws<FamfsException>(() => find()).Reason);
        Assert.Equal(ErrorReason.NotFound, on.Refuse(new Removal(new() { Path = "f" })).Reason);
        // The name is free, the number is not.
        Assert.NotEqual(inode, Make(on, "f"));
    }

    [Fact]
    public void What_cannot_be_removed_is_refused_with_its_name()
    {
        using Deciding on = new();
        on.Decide(new DirectoryCreation(new() { Path = "d/e", Parents = true }));
        Make(on, "d/f");
        foreach ((string path, ErrorReason reason, string message) in (ReadOnlySpan<(string, ErrorReason, string)>)
            [
                ("", ErrorReason.BadPath, "path \"\" is the root itself"),
                ("/d", ErrorReason.BadPath, "path \"/d\" is absolute; paths are relative to the file system's root"),
                ("d/..", ErrorReason.BadPath, "path \"d/..\" has a component \".\" or \"..\""),
                (".meta/x", ErrorReason.BadPath, "path \".meta/x\" begins with .meta, which belongs to the file system"),
                ("x", ErrorReason.NotFound, "x: does not exist"),
                ("x/y", ErrorReason.NotFound, "x: does not exist"),
                ("d/f/g", ErrorReason.NotADirectory, "d/f: is not a directory"),
                ("d", ErrorReason.NotEmpty, "d: is a directory and not empty"),
            ])
        {
            FamfsException error = on.Refuse(new Removal(new() { Path = path }));
            Assert.Equal((reason, message), (error.Reason, error.Message));
        }
        string name = new('n', 256);
        Assert.Equal((ErrorReason.BadPath, 255UL), (on.Refuse(new Removal(new() { Path = name })).Reason, on.Refuse(new Removal(new() { Path = name })).Limit));
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new Removal(new() { Path = "d/f", RequestId = ByteString.CopyFrom(1, 2) })).Reason);
        on.Decide(new Removal(new() { Path = "d/e" }));
        on.Decide(new Removal(new() { Path = "d", Recursive = true }));
    }

    [Fact]
    public void A_repeated_id_is_answered_as_before_and_another_request_under_it_is_refused()
    {
        using Deciding on = new();
        Make(on, "f");
        Make(on, "g");
        RemoveRequest remove = new() { Path = "f", RequestId = Id(on) };
        MutationReply first = on.Decide(new Removal(remove));
        Make(on, "f");
        Assert.Equal(first.Position, on.Decide(new Removal(remove)).Position);
        Assert.Equal(InodeStatus.Published, FileQueries.Find(on.Context.Reader, "f", 0).Status);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new Removal(new() { Path = "g", RequestId = remove.RequestId })).Reason);
        RenameRequest rename = new() { OldPath = "g", NewPath = "h", RequestId = Id(on) };
        first = on.Decide(new Renaming(rename));
        Make(on, "g");
        Assert.Equal(first.Position, on.Decide(new Renaming(rename)).Position);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new Renaming(new() { OldPath = "g", NewPath = "i", RequestId = rename.RequestId })).Reason);
        // A wait is no part of what is asked for.
        Assert.Equal(first.Position, on.Decide(new Renaming(new(rename) { Wait = new() { Kind = WaitKind.All } })).Position);
    }

    [Fact]
    public void A_directory_goes_with_all_below_it_by_one_record_and_is_taken_apart_in_turns()
    {
        const int Files = 2500;
        using Deciding on = new(famfs2: false, devices: 1);
        on.Decide(new DirectoryCreation(new() { Path = "d/e", Parents = true }));
        for (int i = 0; i < Files; i++)
            Symlink(on, i % 2 == 0 ? "d" : "d/e", $"l{i}");
        ulong inode = Make(on, "d/e/f");
        on.Begin();
        on.Decide(new Removal(new() { Path = "d", Recursive = true }));
        Assert.Equal([RecordType.Deleted], on.Types());
        Assert.True(on.State.Replay.HasSubtrees);
        Assert.Equal(ErrorReason.NotFound, Assert.Throws<FamfsException>(() => FileQueries.Find(on.Context.Reader, "d/e/f", 0)).Reason);
        Assert.Equal(ErrorReason.NotFound, Assert.Throws<FamfsException>(() => FileQueries.Find(on.Context.Reader, null, inode)).Reason);
        SubtreeDisassembly disassembly = new();
        List<VerdictKind> turns = [];
        long before = on.State.Replay.Tree.InodeCount;
        do
        {
            on.Begin();
            turns.Add(disassembly.Decide(on.Context).Kind);
            Assert.True(before - on.State.Replay.Tree.InodeCount <= ChangeContext.FilesPerTurn);
            before = on.State.Replay.Tree.InodeCount;
        }
        while (turns[^1] != VerdictKind.Done);
        Assert.Equal([VerdictKind.NextTurn, VerdictKind.NextTurn, VerdictKind.Done], turns);
        Assert.Equal((false, MediaLayout.UnitBytes, 1L), (on.State.Replay.HasSubtrees, on.State.Replay.PendingReclaimBytes, on.State.Replay.Tree.DirectoryCount));
    }

    [Fact]
    public void An_ordinary_user_removes_a_directory_whole_only_where_rm_could_remove_each_part()
    {
        using Deciding on = new();
        foreach ((string path, uint mode, uint uid) in (ReadOnlySpan<(string, uint, uint)>)
            [
                ("tmp", 0x3FF, 0), ("tmp/own", 0x1ED, 1001), ("tmp/own/theirs", 0x1ED, 0), ("tmp/own/empty", 0x1C0, 0),
                ("tmp/sticky", 0x3FF, 1002), ("tmp/sticky/mine", 0x1ED, 1001),
            ])
            on.Decide(new DirectoryCreation(new() { Path = path, Mode = mode, ModeSet = true, Uid = uid }));
        Make(on, "tmp/own/theirs/f");
        on.Context.Caller = s_user;
        FamfsException refused = on.Refuse(new Removal(new() { Path = "tmp/own", Recursive = true }));
        Assert.Equal((ErrorReason.NotPermitted, "tmp/own/theirs: user 1001 may not remove anything from it", 0UL), (refused.Reason, refused.Message, refused.Limit));
        on.Context.Caller = Caller.Master;
        on.Decide(new Removal(new() { Path = "tmp/own/theirs/f" }));
        Make(on, "tmp/sticky/f");
        on.Context.Caller = s_user;
        // What is empty needs no rights in itself.
        on.Decide(new Removal(new() { Path = "tmp/own", Recursive = true }));
        Assert.Equal("tmp/sticky: user 1001 may not remove or rename it in a sticky directory; user 1002 owns it", on.Refuse(new Removal(new() { Path = "tmp/sticky", Recursive = true })).Message);
        on.Context.Caller = s_user with { Uid = 1003 };
        Assert.Equal(ErrorReason.NotPermitted, on.Refuse(new Removal(new() { Path = "tmp/sticky/mine" })).Reason);
        on.Context.Caller = Caller.Master;
        on.Decide(new AttributeChange(new() { Path = "tmp", Mode = 0x1FF }));
        on.Context.Caller = s_user;
        // In a sticky directory each entry must be its own.
        Assert.Equal("tmp/sticky/f: user 1001 may not remove or rename it in a sticky directory; user 0 owns it", on.Refuse(new Removal(new() { Path = "tmp/sticky", Recursive = true })).Message);
        on.Context.Caller = s_user with { Uid = 1002 };
        on.Decide(new Removal(new() { Path = "tmp/sticky", Recursive = true }));
    }

    [Fact]
    public void Rights_below_a_directory_are_looked_at_within_a_turn_and_beyond_it_is_said()
    {
        using Deciding on = new();
        on.Decide(new DirectoryCreation(new() { Path = "d", Uid = 1001 }));
        for (int i = 0; i < SubtreeRights.MaxInodes; i++)
            on.Decide(new DirectoryCreation(new() { Path = $"d/{i}", Uid = 1001 }));
        on.Decide(new AttributeChange(new() { Path = "", Mode = 0x1FF }));
        on.Context.Caller = s_user;
        FamfsException refused = on.Refuse(new Removal(new() { Path = "d", Recursive = true }));
        Assert.Equal((ErrorReason.NotPermitted, (ulong)SubtreeRights.MaxInodes), (refused.Reason, refused.Limit));
        on.Decide(new Removal(new() { Path = "d/1" }));
        on.Decide(new Removal(new() { Path = "d", Recursive = true }));
        // Files of a directory that is not sticky are not looked at.
        on.Context.Caller = Caller.Master;
        on.Decide(new DirectoryCreation(new() { Path = "d", Uid = 1001 }));
        for (int i = 0; i < 2 * SubtreeRights.MaxInodes; i++)
            Symlink(on, "d", $"l{i}");
        on.Context.Caller = s_user;
        on.Decide(new Removal(new() { Path = "d", Recursive = true }));
    }

    [Fact]
    public void A_name_moves_with_what_it_means_and_replaces_only_what_fits()
    {
        using Deciding on = new();
        on.Decide(new DirectoryCreation(new() { Path = "d/e", Parents = true }));
        on.Decide(new DirectoryCreation(new() { Path = "x" }));
        ulong f = Make(on, "f");
        ulong g = Make(on, "d/g");
        foreach ((string old, string to, bool replace, ErrorReason reason, string message) in (ReadOnlySpan<(string, string, bool, ErrorReason, string)>)
            [
                ("none", "a", false, ErrorReason.NotFound, "none: does not exist"),
                ("f", "none/a", false, ErrorReason.NotFound, "none: does not exist"),
                ("f", "d/g/a", false, ErrorReason.NotADirectory, "d/g: is not a directory"),
                ("f", "d/g", false, ErrorReason.Exists, "d/g: exists"),
                ("f", "f", false, ErrorReason.Exists, "f: exists"),
                ("f", "d", true, ErrorReason.IsADirectory, "d: is a directory, which only a directory can replace"),
                ("d", "f", true, ErrorReason.NotADirectory, "f: is not a directory, which a directory could replace"),
                ("x", "d", true, ErrorReason.NotEmpty, "d: is a directory and not empty"),
                ("d", "d/a", true, ErrorReason.BadPath, "d: cannot become a part of itself, d/a"),
                ("d", "d/e/a", true, ErrorReason.BadPath, "d: cannot become a part of itself, d/e/a"),
                ("d/e", "d", true, ErrorReason.NotEmpty, "d: is a directory and not empty"),
                ("d/g", "d", true, ErrorReason.NotEmpty, "d: is a directory and not empty"),
                ("", "a", false, ErrorReason.BadPath, "path \"\" is the root itself"),
                ("f", ".staged/a", false, ErrorReason.BadPath, "path \".staged/a\" begins with .staged, which belongs to the file system"),
            ])
        {
            FamfsException error = on.Refuse(new Renaming(new() { OldPath = old, NewPath = to, Replace = replace }));
            Assert.Equal((reason, message), (error.Reason, error.Message));
        }
        on.Begin();
        on.Decide(new Renaming(new() { OldPath = "f", NewPath = "f", Replace = true }));
        Assert.Empty(on.Types());
        on.Decide(new Renaming(new() { OldPath = "f", NewPath = "d/g", Replace = true }));
        Assert.Equal([RecordType.Renamed], on.Types());
        Assert.Equal(f, FileQueries.Find(on.Context.Reader, "d/g", 0).Inode.Value);
        Assert.Equal(MediaLayout.UnitBytes, on.State.Replay.PendingReclaimBytes);
        using (TreeScope scope = on.Context.Reader.Tree.Enter())
        {
            Assert.True(scope.TryGet(new(g), out InodeAttributes replaced));
            Assert.Equal((InodeStatus.Deleted, 0u), (replaced.Status, replaced.LinkCount));
        }
        on.Decide(new Renaming(new() { OldPath = "d", NewPath = "x", Replace = true }));
        Assert.Equal(f, FileQueries.Find(on.Context.Reader, "x/g", 0).Inode.Value);
        on.Decide(new Renaming(new() { OldPath = "x/e", NewPath = new string('n', 255) }));
        Assert.Equal(255UL, on.Refuse(new Renaming(new() { OldPath = "x", NewPath = new string('n', 256) })).Limit);
    }

    [Fact]
    public void What_was_removed_and_is_not_free_is_named_when_space_runs_out()
    {
        using Deciding on = new(devices: 1);
        Make(on, "f", 20UL << 20);
        Assert.DoesNotContain("pending", on.Refuse(new FileCreation(new() { Path = "g", SizeBytes = 60UL << 20 })).Message, StringComparison.Ordinal);
        on.Decide(new Removal(new() { Path = "f" }));
        FamfsException full = on.Refuse(new FileCreation(new() { Path = "g", SizeBytes = 60UL << 20 }));
        Assert.Equal(ErrorReason.NoSpace, full.Reason);
        Assert.EndsWith($"; {20 << 20} bytes are pending, of files that were removed: they are not free yet", full.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_other_format_refuses_both()
    {
        using Deciding on = new(famfs2: true);
        foreach (FamfsException error in (FamfsException[])[on.Refuse(new Removal(new() { Path = "f" })), on.Refuse(new Renaming(new() { OldPath = "f", NewPath = "g" }))])
            Assert.Equal(ErrorReason.NotSupportedByFormat, error.Reason);
    }

    private static ByteString Id(Deciding on) => Guid.CreateVersion7(on.Clock.Now).ToByteString();

    private static ulong Make(Deciding on, string path, ulong size = 1) => on.Decide(new FileCreation(new() { Path = path, SizeBytes = size })).File.Inode;

    /// <summary>No call makes one yet.</summary>
    private static void Symlink(Deciding on, string directory, string name)
    {
        if (on.Batch.LengthBytes > Deciding.Room / 2)
            on.Begin();
        on.Context.Append(RecordType.SymlinkMade, new SymlinkMade
        {
            Inode = on.Context.NextInode.Value,
            Parent = FileQueries.Find(on.Context.Reader, directory, 0).Inode.Value,
            Name = ByteString.CopyFromUtf8(name),
            Target = ByteString.CopyFromUtf8("t"),
        });
    }
}
