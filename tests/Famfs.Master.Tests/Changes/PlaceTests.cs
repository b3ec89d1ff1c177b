using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Master.Changes;
using Famfs.Master.Queries;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Master.Tests.Changes;

/// <summary>What a mount asks for: entries by the number of their directory, and the rules of single system calls.</summary>
public sealed class PlaceTests
{
    [Fact]
    public void A_place_means_its_directory_whatever_that_is_called_by_now()
    {
        using Deciding on = new();
        ulong d = MakeDirectory(on, "d").Inode;
        on.Decide(new Renaming(new() { OldPath = "d", NewPath = "moved" }));
        Assert.Equal("moved/e", on.Decide(new DirectoryCreation(new() { At = At(d, "e") })).Directory.Path);
        Assert.Equal("moved/l", on.Decide(new SymlinkCreation(new() { At = At(d, "l"), Target = "t" })).Link.Path);
        on.Decide(new Renaming(new() { OldAt = At(d, "l"), NewAt = At(1, "l") }));
        Assert.Equal("t", FileQueries.Describe(on.Context.Reader, FileQueries.Find(on.Context.Reader, "l", 0), "l", withMap: false).SymlinkTarget);
        on.Decide(new Removal(new() { At = At(d, "e") }));
        on.Decide(new AttributeChange(new() { Inode = d, Mode = 0x1C0 }));
        Assert.Equal(0x1C0u, FileQueries.Find(on.Context.Reader, "moved", 0).Mode);
        on.Decide(new Removal(new() { Path = "moved" }));
        foreach (FamfsException error in (FamfsException[])
            [on.Refuse(new DirectoryCreation(new() { At = At(d, "x") })), on.Refuse(new Removal(new() { At = At(d, "x") })), on.Refuse(new AttributeChange(new() { Inode = d, Mode = 0 }))])
            Assert.Equal(ErrorReason.NotFound, error.Reason);
    }

    [Fact]
    public void A_place_that_is_none_is_refused()
    {
        using Deciding on = new();
        ulong link = on.Decide(new SymlinkCreation(new() { Path = "l", Target = "t" })).Link.Inode;
        foreach ((Place place, ErrorReason reason) in (ReadOnlySpan<(Place, ErrorReason)>)
            [
                (At(1, ""), ErrorReason.BadPath), (At(1, "a/b"), ErrorReason.BadPath), (At(1, ".."), ErrorReason.BadPath), (At(1, ".meta"), ErrorReason.BadPath),
                (At(1, new string('n', 256)), ErrorReason.BadPath), (At(0, "a"), ErrorReason.NotFound), (At(ulong.MaxValue, "a"), ErrorReason.NotFound), (At(link, "a"), ErrorReason.NotFound),
            ])
            Assert.Equal(reason, on.Refuse(new DirectoryCreation(new() { At = place })).Reason);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new Removal(new() { Path = "l", At = At(1, "l") })).Reason);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new DirectoryCreation(new() { At = At(1, "a"), Parents = true })).Reason);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new AttributeChange(new() { Path = "l", Inode = link, Uid = 1 })).Reason);
    }

    [Fact]
    public void A_removal_may_be_for_one_kind_only()
    {
        using Deciding on = new();
        MakeDirectory(on, "d");
        on.Decide(new SymlinkCreation(new() { Path = "l", Target = "t" }));
        Assert.Equal(ErrorReason.IsADirectory, on.Refuse(new Removal(new() { Path = "d", Kind = RemoveKind.File })).Reason);
        Assert.Equal(ErrorReason.NotADirectory, on.Refuse(new Removal(new() { Path = "l", Kind = RemoveKind.Directory })).Reason);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new Removal(new() { Path = "l", Kind = (RemoveKind)7 })).Reason);
        on.Decide(new Removal(new() { Path = "d", Kind = RemoveKind.Directory }));
        on.Decide(new Removal(new() { Path = "l", Kind = RemoveKind.File }));
    }

    [Fact]
    public void A_link_is_made_once_with_a_target_of_its_length()
    {
        using Deciding on = new();
        MakeSymlinkRequest request = new() { Path = "l", Target = "t", Uid = 1001, Gid = 2001, RequestId = Guid.CreateVersion7(on.Clock.Now).ToByteString() };
        MakeSymlinkReply made = on.Decide(new SymlinkCreation(request));
        Assert.Equal((FileKind.Symlink, "t", 1001u, 2001u, 0x1FFu), (made.Link.Kind, made.Link.SymlinkTarget, made.Link.Uid, made.Link.Gid, made.Link.Mode));
        Assert.Equal(made, on.Decide(new SymlinkCreation(request)));
        Assert.Equal(ErrorReason.Exists, on.Refuse(new SymlinkCreation(new() { Path = "l", Target = "t" })).Reason);
        foreach (string target in (string[])["", new string('t', 4096), "a\0b", "\uFFFD"])
            Assert.Equal(ErrorReason.BadRequest, on.Refuse(new SymlinkCreation(new() { Path = "m", Target = target })).Reason);
        on.Decide(new SymlinkCreation(new() { Path = "m", Target = new string('t', 4095) }));
        on.Context.Caller = new(CallerKind.Process) { Uid = 1001, Gid = 2001 };
        Assert.Equal(ErrorReason.NotPermitted, on.Refuse(new SymlinkCreation(new() { Path = "n", Target = "t", OwnerIsCaller = true })).Reason);
        using Deciding other = new(famfs2: true);
        Assert.Equal(ErrorReason.NotSupportedByFormat, other.Refuse(new SymlinkCreation(new() { Path = "l", Target = "t" })).Reason);
    }

    [Fact]
    public void An_attribute_may_have_to_be_new_or_to_be_there()
    {
        using Deciding on = new();
        MakeDirectory(on, "d");
        SetAttributesRequest Set(AttributeCondition condition, bool removed = false) =>
            new() { Path = "d", Condition = condition, Attributes = { new ExtendedAttribute { Name = ByteString.CopyFromUtf8("user.x"), Removed = removed } } };
        Assert.Equal(ErrorReason.NotFound, on.Refuse(new AttributeChange(Set(AttributeCondition.IsThere))).Reason);
        Assert.Equal(ErrorReason.NotFound, on.Refuse(new AttributeChange(Set(AttributeCondition.IsThere, removed: true))).Reason);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new AttributeChange(Set((AttributeCondition)9))).Reason);
        on.Decide(new AttributeChange(Set(AttributeCondition.IsNew)));
        Assert.Equal(ErrorReason.Exists, on.Refuse(new AttributeChange(Set(AttributeCondition.IsNew))).Reason);
        on.Decide(new AttributeChange(Set(AttributeCondition.IsThere)));
        on.Decide(new AttributeChange(Set(AttributeCondition.IsThere, removed: true)));
    }

    private static Place At(ulong directory, string name) => new() { Directory = directory, Name = name };

    private static V1.FileInfo MakeDirectory(Deciding on, string path) => on.Decide(new DirectoryCreation(new() { Path = path })).Directory;
}
