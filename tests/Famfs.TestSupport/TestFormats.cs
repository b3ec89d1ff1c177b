using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Famfs2;

namespace Famfs.TestSupport;

/// <summary>The formats, as the programs compose them.</summary>
public static class TestFormats
{
    /// <summary>All that there are, native first.</summary>
    public static MediaFormats All { get; } = new([NativeFormat.Instance, Famfs2Format.Instance]);
}
