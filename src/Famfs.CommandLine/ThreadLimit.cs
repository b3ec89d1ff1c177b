namespace Famfs.CommandLine;

/// <summary>How many threads a program may start: the limit of its user counts what others of it have started, and that of its control
/// group what is in there. So it is tried.</summary>
public static class ThreadLimit
{
    // Chosen: enough for a thread that only waits.
    private const int StackBytes = 128 << 10;

    /// <summary>Says that a program cannot have the threads that it needs; null when it can.</summary>
    public static string? FindFault(ProgramNeeds needs)
    {
        int started = CountStarted(needs.Threads);
        return started == needs.Threads ? null : $"{started} more threads can be started, {needs.Threads} are needed; raise the limit of processes (ulimit -u, LimitNPROC= or TasksMax= of a systemd unit)";
    }

    private static int CountStarted(int wanted)
    {
        using ManualResetEventSlim end = new();
        List<Thread> started = [];
        try
        {
            while (started.Count < wanted)
            {
                Thread thread = new(end.Wait, StackBytes) { IsBackground = true };
                thread.Start();
                started.Add(thread);
            }
        }
        catch (Exception error) when (error is OutOfMemoryException or ThreadStartException)
        {
            // The runtime's words for EAGAIN.
        }
        end.Set();
        started.ForEach(thread => thread.Join());
        return started.Count;
    }
}
