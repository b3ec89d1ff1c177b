using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Master.Tests.Changes;

public sealed class FileCreationTests
{
    [Fact]
    public void A_new_file_is_one_record_of_the_clocks_time_and_the_callers_wishes()
    {
        using Deciding on = new();
        long free = on.State.Allocator.FreeBytes;
        CreateFileReply reply = on.Decide(new FileCreation(new() { Path = "f", SizeBytes = 3 << 20, Mode = 0x180, Uid = 7, Gid = 8 }));
        Assert.Equal([RecordType.FileCreated], on.Types());
        Assert.Equal((0x180u, 7u, 8u, 3UL << 20), (reply.File.Mode, reply.File.Uid, reply.File.Gid, reply.File.SizeBytes));
        Assert.Equal((on.Clock.Now.UtcTicks - DateTime.UnixEpoch.Ticks) * 100, reply.File.ModifyTimeNs);
        Assert.Equal(on.Context.Position.Sequence.Value, reply.Position.Sequence);
        Assert.Equal(free - (4 << 20), on.State.Allocator.FreeBytes);
    }

    [Theory]
    [InlineData("", ErrorReason.BadPath)]
    [InlineData("/f", ErrorReason.BadPath)]
    [InlineData("no/f", ErrorReason.NotFound)]
    [InlineData("there/f", ErrorReason.NotADirectory)]
    [InlineData("there", ErrorReason.Exists)]
    public void A_path_that_cannot_be_made_changes_nothing(string path, ErrorReason reason)
    {
        using Deciding on = new();
        on.Decide(new FileCreation(new() { Path = "there", SizeBytes = 1 }));
        Assert.Equal(reason, on.Refuse(new FileCreation(new() { Path = path, SizeBytes = 1 })).Reason);
    }

    [Fact]
    public void An_error_of_the_allocator_names_the_file()
    {
        using Deciding on = new();
        FamfsException error = on.Refuse(new FileCreation(new() { Path = "large", SizeBytes = 1UL << 40 }));
        Assert.Equal((ErrorReason.NoSpace, "large"), (error.Reason, error.Path));
        Assert.StartsWith("large: ", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_repeated_id_is_answered_from_the_first_record_and_another_kinds_is_refused()
    {
        using Deciding on = new();
        CreateFileRequest request = new() { RequestId = NewId(on), Path = "f", SizeBytes = 5 };
        CreateFileReply first = on.Decide(new FileCreation(request));
        on.Decide(new FileCreation(new() { Path = "g", SizeBytes = 5 }));
        CreateFileReply again = on.Decide(new FileCreation(request));
        Assert.Equal((first.File.Inode, first.Position), (again.File.Inode, again.Position));
        Assert.Equal(2, on.Batch.Count);

        MakeDirectoryRequest directory = new() { RequestId = NewId(on), Path = "d" };
        on.Decide(new DirectoryCreation(directory));
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new FileCreation(new() { RequestId = directory.RequestId, Path = "h", SizeBytes = 5 })).Reason);
    }

    [Fact]
    public void A_batch_without_room_is_answered_with_what_is_needed_and_the_next_one_takes_it()
    {
        using Deciding on = new();
        on.Begin(roomBytes: 100);
        FileCreation change = new(new() { Path = "f", SizeBytes = 1 });
        long free = on.State.Allocator.FreeBytes;
        Verdict verdict = change.Decide(on.Context);
        Assert.Equal(VerdictKind.NextBatch, verdict.Kind);
        Assert.Equal((0, free), (on.Batch.Count, on.State.Allocator.FreeBytes));
        on.Begin(verdict.Bytes);
        on.Decide(change);
        Assert.Equal(1, on.Batch.Count);
    }

    [Fact]
    public void A_log_that_takes_no_more_entries_is_full()
    {
        using Deciding on = new();
        on.Begin(roomRecords: 1);
        on.Decide(new FileCreation(new() { Path = "f", SizeBytes = 1 }));
        Assert.Equal(ErrorReason.LogFull, on.Refuse(new FileCreation(new() { Path = "g", SizeBytes = 1 })).Reason);
    }

    [Fact]
    public void In_a_format_that_promises_zeros_the_record_comes_in_a_second_turn()
    {
        using Deciding on = new(famfs2: true);
        long free = on.State.Allocator.FreeBytes;
        FileCreation change = new(new() { Path = "f", SizeBytes = 1 });
        Verdict verdict = change.Decide(on.Context);
        Assert.Equal((VerdictKind.Zero, 0), (verdict.Kind, on.Batch.Count));
        Assert.Equal(free - (2 << 20), on.State.Allocator.FreeBytes);
        MapExtent taken = Assert.Single(verdict.Space!.Extents);
        Extent given = Assert.Single(on.Decide(change).File.Map.Extents);
        Assert.Equal((ulong)taken.OffsetBytes, given.OffsetBytes);
        Assert.Equal(free - (2 << 20), on.State.Allocator.FreeBytes);
        Assert.Equal([RecordType.FileCreated], on.Types());
    }

    [Fact]
    public void Space_is_free_again_when_its_file_cannot_be_made_any_more()
    {
        using Deciding on = new(famfs2: true);
        long free = on.State.Allocator.FreeBytes;
        FileCreation late = Begun(on, "late");
        on.Decide(new DirectoryCreation(new() { Path = "late" }));
        Assert.Equal(ErrorReason.Exists, Assert.Throws<FamfsException>(() => late.Decide(on.Context)).Reason);
        Assert.Equal(free, on.State.Allocator.FreeBytes);

        FileCreation unzeroed = Begun(on, "unzeroed", out NewSpace space);
        space.Failure = new(ErrorReason.DeviceMissing, "it faults");
        FamfsException error = Assert.Throws<FamfsException>(() => unzeroed.Decide(on.Context));
        Assert.Equal((ErrorReason.DeviceMissing, "unzeroed: it faults"), (error.Reason, error.Message));
        Assert.Equal(free, on.State.Allocator.FreeBytes);

        FileCreation full = Begun(on, "full");
        on.Begin(roomBytes: 0);
        Assert.Equal(VerdictKind.NextBatch, full.Decide(on.Context).Kind);
        Assert.Equal(free - (2 << 20), on.State.Allocator.FreeBytes);
        Assert.False(full.GiveUp(on.Context, new(ErrorReason.LogFull, "the log is full")));
        Assert.Equal(free, on.State.Allocator.FreeBytes);
    }

    [Fact]
    public void An_equal_request_waits_for_the_first_and_gets_its_file_and_takes_no_space()
    {
        using Deciding on = new(famfs2: true);
        CreateFileRequest request = new() { RequestId = NewId(on), Path = "f", SizeBytes = 1 };
        FileCreation first = new(request);
        Verdict zero = first.Decide(on.Context);
        long free = on.State.Allocator.FreeBytes;
        FileCreation again = new(request);
        Verdict after = again.Decide(on.Context);
        Assert.Equal(VerdictKind.After, after.Kind);
        Assert.Same(zero.Space, after.Space);
        bool over = false;
        after.Space!.Over += () => over = true;
        ulong inode = on.Decide(first).File.Inode;
        Assert.True(over);
        Assert.Equal(inode, on.Decide(again).File.Inode);
        Assert.Equal(free, on.State.Allocator.FreeBytes);
    }

    [Fact]
    public void Files_of_a_bulk_message_are_decided_once_each_over_batches_and_turns()
    {
        using Deciding on = new(famfs2: true);
        CreateFilesRequest request = new();
        request.Files.Add(new CreateFileRequest { Path = "a", SizeBytes = 1 });
        request.Files.Add(new CreateFileRequest { Path = "a", SizeBytes = 1 });
        request.Files.Add(new CreateFileRequest { Path = "b", SizeBytes = 1, Wait = new() { Kind = WaitKind.All } });
        request.Files.Add(new CreateFileRequest { Path = "c", SizeBytes = 1 });
        FilesCreation bulk = new(request);
        Assert.Equal(VerdictKind.Zero, bulk.Decide(on.Context).Kind);
        on.Begin(roomBytes: 0);
        Assert.Equal(VerdictKind.NextBatch, bulk.Decide(on.Context).Kind);
        on.Begin();
        Assert.Equal(VerdictKind.Zero, bulk.Decide(on.Context).Kind);
        Assert.Equal([RecordType.FileCreated], on.Types());
        Assert.True(bulk.GiveUp(on.Context, new(ErrorReason.LogFull, "the log is full")));
        Assert.Equal(
            [ErrorReason.Unspecified, ErrorReason.Exists, ErrorReason.BadRequest, ErrorReason.LogFull],
            bulk.Reply.Results.Select(r => r.Error?.Reason ?? ErrorReason.Unspecified));
    }

    private static FileCreation Begun(Deciding on, string path) => Begun(on, path, out _);

    private static FileCreation Begun(Deciding on, string path, out NewSpace space)
    {
        FileCreation change = new(new() { Path = path, SizeBytes = 1 });
        Verdict verdict = change.Decide(on.Context);
        Assert.Equal(VerdictKind.Zero, verdict.Kind);
        space = verdict.Space!;
        return change;
    }

    private static ByteString NewId(Deciding on) => Guid.CreateVersion7(on.Clock.Now).ToByteString();
}
