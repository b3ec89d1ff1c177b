namespace Famfs.Core.Interop;

/// <summary>Small files of which a part is worth nothing: there whole, or not at all.</summary>
public static class WholeFile
{
    /// <summary>Makes a new file and waits until it is on its medium. Where that fails, as on a full one, nothing is left under the
    /// name. Throws <see cref="IOException"/>, also when there is such a file, and <see cref="UnauthorizedAccessException"/>.</summary>
    public static void WriteNew(string path, ReadOnlySpan<byte> bytes)
    {
        bool made = false;
        try
        {
            using FileStream file = new(path, FileMode.CreateNew, FileAccess.Write, FileShare.Read, bufferSize: 0);
            made = true;
            file.Write(bytes);
            file.Flush(flushToDisk: true);
        }
        catch
        {
            if (made)
                File.Delete(path);
            throw;
        }
    }
}
