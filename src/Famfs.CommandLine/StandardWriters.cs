using System.Globalization;
using System.Text;
using Famfs.Core.Interop;

namespace Famfs.CommandLine;

/// <summary>What a program writes on. A full disk behind it ends no program: what it does counts for more than what it says.</summary>
public static class StandardWriters
{
    // As LogLine counts them.
    private const int Warning = 3;

    /// <summary>Makes the console write so. An error is lost where nobody can read it; the exit status tells. Output is lost only where it
    /// <paramref name="logs"/>; otherwise it is the result that was asked for, and its loss is an error.</summary>
    public static void Use(bool logs)
    {
        Console.SetError(WriterOf(OpenError()));
        Console.SetOut(WriterOf(logs ? new LossyStream(StandardStream.OpenOutput(), SayLost) : StandardStream.OpenOutput()));
    }

    /// <summary>Standard error, to which nothing that is written fails.</summary>
    public static Stream OpenError() => new LossyStream(StandardStream.OpenError(), (_, _) => "");

    private static StreamWriter WriterOf(Stream stream) => new(stream, new UTF8Encoding(encoderShouldEmitUTF8Identifier: false)) { AutoFlush = true };

    private static string SayLost(long entries, string cause) =>
        LogLine.OfProcess().Format(TimeProvider.System.GetUtcNow(), Warning, string.Create(CultureInfo.InvariantCulture, $"{entries} entries before this one could not be written: {cause}")) + "\n";
}

/// <summary>Writes what can be written. What is lost is counted and said when something can be written again.</summary>
/// <param name="inner">Where it goes.</param>
/// <param name="sayLost">The words, of how many writes were lost and the last one's cause.</param>
internal sealed class LossyStream(Stream inner, Func<long, string, string> sayLost) : UnbufferedWriter
{
    private long _lost;
    private string _cause = "";

    /// <inheritdoc/>
    public override void Write(ReadOnlySpan<byte> buffer)
    {
        try
        {
            if (_lost > 0)
                inner.Write(Encoding.UTF8.GetBytes(sayLost(_lost, _cause)));
            _lost = 0;
            inner.Write(buffer);
        }
        catch (IOException error)
        {
            _lost++;
            _cause = error.Message;
        }
    }
}
