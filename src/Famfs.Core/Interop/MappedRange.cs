using System.Buffers;
using Famfs.Core.Format;
using Famfs.V1;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Core.Interop;

/// <summary>An open device that pieces of a file are mapped from: its descriptor, where it starts in the file that it is a
/// part of, and its bytes from there. Valid while the device is open.</summary>
public readonly struct MapSource
{
    internal MapSource(string path, OpenFile file, long startBytes, long lengthBytes)
    {
        Path = path;
        File = file;
        StartBytes = startBytes;
        LengthBytes = lengthBytes;
    }

    /// <summary>Name of the device, for messages.</summary>
    public string Path { get; }

    /// <summary>Bytes of the device.</summary>
    public long LengthBytes { get; }

    internal OpenFile File { get; }

    internal long StartBytes { get; }
}

/// <summary>
/// A file's bytes as one contiguous range of this process's addresses, loaded and stored directly. The range
/// stays mapped until <see cref="Dispose"/>; memory and spans taken from it must not be used after that.
/// <para>Loads and stores go to the device itself: memory that is poisoned or truncated raises SIGBUS here as
/// in any program that maps files. On a non-coherent device, what other hosts see is the caller's business
/// (write-back and invalidate).</para>
/// </summary>
public sealed class MappedRange : IDisposable
{
    private const long HugePageBytes = 2L << 20;

    private readonly Addresses _addresses;

    private MappedRange(Addresses addresses, nint start, long lengthBytes, bool writable, int pieceCount)
    {
        _addresses = addresses;
        Address = start;
        LengthBytes = lengthBytes;
        Writable = writable;
        PieceCount = pieceCount;
    }

    /// <summary>First address.</summary>
    public nint Address { get; }

    /// <summary>Bytes of the file.</summary>
    public long LengthBytes { get; }

    /// <summary>Stores are allowed; without it a store raises SIGSEGV.</summary>
    public bool Writable { get; }

    /// <summary>Mappings that make up the range.</summary>
    public int PieceCount { get; }

    /// <summary>Maps a whole file that the kernel maps coherently itself: one mapping.</summary>
    public static MappedRange MapFile(MountedFile file)
    {
        int protection = file.Writable ? Libc.PROT_READ | Libc.PROT_WRITE : Libc.PROT_READ;
        nint address = Libc.mmap(0, (nuint)file.LengthBytes, protection, Libc.MAP_SHARED, file.Descriptor, 0);
        if (address == Libc.MAP_FAILED)
            throw MapFailed(file.Path, Errno.Last);
        return new(new(address, (nuint)file.LengthBytes), address, file.LengthBytes, file.Writable, 1);
    }

    /// <summary>Maps <paramref name="pieces"/> (which cover [0, size) in order), one after the other, from
    /// <paramref name="devices"/>, which need not stay open. <paramref name="pin"/>: a file of which one page without any
    /// access is mapped after the data. Whoever serves that file sees it in use until the range is gone.</summary>
    public static MappedRange MapDevices(IReadOnlyList<MapPiece> pieces, long sizeBytes, IReadOnlyDictionary<uint, MapSource> devices, bool writable, MountedFile? pin)
    {
        long page = Environment.SystemPageSize;
        MapPiece last = pieces[^1];
        long dataBytes = (last.FileOffset + last.LengthBytes + page - 1) / page * page;
        long pinBytes = pin is null ? 0 : page;
        nuint reserved = (nuint)(dataBytes + pinBytes + HugePageBytes);
        nint reservation = Libc.mmap(0, reserved, Libc.PROT_NONE, Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS | Libc.MAP_NORESERVE, -1, 0);
        if (reservation == Libc.MAP_FAILED)
            throw MapFailed($"{dataBytes} bytes of addresses", Errno.Last);
        Addresses addresses = new(reservation, reserved);
        try
        {
            // Huge pages of a device are usable only where address and offset agree below 2 MiB.
            nint start = (reservation + (nint)HugePageBytes - 1) & ~((nint)HugePageBytes - 1);
            int protection = writable ? Libc.PROT_READ | Libc.PROT_WRITE : Libc.PROT_READ;
            foreach (MapPiece piece in pieces)
            {
                if (!devices.TryGetValue(piece.Device, out MapSource device))
                    throw new FamfsException(ErrorReason.DeviceMissing, $"device {piece.Device} of the file is not on this host");
                // Pages past the end of a regular file can be mapped, and then kill who touches them.
                if (piece.DeviceOffset + piece.LengthBytes > device.LengthBytes)
                    throw new FamfsException(ErrorReason.MediaCorrupt, $"{device.Path}: has {device.LengthBytes} bytes, the file's map reaches to {piece.DeviceOffset + piece.LengthBytes}") { Path = device.Path };
                nint place = start + (nint)piece.FileOffset;
                if (Libc.mmap(place, (nuint)piece.LengthBytes, protection, Libc.MAP_SHARED | Libc.MAP_FIXED, device.File.Descriptor, device.StartBytes + piece.DeviceOffset) == Libc.MAP_FAILED)
                    throw MapFailed($"{device.Path}: {piece.LengthBytes} bytes at {piece.DeviceOffset}, one of {pieces.Count} pieces", Errno.Last);
                // A child would keep the memory without the pin saying so.
                if (Libc.madvise(place, (nuint)piece.LengthBytes, Libc.MADV_DONTFORK) != 0)
                    throw MapFailed($"{device.Path}: keeping it from children", Errno.Last);
            }
            // Private: a mount that serves I/O directly allows that mapping too, and it holds the file all the same.
            if (pin is not null && Libc.mmap(start + (nint)dataBytes, (nuint)page, Libc.PROT_NONE, Libc.MAP_PRIVATE | Libc.MAP_FIXED, pin.Descriptor, 0) == Libc.MAP_FAILED)
                throw MapFailed($"{pin.Path}: its pin", Errno.Last);
            return new(addresses, start, sizeBytes, writable, pieces.Count);
        }
        catch
        {
            addresses.Dispose();
            throw;
        }
    }

    /// <summary>A part of the range. Throws <see cref="ObjectDisposedException"/> after <see cref="Dispose"/>.</summary>
    public unsafe Span<byte> Span(long offset, int length)
    {
        ObjectDisposedException.ThrowIf(_addresses.IsClosed, this);
        if (offset < 0 || length < 0 || offset > LengthBytes - length)
            throw new ArgumentOutOfRangeException(nameof(offset), $"range {offset}+{length} is outside the mapped {LengthBytes} bytes");
        return new((byte*)Address + offset, length);
    }

    /// <summary>A part of the range as memory, for asynchronous callers.</summary>
    public Memory<byte> Memory(long offset, int length)
    {
        _ = Span(offset, length);
        return new RangeMemory(this, offset, length).Memory;
    }

    /// <inheritdoc/>
    public void Dispose() => _addresses.Dispose();

    private static FamfsException MapFailed(string what, int errno) => new(
        errno == Errno.ENOMEM ? ErrorReason.Overloaded : errno is Errno.EACCES or Errno.EPERM ? ErrorReason.ReadOnly : ErrorReason.DeviceMissing,
        $"{what}: cannot be mapped: {Errno.Describe(errno)}{(errno == Errno.ENOMEM ? "; each piece takes one of vm.max_map_count mappings" : "")}");

    /// <summary>The reserved addresses with everything mapped into them.</summary>
    private sealed class Addresses : SafeHandleMinusOneIsInvalid
    {
        private readonly nuint _lengthBytes;

        public Addresses(nint start, nuint lengthBytes)
            : base(ownsHandle: true)
        {
            SetHandle(start);
            _lengthBytes = lengthBytes;
        }

        protected override bool ReleaseHandle() => Libc.munmap(handle, _lengthBytes) == 0;
    }

    private sealed class RangeMemory(MappedRange range, long offset, int length) : MemoryManager<byte>
    {
        public override Span<byte> GetSpan() => range.Span(offset, length);

        public override unsafe MemoryHandle Pin(int elementIndex = 0)
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)elementIndex, (uint)length, nameof(elementIndex));
            bool added = false;
            range._addresses.DangerousAddRef(ref added);
            return new((byte*)range.Address + offset + elementIndex, default, this);
        }

        public override void Unpin() => range._addresses.DangerousRelease();

        protected override void Dispose(bool disposing)
        {
        }
    }
}
