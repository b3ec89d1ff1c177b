using System.Buffers.Binary;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Keeper;
using Famfs.Fuse.Protocol;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace Famfs.Fuse.Tests.Keeper;

/// <summary>The memory that outlives a daemon: its bytes, and what is done with bytes that are wrong.</summary>
public sealed class KeptStateTests : IDisposable
{
    private const string FileSystem = "00112233-4455-6677-8899-aabbccddeeff";
    private const string Mount = "01234567-89ab-cdef-0123-456789abcdef";

    private static readonly KeptMount s_mount = new(
        Guid.Parse(FileSystem), Guid.Parse(Mount), 0x51, new(DialectTable.Stock, 45, InitFlags.FUSE_HAS_RESEND | InitFlags.FUSE_MAX_PAGES, 256 * 4096, 256) { KernelMinor = 46, Offered = 0x123456789ABCDEF0 }, -1, 0);

    private readonly KeptState _state = KeptState.Create(s_mount);

    public void Dispose() => _state.Dispose();

    [Fact]
    public void Its_bytes_are_these_and_mean_what_was_written()
    {
        _state.SetEntry(0x1234);
        _state.SetNextGeneration();
        _state.SetNextGeneration();
        byte[] bytes = Read(0, 4096);
        Assert.Equal(
            "46414D4653" + "4B5054" + "01000000" + "34120000" // magic, version, entry
            + "00112233445566778899AABBCCDDEEFF" + "0123456789ABCDEF0123456789ABCDEF"
            + "51000000" + "02000000" + "0000400080000000" + "F0DEBC9A78563412" // connection, generation, flags
            + "2D000000" + "2E000000" + "00001000" + "00010000" // minors, sizes
            + "73746F636B0000000000000000000000", Convert.ToHexString(bytes.AsSpan(0, 104)));
        Assert.False(bytes.AsSpan(104, 4092 - 104).ContainsAnyExcept((byte)0));
        Assert.Equal(Crc32C.Compute(bytes.AsSpan(0, 4092)), BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(4092)));

        _state.WriteSlot(3, 0x0102, Guid.Parse(Mount), 5);
        Assert.Equal("0201000000000000" + "0123456789ABCDEF0123456789ABCDEF" + "0500000000000000", Convert.ToHexString(Read(4096 + (3 * 32), 32)));

        using KeptState again = Adopt();
        Assert.Equal(s_mount with { Entry = 0x1234, Generation = 2 }, again.Mount);
        Assert.Equal((0x0102UL, Guid.Parse(Mount), 5L), again.ReadSlot(3));
        Assert.True(again.Mount.Negotiated.Resends);
    }

    [Fact]
    public void Space_that_was_dropped_from_the_caches_stays_so()
    {
        _state.SetRefreshedTo(new(9)); // of a mount whose daemon maps the devices: nothing
        Assert.Null(_state.Mount.Devices);
        KeptDevices devices = new([new(new(0), 0x10000000, "/dev/dax0.0")], [], new(5));
        _state.SetDevices(devices);
        _state.SetRefreshedTo(new(9));
        _state.SetRefreshedTo(new(7));
        Assert.Equal(9UL, _state.Mount.Devices!.RefreshedTo.Value);
        // Described before that was done.
        _state.SetDevices(devices with { Devices = [.. devices.Devices, new(new(1), 0x10000000, "/dev/dax1.0")] });
        using KeptState again = Adopt();
        Assert.Equal((9UL, 2), (again.Mount.Devices!.RefreshedTo.Value, again.Mount.Devices.Devices.Count));
    }

    [Fact]
    public void What_its_kernel_holds_has_these_bytes_and_too_much_of_it_is_refused()
    {
        KeptDevices devices = new(
            [new(new(0), 0x10000000, "/dev/dax0.0"), new(new(7), 0x20000000, "/dev/dax1.0")],
            [new(new(2), new(0), 0, 2 << 20), new(new(0x0102), new(7), 6 << 20, 64 << 20)],
            new(0x55));
        _state.SetDevices(devices);
        Assert.Equal(
            "02000000" + "02000000" + "5500000000000000"
            + "0000" + "0B00" + "0000001000000000" + Convert.ToHexString("/dev/dax0.0"u8)
            + "0700" + "0B00" + "0000002000000000" + Convert.ToHexString("/dev/dax1.0"u8)
            + "0200000000000000" + "00000000" + "0000" + "0100"
            + "0201000000000000" + "03000000" + "0700" + "2000", Convert.ToHexString(Read(104, 16 + 46 + 32)));
        using (KeptState again = Adopt())
        {
            KeptDevices read = again.Mount.Devices!;
            Assert.Equal(devices.Devices, read.Devices);
            Assert.Equal(devices.Pieces, read.Pieces);
            Assert.Equal(devices.RefreshedTo, read.RefreshedTo);
        }
        // A little more than there is room for; what was there stays.
        IOException refusal = Assert.Throws<IOException>(() => _state.SetDevices(devices with { Pieces = [.. Enumerable.Repeat(devices.Pieces[0], 246)] }));
        Assert.Contains("2 devices and 246 files of the log take 3998 bytes", refusal.Message, StringComparison.Ordinal);
        using (KeptState still = Adopt())
            Assert.Equal(2, still.Mount.Devices!.Pieces.Count);
        _state.SetDevices(devices with { Pieces = [.. Enumerable.Repeat(devices.Pieces[0], 245)] });
        _state.SetDevices(null);
        Assert.False(Read(104, 3988).AsSpan().ContainsAnyExcept((byte)0));
    }

    [Theory]
    [InlineData(104, uint.MaxValue, "more devices")]
    [InlineData(104, 3u, "more devices")]
    [InlineData(108, 0x7FFFFFFFu, "more files")]
    [InlineData(108, uint.MaxValue, "more files")]
    [InlineData(120, 0xFFFF0000u, "more devices")]
    public void A_count_of_what_its_kernel_holds_that_is_too_large_is_refused(int offset, uint value, string words)
    {
        _state.SetDevices(new([new(new(0), 2 << 20, new string('d', 3950))], [], default));
        What_is_not_known_here_is_refused_by_name(offset, value, words);
    }

    [Fact]
    public void No_bit_of_its_head_flips_unseen()
    {
        byte[] bytes = Read(0, 4096);
        for (int bit = 0; bit < bytes.Length * 8; bit++)
        {
            bytes[bit / 8] ^= (byte)(1 << (bit % 8));
            Write(bytes);
            Assert.Throws<IOException>(() => Adopt());
            bytes[bit / 8] ^= (byte)(1 << (bit % 8));
        }
        Write(bytes);
        Adopt().Dispose();
    }

    [Theory]
    [InlineData(8, 2u, "version 2")] // before the checksum is looked at: another version may have another
    [InlineData(84, 0u, "0 pages")]
    [InlineData(84, 2048u, "2048 pages")]
    [InlineData(80, 1u, "1 bytes")]
    [InlineData(88, 0x58585858u, "dialect")]
    public void What_is_not_known_here_is_refused_by_name(int offset, uint value, string words)
    {
        byte[] bytes = Read(0, 4096);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(offset), value);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(4092), Crc32C.Compute(bytes.AsSpan(0, 4092)));
        Write(bytes);
        IOException error = Assert.Throws<IOException>(() => Adopt());
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_of_another_length_or_kind_is_refused()
    {
        using MemoryFile shorter = MemoryFile.Create("test", 4096);
        Assert.Throws<IOException>(() => KeptState.Adopt(new(Duplicate(shorter.Descriptor), ownsHandle: true)));
    }

    [Fact]
    public void A_change_that_is_sent_again_finds_its_id_and_a_new_one_finds_none()
    {
        const ulong Again = 1UL << 63;
        (Guid first, Guid second) = (Guid.CreateVersion7(), Guid.CreateVersion7());
        RequestMemory memory = new(_state);
        memory.Remember(6, first, 10);
        memory.Remember(8, second, 20);
        memory.Remember(6, second, 30); // once more, under another id
        memory.Forget(8);

        using KeptState taken = Adopt();
        RequestMemory next = new(taken);
        Assert.True(next.TryFind(6 | Again, out Guid id, out long timeNs));
        Assert.Equal((second, 30), (id, timeNs));
        Assert.False(next.TryFind(8 | Again, out _, out _));
        Assert.False(next.TryFind(6, out _, out _));
        next.Forget(6 | Again);
        Assert.False(new RequestMemory(taken).TryFind(6 | Again, out _, out _));
    }

    [Fact]
    public void What_former_daemons_left_gives_room_to_what_is_asked_now()
    {
        RequestMemory memory = new(_state);
        for (int i = 1; i <= KeptState.SlotCount; i++)
            memory.Remember((ulong)i * 2, Guid.CreateVersion7(), i);
        RequestMemory next = new(_state);
        Guid mine = Guid.CreateVersion7();
        for (int i = 1; i <= KeptState.SlotCount; i++)
        {
            ulong unique = (ulong)(KeptState.SlotCount + i) * 2;
            next.Remember(unique, mine, i);
            Assert.True(next.TryFind(unique | (1UL << 63), out Guid id, out long timeNs));
            Assert.Equal((mine, i), (id, timeNs));
            if (i > 1000)
                next.Forget((ulong)(KeptState.SlotCount + i - 1000) * 2);
        }
    }

    private KeptState Adopt() => KeptState.Adopt(new(Duplicate(_state.Descriptor), ownsHandle: true));

    private static nint Duplicate(SafeFileHandle file) => File.OpenHandle($"/proc/self/fd/{(int)file.DangerousGetHandle()}", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite) is { } copy
        ? Detach(copy)
        : -1;

    private static nint Detach(SafeFileHandle file)
    {
        nint number = file.DangerousGetHandle();
        file.SetHandleAsInvalid();
        return number;
    }

    private byte[] Read(long offset, int length)
    {
        byte[] bytes = new byte[length];
        RandomAccess.Read(_state.Descriptor, bytes, offset);
        return bytes;
    }

    private void Write(byte[] bytes) => RandomAccess.Write(_state.Descriptor, bytes, 0);
}
