using System.Threading.Channels;

namespace Famfs.EndToEnd;

/// <summary>Something that is made to fail on purpose. One task does it; clients look.</summary>
internal class SoakVictim
{
    private volatile bool _mayFail;
    private int _failures;

    /// <summary>True from before it is killed until its successor serves.</summary>
    public bool MayFail
    {
        get => _mayFail;
        set
        {
            if (value)
                Interlocked.Increment(ref _failures);
            _mayFail = value;
        }
    }

    /// <summary>How often it was made to fail. A call that failed is excused when this has moved since before it, or while
    /// <see cref="MayFail"/> was set before it.</summary>
    public int Failures => Volatile.Read(ref _failures);
}

/// <summary>A mount of the soak.</summary>
internal sealed class SoakMount(string host, string path) : SoakVictim
{
    private volatile bool _isUsable = true;

    public string Host { get; } = host;

    public string Path { get; } = path;

    /// <summary>False: clients let go of it and leave it alone.</summary>
    public bool IsUsable { get => _isUsable; set => _isUsable = value; }
}

/// <summary>What the clients of a soak share.</summary>
internal sealed class SoakWorld(string address, SoakMount[] mounts)
{
    /// <summary>Clients remove before they make more when more than this part of the pool is taken.</summary>
    public const int MostUsedPercent = 90;

    private readonly Channel<bool> _progress = Channel.CreateUnbounded<bool>();
    private volatile bool _isOver;

    public string Address { get; } = address;

    public SoakMount[] Mounts { get; } = mounts;

    public SoakVictim Master { get; } = new();

    /// <summary>One for each operation that was done.</summary>
    public ChannelReader<bool> Progress => _progress.Reader;

    /// <summary>True: clients end after their operation.</summary>
    public bool IsOver { get => _isOver; set => _isOver = value; }

    public void Count() => _progress.Writer.TryWrite(true);

    /// <summary>A client has failed: who waits for progress fails, too.</summary>
    public void Fail(Exception error) => _progress.Writer.TryComplete(error);
}
