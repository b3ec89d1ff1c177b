using System.Buffers.Binary;
using System.Globalization;
using Famfs.Core;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Protocol;
using Famfs.TestSupport.Dax;
using Xunit;

namespace Famfs.Fuse.Tests.Kernel;

/// <summary>Requests that no kernel sends. FAMFS_FUZZ_SEED repeats a run, FAMFS_FUZZ_REQUESTS makes it longer.</summary>
public sealed class RequestFuzzTests
{
    private const long Unit = TestFileSystem.Unit;

    public static TheoryData<string> Dialects => [.. DialectTable.All.Select(d => d.Name)];

    [Theory]
    [MemberData(nameof(Dialects))]
    public void Whatever_is_sent_gets_one_reply_or_none_where_none_is_due_and_breaks_nothing(string name)
    {
        int seed = Read("FAMFS_FUZZ_SEED", Random.Shared.Next());
        int requests = Read("FAMFS_FUZZ_REQUESTS", 20_000);
        Dialect dialect = DialectTable.Find(name)!;
        Random random = new(seed);
        using TestFileSystem system = new();
        FakeSharedMemory memory = new(16 * Unit, seed: 1, coherent: true);
        system.AddDevice(0, memory.Attach("here"));
        system.KernelDevices.Add("/dev/dax0.0", 16 * Unit, default(DeviceIndex));
        system.AddFile(InodeNumber.Root, "f", 3 * Unit, 0x1A4, (ulong)Unit, new MapExtent(default, 0, 2 * Unit), new MapExtent(default, 4 * Unit, Unit));
        system.AddFile(InodeNumber.Root, "bad", Unit, 0x1A4, 0, new MapExtent(default, 4096, Unit));
        system.AddFile(InodeNumber.Root, "missing", Unit, 0x1A4, 0, new MapExtent(new DeviceIndex(9), 0, Unit));
        InodeNumber directory = system.AddDirectory(InodeNumber.Root, "d");
        system.AddSymlink(directory, "l", "f");
        using var driver = new RequestDriver(system, dialect: dialect);
        OpcodeRow[] rows = [.. driver.Operations.Requests.Rows];

        for (int i = 0; i < requests; i++)
        {
            byte[] message = Make(random, rows, (ulong)(i + 1) * 2);
            string what = string.Create(CultureInfo.InvariantCulture, $"{name}: request {i} of seed {seed} ({Convert.ToHexString(message.AsSpan(0, Math.Min(message.Length, 160)))}); repeat with FAMFS_FUZZ_SEED={seed}");
            List<byte[]> replies = driver.Raw(message);
            Assert.True(driver.LastFailure is null, $"{what}: {driver.LastFailure}");

            // Too short for a head: not even an error can be sent. Otherwise the opcode decides.
            bool due = message.Length >= 40 && driver.Operations.Requests.Find(BinaryPrimitives.ReadUInt32LittleEndian(message.AsSpan(4))) is not { Replies: false };
            Assert.True(replies.Count == (due ? 1 : 0), $"{what}: {replies.Count} replies");
            if (!due)
                continue;
            byte[] reply = replies[0];
            int error = BinaryPrimitives.ReadInt32LittleEndian(reply.AsSpan(4));
            Assert.True(
                reply.Length >= 16 && BinaryPrimitives.ReadInt32LittleEndian(reply) == reply.Length
                && reply.AsSpan(8, 8).SequenceEqual(message.AsSpan(8, 8)) && error is <= 0 and > -1000 && (error == 0 || reply.Length == 16),
                $"{what}: reply {Convert.ToHexString(reply.AsSpan(0, Math.Min(reply.Length, 64)))}");
        }
    }

    private static int Read(string variable, int byDefault) =>
        int.TryParse(Environment.GetEnvironmentVariable(variable), CultureInfo.InvariantCulture, out int value) ? value : byDefault;

    // A request of any kind about any node, its body right in length more often than not, its fields small, large or
    // random, its head sometimes wrong too.
    private static byte[] Make(Random random, OpcodeRow[] rows, ulong unique)
    {
        OpcodeRow row = rows[random.Next(rows.Length)];
        uint opcode = random.Next(20) == 0 ? (uint)random.Next(300) : row.Opcode;
        ulong node = random.Next(8) switch { 0 => ulong.MaxValue, 1 => (ulong)random.NextInt64(), _ => (ulong)random.Next(10) };
        int length = row.InBytes + (row.Payload == PayloadKind.None ? 0 : random.Next(40));
        if (random.Next(6) == 0)
            length = random.Next(400);
        byte[] body = new byte[length];
        for (int at = 0; at + 8 <= length; at += 8)
        {
            ulong field = random.Next(5) switch
            {
                0 => 0,
                1 => (ulong)random.Next(5000),
                2 => ulong.MaxValue,
                3 => (ulong)random.NextInt64(8 * Unit),
                _ => (ulong)random.NextInt64() << 1,
            };
            BinaryPrimitives.WriteUInt64LittleEndian(body.AsSpan(at), field);
        }
        if (row.Payload is not (PayloadKind.None or PayloadKind.Data) && length > row.InBytes)
        {
            for (int at = row.InBytes; at < length; at++)
                body[at] = (byte)"fd.bal/\0"[random.Next(8)];
            if (random.Next(3) != 0)
                body[^1] = 0;
        }
        byte[] message = RequestDriver.Message((FuseOpcode)opcode, unique, node, body, (uint)random.Next(3), (uint)random.Next(3));
        switch (random.Next(40))
        {
            case 0:
                return message[..random.Next(message.Length)];
            case 1:
                BinaryPrimitives.WriteInt32LittleEndian(message, random.Next());
                break;
            case 2:
                message[random.Next(message.Length)] ^= (byte)(1 << random.Next(8));
                break;
            case 3:
                BinaryPrimitives.WriteUInt16LittleEndian(message.AsSpan(36), (ushort)random.Next(70000)); // total_extlen
                break;
        }
        return message;
    }
}
