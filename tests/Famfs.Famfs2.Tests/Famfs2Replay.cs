using Famfs.Core;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.TestSupport.Famfs2;

namespace Famfs.Famfs2.Tests;

/// <summary>What came of replaying a log.</summary>
/// <param name="Tree">One line per file and directory.</param>
/// <param name="Position">Last record applied.</param>
/// <param name="Error">What ended it early, or null.</param>
/// <param name="Findings">About the entries.</param>
internal sealed record Famfs2Replay(List<string> Tree, LogPosition Position, FamfsException? Error, IReadOnlyList<Famfs2Finding> Findings)
{
    public static Famfs2Replay Of(DevicePool pool)
    {
        Famfs2LogReader reader = new(pool);
        using ReplayState state = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), default);
        FamfsException? error = null;
        try
        {
            while (reader.Poll(out LogBlock block) == PollVerdict.Records)
                state.ApplyFrames(block.Frames.Span);
        }
        catch (FamfsException e)
        {
            error = e;
        }
        return new(Famfs2Image.Describe(state.Tree), state.Position, error, [.. reader.Translator.Findings]);
    }
}
