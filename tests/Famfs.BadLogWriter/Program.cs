// famfs-bad-log-writer KIND DEVICE: appends to a native file system's log, as a master of slot 0 would, a sound file "good" of
// one unit and then a file "forged" whose map no master makes. KIND is misaligned, past-device or unknown-device. For
// tests of what hosts do with such a log; the memory is of no other use afterwards.
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.V1;
using Google.Protobuf;

const ulong Unit = 2 << 20;
if (args is not [string kind, string path])
{
    Console.Error.WriteLine("usage: famfs-bad-log-writer misaligned|past-device|unknown-device DEVICE");
    return 2;
}
using DevicePool pool = new DeviceSearch([path], new MediaFormats([NativeFormat.Instance]), TimeProvider.System).Open();
ulong length = (ulong)pool.Primary.DeviceLengthBytes;
Extent? forged = kind switch
{
    "misaligned" => new Extent { OffsetBytes = length - (4 * Unit) + 4096, LengthBytes = Unit },
    "past-device" => new Extent { OffsetBytes = length - Unit, LengthBytes = 2 * Unit },
    "unknown-device" => new Extent { Device = 9, OffsetBytes = 2 * Unit, LengthBytes = Unit },
    _ => null,
};
if (forged is null)
{
    Console.Error.WriteLine($"famfs-bad-log-writer: {kind}: misaligned, past-device or unknown-device");
    return 2;
}

Mastership mastership = Mastership.Claim(pool, slot: 0, NativeFormat.SuperblockOf(pool).MkfsHost, Guid.NewGuid(), TimeProvider.System);
using ReplayState state = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), hashKey: default);
while (mastership.Reader.Poll(out LogBlock block) == PollVerdict.Records)
    state.ApplyFrames(block.Frames.Span);
LogWriter writer = mastership.Activate([.. state.Segments.Where(s => s.Slot == 0).Select(s => new SegmentSpace(s.Extent.Device, s.Extent.OffsetBytes, s.Extent.LengthBytes))]);
RecordBatch batch = new();
batch.Start(writer.Position.Sequence, writer.Term, writer.Seed);
batch.Add(RecordType.TermStarted, new TermStarted { Slot = 0, HostId = NativeFormat.SuperblockOf(pool).MkfsHost.ToByteString() });
Add("good", state.NextInode.Value, new Extent { OffsetBytes = length - (2 * Unit), LengthBytes = Unit });
Add("forged", state.NextInode.Value + 1, forged);
batch.Add(RecordType.TermEnded, new TermEnded());
writer.Publish(batch);
Console.WriteLine($"{path}: {kind}: {forged.OffsetBytes}+{forged.LengthBytes} of device {forged.Device}");
return 0;

void Add(string name, ulong inode, Extent extent) => batch.Add(RecordType.FileCreated, new FileCreated
{
    Inode = inode,
    Parent = 1,
    Name = ByteString.CopyFromUtf8(name),
    Mode = 0b110_100_100,
    SizeBytes = Unit,
    Map = new() { Extents = { extent } },
});
