using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using Famfs.V1;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Core.Dax;

/// <summary>A range of a device that can be reached as a file.</summary>
/// <param name="OffsetBytes">Where it starts on the device.</param>
/// <param name="LengthBytes">Bytes, as many as the file has.</param>
/// <param name="Path">The file.</param>
public readonly record struct DevicePiece(long OffsetBytes, long LengthBytes, string Path);

/// <summary>Knows which file of a mount covers a byte of a device.</summary>
public interface IDevicePieces
{
    /// <summary>The piece that covers <paramref name="offset"/> of device <paramref name="device"/>. May wait, a bounded
    /// time, for the mount to learn of it. Called from threads that never answer the kernel.</summary>
    bool TryFind(DeviceIndex device, long offset, out DevicePiece piece);

    /// <summary>The same for space that is to be zeroed, which may be a window: space that is reserved to this process, of which nothing is
    /// kept open.</summary>
    bool TryFindToZero(DeviceIndex device, long offset, out DevicePiece piece, out bool isWindow)
    {
        isWindow = false;
        return TryFind(device, offset, out piece);
    }

    /// <summary>Why there is none, for a message: names the mount.</summary>
    string DescribeAbsence(DeviceIndex device, long offset);
}

/// <summary>
/// A device that this host cannot map whole, because its kernel gives it to a famfs mount: it is made of files
/// of that mount, each a range of the device (superblock unit, host table, log segments). A piece is opened
/// and mapped at its first use; what no file covers cannot be reached, and is never a file's data. Space that is zeroed is opened for
/// one call: the kernel may have no file of it left when it becomes another's.
/// <para>Threads: as any device; but not from a thread that serves the mount, because opening a piece asks it.</para>
/// </summary>
public sealed class PiecewiseDaxDevice : DaxDevice
{
    private readonly DeviceIndex _index;
    private readonly IDevicePieces _source;
    private readonly Lock _opening = new();

    // Guard: replaced whole under _opening, sorted by offset; readers take the reference once.
    private volatile OpenPiece[] _pieces = [];
    private volatile bool _coherent;
    private volatile bool _disposed;

    /// <summary>Makes the device; nothing is opened yet.</summary>
    /// <param name="path">Its name in messages.</param>
    /// <param name="index">Its index in the pool.</param>
    /// <param name="lengthBytes">Its bytes, as its superblock says.</param>
    /// <param name="coherent">As its superblock declares (SAFETY S18).</param>
    /// <param name="readOnly">For loads only.</param>
    /// <param name="source">Knows the pieces.</param>
    public PiecewiseDaxDevice(string path, DeviceIndex index, long lengthBytes, bool coherent, bool readOnly, IDevicePieces source)
    {
        Path = path;
        _index = index;
        LengthBytes = lengthBytes;
        _coherent = coherent;
        ReadOnly = readOnly;
        _source = source;
    }

    /// <summary>The pieces that are open, each with its file, for a process that keeps them. Valid until the device is disposed.</summary>
    public IReadOnlyList<(DevicePiece Place, SafeHandle File)> OpenPieces => [.. _pieces.Select(p => (p.Place, p.Device.File))];

    /// <summary>Goes on with a piece that another process had open; <paramref name="file"/> is this object's from then on. Its server is not
    /// asked. Throws <see cref="FamfsException"/> where it cannot be mapped.</summary>
    public void Adopt(DevicePiece place, SafeFileHandle file)
    {
        lock (_opening)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (Find(_pieces, place.OffsetBytes) is null && place.OffsetBytes <= LengthBytes - place.LengthBytes)
                _pieces = [.. _pieces.Append(new(place, MappedDaxDevice.Adopt(file, place.Path, place.LengthBytes, _coherent))).OrderBy(p => p.Place.OffsetBytes)];
            else
                file.Dispose();
        }
    }

    /// <summary>Opens the piece that covers a byte, if it is not open. Errors as of <see cref="Read"/>, without those of memory.</summary>
    public void RequireOpen(long offset) => _ = Require(offset);

    /// <inheritdoc/>
    /// <remarks>Pieces that lie in the range whole.</remarks>
    public override void LetGo(long offset, long length)
    {
        RequireRange(offset, length);
        lock (_opening)
        {
            ILookup<bool, OpenPiece> isOver = _pieces.ToLookup(p => p.Place.OffsetBytes >= offset && p.EndBytes <= offset + length);
            _pieces = [.. isOver[false]];
            foreach (OpenPiece piece in isOver[true])
                piece.Device.Dispose();
        }
    }

    private readonly record struct OpenPiece(DevicePiece Place, MappedDaxDevice Device)
    {
        public long EndBytes => Place.OffsetBytes + Place.LengthBytes;
    }

    /// <inheritdoc/>
    public override string Path { get; }

    /// <inheritdoc/>
    public override long LengthBytes { get; }

    /// <inheritdoc/>
    public override bool ReadOnly { get; }

    /// <inheritdoc/>
    public override bool Coherent
    {
        get => _coherent;
        set
        {
            lock (_opening)
            {
                foreach (OpenPiece piece in _pieces)
                    piece.Device.Coherent = value;
                _coherent = value;
            }
        }
    }

    /// <inheritdoc/>
    public override string MemoryIdentity => $"mounted {Path}";

    /// <inheritdoc/>
    public override void Read(long offset, Span<byte> destination)
    {
        RequireRange(offset, destination.Length);
        while (!destination.IsEmpty)
        {
            OpenPiece piece = Require(offset);
            int length = (int)Math.Min(destination.Length, piece.EndBytes - offset);
            piece.Device.Read(offset - piece.Place.OffsetBytes, destination[..length]);
            destination = destination[length..];
            offset += length;
        }
    }

    /// <inheritdoc/>
    public override void ReadPieces(ReadOnlySpan<long> offsets, int pieceBytes, Span<byte> destination)
    {
        if (offsets.IsEmpty || pieceBytes == 0)
            return;
        OpenPiece piece = Require(offsets[0]);
        long[] shifted = new long[offsets.Length];
        for (int i = 0; i < offsets.Length; i++)
        {
            RequireRange(offsets[i], pieceBytes);
            shifted[i] = offsets[i] - piece.Place.OffsetBytes;
            if (shifted[i] < 0 || shifted[i] > piece.Place.LengthBytes - pieceBytes)
            {
                base.ReadPieces(offsets, pieceBytes, destination);
                return;
            }
        }
        piece.Device.ReadPieces(shifted, pieceBytes, destination);
    }

    /// <inheritdoc/>
    public override void Write(long offset, ReadOnlySpan<byte> source)
    {
        RequireRange(offset, source.Length);
        while (!source.IsEmpty)
        {
            OpenPiece piece = Require(offset);
            int length = (int)Math.Min(source.Length, piece.EndBytes - offset);
            piece.Device.Write(offset - piece.Place.OffsetBytes, source[..length]);
            source = source[length..];
            offset += length;
        }
    }

    /// <inheritdoc/>
    public override void Zero(long offset, long length)
    {
        RequireRange(offset, length);
        for (long end = offset + length; offset < end;)
        {
            if (Find(_pieces, offset) is null && _source.TryFindToZero(_index, offset, out DevicePiece place, out bool isWindow) && isWindow)
            {
                using MappedDaxDevice window = OpenPlace(place, offset);
                long bytes = Math.Min(end, place.OffsetBytes + place.LengthBytes) - offset;
                window.Zero(offset - place.OffsetBytes, bytes);
                offset += bytes;
            }
            else
            {
                OpenPiece piece = Require(offset);
                long bytes = Math.Min(end, piece.EndBytes) - offset;
                piece.Device.Zero(offset - piece.Place.OffsetBytes, bytes);
                offset += bytes;
            }
        }
        Fence();
    }

    /// <inheritdoc/>
    public override ulong ReadWord(long offset)
    {
        RequireWord(offset);
        OpenPiece piece = Require(offset);
        return piece.Device.ReadWord(offset - piece.Place.OffsetBytes);
    }

    /// <inheritdoc/>
    public override void WriteWord(long offset, ulong value)
    {
        RequireWord(offset);
        OpenPiece piece = Require(offset);
        piece.Device.WriteWord(offset - piece.Place.OffsetBytes, value);
    }

    /// <inheritdoc/>
    public override void WriteBack(long offset, long length) =>
        ForEachPiece(offset, length, static (device, start, bytes) => device.WriteBack(start, bytes));

    /// <inheritdoc/>
    public override void Invalidate(long offset, long length)
    {
        ForEachPiece(offset, length, static (device, start, bytes) => device.Invalidate(start, bytes));
        Fence();
    }

    /// <inheritdoc/>
    public override void Fence() => FenceMemory();

    /// <inheritdoc/>
    /// <remarks>False also for a range over two pieces, whose mappings lie apart.</remarks>
    public override bool TryGetAddress(long offset, long length, out nint address)
    {
        RequireRange(offset, length);
        OpenPiece piece = Require(offset);
        if (length <= piece.EndBytes - offset)
            return piece.Device.TryGetAddress(offset - piece.Place.OffsetBytes, length, out address);
        address = 0;
        return false;
    }

    /// <inheritdoc/>
    /// <remarks>A lock of the piece at the start of the device. Of a file of a mount that is local to this kernel,
    /// as it should be; every process of the host that works through mounts meets it there.</remarks>
    public override bool TryLockByte(long index, [NotNullWhen(true)] out IDisposable? held) => Require(0).Device.TryLockByte(index, out held);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (!disposing)
            return;
        lock (_opening)
        {
            _disposed = true;
            foreach (OpenPiece piece in _pieces)
                piece.Device.Dispose();
            _pieces = [];
        }
    }

    private void ForEachPiece(long offset, long length, Action<MappedDaxDevice, long, long> action)
    {
        RequireRange(offset, length);
        for (long end = offset + length; offset < end;)
        {
            OpenPiece piece = Require(offset);
            long bytes = Math.Min(end, piece.EndBytes) - offset;
            action(piece.Device, offset - piece.Place.OffsetBytes, bytes);
            offset += bytes;
        }
    }

    private OpenPiece Require(long offset) => Find(_pieces, offset) ?? Open(offset);

    private static OpenPiece? Find(OpenPiece[] pieces, long offset)
    {
        int low = 0;
        int high = pieces.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            if (offset < pieces[middle].Place.OffsetBytes)
                high = middle - 1;
            else if (offset >= pieces[middle].EndBytes)
                low = middle + 1;
            else
                return pieces[middle];
        }
        return null;
    }

    private OpenPiece Open(long offset)
    {
        lock (_opening)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (Find(_pieces, offset) is { } meanwhile)
                return meanwhile;
            if (!_source.TryFind(_index, offset, out DevicePiece place))
                throw new FamfsException(ErrorReason.DeviceMissing, $"{Path}: {_source.DescribeAbsence(_index, offset)}") { Path = Path };
            OpenPiece piece = new(place, OpenPlace(place, offset));
            _pieces = [.. _pieces.Append(piece).OrderBy(p => p.Place.OffsetBytes)];
            return piece;
        }
    }

    private MappedDaxDevice OpenPlace(DevicePiece place, long offset)
    {
        MappedDaxDevice device = MappedDaxDevice.OpenFile(place.Path, place.Path, ReadOnly, _coherent);
        if (device.LengthBytes == place.LengthBytes && offset >= place.OffsetBytes && offset - place.OffsetBytes < place.LengthBytes && place.OffsetBytes <= LengthBytes - place.LengthBytes)
            return device;
        device.Dispose();
        throw new FamfsException(ErrorReason.WrongFilesystem, $"{place.Path}: has {device.LengthBytes} bytes, the mount says {place.LengthBytes} from {place.OffsetBytes} of {Path}") { Path = place.Path };
    }
}
