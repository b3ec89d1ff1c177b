using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Famfs.Fuse.Session;
using Xunit;

namespace Famfs.Fuse.Tests.Session;

/// <summary>A reply is made, then the tree changes and the kernel is notified, and only then the reply arrives: what
/// it says may not stay in the caches. The test itself is the worker, so that it can hold a reply back.</summary>
public sealed class OvertakenReplyTests : IDisposable
{
    // How long a notification gets to overtake a reply that is held back. It must not, so this passes in full.
    private static readonly TimeSpan OvertakingTime = TimeSpan.FromMilliseconds(300);

    private readonly TestFileSystem _system = new();
    private readonly KernelPresence _presence = new();
    private string? _path;
    private FuseChannel? _channel;
    private KernelNotifier? _notifier;
    private TreeReader? _reader;
    private FuseOperations? _operations;
    private RequestReader? _requests;

    public void Dispose()
    {
        if (_path is not null)
        {
            _ = MountPoint.Abort(_path);
            Directory.Delete(_path);
        }
        _notifier?.Dispose();
        _channel?.Dispose();
        _reader?.Dispose();
        _requests?.Dispose();
        _system.Dispose();
    }

    [Fact]
    public async Task Attributes_in_an_overtaken_lookup_do_not_stay()
    {
        InodeNumber file = _system.AddFile(InodeNumber.Root, "f", 1);
        Mount();
        Task<ShellResult> first = Task.Run(() => ShellResult.Run("/", $"stat -c %a '{_path}/f'"));
        await ServeHoldingBack(FuseOpcode.FUSE_LOOKUP, first, () =>
        {
            _system.Tree.SetAttributes(file, 0x180, null, null, null, null, 2);
            _notifier!.AttributesChanged(file, InodeNumber.Root);
        });
        Task<ShellResult> second = Task.Run(() => ShellResult.Run("/", $"stat -c %a '{_path}/f'"));
        await Serve(second);
        Assert.Equal("600", (await second).Output);
    }

    [Theory]
    [InlineData(FuseOpcode.FUSE_READDIR)]
    [InlineData(FuseOpcode.FUSE_READDIRPLUS)]
    public async Task An_overtaken_listing_does_not_stay(FuseOpcode operation)
    {
        _system.AddFile(InodeNumber.Root, "old", 1);
        Mount(operation == FuseOpcode.FUSE_READDIRPLUS ? InitFlags.FUSE_READDIRPLUS_AUTO : InitFlags.FUSE_DO_READDIRPLUS);
        Task<ShellResult> first = Task.Run(() => ShellResult.Run("/", $"ls '{_path}'"));
        await ServeHoldingBack(operation, first, () =>
        {
            _system.AddFile(InodeNumber.Root, "new", 1, unit: 1);
            _notifier!.EntryChanged(InodeNumber.Root, "new"u8);
        });
        Task<ShellResult> second = Task.Run(() => ShellResult.Run("/", $"ls '{_path}'"));
        await Serve(second);
        Assert.Equal("new\nold", (await second).Output);
    }

    [Fact]
    public async Task An_overtaken_negative_lookup_does_not_stay()
    {
        Mount();
        Task<ShellResult> first = Task.Run(() => ShellResult.Run("/", $"stat '{_path}/new'; true"));
        await ServeHoldingBack(FuseOpcode.FUSE_LOOKUP, first, () =>
        {
            _system.AddFile(InodeNumber.Root, "new", 1);
            _notifier!.EntryChanged(InodeNumber.Root, "new"u8);
        });
        Task<ShellResult> second = Task.Run(() => ShellResult.Run("/", $"stat -c %s '{_path}/new'"));
        await Serve(second);
        Assert.Equal("1", (await second).Output);
    }

    private void Mount(InitFlags without = InitFlags.None)
    {
        RealMount.RequirePossible();
        _path = Directory.CreateTempSubdirectory("famfs-fuse-test-").FullName;
        _channel = FuseChannel.Open();
        var transport = new DeviceTransport(_channel);
        MountPoint.Mount(new FuseMountOptions(_path), _channel.Descriptor, 1 << 20);
        _requests = new RequestReader(transport, FuseOperations.StockRequests, 1 << 20);
        Assert.Equal(ReadOutcome.Message, _requests.Read(out FuseRequest request, out _));
        InitIn offer = MemoryMarshal.Read<InitIn>(request.Body[..Unsafe.SizeOf<InitIn>()]);
        offer.Flags &= ~(uint)without;
        Assert.True(InitNegotiation.TryNegotiate(offer, 256, DialectWish.Stock, out InitOut reply, out Negotiated? negotiated, out _));
        var buffer = new ReplyBuffer();
        Assert.True(transport.Write(buffer.Frame(request.Header.Unique, buffer.Ok(reply), out _), default) > 0);
        _operations = new FuseOperations(_system.Dependencies, _presence, new CachePolicy(), negotiated!);
        _notifier = new KernelNotifier(transport, _presence, _system.Tree, negotiated!, 1 << 20);
        _reader = _system.Tree.RegisterReader();
    }

    // Answers everything until the program has ended; the kernel wakes the blocked read when the connection is aborted.
    private async Task Serve(Task<ShellResult> program) => await ServeHoldingBack(null, program, () => { });

    private async Task ServeHoldingBack(FuseOpcode? operation, Task<ShellResult> program, Action change)
    {
        bool changed = operation is null;
        using var ended = new CancellationTokenSource();
        ThreadInterrupt? interrupt = null;
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                interrupt = ThreadInterrupt.ForCurrentThread();
                while (!ended.IsCancellationRequested)
                    Step();
            }
            catch (Exception exception)
            {
                failure = exception;
            }
        });
        thread.Start();
        Task first = await Task.WhenAny(program, Task.Delay(TimeSpan.FromSeconds(60), ended.Token));
        await ended.CancelAsync();
        while (!thread.Join(5))
            interrupt?.Send();
        Assert.Null(failure);
        Assert.Same(program, first);
        Assert.True(changed, $"the kernel did not send {operation}");
        Assert.True(SpinWait.SpinUntil(() => _notifier!.NotifiedUpTo.Value == 1, TimeSpan.FromSeconds(60)), "the notifier is stuck");

        void Step()
        {
            if (_requests!.Read(out FuseRequest request, out ParseVerdict verdict) != ReadOutcome.Message)
                return;
            Assert.Equal(ParseVerdict.Ok, verdict);
            var replies = new ReplyWriter(new DeviceTransport(_channel!));
            var worker = new WorkerState(_reader!, new ReplyBuffer(), _requests.Buffer, replies, _operations!.Failures);
            FuseReply reply = _operations!.Handle(request, worker);
            bool hold = !changed && (FuseOpcode)request.Header.Opcode == operation;
            if (hold)
            {
                changed = true;
                change();
                _notifier!.Applied(new LogSequence(1));
                SpinWait.SpinUntil(() => _notifier.NotifiedUpTo.Value == 1, OvertakingTime);
            }
            replies.Send(request, reply, worker);
        }
    }
}
