using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Famfs2;

namespace Famfs.Client;

/// <summary>The formats of the media that this library, the command and the daemon know. The one place where a format is
/// added for them; the master, which does not use this library, has its own.</summary>
public static class KnownFormats
{
    /// <summary>All of them; the first is made by default.</summary>
    public static MediaFormats All { get; } = new([NativeFormat.Instance, Famfs2Format.Instance]);
}
