namespace Famfs.Benchmarks.Systems;

/// <summary>A piece that a row needs is not on this machine or not built yet: the row is counted as not
/// available. Anything else that goes wrong fails the row.</summary>
internal sealed class NotAvailableException(string reason) : Exception(reason);
