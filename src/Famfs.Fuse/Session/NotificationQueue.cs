namespace Famfs.Fuse.Session;

/// <summary>
/// Messages waiting for the notifying thread, in order, as bytes in a ring. Grows to a limit; beyond that,
/// adding fails and the caller decides. Not synchronized: its owner's lock guards it.
/// </summary>
public sealed class NotificationQueue(int limitBytes)
{
    private const int LengthBytes = sizeof(ushort);
    private byte[] _ring = new byte[Math.Min(64 * 1024, limitBytes)];
    private int _start;
    private int _used;

    /// <summary>Messages ever added.</summary>
    public long Added { get; private set; }

    /// <summary>Messages ever taken or dropped.</summary>
    public long Taken { get; private set; }

    /// <summary>Adds a message, beyond the limit if <paramref name="unlimited"/>; false when there is no room.</summary>
    public bool TryAdd(ReadOnlySpan<byte> message, bool unlimited)
    {
        int needed = _used + LengthBytes + message.Length;
        if (needed > limitBytes && !unlimited)
            return false;
        if (needed > _ring.Length)
            Grow(needed);
        Span<byte> length = [(byte)message.Length, (byte)(message.Length >> 8)];
        Put(length);
        Put(message);
        Added++;
        return true;
    }

    /// <summary>Takes the oldest message; 0 when there is none.</summary>
    public int Take(Span<byte> message)
    {
        if (_used == 0)
            return 0;
        Span<byte> length = stackalloc byte[LengthBytes];
        Get(length);
        int bytes = length[0] | (length[1] << 8);
        Get(message[..bytes]);
        Taken++;
        return bytes;
    }

    /// <summary>Drops everything.</summary>
    public void Clear()
    {
        _start = 0;
        _used = 0;
        Taken = Added;
    }

    private void Put(ReadOnlySpan<byte> bytes)
    {
        int end = (int)(((long)_start + _used) % _ring.Length);
        int first = Math.Min(bytes.Length, _ring.Length - end);
        bytes[..first].CopyTo(_ring.AsSpan(end));
        bytes[first..].CopyTo(_ring);
        _used += bytes.Length;
    }

    private void Get(Span<byte> bytes)
    {
        int first = Math.Min(bytes.Length, _ring.Length - _start);
        _ring.AsSpan(_start, first).CopyTo(bytes);
        _ring.AsSpan(0, bytes.Length - first).CopyTo(bytes[first..]);
        _start = (int)(((long)_start + bytes.Length) % _ring.Length);
        _used -= bytes.Length;
    }

    private void Grow(int needed)
    {
        byte[] larger = new byte[(int)Math.Min(Math.Max((long)_ring.Length * 2, needed), Array.MaxLength)];
        int used = _used;
        Get(larger.AsSpan(0, used));
        _ring = larger;
        _start = 0;
        _used = used;
    }
}
