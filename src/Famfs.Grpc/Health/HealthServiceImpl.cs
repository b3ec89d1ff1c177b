using System.Threading.Channels;
using Grpc.Core;
using Grpc.Health.V1;
using ServingStatus = Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus;

namespace Grpc.HealthCheck;

/// <summary>
/// The standard health service: whoever owns a service sets its status, clients ask for it or watch it. The empty name
/// stands for the server as a whole. Safe for concurrent use.
/// </summary>
public class HealthServiceImpl : Health.V1.Health.HealthBase
{
    // Chosen: a watcher this far behind wants the latest states, not each one.
    private const int WatcherQueueLength = 5;

    private readonly Lock _gate = new();

    // Guarded by the gate.
    private readonly Dictionary<string, ServingStatus> _statuses = [];
    private readonly Dictionary<string, List<ChannelWriter<ServingStatus>>> _watchers = [];

    /// <summary>Sets the status of a service and tells its watchers.</summary>
    public void SetStatus(string service, ServingStatus status)
    {
        ArgumentNullException.ThrowIfNull(service);
        lock (_gate)
        {
            ServingStatus before = StatusOf(service);
            _statuses[service] = status;
            Tell(service, before, status);
        }
    }

    /// <summary>Forgets a service; its watchers see SERVICE_UNKNOWN.</summary>
    public void ClearStatus(string service)
    {
        ArgumentNullException.ThrowIfNull(service);
        lock (_gate)
        {
            if (_statuses.Remove(service, out ServingStatus before))
            {
                Tell(service, before, ServingStatus.ServiceUnknown);
            }
        }
    }

    /// <summary>Forgets all services.</summary>
    public void ClearAll()
    {
        lock (_gate)
        {
            foreach (string service in _statuses.Keys.ToArray())
            {
                ClearStatus(service);
            }
        }
    }

    /// <inheritdoc/>
    public override Task<HealthCheckResponse> Check(HealthCheckRequest request, ServerCallContext context)
    {
        ArgumentNullException.ThrowIfNull(request);
        lock (_gate)
        {
            return _statuses.TryGetValue(request.Service, out ServingStatus status)
                ? Task.FromResult(new HealthCheckResponse { Status = status })
                : throw new RpcException(new Status(StatusCode.NotFound, $"The health of service '{request.Service}' is not known."));
        }
    }

    /// <inheritdoc/>
    public override async Task Watch(HealthCheckRequest request, IServerStreamWriter<HealthCheckResponse> responseStream, ServerCallContext context)
    {
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(responseStream);
        ArgumentNullException.ThrowIfNull(context);

        // The oldest state makes room for the newest, so the last one always arrives.
        Channel<ServingStatus> states = Channel.CreateBounded<ServingStatus>(
            new BoundedChannelOptions(WatcherQueueLength) { SingleReader = true, FullMode = BoundedChannelFullMode.DropOldest });
        lock (_gate)
        {
            states.Writer.TryWrite(StatusOf(request.Service));
            if (!_watchers.TryGetValue(request.Service, out List<ChannelWriter<ServingStatus>>? watchers))
            {
                _watchers[request.Service] = watchers = [];
            }

            watchers.Add(states.Writer);
        }

        try
        {
            await foreach (ServingStatus status in states.Reader.ReadAllAsync(context.CancellationToken).ConfigureAwait(false))
            {
                await responseStream.WriteAsync(new HealthCheckResponse { Status = status }).ConfigureAwait(false);
            }
        }
        finally
        {
            lock (_gate)
            {
                List<ChannelWriter<ServingStatus>> watchers = _watchers[request.Service];
                watchers.Remove(states.Writer);
                if (watchers.Count == 0)
                {
                    _watchers.Remove(request.Service);
                }
            }
        }
    }

    private ServingStatus StatusOf(string service) => _statuses.GetValueOrDefault(service, ServingStatus.ServiceUnknown);

    private void Tell(string service, ServingStatus before, ServingStatus now)
    {
        if (before != now && _watchers.TryGetValue(service, out List<ChannelWriter<ServingStatus>>? watchers))
        {
            foreach (ChannelWriter<ServingStatus> watcher in watchers)
            {
                watcher.TryWrite(now);
            }
        }
    }
}
