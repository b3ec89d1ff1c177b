using Famfs.CommandLine;

namespace Famfs.Master.Rpc;

/// <summary>How much callers may make a master keep, one by one and in all. docs/protocol.md has the same table.</summary>
internal static class CallLimits
{
    /// <summary>Most connections (chosen: above the 10,000 hosts of docs/scaling.md). Fewer where fewer files may be open.</summary>
    public const int Connections = 16384;

    /// <summary>Most connections of this process.</summary>
    public static int ConnectionsHere => (int)Math.Clamp((OpenFileLimit.Find() ?? long.MaxValue) - FilesKept, 1, Connections);

    /// <summary>Most connections of one caller: half of all, so that nobody keeps out the others.</summary>
    public static int ConnectionsOfCaller => Math.Max(ConnectionsHere / 2, 1);

    /// <summary>What buffers of all connections may take, in bytes: what came and was not read, and what was not taken (chosen: 256
    /// connections with a full window).</summary>
    public const long Buffers = 64L << 20;

    /// <summary>Most bytes that come on a connection before they are read (chosen: more in a round trip than the engine decides in
    /// a turn).</summary>
    public const int ConnectionWindow = 256 << 10;

    /// <summary>The same of one call.</summary>
    public const int CallWindow = 128 << 10;

    /// <summary>Open files that connections leave for everything else (chosen).</summary>
    public const int FilesKept = 192;

    /// <summary>Most connections that have not said yet that they speak HTTP/2 (chosen: a burst of honest ones fits).</summary>
    public const int Unannounced = 512;

    /// <summary>Most calls of one connection at a time.</summary>
    public const int CallsOfConnection = 1000;

    /// <summary>Most calls at a time, in all (chosen: a stream of each of 10,000 hosts, and as many others).</summary>
    public const int Calls = 20000;

    /// <summary>Most bytes of a message of CreateFiles.</summary>
    public const int BulkMessageBytes = 16 << 20;

    /// <summary>Most bytes of any other message (chosen: several times the largest that has a meaning).</summary>
    public const int MessageBytes = 128 << 10;

    /// <summary>Most files of a message of CreateFiles.</summary>
    public const int BulkFiles = 65536;

    /// <summary>Most bytes of one file of such a message (chosen: the longest path, and as many devices as a pool may have).</summary>
    public const int BulkFileBytes = 16 << 10;

    /// <summary>Most entries of lists in any other message (chosen: several times what has a meaning).</summary>
    public const int Entries = 4096;

    /// <summary>Most fields of a message that this version does not know (chosen: a later version has a few more); of CreateFiles one
    /// for each file.</summary>
    public const int UnknownFields = 256;

    /// <summary>Most deleted files that a mount may name as held.</summary>
    public const int HeldInodes = 4096;

    /// <summary>Most bytes of the metadata of a call.</summary>
    public const int HeaderBytes = 8 << 10;

    /// <summary>Most calls of one caller at a time, whatever its connections (chosen: a quarter of all).</summary>
    public const int CallsOfCaller = Calls / 4;

    /// <summary>Most refusals for want of calls that wait until a connection takes them (chosen). Beyond that it is closed.</summary>
    public const int RefusalsOfConnection = 64;

    /// <summary>A message of CreateFiles is charged so many times its bytes: texts take twice as much as objects.</summary>
    public const int BulkPerByte = 3;

    /// <summary>Most numbers of lists of numbers in a message of CreateFiles, in all (chosen: four devices for each file).</summary>
    public const int BulkNumbers = 4 * BulkFiles;

    /// <summary>A message of another call than CreateFiles is charged so many times its bytes: texts and numbers take more as objects
    /// (measured: 2 and 8 times).</summary>
    public const int ObjectsPerByte = 4;

    /// <summary>Answers are charged so many times the bytes of their message.</summary>
    public const int AnswerPerByte = 3;

    /// <summary>What requests and results that wait may take, in bytes, of one connection (chosen: 16 bulk streams fit).</summary>
    public const long HeldOfConnection = 96L << 20;

    /// <summary>And of all (chosen: half of what a master may take in all).</summary>
    public const long Held = 192L << 20;

    /// <summary>Beyond that, what only small requests may take: streams that are full must not keep out a lone change.</summary>
    public const long HeldBySmall = 32L << 20;

    /// <summary>Charge of a call beside its message (chosen: what its objects take).</summary>
    public const int CallBytes = 2048;

    /// <summary>Charge of one file of a bulk message, beside its bytes (measured: 250 bytes of objects).</summary>
    public const int RequestBytes = 256;

    /// <summary>Charge of the result of one file of a bulk message (measured: 700 bytes and the path).</summary>
    public const int FileBytes = 1024;

    /// <summary>Charge of an extent of such a result beside that: its object and its place in a list.</summary>
    public const int ExtentBytes = 72;

    /// <summary>Most mounts that a Barrier may name.</summary>
    public const int BarrierMounts = 4096;

    /// <summary>Most older mounts that a Hello may name.</summary>
    public const int OlderMounts = 256;

    /// <summary>Most characters of the texts of a Hello that are kept; the rest is cut.</summary>
    public const int HelloText = 64;

    /// <summary>Streams that are sent what the memory holds at a time; others wait (chosen: each has a reader of half a MiB).</summary>
    public const int CatchUps = 64;

    /// <summary>How long a connection may take to say that it speaks HTTP/2.</summary>
    public static readonly TimeSpan Announcement = TimeSpan.FromSeconds(10);

    /// <summary>How long a caller may take nothing of an answer that waits for it.</summary>
    public static readonly TimeSpan Deafness = TimeSpan.FromSeconds(60);
}
