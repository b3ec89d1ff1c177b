using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.V1;

namespace Famfs.EndToEnd;

/// <summary>A subscriber that claims to be a mount, and has none. The stream's threads call it.</summary>
internal sealed class Stranger(Hello hello, Action? onWelcomed = null) : ISubscriptionHandler
{
    /// <summary>One that claims to be a mount that nobody knows.</summary>
    public static Stranger OfNobody(Position position, Action? onWelcomed = null) => new(
        new()
        {
            HostId = Guid.NewGuid().ToByteString(),
            MountId = Guid.NewGuid().ToByteString(),
            BootId = Guid.NewGuid().ToByteString(),
            Position = position,
        },
        onWelcomed);

    public TaskCompletionSource<Welcome> Welcomed { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public TaskCompletionSource<Registration> Answered { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public Hello CreateHello() => hello;

    public void OnWelcome(Welcome welcome)
    {
        Welcomed.TrySetResult(welcome);
        onWelcomed?.Invoke();
    }

    public void OnRegistration(Registration registration) => Answered.TrySetResult(registration);

    public void OnRecords(in LogBlock block, LogPosition position)
    {
    }

    public void OnSnapshot(in LogBlock block, bool last, LogPosition position)
    {
    }

    public void OnLease(TimeSpan timeToLive)
    {
    }

    public void OnDisconnected(Exception? error)
    {
    }
}
