using Famfs.Core.Dax;

namespace Famfs.TestSupport.Dax;

/// <summary>Memory that simulated hosts share, with what makes real shared memory hard: every host has its
/// own cache lines, nothing is visible before it is written back, nothing new is seen before the old copy
/// is dropped, lines travel whole, in any order and sometimes without being asked.
/// <para>Non-coherent: a store changes the host's copy of a line. The line reaches memory when a write-back
/// is fenced (the unfenced ones of a handle land in random order, or earlier), when it is invalidated, or
/// when the cache evicts it, at any time. A whole line lands at once, other hosts' bytes in it included.
/// A load uses the host's copy when there is one; clean copies vanish, and neighbours are prefetched, at
/// any time.</para>
/// <para>Coherent: each handle has a store buffer, drained in order at any time, wholly by a fence; so a
/// store may be seen after a later load of the same handle (what x86-64 does). Write-back and
/// invalidate do nothing else.</para>
/// <para>Deterministic for one seed and one order of calls. All handles may be used from any thread; a
/// handle stands for one thread of execution in what its fence covers. Pages exist once stored to, so the
/// length costs nothing.</para></summary>
public sealed class FakeSharedMemory
{
    /// <summary>Bytes of a page of <see cref="CopyPages"/>.</summary>
    public const int PageBytes = 4096;

    // Guards everything below. BeforeAccess is called without it, so a hook may run other hosts.
    private readonly Lock _guard = new();
    private readonly Random _random;
    private readonly Dictionary<long, byte[]> _pages = [];
    private readonly Dictionary<string, Host> _hosts = [];
    private readonly List<(long Offset, long Length, string? Host)> _poison = [];

    // Lines of hosts that have lost power, still on their way.
    private readonly List<(string Host, long Number, byte[] Bytes)> _late = [];

    /// <summary>Makes zeroed memory.</summary>
    public FakeSharedMemory(long lengthBytes, int seed, bool coherent = false)
        : this(lengthBytes, new Random(seed), coherent)
    {
    }

    /// <summary>Makes zeroed memory whose accidents are decided by <paramref name="random"/>.</summary>
    public FakeSharedMemory(long lengthBytes, Random random, bool coherent = false)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(lengthBytes);
        LengthBytes = lengthBytes;
        _random = random;
        Coherent = coherent;
    }

    /// <summary>Bytes.</summary>
    public long LengthBytes { get; }

    /// <summary>What handles are coherent by default.</summary>
    public bool Coherent { get; }

    /// <summary>Name for messages.</summary>
    public string Name { get; init; } = "fake";

    /// <summary>Called before every access with the host's name, one of <see cref="FakeOperation"/> and the
    /// offset: store and load (per line, or part of one), write-back, invalidate, fence, land (one line of a
    /// fence reaching memory), zero. May throw, may run other hosts, may crash this one.</summary>
    public Action<string, string, long>? BeforeAccess { get; set; }

    /// <summary>One in this many accesses drops, evicts or prefetches a line of its host, or drains a
    /// store buffer; 0: accidents never happen.</summary>
    public int AccidentOneIn { get; set; } = 8;

    /// <summary>Lines a host's cache holds at most.</summary>
    public int CacheLines { get; set; } = 4096;

    /// <summary>Called with the place and the bytes when what a host has stored is in memory, but for zeroing. It may not use the
    /// memory.</summary>
    public Action<long, byte[]>? Landed { get; set; }

    /// <summary>Of the dirty lines of a host that loses power some stay on their way (in a switch, in the device): each lands at any time
    /// before the host is attached again, or never. Without this they land at once or never.</summary>
    public bool LateLines { get; init; }

    /// <summary>Lines that landed late.</summary>
    public int LandedLate { get; private set; }

    /// <summary>Lines that a cache wrote to memory without being asked.</summary>
    public long Evicted { get; private set; }

    /// <summary>Bytes of memory that exist.</summary>
    public long AllocatedBytes
    {
        get
        {
            lock (_guard)
                return (long)_pages.Count * PageBytes;
        }
    }

    /// <summary>A handle for one thread of execution on a host. Handles of one host share its cache.</summary>
    public FakeDaxDevice Attach(string hostName)
    {
        lock (_guard)
        {
            if (!_hosts.TryGetValue(hostName, out Host? host))
            {
                SettleLate(hostName);
                _hosts[hostName] = host = new Host(hostName);
            }

            return new FakeDaxDevice(this, host) { Coherent = Coherent };
        }
    }

    /// <summary>The host loses power: a random subset of its dirty lines had just been evicted, the others
    /// are lost. Its handles throw from now on; its locks are free; attach again to boot.</summary>
    public void Crash(string hostName)
    {
        lock (_guard)
        {
            if (!_hosts.Remove(hostName, out Host? host))
                return;
            host.Crashed = true;
            foreach (FakeDaxDevice handle in host.Handles)
            {
                int landed = _random.Next(handle.StoreBuffer.Count + 1);
                for (int i = 0; i < landed; i++)
                    DrainOldest(handle);
            }

            for (int i = host.Lines.Count - 1; i >= 0; i--)
            {
                if (!host.Lines[i].Dirty)
                    continue;
                if (LateLines && _random.Next(3) == 0)
                    _late.Add((hostName, host.Lines[i].Number, host.Lines[i].Bytes));
                else if (_random.Next(2) == 0)
                    StoreLine(host.Lines[i]);
            }

            host.Locks.Clear();
        }
    }

    /// <summary>Everything every host has stored reaches memory, every copy is dropped: what a long quiet
    /// time may do.</summary>
    public void Settle()
    {
        lock (_guard)
        {
            foreach (Host host in _hosts.Values)
            {
                foreach (FakeDaxDevice handle in host.Handles)
                {
                    while (handle.StoreBuffer.Count > 0)
                        DrainOldest(handle);
                    handle.Pending.Clear();
                }

                foreach (int i in Shuffled(host.Lines.Count))
                {
                    if (host.Lines[i].Dirty)
                        StoreLine(host.Lines[i]);
                }

                host.Lines.Clear();
                host.Index.Clear();
            }

            while (_late.Count > 0)
                LandLate(_random.Next(_late.Count));
        }
    }

    /// <summary>What a host that lost power had on its way is in memory by now, or lost.</summary>
    public void SettleLost(string hostName)
    {
        lock (_guard)
            SettleLate(hostName);
    }

    /// <summary>Nothing but zeros was ever in memory there.</summary>
    public bool IsUntouched(long offset)
    {
        lock (_guard)
            return !_pages.ContainsKey(offset / PageBytes);
    }

    /// <summary>What is in memory at this moment, page by page.</summary>
    public IReadOnlyDictionary<long, byte[]> CopyPages()
    {
        lock (_guard)
            return _pages.ToDictionary(p => p.Key, p => (byte[])p.Value.Clone());
    }

    /// <summary>Accesses to the range fault, on one host or on all.</summary>
    public void Poison(long offset, long length, string? hostName = null)
    {
        lock (_guard)
            _poison.Add((offset, length, hostName));
    }

    /// <summary>Nothing is poisoned any more.</summary>
    public void ClearPoison()
    {
        lock (_guard)
            _poison.Clear();
    }

    /// <summary>What is in memory, behind all caches.</summary>
    public void ReadMemory(long offset, Span<byte> destination)
    {
        lock (_guard)
            CopyFromPages(offset, destination);
    }

    /// <summary>Changes memory behind all caches.</summary>
    public void WriteMemory(long offset, ReadOnlySpan<byte> source)
    {
        lock (_guard)
            CopyToPages(offset, source);
    }

    internal void Load(FakeDaxDevice handle, long offset, Span<byte> destination)
    {
        while (!destination.IsEmpty)
        {
            // Nobody has ever stored there: no host has anything to see or to miss, and nothing can happen in between.
            int zeros = CountUntouched(handle, offset, destination.Length);
            if (zeros > 0)
            {
                destination[..zeros].Clear();
                offset += zeros;
                destination = destination[zeros..];
                continue;
            }

            int count = (int)Math.Min(destination.Length, DaxDevice.LineBytes - offset % DaxDevice.LineBytes);
            LoadPart(handle, offset, destination[..count]);
            offset += count;
            destination = destination[count..];
        }
    }

    /// <summary>Bytes of whole pages from <paramref name="offset"/> on that were never stored to by anybody.</summary>
    private int CountUntouched(FakeDaxDevice handle, long offset, int length)
    {
        if (offset % PageBytes != 0 || length < PageBytes)
            return 0;
        lock (_guard)
        {
            RequireAlive(handle);
            if (_poison.Count > 0 || handle.StoreBuffer.Count > 0)
                return 0;
            int count = 0;
            while (length - count >= PageBytes && !_pages.ContainsKey((offset + count) / PageBytes) && !IsCached(handle.Host, offset + count))
                count += PageBytes;
            return count;
        }
    }

    private static bool IsCached(Host host, long page)
    {
        for (long line = page / DaxDevice.LineBytes; line < (page + PageBytes) / DaxDevice.LineBytes; line++)
        {
            if (host.Index.ContainsKey(line))
                return true;
        }

        return false;
    }

    /// <summary>Loads bytes of one line at once.</summary>
    internal void LoadPart(FakeDaxDevice handle, long offset, Span<byte> destination)
    {
        BeforeAccess?.Invoke(handle.HostName, FakeOperation.Load, offset);
        lock (_guard)
        {
            RequireAlive(handle);
            RequireSound(handle, offset, destination.Length);
            Accident(handle, offset);
            if (handle.Coherent)
            {
                // Own stores are seen at once (forwarded by the processor); here by letting them go first.
                long end = offset + destination.Length;
                while (handle.StoreBuffer.Any(s => s.Offset < end && offset < s.Offset + s.Bytes.Length))
                    DrainOldest(handle);
                CopyFromPages(offset, destination);
                return;
            }

            Line line = Fetch(handle.Host, offset / DaxDevice.LineBytes);
            line.Bytes.AsSpan((int)(offset % DaxDevice.LineBytes), destination.Length).CopyTo(destination);
        }
    }

    internal void Store(FakeDaxDevice handle, long offset, ReadOnlySpan<byte> source)
    {
        while (!source.IsEmpty)
        {
            int count = (int)Math.Min(source.Length, DaxDevice.LineBytes - offset % DaxDevice.LineBytes);

            // A copy is several stores: now and then the line is caught between two of them.
            int words = (count - 1) / sizeof(ulong);
            if (words > 0)
            {
                int cut;
                lock (_guard)
                    cut = _random.Next(2) == 0 ? 0 : _random.Next(words) + 1;
                if (cut > 0)
                    count = (int)(offset / sizeof(ulong) * sizeof(ulong) + cut * sizeof(ulong) - offset);
            }

            StorePart(handle, offset, source[..count]);
            offset += count;
            source = source[count..];
        }
    }

    /// <summary>Stores bytes of one line at once.</summary>
    internal void StorePart(FakeDaxDevice handle, long offset, ReadOnlySpan<byte> source)
    {
        BeforeAccess?.Invoke(handle.HostName, FakeOperation.Store, offset);
        lock (_guard)
        {
            RequireAlive(handle);
            RequireSound(handle, offset, source.Length);
            if (handle.Coherent)
            {
                handle.StoreBuffer.Enqueue((offset, source.ToArray()));
                if (handle.StoreBuffer.Count > FakeDaxDevice.StoreBufferEntries)
                    DrainOldest(handle);
                Accident(handle, offset);
                return;
            }

            Line line = Fetch(handle.Host, offset / DaxDevice.LineBytes);

            // A write-back asked for earlier and not yet done takes in this store, or does not.
            if (!line.Dirty)
                handle.Pending.Remove(line.Number);
            else if (_random.Next(2) == 0 && handle.Pending.Remove(line.Number))
                StoreLine(line);
            source.CopyTo(line.Bytes.AsSpan((int)(offset % DaxDevice.LineBytes)));
            line.Dirty = true;
            Accident(handle, offset);
        }
    }

    internal void WriteBack(FakeDaxDevice handle, long offset, long length)
    {
        if (length == 0)
            return;
        BeforeAccess?.Invoke(handle.HostName, FakeOperation.WriteBack, offset);
        lock (_guard)
        {
            RequireAlive(handle);
            if (handle.Coherent)
                return;
            RequireSound(handle, offset, length);
            foreach (Line line in CachedLines(handle.Host, offset, length))
            {
                if (line.Dirty)
                    handle.Pending.Add(line.Number);
            }

            Accident(handle, offset);
        }
    }

    internal void Invalidate(FakeDaxDevice handle, long offset, long length)
    {
        BeforeAccess?.Invoke(handle.HostName, FakeOperation.Invalidate, offset);
        lock (_guard)
        {
            RequireAlive(handle);
            if (handle.Coherent)
            {
                while (handle.StoreBuffer.Count > 0)
                    DrainOldest(handle);
                return;
            }

            if (length == 0)
                return;
            RequireSound(handle, offset, length);
            foreach (Line line in CachedLines(handle.Host, offset, length))
            {
                if (line.Dirty)
                    StoreLine(line);
                handle.Pending.Remove(line.Number);
                Drop(handle.Host, line);
            }
        }
    }

    internal void Fence(FakeDaxDevice handle)
    {
        BeforeAccess?.Invoke(handle.HostName, FakeOperation.Fence, 0);
        while (true)
        {
            long next;
            lock (_guard)
            {
                RequireAlive(handle);
                while (handle.StoreBuffer.Count > 0)
                    DrainOldest(handle);
                if (handle.Pending.Count == 0)
                    return;
                next = handle.Pending[_random.Next(handle.Pending.Count)];
            }

            BeforeAccess?.Invoke(handle.HostName, FakeOperation.Land, next * DaxDevice.LineBytes);
            lock (_guard)
            {
                RequireAlive(handle);
                handle.Pending.Remove(next);
                if (handle.Host.Index.TryGetValue(next, out int at))
                    Land(handle.Host, handle.Host.Lines[at]);
            }
        }
    }

    internal void Zero(FakeDaxDevice handle, long offset, long length)
    {
        const long Chunk = 2L << 20;
        long end = offset + length;
        while (offset < end)
        {
            long stop = Math.Min(end, (offset / Chunk + 1) * Chunk);
            BeforeAccess?.Invoke(handle.HostName, FakeOperation.Zero, offset);
            lock (_guard)
            {
                RequireAlive(handle);
                RequireSound(handle, offset, stop - offset);

                // Streaming stores: the lines leave this host's cache, edge lines with their other bytes.
                while (handle.StoreBuffer.Count > 0)
                    DrainOldest(handle);
                foreach (Line line in CachedLines(handle.Host, offset, stop - offset))
                {
                    if (line.Dirty)
                        StoreLine(line);
                    handle.Pending.Remove(line.Number);
                    Drop(handle.Host, line);
                }

                ZeroPages(offset, stop);
            }

            offset = stop;
        }

        Fence(handle);
    }

    internal bool TryLock(FakeDaxDevice handle, long index, out IDisposable? held)
    {
        BeforeAccess?.Invoke(handle.HostName, FakeOperation.Lock, index);
        lock (_guard)
        {
            RequireAlive(handle);
            held = handle.Host.Locks.ContainsKey(index) ? null : new HeldLock(this, handle.Host, index);
            if (held is not null)
                handle.Host.Locks[index] = (HeldLock)held;
            return held is not null;
        }
    }

    internal void Detach(FakeDaxDevice handle)
    {
        lock (_guard)
        {
            handle.Host.Handles.Remove(handle);
            if (handle.Host.Crashed)
                return;
            while (handle.StoreBuffer.Count > 0)
                DrainOldest(handle);
        }
    }

    private static void RequireAlive(FakeDaxDevice handle)
    {
        ObjectDisposedException.ThrowIf(handle.Disposed, handle);
        if (handle.Host.Crashed)
            throw new FakeHostCrashedException(handle.HostName);
    }

    private void RequireSound(FakeDaxDevice handle, long offset, long length)
    {
        foreach (var (start, bytes, host) in _poison)
        {
            if (offset < start + bytes && start < offset + length && (host is null || host == handle.HostName))
                throw new DeviceFaultException($"{handle.Path}: poisoned at {Math.Max(start, offset)}");
        }
    }

    /// <summary>The cached lines of a range, in random order.</summary>
    private List<Line> CachedLines(Host host, long offset, long length)
    {
        long first = offset / DaxDevice.LineBytes;
        long last = (offset + length - 1) / DaxDevice.LineBytes;
        var found = new List<Line>();
        if (last - first < host.Lines.Count)
        {
            for (long number = first; number <= last; number++)
            {
                if (host.Index.TryGetValue(number, out int at))
                    found.Add(host.Lines[at]);
            }
        }
        else
        {
            found.AddRange(host.Lines.Where(line => line.Number >= first && line.Number <= last));
        }

        for (int i = found.Count - 1; i > 0; i--)
        {
            int j = _random.Next(i + 1);
            (found[i], found[j]) = (found[j], found[i]);
        }

        return found;
    }

    private int[] Shuffled(int count)
    {
        int[] order = [.. Enumerable.Range(0, count)];
        _random.Shuffle(order);
        return order;
    }

    /// <summary>Something a cache or a processor does unasked.</summary>
    private void Accident(FakeDaxDevice handle, long offset)
    {
        if (_late.Count > 0 && _random.Next(100) == 0)
            LandLate(_random.Next(_late.Count));
        if (AccidentOneIn == 0 || _random.Next(AccidentOneIn) != 0)
            return;
        if (handle.StoreBuffer.Count > 0)
        {
            DrainOldest(handle);
            return;
        }

        Host host = handle.Host;
        if (handle.Coherent)
            return;
        if (_random.Next(4) == 0)
        {
            long neighbour = offset / DaxDevice.LineBytes + _random.Next(-2, 5);
            if (neighbour >= 0 && neighbour < LengthBytes / DaxDevice.LineBytes)
                Fetch(host, neighbour);
        }
        else if (host.Lines.Count > 0)
        {
            Line line = host.Lines[_random.Next(host.Lines.Count)];
            Evicted += line.Dirty ? 1 : 0;
            Land(host, line);
        }
    }

    private void LandLate(int index)
    {
        (_, long number, byte[] bytes) = _late[index];
        _late.RemoveAt(index);
        long offset = number * DaxDevice.LineBytes;
        CopyToPages(offset, bytes.AsSpan(0, (int)Math.Min(DaxDevice.LineBytes, LengthBytes - offset)));
        LandedLate++;
        Landed?.Invoke(offset, bytes);
    }

    /// <summary>What a host had on its way is in memory or lost before it runs again.</summary>
    private void SettleLate(string hostName)
    {
        for (int i = _late.Count - 1; i >= 0; i--)
        {
            if (_late[i].Host != hostName)
                continue;
            if (_random.Next(2) == 0)
                LandLate(i);
            else
                _late.RemoveAt(i);
        }
    }

    private Line Fetch(Host host, long number)
    {
        if (host.Index.TryGetValue(number, out int at))
            return host.Lines[at];
        while (host.Lines.Count >= CacheLines)
        {
            Line victim = host.Lines[_random.Next(host.Lines.Count)];
            Evicted += victim.Dirty ? 1 : 0;
            if (victim.Dirty)
                StoreLine(victim);
            Drop(host, victim);
        }

        var line = new Line(number);
        CopyFromPages(number * DaxDevice.LineBytes, line.Bytes.AsSpan(0, (int)Math.Min(DaxDevice.LineBytes, LengthBytes - number * DaxDevice.LineBytes)));
        host.Index[number] = host.Lines.Count;
        host.Lines.Add(line);
        return line;
    }

    /// <summary>A line reaches memory; its copy stays, clean, or goes.</summary>
    private void Land(Host host, Line line)
    {
        if (line.Dirty)
            StoreLine(line);
        if (_random.Next(2) == 0)
            Drop(host, line);
    }

    private void StoreLine(Line line)
    {
        long offset = line.Number * DaxDevice.LineBytes;
        CopyToPages(offset, line.Bytes.AsSpan(0, (int)Math.Min(DaxDevice.LineBytes, LengthBytes - offset)));
        line.Dirty = false;
        Landed?.Invoke(offset, line.Bytes);
    }

    private static void Drop(Host host, Line line)
    {
        int at = host.Index[line.Number];
        Line last = host.Lines[^1];
        host.Lines[at] = last;
        host.Index[last.Number] = at;
        host.Lines.RemoveAt(host.Lines.Count - 1);
        host.Index.Remove(line.Number);
    }

    private void DrainOldest(FakeDaxDevice handle)
    {
        var (offset, bytes) = handle.StoreBuffer.Dequeue();
        CopyToPages(offset, bytes);
        Landed?.Invoke(offset, bytes);
    }

    private void CopyFromPages(long offset, Span<byte> destination)
    {
        while (!destination.IsEmpty)
        {
            int within = (int)(offset % PageBytes);
            int count = Math.Min(destination.Length, PageBytes - within);
            if (_pages.TryGetValue(offset / PageBytes, out byte[]? page))
                page.AsSpan(within, count).CopyTo(destination);
            else
                destination[..count].Clear();
            offset += count;
            destination = destination[count..];
        }
    }

    private void CopyToPages(long offset, ReadOnlySpan<byte> source)
    {
        while (!source.IsEmpty)
        {
            int within = (int)(offset % PageBytes);
            int count = Math.Min(source.Length, PageBytes - within);
            if (!_pages.TryGetValue(offset / PageBytes, out byte[]? page))
                _pages[offset / PageBytes] = page = new byte[PageBytes];
            source[..count].CopyTo(page.AsSpan(within));
            offset += count;
            source = source[count..];
        }
    }

    private void ZeroPages(long offset, long end)
    {
        while (offset < end)
        {
            long number = offset / PageBytes;
            int within = (int)(offset % PageBytes);
            int count = (int)Math.Min(end - offset, PageBytes - within);
            if (count == PageBytes)
                _pages.Remove(number);
            else if (_pages.TryGetValue(number, out byte[]? page))
                page.AsSpan(within, count).Clear();
            offset += count;
        }
    }

    internal sealed class Line(long number)
    {
        public long Number { get; } = number;

        public byte[] Bytes { get; } = new byte[DaxDevice.LineBytes];

        public bool Dirty { get; set; }
    }

    internal sealed class Host(string name)
    {
        public string Name { get; } = name;

        public bool Crashed { get; set; }

        public List<FakeDaxDevice> Handles { get; } = [];

        /// <summary>The cache, in no order; <see cref="Index"/> finds a line's place by its number.</summary>
        public List<Line> Lines { get; } = [];

        public Dictionary<long, int> Index { get; } = [];

        public Dictionary<long, HeldLock> Locks { get; } = [];
    }

    internal sealed class HeldLock(FakeSharedMemory memory, Host host, long index) : IDisposable
    {
        public void Dispose()
        {
            lock (memory._guard)
            {
                if (host.Locks.TryGetValue(index, out HeldLock? held) && held == this)
                    host.Locks.Remove(index);
            }
        }
    }
}
