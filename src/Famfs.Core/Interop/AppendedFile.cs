using System.Text;

namespace Famfs.Core.Interop;

/// <summary>A file that programs append to. Errors are those of <see cref="PathErrors.Of"/>, with its path.</summary>
public sealed class AppendedFile : IDisposable
{
    // FALLOC_FL_KEEP_SIZE is a wish: what has no such thing has room, or none, at the next write.
    private static readonly int[] s_full = [Errno.ENOSPC, LibcMap.EDQUOT, Errno.EFBIG];

    private readonly OpenFile _file;

    private AppendedFile(string path, OpenFile file)
    {
        Path = path;
        _file = file;
    }

    /// <summary>Where it is.</summary>
    public string Path { get; }

    /// <summary>Bytes that it has.</summary>
    public long LengthBytes => (long)_file.ReadAttributes().Size;

    internal int Descriptor => _file.Descriptor;

    /// <summary>Opens it, and makes it if it is not there, to be read by its group.</summary>
    public static AppendedFile Open(string path)
    {
        int descriptor = Libc.open(path, LibcMap.O_WRONLY | LibcMap.O_CREAT | LibcMap.O_APPEND | Libc.O_CLOEXEC, 0b110_100_000);
        return descriptor < 0 ? throw PathErrors.Of(path, Errno.Last) : new(path, new OpenFile(descriptor));
    }

    /// <summary>Appends a line, and makes sure that <paramref name="furtherBytes"/> more find room, where the file system can do that.</summary>
    public unsafe void WriteLine(string line, int furtherBytes)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(line + "\n");
        fixed (byte* place = bytes)
        {
            for (int done = 0; done < bytes.Length;)
            {
                nint count = Libc.write(Descriptor, place + done, (nuint)(bytes.Length - done));
                if (count <= 0 && Errno.Last != Errno.EINTR)
                    throw PathErrors.Of(Path, Errno.Last);
                done += (int)Math.Max(count, 0);
            }
        }
        if (Libc.fallocate(Descriptor, Libc.FALLOC_FL_KEEP_SIZE, LengthBytes, furtherBytes) != 0 && s_full.Contains(Errno.Last))
            throw PathErrors.Of(Path, Errno.Last);
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();
}
