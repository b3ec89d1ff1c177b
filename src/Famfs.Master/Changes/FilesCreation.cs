using Famfs.Core;
using Famfs.V1;

namespace Famfs.Master.Changes;

/// <summary>Files of one bulk message, some or all. It may be decided over several turns and batches; what was decided
/// before one ended, or while the space of a file is zeroed, is not decided again.</summary>
internal sealed class FilesCreation : Change<CreateFilesReply>
{
    private readonly CreateFilesRequest _request;
    private readonly int _first;
    private readonly int _count;
    private readonly FileCreation _file = new();
    private readonly HashSet<string> _warnings = [];
    private bool _begun;

    /// <summary>All files of a message.</summary>
    public FilesCreation(CreateFilesRequest request)
        : this(request, 0, request.Files.Count)
    {
    }

    /// <summary><paramref name="count"/> files of a message from <paramref name="first"/> on.</summary>
    public FilesCreation(CreateFilesRequest request, int first, int count)
    {
        (_request, _first, _count) = (request, first, count);
        Reply = new();
    }

    /// <inheritdoc/>
    public override int Files => _count;

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        while (Reply.Results.Count < _count)
        {
            CreateFileRequest file = _request.Files[_first + Reply.Results.Count];
            if (!_begun)
                _file.Begin(file, _request.OmitMaps);
            _begun = true;
            try
            {
                if (file.Wait is { Kind: not WaitKind.None })
                    throw new FamfsException(ErrorReason.BadRequest, "a file of a bulk request cannot wait; call Barrier after the stream");
                Verdict verdict = _file.Decide(context);
                if (verdict.Kind != VerdictKind.Done)
                    return verdict;
                if (_file.Reply.Warnings.Count > 0)
                    KeepNew(_file.Reply.Warnings);
                Reply.Results.Add(new CreateFileResult { Reply = _file.Reply });
            }
            catch (FamfsException error) when (error.Reason is not ErrorReason.MediaCorrupt)
            {
                Reply.Results.Add(new CreateFileResult { Error = ErrorDetails.Of(error) });
            }
            _begun = false;
            if (Reply.Results.Count < _count && context.EndsTurn())
                return new(VerdictKind.NextTurn);
        }
        return Verdict.Done;
    }

    /// <summary>What is the same for all files is said once.</summary>
    private void KeepNew(IList<string> warnings)
    {
        for (int i = warnings.Count - 1; i >= 0; i--)
        {
            if (!_warnings.Add(warnings[i]))
                warnings.RemoveAt(i);
        }
    }

    /// <summary>What was decided before the log was full is published; the others are refused one by one.</summary>
    public override bool GiveUp(ChangeContext context, FamfsException error)
    {
        _file.GiveUp(context, error);
        while (Reply.Results.Count < _count)
            Reply.Results.Add(new CreateFileResult { Error = ErrorDetails.Of(error) });
        return true;
    }
}
