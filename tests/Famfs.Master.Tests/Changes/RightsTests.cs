using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.Master.Queries;
using Famfs.V1;
using Xunit;

namespace Famfs.Master.Tests.Changes;

/// <summary>What each kind of caller may ask for. The rules of the tree are compared with the kernel's in
/// <see cref="KernelRightsTests"/>; here is what the kernel has no word for.</summary>
public sealed class RightsTests
{
    private static readonly Caller s_user = new(CallerKind.Process) { Uid = 1001, Gid = 2001, Groups = [2002] };
    private static readonly Caller s_root = new(CallerKind.Process) { Uid = 0, Gid = 0, IsPrivileged = true };
    private static readonly Caller s_certificate = new(CallerKind.Certificate) { Subject = "CN=a" };

    [Fact]
    public void An_ordinary_user_makes_nothing_for_another_and_nothing_where_it_may_not_write()
    {
        using Deciding on = NewDeciding();
        on.Context.Caller = s_user;
        // The example of the fault: a set-uid file of root in root's directory.
        FamfsException error = on.Refuse(new FileCreation(new() { Path = "dir/f", SizeBytes = 1, Mode = 0x9ED, ModeSet = true }));
        Assert.Equal((ErrorReason.NotPermitted, "dir"), (error.Reason, error.Path));
        Assert.Equal("tmp/f: user 1001 may not make it for user 0", on.Refuse(new FileCreation(new() { Path = "tmp/f", SizeBytes = 1 })).Message);
        Assert.Equal("tmp/f: user 1001 is not in group 7", on.Refuse(new FileCreation(new() { Path = "tmp/f", SizeBytes = 1, Uid = 1001, Gid = 7 })).Message);
        Assert.Equal("tmp/d: user 1001 may not make it for user 0", on.Refuse(new DirectoryCreation(new() { Path = "tmp/d" })).Message);
        Assert.Equal("dir: user 1001 may not make anything in it", on.Refuse(new DirectoryCreation(new() { Path = "dir/d/e", Parents = true, Uid = 1001, Gid = 2001 })).Message);
        on.Decide(new FileCreation(new() { Path = "tmp/f", SizeBytes = 1, Mode = 0x9ED, ModeSet = true, Uid = 1001, Gid = 2002 }));
        Assert.Equal((0x9EDu, 1001u, 2002u), Read(on, "tmp/f"));
        on.Decide(new DirectoryCreation(new() { Path = "tmp/d/e", Parents = true, Uid = 1001, Gid = 2001 }));
        Assert.Equal((0x1EDu, 1001u, 2001u), Read(on, "tmp/d/e"));
    }

    [Fact]
    public void Who_asks_for_itself_is_the_user_that_the_kernel_told_whatever_number_it_has_elsewhere()
    {
        using Deciding on = NewDeciding();
        on.Context.Caller = s_user;
        on.Decide(new FileCreation(new() { Path = "tmp/f", SizeBytes = 1, Mode = 0x1A4, ModeSet = true, OwnerIsCaller = true }));
        Assert.Equal((0x1A4u, 1001u, 2001u), Read(on, "tmp/f"));
        on.Decide(new DirectoryCreation(new() { Path = "tmp/d/e", Parents = true, OwnerIsCaller = true }));
        Assert.Equal((1001u, 2001u), (Read(on, "tmp/d").Uid, Read(on, "tmp/d/e").Gid));
        // It is no way to become another one.
        Assert.Equal("dir: user 1001 may not make anything in it", on.Refuse(new FileCreation(new() { Path = "dir/f", SizeBytes = 1, OwnerIsCaller = true })).Message);
        // Root and whoever is not known mean what they say.
        foreach (Caller caller in (Caller[])[s_root, s_certificate, Caller.Unknown])
        {
            on.Context.Caller = caller;
            string name = $"tmp/{caller.Kind}";
            on.Decide(new FileCreation(new() { Path = name, SizeBytes = 1, Uid = 7, Gid = 8, OwnerIsCaller = true }));
            Assert.Equal((7u, 8u), (Read(on, name).Uid, Read(on, name).Gid));
        }
    }

    [Fact]
    public void A_bulk_message_is_judged_file_by_file()
    {
        using Deciding on = NewDeciding();
        on.Context.Caller = s_user;
        CreateFilesReply reply = on.Decide(new FilesCreation(new()
        {
            Files =
            {
                new CreateFileRequest { Path = "dir/f", SizeBytes = 1, Uid = 1001, Gid = 2001 },
                new CreateFileRequest { Path = "tmp/f", SizeBytes = 1, Uid = 1001, Gid = 2001 },
                new CreateFileRequest { Path = "tmp/g", SizeBytes = 1 },
            },
        }));
        Assert.Equal([ErrorReason.NotPermitted, null, ErrorReason.NotPermitted], reply.Results.Select(r => r.Error?.Reason));
    }

    [Fact]
    public void A_group_directory_hands_its_group_on_whoever_makes_things_in_it()
    {
        using Deciding on = NewDeciding();
        on.Decide(new DirectoryCreation(new() { Path = "group", Mode = 0x5FF, ModeSet = true, Gid = 2009 }));
        foreach (Caller caller in (Caller[])[s_user, s_root, s_certificate, Caller.Unknown])
        {
            on.Context.Caller = caller;
            string name = $"group/{caller.Kind}{caller.Uid}";
            on.Decide(new FileCreation(new() { Path = name, SizeBytes = 1, Mode = 0x1ED, ModeSet = true, Uid = caller.Uid, Gid = caller.Gid }));
            on.Decide(new DirectoryCreation(new() { Path = name + "d/e", Parents = true, Uid = caller.Uid, Gid = caller.Gid }));
            Assert.Equal((0x1EDu, caller.Uid, 2009u), Read(on, name));
            Assert.Equal((0x5EDu, caller.Uid, 2009u), Read(on, name + "d"));
            Assert.Equal((0x5EDu, caller.Uid, 2009u), Read(on, name + "d/e"));
        }
        // The user is not in that group: it may not give the group's rights to whoever runs the file.
        on.Context.Caller = s_user;
        on.Decide(new FileCreation(new() { Path = "group/s", SizeBytes = 1, Mode = 0x5ED, ModeSet = true, Uid = 1001, Gid = 2001 }));
        Assert.Equal((0x1EDu, 1001u, 2009u), Read(on, "group/s"));
    }

    [Fact]
    public void Owner_and_mode_in_one_request_are_what_they_are_one_after_the_other()
    {
        using Deciding on = NewDeciding();
        on.Decide(new FileCreation(new() { Path = "f", SizeBytes = 1, Mode = 0xDED, ModeSet = true, Uid = 1001, Gid = 2001 }));
        // A new owner takes the bits away, also when root gives it; together with a mode it does not.
        on.Decide(new AttributeChange(new() { Path = "f", Uid = 1001 }));
        Assert.Equal(0x1EDu, Read(on, "f").Mode);
        on.Decide(new AttributeChange(new() { Path = "f", Uid = 1001, Mode = 0xDED }));
        Assert.Equal(0xDEDu, Read(on, "f").Mode);
        on.Context.Caller = s_user;
        on.Decide(new AttributeChange(new() { Path = "f", Gid = 2002, Mode = 0xDED }));
        Assert.Equal((0xDEDu, 1001u, 2002u), Read(on, "f"));
        Assert.Equal(ErrorReason.NotPermitted, on.Refuse(new AttributeChange(new() { Path = "f", Gid = 7, Mode = 0x1ED })).Reason);
        Assert.Equal(ErrorReason.NotPermitted, on.Refuse(new AttributeChange(new() { Path = "f", Uid = 0 })).Reason);
        Assert.Equal("dir: user 1001 may not change its mode; user 0 owns it", on.Refuse(new AttributeChange(new() { Path = "dir", Mode = 0x1FF })).Message);
        Assert.Equal("/: user 1001 may not set its times; user 0 owns it", on.Refuse(new AttributeChange(new() { Path = "", ModifyTimeNs = 1 })).Message);
    }

    [Fact]
    public void Who_may_write_sets_both_times_to_now_and_to_nothing_else()
    {
        using Deciding on = NewDeciding();
        on.Decide(new FileCreation(new() { Path = "all", SizeBytes = 1, Mode = 0x1B6, ModeSet = true }));
        on.Decide(new FileCreation(new() { Path = "none", SizeBytes = 1, Mode = 0x1A4, ModeSet = true }));
        on.Context.Caller = s_user;
        long before = on.Context.NowNs;

        on.Decide(new AttributeChange(new() { Path = "all", TimesNow = true, AccessTimeNs = 1, ModifyTimeNs = 2 }));

        InodeAttributes found = FileQueries.Find(on.Context.Reader, "all", 0, null);
        Assert.InRange(found.ModifyTimeNs, before, on.Context.NowNs);
        Assert.Equal(found.ModifyTimeNs, found.AccessTimeNs);
        Assert.Equal("none: user 1001 may not write it", on.Refuse(new AttributeChange(new() { Path = "none", TimesNow = true })).Message);
        Assert.Equal("all: user 1001 may not set its times; user 0 owns it", on.Refuse(new AttributeChange(new() { Path = "all", AccessTimeNs = 1, ModifyTimeNs = 2 })).Message);
    }

    [Fact]
    public void Whoever_is_not_known_gives_no_set_id_bits_and_does_everything_else()
    {
        using Deciding on = NewDeciding();
        on.Context.Caller = Caller.Unknown with { Address = "10.0.0.7" };
        foreach (uint bits in (uint[])[Permissions.SetUid, Permissions.SetGid])
        {
            Assert.Contains("has set-id bits", on.Refuse(new FileCreation(new() { Path = "dir/s", SizeBytes = 1, Mode = 0x1ED | bits })).Message, StringComparison.Ordinal);
            on.Decide(new FileCreation(new() { Path = $"dir/f{bits}", SizeBytes = 1, Uid = 5, Gid = 6 }));
            Assert.Equal(ErrorReason.NotPermitted, on.Refuse(new AttributeChange(new() { Path = $"dir/f{bits}", Mode = 0x1ED | bits })).Reason);
            on.Decide(new AttributeChange(new() { Path = $"dir/f{bits}", Mode = 0x1FF, Uid = 0 }));
        }
        // A directory's bit gives nobody anything.
        on.Decide(new DirectoryCreation(new() { Path = "dir/group", Mode = 0x5ED }));
        on.Decide(new PolicyChange(new() { DialectFloor = "none" }));
        // Nor does a change of owner hand such bits on.
        on.Context.Caller = s_root;
        on.Decide(new AttributeChange(new() { Path = "dir/f2048", Mode = 0x9ED }));
        on.Context.Caller = Caller.Unknown;
        on.Decide(new AttributeChange(new() { Path = "dir/f2048", Uid = 9 }));
        Assert.Equal((0x1EDu, 9u, 6u), Read(on, "dir/f2048"));
    }

    [Fact]
    public void What_changes_the_file_system_itself_is_no_ordinary_users()
    {
        using Deciding on = NewDeciding();
        on.Context.Caller = s_user;
        Assert.Equal("changing a policy needs root or a certificate; the caller is user 1001", on.Refuse(new PolicyChange(new() { DialectFloor = "none" })).Message);
        Assert.Equal(ErrorReason.NotPermitted, on.Refuse(new MasterSlotGrant(new() { HostId = Guid.NewGuid().ToByteString() })).Reason);
        Assert.Equal(ErrorReason.NotPermitted, on.Refuse(new DeviceAddition(new() { Path = "/dev/dax9.0" }, null!)).Reason);
        Assert.Equal(ErrorReason.NotPermitted, on.Refuse(new DeviceAdmission(new() { Path = "/dev/dax9.0" })).Reason);
        foreach (Caller caller in (Caller[])[s_root, s_certificate])
        {
            on.Context.Caller = caller;
            on.Decide(new PolicyChange(new() { DialectFloor = "none" }));
            on.Decide(new PolicyChange(new() { Reclaim = ReclaimPolicy.Lease }));
        }
        on.Context.Caller = Caller.Unknown;
        foreach (SetPolicyRequest request in (SetPolicyRequest[])[new() { Reclaim = ReclaimPolicy.Lease }, new() { LeaseMs = 6_000 }, new() { DialectFloor = "none", LeaseGraceMs = 9_000 }])
            Assert.Equal(ErrorReason.NotPermitted, on.Refuse(new PolicyChange(request)).Reason);
    }

    [Fact]
    public void A_number_or_a_listing_tells_no_more_than_the_path()
    {
        using Deciding on = NewDeciding();
        on.Decide(new DirectoryCreation(new() { Path = "dir/own", Mode = 0x1C0, ModeSet = true }));
        ulong hidden = on.Decide(new FileCreation(new() { Path = "dir/own/f", SizeBytes = 1 })).File.Inode;
        ulong secret = on.Decide(new FileCreation(new() { Path = "tmp/secret", SizeBytes = 1, Mode = 0x180, ModeSet = true })).File.Inode;
        Assert.Equal(ErrorReason.NotPermitted, Assert.Throws<FamfsException>(() => FileQueries.Find(on.Context.Reader, null, hidden, s_user.User)).Reason);
        Assert.Equal(secret, FileQueries.Find(on.Context.Reader, null, secret, s_user.User).Inode.Value);
        InodeNumber tmp = FileQueries.Find(on.Context.Reader, "tmp", 0).Inode;
        Assert.Null(Assert.Single(FileQueries.ListSome(on.Context.Reader, tmp, 0, default, 9, withMaps: true, s_user.User).Entries).Map);
        Assert.NotNull(Assert.Single(FileQueries.ListSome(on.Context.Reader, tmp, 0, default, 9, withMaps: true, null).Entries).Map);
        on.Context.Caller = s_user;
        CreateFileReply there = on.Decide(new FileCreation(new() { Path = "tmp/secret", SizeBytes = 1, IfExists = IfExists.OpenIfSame, Uid = 1001, Gid = 2001 }));
        Assert.Equal((true, null), (there.Existed, there.File.Map));
    }

    private static Deciding NewDeciding()
    {
        Deciding on = new();
        on.Context.Caller = s_root;
        on.Decide(new DirectoryCreation(new() { Path = "dir" }));
        on.Decide(new DirectoryCreation(new() { Path = "tmp", Mode = 0x3FF, ModeSet = true }));
        return on;
    }

    private static (uint Mode, uint Uid, uint Gid) Read(Deciding on, string path)
    {
        InodeAttributes found = FileQueries.Find(on.Context.Reader, path, 0);
        return (found.Mode, found.Uid, found.Gid);
    }
}
