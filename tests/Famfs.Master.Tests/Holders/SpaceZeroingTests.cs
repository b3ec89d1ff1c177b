using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Master.Changes;
using Famfs.Master.Holders;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Xunit;

namespace Famfs.Master.Tests.Holders;

/// <summary>Zeros of space that is used again are in the memory, whatever the caches of any host have (SAFETY S17).</summary>
public sealed class SpaceZeroingTests : IDisposable
{
    private const long Place = 20L * MediaLayout.UnitBytes;
    private const long Bytes = 2L * MediaLayout.UnitBytes;

    private readonly FakeSharedMemory _memory = new(40L * MediaLayout.UnitBytes, seed: 1) { AccidentOneIn = 0 };
    private readonly DevicePool _pool;
    private readonly NewSpace _space = new(Guid.Empty, [new(default, Place, Bytes)], 0) { IsOfRemoved = true };

    public SpaceZeroingTests()
    {
        using (DaxDevice device = _memory.Attach("master"))
            NativeFormatter.Format([device], new() { Host = Guid.NewGuid(), Clock = TimeProvider.System });
        _pool = TestFormats.All.Open([_memory.Attach("master")]);
        byte[] old = new byte[Bytes];
        old.AsSpan().Fill(7);
        _memory.WriteMemory(Place, old);
    }

    public void Dispose() => _pool.Dispose();

    [Fact]
    public void Every_byte_is_zero_in_memory_when_it_is_told_that_it_is_zeroed()
    {
        List<string> operations = [];
        _memory.BeforeAccess = (_, operation, _) => operations.Add(operation);
        SpaceZeroing.Zero(_pool, _space, static () => false);
        _memory.BeforeAccess = null;
        Assert.False(Read().AsSpan().ContainsAnyExcept((byte)0));
        // This memory has zeros at once. Real stores of zeros are in memory when they are fenced.
        Assert.Equal(FakeOperation.Fence, operations[^1]);
    }

    [Fact]
    public void What_ends_before_is_not_told_to_be_zeroed()
    {
        Assert.Equal(V1.ErrorReason.NotMaster, Assert.Throws<FamfsException>(() => SpaceZeroing.Zero(_pool, _space, static () => true)).Reason);
        Assert.False(Read().AsSpan().ContainsAnyExcept((byte)7));
    }

    private byte[] Read()
    {
        byte[] found = new byte[Bytes];
        _memory.ReadMemory(Place, found);
        return found;
    }
}
