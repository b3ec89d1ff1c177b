using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.V1;
using static Famfs.Core.Interop.Libc;

namespace Famfs.Core.Dax;

/// <summary>A regular file or a devdax character device, mapped whole and shared. The mapping gives the
/// kernel an address to copy from and to and the flush instructions lines to name; this process itself
/// never loads or stores through it (SAFETY S23).</summary>
public sealed unsafe class MappedDaxDevice : DaxDevice
{
    /// <summary>Least size and alignment of a device: one allocation unit, one huge page.</summary>
    public const long UnitBytes = 2L << 20;

    // Copies of one word before it is called unreadable: the two loads of a try are some tens of
    // nanoseconds apart, so only a word that changes without pause uses this up. Chosen.
    private const int WordTries = 10_000;

    private const long ZeroChunkBytes = 2L << 20;

    // Behind the locks that are counted from 0: those of the master slots and of the largest host table's entries.
    private const long UseLock = UnitBytes / 2;

    private readonly OpenFile _file;
    private readonly MemoryMapping _mapping;
    private readonly FaultSafeCopy _copy;
    private readonly OpenFile? _zeros;
    private readonly bool _regular;

    // Where the device starts in the file; 0 for devdax.
    private readonly long _startBytes;

    // Guards _flush while it is made; read without it after that (set once).
    private readonly Lock _guard = new();
    private LineFlush? _flush;
    private volatile bool _coherent;
    private volatile bool _inUse;

    private MappedDaxDevice(string path, string identity, long startBytes, long lengthBytes, bool regular, bool readOnly, OpenFile file, MemoryMapping mapping, FaultSafeCopy copy, OpenFile? zeros)
    {
        Path = path;
        MemoryIdentity = identity;
        LengthBytes = lengthBytes;
        ReadOnly = readOnly;
        _startBytes = startBytes;
        _regular = regular;
        _file = file;
        _mapping = mapping;
        _copy = copy;
        _zeros = zeros;
        _coherent = true;
    }

    /// <inheritdoc/>
    public override string Path { get; }

    /// <summary>Bytes when it was opened. A regular file that shrinks later faults where it ended.</summary>
    public override long LengthBytes { get; }

    /// <inheritdoc/>
    public override bool ReadOnly { get; }

    /// <inheritdoc/>
    public override string MemoryIdentity { get; }

    /// <summary>What pieces of a file are mapped from.</summary>
    public MapSource Source => new(Path, _file, _startBytes, LengthBytes);

    /// <summary>What writes back cache lines: "clwb", "clflushopt", "clflush", "libpmem"; "none" while the
    /// device is coherent. For tests.</summary>
    public string FlushName => _coherent ? "none" : _flush!.Name;

    /// <inheritdoc/>
    /// <exception cref="FamfsException">BAD_REQUEST when set to false on a host that cannot flush
    /// cache lines (arm64, or executable pages forbidden and no libpmem).</exception>
    public override bool Coherent
    {
        get => _coherent;
        set
        {
            if (!value)
            {
                lock (_guard)
                {
                    if (_flush is null && !LineFlush.TryCreate(out _flush, out string reason))
                        throw new FamfsException(ErrorReason.BadRequest, $"{Path}: cannot be used as non-coherent memory: {reason}") { Path = Path };
                }
            }

            _coherent = value;
        }
    }

    /// <inheritdoc cref="DaxDevice.Open"/>
    public static new MappedDaxDevice Open(string path, bool readOnly = false, bool? coherent = null) =>
        Open(path, readOnly, coherent, FaultSafeCopy.Detect);

    /// <summary>Opens a file of a mount that is a device, or a part of one. <paramref name="path"/> is its name in messages
    /// and for others.</summary>
    public static MappedDaxDevice OpenFile(string file, string path, bool readOnly, bool coherent) =>
        Open(new DeviceArgument(file, 0), path, readOnly, coherent, FaultSafeCopy.Detect);

    /// <summary>Opens a file of a mount by whole pages, to flush it: for loads, and of any size but 0. Throws as <see cref="OpenFile"/>, and
    /// <see cref="FamfsException"/> with NOT_FOUND when it is not there.</summary>
    public static MappedDaxDevice OpenToFlush(string file, string path) =>
        Open(new DeviceArgument(file, 0), path, readOnly: true, coherent: false, FaultSafeCopy.Detect, byPages: true);

    /// <summary>Goes on with a file of a mount that another process had open; <paramref name="file"/> is this object's from then on. Nothing
    /// is asked of whoever serves it. Throws as <see cref="OpenFile"/>.</summary>
    internal static MappedDaxDevice Adopt(Microsoft.Win32.SafeHandles.SafeFileHandle file, string path, long lengthBytes, bool coherent)
    {
        OpenFile adopted = new((int)file.DangerousGetHandle());
        file.SetHandleAsInvalid();
        MemoryMapping? mapping = null;
        FaultSafeCopy? copy = null;
        try
        {
            mapping = MemoryMapping.TryMapShared(adopted, 0, lengthBytes, UnitBytes, readOnly: false, out int errno)
                ?? throw MapFailed(path, regular: true, driver: "", errno);
            copy = FaultSafeCopy.Detect();
            int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC, 0);
            if (zero < 0)
                throw Missing(path, $"/dev/zero, which zeroes it, cannot be opened: {Errno.Describe(Errno.Last)}");
            return new(path, $"file {path}", 0, lengthBytes, regular: true, readOnly: false, adopted, mapping, copy, new OpenFile(zero)) { Coherent = coherent };
        }
        catch
        {
            copy?.Dispose();
            mapping?.Dispose();
            adopted.Dispose();
            throw;
        }
    }

    /// <summary>The open file, for a process that keeps it.</summary>
    internal System.Runtime.InteropServices.SafeHandle File => _file;

    /// <summary>As <see cref="Open(string, bool, bool?)"/> with a given way to copy.</summary>
    internal static MappedDaxDevice Open(string argument, bool readOnly, bool? coherent, Func<FaultSafeCopy> makeCopy) =>
        Open(DeviceArgument.Parse(argument), argument, readOnly, coherent, makeCopy);

    /// <summary>Opens a file that is part of a device, or the device by another name, which is called
    /// <paramref name="path"/> in messages.</summary>
    internal static MappedDaxDevice Open(DeviceArgument argument, string path, bool readOnly, bool? coherent, Func<FaultSafeCopy> makeCopy, bool byPages = false)
    {
        // Looked at before it is opened: opening a FIFO blocks, opening some character devices acts.
        statx_buffer named;
        if (statx(AT_FDCWD, argument.Path, 0, STATX_BASIC_STATS, &named) != 0)
            throw Errno.Last is Errno.ENOENT or Errno.ENOTDIR ? Refused(ErrorReason.NotFound, path, "no such file or device") : Missing(path, Errno.Describe(Errno.Last));
        RequireKind(path, named);

        int descriptor = open(argument.Path, (readOnly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK, 0);
        if (descriptor < 0)
            throw OpenFailed(path, named, Errno.Last);
        var file = new OpenFile(descriptor);
        MemoryMapping? mapping = null;
        FaultSafeCopy? copy = null;
        OpenFile? zeros = null;
        try
        {
            statx_buffer attributes = file.ReadAttributes();
            RequireKind(path, attributes);
            bool regular = (attributes.Mode & S_IFMT) == S_IFREG;
            string driver = "";
            long length;
            long alignment = UnitBytes;
            if (regular)
            {
                length = (long)attributes.Size - argument.OffsetBytes;
                if (argument.OffsetBytes > 0 && length <= 0)
                    throw Bad(path, $"has {attributes.Size} bytes, so nothing lies at offset {argument.OffsetBytes}");
            }
            else if (argument.OffsetBytes > 0)
            {
                throw Bad(path, "an offset can be given for a regular file only");
            }
            else
            {
                var sysfs = new DevDaxAttributes($"/sys/dev/char/{attributes.RdevMajor}:{attributes.RdevMinor}");
                length = sysfs.ReadLengthBytes(path);
                alignment = Math.Max(alignment, sysfs.ReadAlignmentBytes());
                driver = sysfs.ReadDriver();
            }

            if (length == 0)
                throw Bad(path, $"is empty; {Smallest}");
            if (byPages)
                length = (length + Environment.SystemPageSize - 1) / Environment.SystemPageSize * Environment.SystemPageSize;
            else if (length < UnitBytes)
                throw Bad(path, $"has {length} bytes, less than one unit of {UnitBytes}; {Smallest}");

            mapping = MemoryMapping.TryMapShared(file, argument.OffsetBytes, length, alignment, readOnly, out int errno);
            if (mapping is null)
                throw MapFailed(path, regular, driver, errno);
            copy = makeCopy();
            if (!readOnly)
            {
                int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC, 0);
                if (zero < 0)
                    throw Missing(path, $"/dev/zero, which zeroes it, cannot be opened: {Errno.Describe(Errno.Last)}");
                zeros = new OpenFile(zero);
            }

            string identity = regular
                ? $"file {attributes.DevMajor}:{attributes.DevMinor} {attributes.Inode}{(argument.OffsetBytes == 0 ? "" : $" from {argument.OffsetBytes}")}"
                : $"device {attributes.RdevMajor}:{attributes.RdevMinor}";
            return new MappedDaxDevice(path, identity, argument.OffsetBytes, length, regular, readOnly, file, mapping, copy, zeros) { Coherent = coherent ?? regular };
        }
        catch
        {
            zeros?.Dispose();
            copy?.Dispose();
            mapping?.Dispose();
            file.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override void Read(long offset, Span<byte> destination)
    {
        RequireRange(offset, destination.Length);
        using var held = new HeldMapping(_mapping);
        fixed (byte* target = destination)
        {
            long done = _copy.FromDevice((byte*)held.Address + offset, target, destination.Length);
            if (done < destination.Length)
                throw Fault("read", offset + done);
        }
    }

    /// <inheritdoc/>
    public override void ReadPieces(ReadOnlySpan<long> offsets, int pieceBytes, Span<byte> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(pieceBytes);
        ArgumentOutOfRangeException.ThrowIfLessThan(destination.Length, (long)offsets.Length * pieceBytes, nameof(destination));
        foreach (long offset in offsets)
            RequireRange(offset, pieceBytes);
        if (pieceBytes == 0)
            return;
        using var held = new HeldMapping(_mapping);
        iovec* pieces = stackalloc iovec[Math.Min(offsets.Length, IOV_MAX)];
        fixed (byte* target = destination)
        {
            for (int first = 0; first < offsets.Length; first += IOV_MAX)
            {
                int count = Math.Min(offsets.Length - first, IOV_MAX);
                for (int i = 0; i < count; i++)
                    pieces[i] = new iovec { Base = (byte*)held.Address + offsets[first + i], Length = (nuint)pieceBytes };
                long done = _copy.Gather(pieces, count, target + (long)first * pieceBytes);
                if (done < (long)count * pieceBytes)
                    throw Fault("read", offsets[first + (int)(done / pieceBytes)] + done % pieceBytes);
            }
        }
    }

    /// <inheritdoc/>
    public override void Write(long offset, ReadOnlySpan<byte> source)
    {
        RequireRange(offset, source.Length);
        RequireWritable();
        using var held = new HeldMapping(_mapping);
        fixed (byte* from = source)
        {
            long done = _copy.ToDevice((byte*)held.Address + offset, from, source.Length);
            if (done < source.Length)
                throw Fault("written", offset + done);
        }
    }

    /// <inheritdoc/>
    public override void Write(long offset, ReadOnlySpan<byte> source, StagingBuffer staging)
    {
        if (!staging.TryLocate(source, out int start))
        {
            Write(offset, source);
            return;
        }

        RequireRange(offset, source.Length);
        RequireWritable();
        using var held = new HeldMapping(_mapping);
        long done = staging.CopyToDevice(_copy, (byte*)held.Address + offset, start, source.Length);
        if (done < source.Length)
            throw Fault("written", offset + done);
    }

    /// <inheritdoc/>
    public override void Zero(long offset, long length)
    {
        RequireRange(offset, length);
        RequireWritable();
        using var held = new HeldMapping(_mapping);
        long end = offset + length;
        if (_regular && length > 0)
        {
            // Whole pages become a hole, which reads as zeros and gives the memory back; a file system
            // that cannot punch holes has them written.
            long page = Environment.SystemPageSize;
            long holeStart = (offset + page - 1) / page * page;
            long holeEnd = end / page * page;
            if (holeStart < holeEnd && fallocate(_file.Descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, _startBytes + holeStart, holeEnd - holeStart) == 0)
            {
                WriteZeros(held.Address, offset, holeStart);
                WriteZeros(held.Address, holeEnd, end);

                // A hole can be punched beyond the end of a file that shrank; the zeros are not there then.
                long now = (long)_file.ReadAttributes().Size - _startBytes;
                if (now < end)
                    throw Fault("zeroed", Math.Max(now, offset));
                Fence();
                return;
            }
        }

        WriteZeros(held.Address, offset, end);
        Fence();
    }

    /// <inheritdoc/>
    /// <remarks>The kernel copies an aligned word with one 8-byte move (copy_user_generic: MOVQ for the last
    /// 8..63 bytes; with FSRM, REP MOVSB, whose microcode moves 8 aligned bytes at once), so a torn word is
    /// not seen in practice. Nothing promises it, so the word is loaded twice, by one call, until both
    /// loads agree: a tear lasts as long as the writer's store takes, and can be in both loads only if the
    /// writer stands still between two halves of one instruction.</remarks>
    public override ulong ReadWord(long offset)
    {
        RequireWord(offset);
        using var held = new HeldMapping(_mapping);
        byte* word = (byte*)held.Address + offset;
        iovec* pieces = stackalloc iovec[2];
        pieces[0] = new iovec { Base = word, Length = sizeof(ulong) };
        pieces[1] = pieces[0];
        ulong* loaded = stackalloc ulong[2];
        for (int i = 0; i < WordTries; i++)
        {
            if (_copy.Gather(pieces, 2, (byte*)loaded) < 2 * sizeof(ulong))
                throw Fault("read", offset);
            if (loaded[0] == loaded[1])
                return BitConverter.IsLittleEndian ? loaded[0] : BinaryPrimitives.ReverseEndianness(loaded[0]);
        }

        throw new DeviceFaultException($"{Path}: the word at {offset} never stands still");
    }

    /// <inheritdoc/>
    /// <remarks>One aligned 8-byte copy by the kernel, see <see cref="ReadWord"/>.</remarks>
    public override void WriteWord(long offset, ulong value)
    {
        RequireWord(offset);
        RequireWritable();
        if (!BitConverter.IsLittleEndian)
            value = BinaryPrimitives.ReverseEndianness(value);
        using var held = new HeldMapping(_mapping);
        if (_copy.ToDevice((byte*)held.Address + offset, (byte*)&value, sizeof(ulong)) < sizeof(ulong))
            throw Fault("written", offset);
    }

    /// <inheritdoc/>
    public override void WriteBack(long offset, long length)
    {
        RequireRange(offset, length);
        using var held = new HeldMapping(_mapping);
        if (_coherent || length == 0)
            return;
        RequireReachable(held.Address, offset, length);
        _flush!.WriteBack(held.Address + (nint)offset, length);
    }

    /// <inheritdoc/>
    public override void Invalidate(long offset, long length)
    {
        RequireRange(offset, length);
        using var held = new HeldMapping(_mapping);
        if (!_coherent && length > 0)
        {
            RequireReachable(held.Address, offset, length);
            _flush!.Invalidate(held.Address + (nint)offset, length);
        }

        Fence();
    }

    /// <inheritdoc/>
    public override void Fence() => FenceMemory();

    /// <inheritdoc/>
    /// <remarks>The address is good until <see cref="DaxDevice.Dispose()"/>.</remarks>
    public override bool TryGetAddress(long offset, long length, out nint address)
    {
        RequireRange(offset, length);
        using var held = new HeldMapping(_mapping);
        address = held.Address + (nint)offset;
        return true;
    }

    /// <inheritdoc/>
    /// <remarks>An open-file-description lock (F_OFD_SETLK) on byte <paramref name="index"/> of the device,
    /// on a description of its own, so that two takers in one process exclude each other too. On devdax
    /// it is a lock of the device node's inode: all processes must use the same /dev.</remarks>
    public override bool TryLockByte(long index, [NotNullWhen(true)] out IDisposable? held)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        RequireWritable();
        ObjectDisposedException.ThrowIf(_mapping.IsClosed, this);

        // Through /proc, because the path may name another file by now.
        int descriptor = open($"/proc/self/fd/{_file.Descriptor}", O_RDWR | O_CLOEXEC, 0);
        if (descriptor < 0)
            throw Missing(Path, $"cannot be opened again for a lock: {Errno.Describe(Errno.Last)}");
        var file = new OpenFile(descriptor);
        held = null;
        try
        {
            if (TryLock(file, F_WRLCK, index))
                held = new FileLock(file);
        }
        finally
        {
            if (held is null)
                file.Dispose();
        }
        return held is not null;
    }

    /// <inheritdoc/>
    /// <remarks>A lock of the device's own open file description.</remarks>
    public override bool TryUse(bool alone)
    {
        if (alone)
            RequireWritable();
        ObjectDisposedException.ThrowIf(_mapping.IsClosed, this);
        bool taken = TryLock(_file, alone ? F_WRLCK : F_RDLCK, UseLock);
        _inUse |= taken;
        return taken;
    }

    private bool TryLock(OpenFile file, short type, long index) =>
        FileLock.TryTake(file, type, _startBytes + index, 1, out int errno) || (errno == 0 ? false : throw new IOException($"{Path}: lock {index}: {Errno.Describe(errno)}"));

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (!disposing)
            return;
        _mapping.Dispose();
        _copy.Dispose();
        _zeros?.Dispose();
        _flush?.Dispose();
        if (_inUse && !_file.IsClosed)
            FileLock.Release(_file);
        _file.Dispose();
    }

    private static void RequireKind(string path, in statx_buffer attributes)
    {
        switch (attributes.Mode & S_IFMT)
        {
            case S_IFREG:
                return;
            case S_IFDIR:
                throw Bad(path, "is a directory");
            case S_IFBLK:
                throw Bad(path, "is a block device; famfs needs a dax character device or a regular file");
            case S_IFCHR:
                if (!new DevDaxAttributes($"/sys/dev/char/{attributes.RdevMajor}:{attributes.RdevMinor}").Exists)
                    throw Bad(path, "is a character device, but not of the dax subsystem");
                return;
            default:
                throw Bad(path, "is neither a dax character device nor a regular file");
        }
    }

    /// <summary>What a file system needs, for those who try with less than can be mapped.</summary>
    private static string Smallest => $"a first device has at least {MediaLayout.MinPrimaryBytes} bytes, a further one {MediaLayout.MinSecondaryBytes}";

    private static FamfsException OpenFailed(string path, in statx_buffer named, int errno)
    {
        if (errno == Errno.EBUSY)
            return Missing(path, $"is held by another mount of this kernel (a famfs mount elsewhere, one whose files are still mapped, or a daemon that is ending): {Errno.Describe(errno)}", errno);
        if ((named.Mode & S_IFMT) == S_IFCHR && errno is Errno.ENXIO or Errno.ENODEV)
        {
            string driver = new DevDaxAttributes($"/sys/dev/char/{named.RdevMajor}:{named.RdevMinor}").ReadDriver();
            return Missing(path, driver.Length == 0
                ? "no driver is bound to the dax device"
                : $"driver {driver} does not let it be opened: {Errno.Describe(errno)}");
        }

        return errno is Errno.EACCES or Errno.EPERM or Errno.EROFS
            ? Refused(ErrorReason.ReadOnly, path, errno == Errno.EROFS ? "is on a file system that is mounted read-only" : "permission denied")
            : Missing(path, $"cannot be opened: {Errno.Describe(errno)}");
    }

    private static FamfsException MapFailed(string path, bool regular, string driver, int errno)
    {
        if (!regular && driver == "fsdev_dax")
            return Missing(path, $"is bound to fsdev_dax, which gives it to famfs and to nobody's mmap ({Errno.Describe(errno)}): name the mount point, or give it back to device_dax with `famfs dax-mode devdax {path}`");
        string by = driver.Length == 0 ? "" : $" (driver {driver})";
        return Missing(path, $"cannot be mapped{by}: {Errno.Describe(errno)}");
    }

    private static FamfsException Missing(string path, string cause, int errno = 0) =>
        new(ErrorReason.DeviceMissing, $"{path}: {cause}") { Path = path, ErrorNumber = errno };

    private static FamfsException Bad(string path, string cause) => Refused(ErrorReason.BadRequest, path, cause);

    private static FamfsException Refused(ErrorReason reason, string path, string cause) =>
        new(reason, $"{path}: {cause}") { Path = path };

    private void RequireWritable()
    {
        if (ReadOnly)
            throw new FamfsException(ErrorReason.ReadOnly, $"{Path}: opened read-only") { Path = Path };
    }

    /// <summary>A flush of a page that is gone would be a signal like a load: one byte of every page is
    /// loaded by the kernel first. What remains is a page lost between this and the flush.</summary>
    private void RequireReachable(nint address, long offset, long length)
    {
        long page = Environment.SystemPageSize;
        iovec* pieces = stackalloc iovec[(int)Math.Min(IOV_MAX, (length + page - 1) / page + 1)];
        byte* ignored = stackalloc byte[IOV_MAX];
        long at = offset;
        long end = offset + length;
        while (at < end)
        {
            int count = 0;
            long first = at;
            while (at < end && count < IOV_MAX)
            {
                pieces[count++] = new iovec { Base = (byte*)address + at, Length = 1 };
                at = (at / page + 1) * page;
            }

            long done = _copy.Gather(pieces, count, ignored);
            if (done < count)
                throw Fault("flushed", done == 0 ? first : (first / page + done) * page);
        }
    }

    private void WriteZeros(nint address, long offset, long end)
    {
        // /dev/zero has the kernel clear the pages: EFAULT for one that is gone. Chunks, so that what is
        // written back is still in the cache.
        while (offset < end)
        {
            long chunk = Math.Min(end - offset, ZeroChunkBytes);
            long done = 0;
            while (done < chunk)
            {
                nint moved = read(_zeros!.Descriptor, (byte*)address + offset + done, (nuint)(chunk - done));
                if (moved > 0)
                    done += moved;
                else if (moved == 0 || Errno.Last != Errno.EINTR)
                    throw Fault("zeroed", offset + done);
            }

            if (!_coherent)
                _flush!.WriteBack(address + (nint)offset, chunk);
            offset += chunk;
        }
    }

    private DeviceFaultException Fault(string verb, long offset)
    {
        if (_regular)
        {
            long now = (long)_file.ReadAttributes().Size - _startBytes;
            if (offset >= now)
                return new DeviceFaultException($"{Path}: cannot be {verb} at {offset}: the file shrank from {LengthBytes} to {now} bytes");

            // The kernel says the same of both: a page of a file with holes that gets no room, and one that is broken.
            return new DeviceFaultException($"{Path}: cannot be {verb} at {offset}: the file system that this file is on is full (df shows it), or the memory there is poisoned or gone");
        }

        return new DeviceFaultException($"{Path}: cannot be {verb} at {offset}: the memory there is poisoned or gone");
    }

    /// <summary>Keeps the mapping in place for the length of one operation.</summary>
    private readonly ref struct HeldMapping
    {
        private readonly MemoryMapping _mapping;

        public HeldMapping(MemoryMapping mapping)
        {
            bool added = false;
            mapping.DangerousAddRef(ref added);
            _mapping = mapping;
        }

        public nint Address => _mapping.Address;

        public void Dispose() => _mapping.DangerousRelease();
    }
}
