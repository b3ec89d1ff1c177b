using System.Text;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Master.Tests.Changes;

public sealed class AttributeChangeTests
{
    [Fact]
    public void What_is_named_changes_the_rest_stays_and_the_change_time_is_the_records()
    {
        using Deciding on = NewDeciding(out InodeNumber file);
        InodeAttributes before = Read(on, file);
        on.Clock.Now += TimeSpan.FromSeconds(3);
        on.Decide(new AttributeChange(new() { Path = "dir/f", Mode = 0x924, ModifyTimeNs = -5 }));
        InodeAttributes after = Read(on, file);
        Assert.Equal(before with { Mode = 0x924, ModifyTimeNs = -5, ChangeTimeNs = before.ChangeTimeNs + 3_000_000_000 }, after);
        on.Decide(new AttributeChange(new() { Path = "dir/f", Uid = 7, Gid = 8, AccessTimeNs = long.MaxValue }));
        // A new owner does not get the set-id bit of the former.
        Assert.Equal(after with { Mode = 0x124, Uid = 7, Gid = 8, AccessTimeNs = long.MaxValue }, Read(on, file));
        Assert.Equal(RecordType.AttributesSet, on.Types()[^1]);
    }

    [Fact]
    public void Mode_and_owner_of_the_root_and_of_a_directory_can_be_set()
    {
        using Deciding on = NewDeciding(out _);
        on.Decide(new AttributeChange(new() { Path = "", Mode = 0x3FF, Uid = 3 }));
        on.Decide(new AttributeChange(new() { Path = "dir", Mode = 0 }));
        Assert.Equal((0x3FFu, 3u), (Read(on, InodeNumber.Root).Mode, Read(on, InodeNumber.Root).Uid));
    }

    [Fact]
    public void User_attributes_are_set_replaced_and_removed()
    {
        using Deciding on = NewDeciding(out InodeNumber file);
        on.Decide(new AttributeChange(new() { Path = "dir/f", Attributes = { Set("user.a", "1"), Set("user.b", "") } }));
        on.Decide(new AttributeChange(new() { Path = "dir/f", Attributes = { Set("user.a", "22"), Remove("user.b"), Remove("user.never") } }));
        using TreeScope scope = on.Context.Reader.Tree.Enter();
        Assert.True(scope.TryGetExtendedAttribute(file, "user.a"u8, out ReadOnlySpan<byte> value));
        Assert.Equal("22", Encoding.UTF8.GetString(value));
        Assert.False(scope.TryGetExtendedAttribute(file, "user.b"u8, out _));
    }

    [Fact]
    public void A_repeat_changes_nothing_and_gets_the_first_position()
    {
        using Deciding on = NewDeciding(out InodeNumber file);
        SetAttributesRequest request = new() { RequestId = Guid.CreateVersion7(on.Clock.Now).ToByteString(), Path = "dir/f", Mode = 0x100 };
        MutationReply first = on.Decide(new AttributeChange(request));
        on.Decide(new AttributeChange(new() { Path = "dir/f", Mode = 0x80 }));
        Assert.Equal(first.Position, on.Decide(new AttributeChange(request)).Position);
        Assert.Equal(0x80u, Read(on, file).Mode);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new AttributeChange(new(request) { Mode = 0x80 })).Reason);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new DirectoryCreation(new() { RequestId = request.RequestId, Path = "x" })).Reason);
    }

    public static TheoryData<string, ErrorReason, string> Refused => new()
    {
        { """{ "path": "dir/f" }""", ErrorReason.BadRequest, "names no attribute" },
        { """{ "path": "dir/f", "mode": 4096 }""", ErrorReason.BadRequest, "07777" },
        { """{ "path": "dir/f", "uid": 4294967295 }""", ErrorReason.BadRequest, "is no owner" },
        { """{ "path": "dir/f", "gid": 4294967295 }""", ErrorReason.BadRequest, "is no owner" },
        { """{ "path": "dir/none", "mode": 1 }""", ErrorReason.NotFound, "dir/none" },
        { """{ "path": "dir/f/g", "mode": 1 }""", ErrorReason.NotADirectory, "dir/f" },
        { """{ "path": ".meta/superblock", "mode": 1 }""", ErrorReason.BadPath, ".meta" },
        { """{ "path": "/dir", "mode": 1 }""", ErrorReason.BadPath, "absolute" },
        { """{ "path": "dir/f", "mode": 1, "requestId": "AAE=" }""", ErrorReason.BadRequest, "request_id" },
    };

    [Theory]
    [MemberData(nameof(Refused))]
    public void A_bad_request_is_refused_and_changes_nothing(string request, ErrorReason reason, string named)
    {
        using Deciding on = NewDeciding(out _);
        FamfsException error = on.Refuse(new AttributeChange(SetAttributesRequest.Parser.ParseJson(request)));
        Assert.Equal(reason, error.Reason);
        Assert.Contains(named, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("security.selinux")]
    [InlineData("trusted.x")]
    [InlineData("user.")]
    [InlineData("user")]
    [InlineData("user.famfs.ino")]
    [InlineData("user.a\0b")]
    [InlineData("")]
    public void Only_names_of_users_are_taken(string name)
    {
        using Deciding on = NewDeciding(out _);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new AttributeChange(new() { Path = "dir/f", Attributes = { Set(name, "x") } })).Reason);
    }

    [Fact]
    public void Limits_of_a_call_and_of_an_inode_are_kept()
    {
        using Deciding on = NewDeciding(out _);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new AttributeChange(new() { Path = "dir/f", Attributes = { Set("user." + new string('n', 251), "x") } })).Reason);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new AttributeChange(new() { Path = "dir/f", Attributes = { Set("user.a", "1"), Set("user.a", "2") } })).Reason);
        Assert.Equal((ulong)AttributeChange.MaxCallBytes, on.Refuse(new AttributeChange(new() { Path = "dir/f", Attributes = { Set("user.a", new string('v', AttributeChange.MaxCallBytes)) } })).Limit);
        string large = new('v', 50_000);
        on.Decide(new AttributeChange(new() { Path = "dir/f", Attributes = { Set("user.a", large) } }));
        on.Decide(new AttributeChange(new() { Path = "dir/f", Attributes = { Set("user.b", large) } }));
        Assert.Equal(ErrorReason.NoSpace, on.Refuse(new AttributeChange(new() { Path = "dir/f", Attributes = { Set("user.c", large) } })).Reason);
        // What takes the place of another needs only the difference.
        on.Decide(new AttributeChange(new() { Path = "dir/f", Attributes = { Remove("user.b"), Set("user.c", large) } }));
    }

    [Fact]
    public void The_names_of_an_inode_stay_within_what_the_kernel_lists()
    {
        using Deciding on = NewDeciding(out _);
        int set = 0;
        FamfsException? refusal = null;
        while (refusal is null)
        {
            SetAttributesRequest request = new() { Path = "dir/f" };
            for (int i = 0; i < 100; i++)
                request.Attributes.Add(Set($"user.{set * 100 + i:D200}", ""));
            on.Begin();
            try
            {
                on.Decide(new AttributeChange(request));
                set++;
            }
            catch (FamfsException e)
            {
                refusal = e;
            }
        }
        Assert.Equal(((ulong)AttributeChange.MaxNamesBytes, AttributeChange.MaxNamesBytes / (206 * 100)), (refusal.Limit, set));
    }

    [Fact]
    public void Without_room_the_change_waits_for_the_next_batch()
    {
        using Deciding on = NewDeciding(out InodeNumber file);
        on.Begin(roomBytes: 100);
        Assert.Equal(VerdictKind.NextBatch, new AttributeChange(new() { Path = "dir/f", Mode = 0 }).Decide(on.Context).Kind);
        Assert.NotEqual(0u, Read(on, file).Mode);
    }

    [Fact]
    public void The_other_format_has_no_such_record()
    {
        using Deciding on = new(devices: 1, famfs2: true);
        on.Decide(new DirectoryCreation(new() { Path = "f" }));
        FamfsException error = on.Refuse(new AttributeChange(new() { Path = "f", Mode = 0 }));
        Assert.Equal(ErrorReason.NotSupportedByFormat, error.Reason);
        Assert.Contains("native", error.Message, StringComparison.Ordinal);
    }

    private static Deciding NewDeciding(out InodeNumber file)
    {
        Deciding on = new();
        on.Decide(new DirectoryCreation(new() { Path = "dir" }));
        file = new(on.Decide(new FileCreation(new() { Path = "dir/f", SizeBytes = 1 })).File.Inode);
        return on;
    }

    private static InodeAttributes Read(Deciding on, InodeNumber inode)
    {
        using TreeScope scope = on.Context.Reader.Tree.Enter();
        Assert.True(scope.TryGet(inode, out InodeAttributes attributes));
        return attributes;
    }

    private static ExtendedAttribute Set(string name, string value) => new() { Name = ByteString.CopyFromUtf8(name), Value = ByteString.CopyFromUtf8(value) };

    private static ExtendedAttribute Remove(string name) => new() { Name = ByteString.CopyFromUtf8(name), Removed = true };
}
