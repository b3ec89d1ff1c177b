namespace Grpc.Core;

/// <summary>What a call made by a handler inherits from the call it serves.</summary>
internal sealed class CallPropagationToken(DateTime deadline, CancellationToken cancellationToken) : ContextPropagationToken
{
    public DateTime Deadline => deadline;

    public CancellationToken CancellationToken => cancellationToken;
}
