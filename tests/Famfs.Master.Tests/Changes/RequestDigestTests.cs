using Famfs.Master.Changes;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Master.Tests.Changes;

/// <summary>Digests are recorded in the log. A repeated id must find the digest that an older version wrote, so the values
/// here never change, whatever becomes of the library that serializes the request.</summary>
public sealed class RequestDigestTests
{
    private static readonly ByteString Id = ByteString.CopyFrom([.. Enumerable.Range(1, 16).Select(i => (byte)i)]);

    [Fact]
    public void Digest_of_a_creation_with_every_field_is_golden()
    {
        CreateFileRequest request = NewCreation();
        Assert.Equal(0xa6085b8fb63d82ffUL, RequestDigest.Of(request));
    }

    [Fact]
    public void Digest_of_a_creation_with_defaults_is_golden() =>
        Assert.Equal(0xa15223f0fbed8abbUL, RequestDigest.Of(new CreateFileRequest { Path = "f", SizeBytes = 1 }));

    [Fact]
    public void Digest_of_a_creation_longer_than_the_stack_buffer_is_golden() =>
        Assert.Equal(0xdf1ca7d3dd1ae95cUL, RequestDigest.Of(new CreateFileRequest { Path = string.Join('/', Enumerable.Repeat(new string('n', 255), 15)), SizeBytes = 1 }));

    [Fact]
    public void Digest_of_a_creation_with_a_field_of_a_later_version_is_golden()
    {
        byte[] later = [.. new CreateFileRequest { Path = "f", SizeBytes = 1 }.ToByteArray(), 0xfa, 0x07, 0x02, 0x01, 0x02]; // field 127, two bytes
        Assert.Equal(0x775e42ff242c4698UL, RequestDigest.Of(CreateFileRequest.Parser.ParseFrom(later)));
    }

    [Fact]
    public void Digest_of_a_directory_is_golden() => Assert.Equal(0x06682813652e0e53UL, RequestDigest.Of(new MakeDirectoryRequest
    {
        RequestId = Id,
        Path = "a/ü/c",
        Mode = 0b111_101_101,
        ModeSet = true,
        Uid = 1000,
        Gid = 100,
        Parents = true,
        Wait = new() { Kind = WaitKind.All },
    }));

    [Fact]
    public void Digest_of_a_removal_is_golden() => Assert.Equal(0x86bb78ac9ac71206UL, RequestDigest.Of(new RemoveRequest
    {
        RequestId = Id,
        Path = "a/ü/c",
        Recursive = true,
        Wait = new() { Kind = WaitKind.All },
    }));

    [Fact]
    public void Digest_of_a_removal_at_a_place_is_golden() =>
        Assert.Equal(0x96cff765d1f5181eUL, RequestDigest.Of(new RemoveRequest { At = new() { Directory = 17, Name = "n" }, Kind = RemoveKind.Directory }));

    [Fact]
    public void Digest_of_a_link_is_golden() => Assert.Equal(0xaf8aa609d84903cfUL, RequestDigest.Of(new MakeSymlinkRequest
    {
        RequestId = Id,
        Path = "a/ü/c",
        Target = "../t",
        Uid = 1000,
        Gid = 100,
        Wait = new() { Kind = WaitKind.All },
    }));

    [Fact]
    public void Digest_of_a_renaming_is_golden() => Assert.Equal(0x77519adeed34c206UL, RequestDigest.Of(new RenameRequest
    {
        RequestId = Id,
        OldPath = "a/ü/c",
        NewPath = "d",
        Replace = true,
        Wait = new() { Kind = WaitKind.All },
    }));

    [Fact]
    public void Digest_of_a_device_is_golden() => Assert.Equal(0xfd5e729e6de98733UL, RequestDigest.Of(new AddDeviceRequest
    {
        RequestId = Id,
        Path = "/dev/dax2.0",
        Force = true,
        Coherent = false,
        Zero = true,
    }));

    [Fact]
    public void Digest_of_a_master_slot_is_golden() => Assert.Equal(0x52de8732562711f2UL, RequestDigest.Of(new GrantMasterSlotRequest { RequestId = Id, HostId = Id }));

    [Fact]
    public void Digest_of_attributes_is_golden() => Assert.Equal(0x45611ce5c0d632c9UL, RequestDigest.Of(new SetAttributesRequest
    {
        RequestId = Id,
        Path = "models/größe.bin",
        Mode = 0b110_100_000,
        Uid = 0,
        Gid = 100,
        AccessTimeNs = -1,
        ModifyTimeNs = 1_700_000_000_123_456_789,
        Attributes = { new ExtendedAttribute { Name = ByteString.CopyFromUtf8("user.a"), Value = Id }, new ExtendedAttribute { Name = ByteString.CopyFromUtf8("user.b"), Removed = true } },
        Wait = new() { Kind = WaitKind.All },
    }));

    [Fact]
    public void Digest_of_a_policy_is_golden() => Assert.Equal(0xe68a24e8501a50acUL, RequestDigest.Of(new SetPolicyRequest { RequestId = Id, DialectFloor = "B0" }));

    [Fact]
    public void Digest_is_of_the_content_without_id_and_wait_and_leaves_the_request_as_it_was()
    {
        CreateFileRequest request = NewCreation();
        CreateFileRequest before = request.Clone();
        ulong digest = RequestDigest.Of(request);
        Assert.Equal(before, request);
        request.RequestId = ByteString.Empty;
        request.Wait = null;
        Assert.Equal(digest, RequestDigest.Of(request));
        request.SizeBytes++;
        Assert.NotEqual(digest, RequestDigest.Of(request));
    }

    private static CreateFileRequest NewCreation() => new()
    {
        RequestId = Id,
        Path = "models/größe.bin",
        SizeBytes = 16UL << 30,
        Mode = 0b110_100_000,
        ModeSet = true,
        Uid = 1000,
        Gid = uint.MaxValue,
        Layout = new() { Kind = LayoutKind.Interleaved, Strips = 4, ChunkBytes = 2 << 20, Devices = { 0, 1, 300, 65535 } },
        IfExists = IfExists.OpenIfSame,
        State = CreateState.Staged,
        OwnerMount = Id,
        Wait = new() { Kind = WaitKind.Mount, MountId = Id },
    };
}
