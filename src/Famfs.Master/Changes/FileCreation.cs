using Famfs.Core.Dialects;
using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Master.Queries;
using Famfs.Master.State;
using Famfs.V1;
using CollectionsMarshal = System.Runtime.InteropServices.CollectionsMarshal;

namespace Famfs.Master.Changes;

/// <summary>
/// Creates a file, or finds the one that an equal request made.
/// <para>In a format that promises zeros it has two turns. The first takes the space and asks for it to be zeroed; the second
/// looks again at what may have changed meanwhile, the name and the request id, and appends the record.</para>
/// </summary>
internal sealed class FileCreation : Change<CreateFileReply>
{
    private const uint DefaultMode = 0x1A4; // 0644

    // Those that an error names of what pending space waits for (chosen).
    private const int NamedWaits = 3;

    private CreateFileRequest _request = null!;
    private bool _omitMap;
    private Guid _id;
    private ulong _digest;

    // Of the request, once it is validated.
    private List<byte[]>? _components;
    private uint _mode;
    private AllocationRequest _wish;

    // Between the two turns.
    private NewSpace? _space;
    private bool _appended;

    /// <summary>An instance to <see cref="Begin"/> with.</summary>
    public FileCreation()
    {
    }

    /// <summary>The change that a request asks for.</summary>
    public FileCreation(CreateFileRequest request) => Begin(request, omitMap: false);

    /// <summary>Takes up a request; of many files one instance makes one after the other. <paramref name="omitMap"/>: the reply
    /// goes without the file's map.</summary>
    public void Begin(CreateFileRequest request, bool omitMap)
    {
        (_request, _omitMap, _id, _digest, _components) = (request, omitMap, default, 0, null);
        (_space, _appended) = (null, false);
    }

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        if (_space is not { } space)
            return DecideWithout(context);
        Verdict verdict;
        try
        {
            verdict = DecideWith(context, space);
        }
        catch
        {
            EndSpace(context);
            throw;
        }
        if (verdict.Kind == VerdictKind.Done)
            EndSpace(context);
        return verdict;
    }

    /// <inheritdoc/>
    public override bool GiveUp(ChangeContext context, FamfsException error)
    {
        EndSpace(context);
        return false;
    }

    /// <summary>The only turn, or the first of two.</summary>
    private Verdict DecideWithout(ChangeContext context)
    {
        if (_digest == 0)
        {
            _id = _request.RequestId.ToGuid("request_id");
            _digest = RequestDigest.Of(_request);
        }
        if (TryRepeat(context))
            return Verdict.Done;
        if (context.TryFindUnderway(_id, out NewSpace? other))
            return new(VerdictKind.After, Space: other);
        if (_components is null)
            Validate(context);
        if (FindPlace(context, out Verdict verdict) is not { } place)
            return verdict;
        AllocationRequest wish = FmapLimits.OfFloor(context.State.Replay.Policy.DialectFloor) is { } floor
            ? floor.Constrain(_wish, context.State.Replay.Devices.Length)
            : _wish;
        DeviceAvoidance avoidance = NamesDevices ? DeviceAvoidance.None : context.State.Avoidance;
        wish = avoidance.Narrow(wish, context.State.Replay.Devices.Length);
        try
        {
            if (context.State.Format.ZeroesNewFiles)
            {
                _space = context.BeginSpace(wish, _id);
                return new(VerdictKind.Zero, Space: _space);
            }
            context.Extents.Clear();
            long chunkBytes = context.State.Allocator.Allocate(wish, context.Random, context.Extents);
            Append(context, place, chunkBytes);
            return Verdict.Done;
        }
        catch (FamfsException error) when (error.Path.Length == 0)
        {
            throw error.Reason == ErrorReason.NoSpace ? WithPath(error, avoidance.Explain(context.State.Replay.Devices.Length) + ExplainPending(context), context.State.Replay.PendingReclaimBytes) : WithPath(error);
        }
    }

    /// <summary>The caller says which devices it wants, whoever lacks them.</summary>
    private bool NamesDevices => _request.Layout?.Devices.Count > 0;

    /// <summary>The second turn, with the space that the first one took.</summary>
    private Verdict DecideWith(ChangeContext context, NewSpace space)
    {
        if (TryRepeat(context))
            return Verdict.Done;
        if (FindPlace(context, out Verdict verdict) is not { } place)
            return verdict;
        if (space.Failure is { } failure)
            throw failure.Path.Length == 0 ? WithPath(failure) : failure;
        context.Extents.Clear();
        context.Extents.AddRange(space.Extents);
        Append(context, place, space.ChunkBytes);
        return Verdict.Done;
    }

    private void EndSpace(ChangeContext context)
    {
        if (_space is not { } space)
            return;
        _space = null;
        context.EndSpace(space, _appended);
    }

    private bool TryRepeat(ChangeContext context)
    {
        if (!context.TryFindMade(_id, _digest, RecordType.FileCreated, out RequestTrace trace))
            return false;
        Reply = new() { Position = context.PositionOf(trace), File = FileQueries.DescribeMade(context.Reader, trace.Inode, !_omitMap) };
        return true;
    }

    private void Validate(ChangeContext context)
    {
        if (_request.State == CreateState.Staged)
        {
            context.State.Format.Require("staged files");
            throw new FamfsException(ErrorReason.NotImplemented, "staged creation is not served by this version");
        }
        List<byte[]> components = FileSystemPath.Parse(_request.Path, allowRoot: false);
        context.State.Format.RequirePath(components, _request.Path);
        if (_request.SizeBytes is 0 or > long.MaxValue)
            throw new FamfsException(ErrorReason.BadSize, $"size {_request.SizeBytes} is out of range: 1 to {long.MaxValue} bytes") { Path = FileSystemPath.Show(_request.Path), Limit = long.MaxValue };
        _mode = Mode.Require(_request.Mode, _request.ModeSet, DefaultMode);
        _wish = context.State.Format.RequireLayout(RequireLayout(_request), context.State.Pool, context.State.Replay);
        _components = components;
    }

    /// <summary>The directory that the file is to be made in, and whose it is to be. Null: there is nothing to append; the verdict says whether it is done,
    /// because the file is there, or needs another batch.</summary>
    private (InodeNumber Parent, Ownership Owner)? FindPlace(ChangeContext context, out Verdict verdict)
    {
        verdict = default;
        Credentials? user = context.Caller.User;
        InodeAttributes parent = FileQueries.RequireParent(context.Reader, _components!, _request.Path, user);
        using (TreeScope scope = context.Reader.Tree.Enter())
        {
            if (scope.TryLookup(parent.Inode, _components![^1], out InodeAttributes existing))
            {
                Reply = OpenExisting(context, scope, existing);
                return null;
            }
        }
        if (user is not null)
            Permissions.Require(user, parent, Access.Write, FileQueries.PathUpTo(_components, _components.Count - 1));
        Ownership owner = Permissions.OfNew(user, context.Caller.MayGiveSetId, parent, Permissions.Wish(user, _mode, _request.Uid, _request.Gid, _request.OwnerIsCaller), isDirectory: false, _request.Path);
        return context.HasRoom(1, EstimateRecord(_components[^1].Length), out verdict) ? (parent.Inode, owner) : null;
    }

    private CreateFileReply OpenExisting(ChangeContext context, TreeScope scope, in InodeAttributes existing)
    {
        string shown = FileSystemPath.Show(_request.Path);
        if (_request.IfExists != IfExists.OpenIfSame)
            throw new FamfsException(ErrorReason.Exists, $"{shown}: exists") { Path = shown };
        if (existing.Kind != InodeKind.File)
            throw new FamfsException(ErrorReason.ExistsDifferent, $"{shown}: exists and is not a regular file") { Path = shown };
        if (existing.SizeBytes != _request.SizeBytes)
            throw new FamfsException(ErrorReason.ExistsDifferent, $"{shown}: exists with {existing.SizeBytes} bytes, not {_request.SizeBytes}") { Path = shown, Limit = existing.SizeBytes };
        scope.TryGetMap(existing.Inode, out MapView map);
        bool sameLayout = _wish.Kind switch
        {
            LayoutKind.Contiguous => map.ChunkBytes == 0,
            LayoutKind.Interleaved => map.ChunkBytes != 0
                && (_wish.ChunkBytes == 0 || map.ChunkBytes == (ulong)_wish.ChunkBytes)
                && (_wish.Strips == 0 || map.ExtentCount == _wish.Strips),
            _ => true,
        };
        if (!sameLayout)
            throw new FamfsException(ErrorReason.ExistsDifferent, $"{shown}: exists with another layout (chunk {map.ChunkBytes}, {map.ExtentCount} extents)") { Path = shown };
        bool withMap = !_omitMap && Permissions.MayRead(context.Caller.User, existing);
        return new() { File = FileQueries.Describe(scope, existing, _request.Path, withMap), Position = context.Position.ToMessage(), Existed = true };
    }

    /// <summary>Appends the record, of the extents in the context, and makes the reply.</summary>
    private void Append(ChangeContext context, (InodeNumber Parent, Ownership Owner) place, long chunkBytes)
    {
        InodeNumber inode = context.NextInode;
        Span<byte> idBytes = stackalloc byte[16];
        _id.TryWriteBytes(idBytes, bigEndian: true, out _);
        FileCreatedRecord record = new()
        {
            TimeNs = context.NowNs,
            RequestId = _id == Guid.Empty ? default : idBytes,
            RequestDigest = _id == Guid.Empty ? 0 : _digest,
            Inode = inode,
            Parent = place.Parent,
            Name = _components![^1],
            Mode = place.Owner.Mode,
            Uid = place.Owner.Uid,
            Gid = place.Owner.Gid,
            SizeBytes = _request.SizeBytes,
            HasMap = true,
            ChunkBytes = (ulong)chunkBytes,
            Extents = CollectionsMarshal.AsSpan(context.Extents),
        };
        int written = record.Write(context.ReservePayload(RecordFrame.MaxPayloadBytes));
        context.AppendReserved(written, RecordType.FileCreated);
        _appended = true;
        using TreeScope scope = context.Reader.Tree.Enter();
        scope.TryGet(inode, out InodeAttributes attributes);
        Reply = new() { File = FileQueries.Describe(scope, attributes, _request.Path, !_omitMap), Position = context.Position.ToMessage() };
        if (NamesDevices)
            Reply.Warnings.AddRange(context.Extents.Select(e => e.Device.Value).Distinct().Select(d => context.State.Avoidance.FindCause(d)).OfType<string>());
    }

    /// <summary>The allocator knows of no names; whoever makes many files must be told for which it was too much.</summary>
    private FamfsException WithPath(FamfsException error, string more = "", long pendingBytes = 0)
    {
        string shown = FileSystemPath.Show(_request.Path);
        return new(error.Reason, $"{shown}: {error.Message}{more}", error) { Path = shown, Limit = error.Limit, PendingBytes = (ulong)pendingBytes };
    }

    /// <summary>Space that nobody uses and nobody can have yet.</summary>
    private static string ExplainPending(ChangeContext context)
    {
        long pending = context.State.Replay.PendingReclaimBytes;
        if (pending == 0)
            return "";
        IReadOnlyList<string> waits = context.State.ReclaimWaits;
        string more = waits.Count > NamedWaits ? $" and {waits.Count - NamedWaits} more" : "";
        return $"; {pending} bytes are pending, of files that were removed: {(waits.Count == 0 ? "they are not free yet" : $"they wait for {string.Join("; ", waits.Take(NamedWaits))}{more}")}";
    }

    private static int EstimateRecord(int nameBytes) => 256 + nameBytes + (AllocationRequest.KernelMaxExtents * 32);

    private static AllocationRequest RequireLayout(CreateFileRequest request)
    {
        LayoutWish wish = request.Layout ?? new();
        if (wish.ChunkBytes > long.MaxValue)
            throw new FamfsException(ErrorReason.BadLayout, $"chunk of {wish.ChunkBytes} bytes is too large") { Limit = long.MaxValue };
        return new()
        {
            SizeBytes = (long)request.SizeBytes,
            Kind = wish.Kind is LayoutKind.Auto or LayoutKind.Contiguous or LayoutKind.Interleaved
                ? wish.Kind
                : throw new FamfsException(ErrorReason.BadLayout, $"layout kind {(int)wish.Kind} is unknown"),
            Strips = (int)Math.Min(wish.Strips, int.MaxValue),
            ChunkBytes = (long)wish.ChunkBytes,
            Devices = [.. wish.Devices.Select(d => d <= ushort.MaxValue ? new DeviceIndex((ushort)d) : throw new FamfsException(ErrorReason.BadLayout, $"device {d} is not in the pool"))],
        };
    }
}
