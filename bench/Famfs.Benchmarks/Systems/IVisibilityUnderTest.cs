namespace Famfs.Benchmarks.Systems;

/// <summary>Times of one creation, from when the call was made.</summary>
internal readonly record struct Visibility(double AcknowledgedUs, double VisibleUs);

/// <summary>A creation on one side and somebody elsewhere who waits to see it.</summary>
internal interface IVisibilityUnderTest : IAsyncDisposable
{
    string Name { get; }

    /// <summary>Throws NotAvailableException when a piece is missing.</summary>
    Task StartAsync(CancellationToken cancellation);

    /// <summary>Creates the name of that number and waits until the other side sees it.</summary>
    Task<Visibility> MeasureAsync(long number, CancellationToken cancellation);
}
