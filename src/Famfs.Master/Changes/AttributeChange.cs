using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Master.Queries;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Changes;

/// <summary>Sets mode, owner, times and user attributes of a file or directory. What is not named stays; the change time
/// becomes the record's.</summary>
internal sealed class AttributeChange(SetAttributesRequest request) : Change<MutationReply>
{
    /// <summary>Most bytes of the names and values of one call: they share a record.</summary>
    public const int MaxCallBytes = 60_000;

    /// <summary>Most attributes of one call (chosen: for each, a mount and the master copy all that the inode has).</summary>
    public const int MaxCallAttributes = 1024;

    /// <summary>Most bytes of all names of one inode, each with its end: the kernel lists 65,536, and a mount adds its own.</summary>
    public const int MaxNamesBytes = 64_000;

    /// <summary>Chown's word for "stays as it is", and no owner.</summary>
    private const uint NoOwner = uint.MaxValue;

    // Field numbers and lengths of an attribute in the record take less.
    private const int AttributeOverheadBytes = 16;

    // A record without attributes takes less.
    private const int RecordBytes = 128;

    private static ReadOnlySpan<byte> UserPrefix => "user."u8;

    private static ReadOnlySpan<byte> OwnPrefix => "user.famfs."u8;

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        Guid id = request.RequestId.ToGuid("request_id");
        ulong digest = RequestDigest.Of(request);
        if (context.TryFindMade(id, digest, RecordType.AttributesSet, out RequestTrace trace))
        {
            Reply = new() { Position = context.PositionOf(trace) };
            return Verdict.Done;
        }
        int attributeBytes = RequireWishes();
        context.State.Format.Require("a change of attributes");
        Caller caller = context.Caller;
        if (request.Inode != 0 && request.Path.Length > 0)
            throw new FamfsException(ErrorReason.BadRequest, $"{Shown}: a path and an inode are given; give one of them");
        InodeAttributes found = FileQueries.Find(context.Reader, request.Inode == 0 ? request.Path : null, request.Inode, caller.User);
        if (found.Kind == InodeKind.Symlink && request.HasMode)
            throw Bad("is a symbolic link, which has no mode of its own");
        Ownership owner = Permissions.OfChange(
            caller.User, caller.MayGiveSetId, found, request.HasMode ? request.Mode : null, request.HasUid ? request.Uid : null, request.HasGid ? request.Gid : null, Named);
        if (request.TimesNow)
            Permissions.RequireTouch(caller.User, found, Named);
        else if (request.HasAccessTimeNs || request.HasModifyTimeNs)
            Permissions.RequireOwner(caller.User, found, "set its times", Named);
        if (request.Attributes.Count > 0)
            Permissions.RequireAttributes(caller.User, found, Named);
        using (TreeScope scope = context.Reader.Tree.Enter())
        {
            RequireCondition(scope, found.Inode);
            RequireRoom(scope, found.Inode);
        }
        if (!context.HasRoom(1, RecordBytes + attributeBytes, out Verdict verdict))
            return verdict;
        AttributesSet record = new() { TimeNs = context.NowNs, Inode = found.Inode.Value };
        if (id != Guid.Empty)
            (record.RequestId, record.RequestDigest) = (request.RequestId, digest);
        if (request.HasMode || owner.Mode != found.Mode)
            record.Mode = owner.Mode;
        if (request.HasUid)
            record.Uid = request.Uid;
        if (request.HasGid)
            record.Gid = request.Gid;
        if (request.TimesNow || request.HasAccessTimeNs)
            record.AccessTimeNs = request.TimesNow ? context.NowNs : request.AccessTimeNs;
        if (request.TimesNow || request.HasModifyTimeNs)
            record.ModifyTimeNs = request.TimesNow ? context.NowNs : request.ModifyTimeNs;
        record.Attributes.AddRange(request.Attributes);
        context.Append(RecordType.AttributesSet, record);
        Reply = new() { Position = context.Position.ToMessage() };
        return Verdict.Done;
    }

    /// <summary>What a request may wish for, whatever the file. Gives the bytes that its attributes take in a record.</summary>
    private int RequireWishes()
    {
        if (!request.HasMode && !request.HasUid && !request.HasGid && !request.HasAccessTimeNs && !request.HasModifyTimeNs && !request.TimesNow && request.Attributes.Count == 0)
            throw new FamfsException(ErrorReason.BadRequest, "the request names no attribute to set");
        if (request.HasMode)
            Mode.Require(request.Mode, true, 0);
        if ((request.HasUid && request.Uid == NoOwner) || (request.HasGid && request.Gid == NoOwner))
            throw new FamfsException(ErrorReason.BadRequest, $"{NoOwner} is no owner; leave uid or gid out to keep it") { Limit = NoOwner - 1 };
        if (request.Attributes.Count > MaxCallAttributes)
            throw Bad($"the request has {request.Attributes.Count} attributes, the limit of one call is {MaxCallAttributes}", MaxCallAttributes);
        long bytes = 0;
        HashSet<string> names = [];
        foreach (ExtendedAttribute attribute in request.Attributes)
        {
            ReadOnlySpan<byte> name = attribute.Name.Span;
            string shown = FileSystemPath.Show(attribute.Name.ToStringUtf8());
            if (!name.StartsWith(UserPrefix) || name.Length == UserPrefix.Length || name.StartsWith(OwnPrefix))
                throw Bad($"attribute \"{shown}\" cannot be set: names begin with user. and not with user.famfs.");
            if (name.Length > InodeTree.MaxNameBytes || name.Contains((byte)0))
                throw Bad($"attribute \"{shown}\" has a name of {name.Length} bytes, the limit is {InodeTree.MaxNameBytes} without NUL", InodeTree.MaxNameBytes);
            if (attribute.Removed && attribute.Value.Length != 0)
                throw Bad($"attribute \"{shown}\" has a value and is to be removed");
            if (!names.Add(Convert.ToHexString(name)))
                throw Bad($"attribute \"{shown}\" is named twice");
            bytes += name.Length + attribute.Value.Length + AttributeOverheadBytes;
        }
        return bytes <= MaxCallBytes
            ? (int)bytes
            : throw Bad($"the attributes take {bytes} bytes, the limit of one call is {MaxCallBytes}", MaxCallBytes);
    }

    private void RequireCondition(TreeScope scope, InodeNumber inode)
    {
        if (!Enum.IsDefined(request.Condition))
            throw Bad($"condition {(int)request.Condition} is not one that this master knows");
        foreach (ExtendedAttribute attribute in request.Attributes)
        {
            bool isThere = scope.TryGetExtendedAttribute(inode, attribute.Name.Span, out _);
            if (request.Condition == AttributeCondition.IsNew && isThere)
                throw new FamfsException(ErrorReason.Exists, $"{Shown}: attribute \"{FileSystemPath.Show(attribute.Name.ToStringUtf8())}\" exists") { Path = Shown };
            if (request.Condition == AttributeCondition.IsThere && !isThere)
                throw new FamfsException(ErrorReason.NotFound, $"{Shown}: attribute \"{FileSystemPath.Show(attribute.Name.ToStringUtf8())}\" does not exist") { Path = Shown };
        }
    }

    /// <summary>The limits of what one inode holds, after this change.</summary>
    private void RequireRoom(TreeScope scope, InodeNumber inode)
    {
        if (request.Attributes.Count == 0)
            return;
        HashSet<string> replaced = [.. request.Attributes.Select(a => Convert.ToHexString(a.Name.Span))];
        long stored = InodeTree.ExtendedAttributesHeaderBytes;
        long names = 0;
        foreach (ExtendedAttributes present in scope.ListExtendedAttributes(inode))
        {
            if (replaced.Contains(Convert.ToHexString(present.Name)))
                continue;
            stored += InodeTree.ExtendedAttributeHeaderBytes + present.Name.Length + present.Value.Length;
            names += present.Name.Length + 1;
        }
        foreach (ExtendedAttribute attribute in request.Attributes)
        {
            if (attribute.Removed)
                continue;
            stored += InodeTree.ExtendedAttributeHeaderBytes + attribute.Name.Length + attribute.Value.Length;
            names += attribute.Name.Length + 1;
        }
        if (stored > InodeTree.MaxExtendedAttributesBytes)
            throw TooMuch("attributes", stored, InodeTree.MaxExtendedAttributesBytes);
        if (names > MaxNamesBytes)
            throw TooMuch("names of attributes", names, MaxNamesBytes);
    }

    private string Named => request.Inode != 0 ? Shown : request.Path;

    private FamfsException TooMuch(string what, long bytes, int limit) =>
        new(ErrorReason.NoSpace, $"{Shown}: would have {bytes} bytes of {what}, the limit is {limit}") { Path = Shown, Limit = (ulong)limit };

    private FamfsException Bad(string why, ulong limit = 0) => new(ErrorReason.BadRequest, $"{Shown}: {why}") { Path = Shown, Limit = limit };

    private string Shown => request.Inode != 0 ? $"inode {request.Inode}" : request.Path.Length == 0 ? "/" : FileSystemPath.Show(request.Path);
}
