using Famfs.V1;

namespace Famfs.Master.Changes;

/// <summary>Says in the log that a term has started, where there is room and the format has terms.</summary>
internal sealed class TermStart(TermStarted announcement) : Change<bool>
{
    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        if (context.State.Format.HasTerms && context.HasRoomForTerm)
            context.Append(RecordType.TermStarted, announcement);
        return Verdict.Done;
    }

    /// <summary>Says that it has ended.</summary>
    public static void AppendEnd(ChangeContext context)
    {
        if (context.HasRoomForTerm)
            context.Append(RecordType.TermEnded, new TermEnded { TimeNs = context.NowNs });
    }
}
