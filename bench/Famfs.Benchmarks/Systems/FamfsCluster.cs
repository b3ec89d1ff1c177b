using System.Globalization;
using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;

namespace Famfs.Benchmarks.Systems;

/// <summary>One file system of the product: memory in /dev/shm, a master process, and mounts, each of which
/// is a host of its own (own host state).</summary>
internal sealed class FamfsCluster : IAsyncDisposable
{
    private const int NoSuchProcess = 3; // ESRCH, of reading a file of a thread that ends meanwhile

    private readonly Scratch _scratch;
    private readonly Dictionary<string, double> _cpuOfThreads = [];
    private readonly FamfsInstallation _installation;
    private readonly string _device;
    private readonly List<(ChildProcess Daemon, string MountPoint)> _mounts = [];
    private ChildProcess? _master;
    private GrpcChannel? _channel;

    private FamfsCluster(Scratch scratch, FamfsInstallation installation, string device, string address)
    {
        _scratch = scratch;
        _installation = installation;
        _device = device;
        Address = address;
    }

    public string Address { get; }

    /// <summary>Path of the memory.</summary>
    public string Device => _device;

    /// <summary>Unix socket of the same master.</summary>
    public string SocketPath => Path.Combine(Path.GetDirectoryName(_device)!, "master.sock");

    public Master.MasterClient Client { get; private set; } = null!;

    /// <summary>Processor time that the master's threads had used when last seen, µs. For one caller at a time.</summary>
    public double MasterCpuMicroseconds
    {
        get
        {
            foreach (string task in Directory.EnumerateDirectories(string.Create(CultureInfo.InvariantCulture, $"/proc/{_master!.Id}/task")))
            {
                try
                {
                    _cpuOfThreads[task] = double.Parse(File.ReadAllText(task + "/schedstat").Split(' ')[0], CultureInfo.InvariantCulture);
                }
                catch (Exception error) when (error is IOException && (error is FileNotFoundException or DirectoryNotFoundException || error.HResult == NoSuchProcess))
                {
                    // The thread has ended, and what it had used when last seen stays in the sum.
                }
            }
            return _cpuOfThreads.Values.Sum() / 1000;
        }
    }

    /// <summary>Formats memory of <paramref name="deviceBytes"/> bytes (sparse) and starts its master.</summary>
    public static Task<FamfsCluster> StartAsync(Scratch scratch, FamfsInstallation installation, long deviceBytes, CancellationToken cancellation, params string[] mkfsOptions) =>
        StartAsync(scratch, installation, deviceBytes, cancellation, mkfsOptions, []);

    /// <inheritdoc cref="StartAsync(Scratch, FamfsInstallation, long, CancellationToken, string[])"/>
    public static async Task<FamfsCluster> StartAsync(Scratch scratch, FamfsInstallation installation, long deviceBytes, CancellationToken cancellation, string[] mkfsOptions, string[] masterOptions)
    {
        string folder = scratch.MakeDirectory("famfs");
        FamfsCluster cluster = new(scratch, installation, Path.Combine(folder, "device0"), $"http://127.0.0.1:{LocalPort.Free()}");
        try
        {
            await cluster.StartMasterAsync(deviceBytes, mkfsOptions, masterOptions, cancellation);
            return cluster;
        }
        catch
        {
            await cluster.DisposeAsync();
            throw;
        }
    }

    /// <summary>Creates files of one size in one stream. Throws at the first that is refused.</summary>
    public async Task CreateFilesAsync(IEnumerable<string> paths, ulong sizeBytes, CancellationToken cancellation)
    {
        using AsyncDuplexStreamingCall<CreateFilesRequest, CreateFilesReply> call = Client.CreateFiles(cancellationToken: cancellation);
        Task writing = WriteAsync();
        while (await call.ResponseStream.MoveNext(cancellation))
            RequireCreated(call.ResponseStream.Current);
        await writing;

        async Task WriteAsync()
        {
            foreach (string[] chunk in paths.Chunk(256))
            {
                CreateFilesRequest request = new() { OmitMaps = true };
                request.Files.AddRange(chunk.Select(path => Create(path, sizeBytes)));
                await call.RequestStream.WriteAsync(request, cancellation);
            }
            await call.RequestStream.CompleteAsync();
        }
    }

    /// <summary>Starts a daemon as a new host and waits for its mount, and until <paramref name="probe"/>, a
    /// file of it, can be opened.</summary>
    public async Task<string> MountAsync(string host, string probe, IEnumerable<string> options, CancellationToken cancellation)
    {
        string daemon = _installation.Daemon;
        string mountPoint = _scratch.MakeDirectory(host);
        ChildProcess process = ChildProcess.Start(_scratch, daemon,
            ["--device", _device, "--host-state", _scratch.MakeDirectory(host + "-state"), "--master", Address, .. options, mountPoint]);
        _mounts.Add((process, mountPoint));
        await process.WaitUntilAsync(() => Task.FromResult(MountTable.IsMounted(mountPoint)), "it mounted", cancellation);
        await process.WaitUntilAsync(() => Task.FromResult(CanOpen(Path.Combine(mountPoint, probe))), "the master registered it", cancellation);
        return mountPoint;
    }

    /// <summary>Starts a daemon as a new host and lists the root directory as soon as it is mounted. The caller ends it.</summary>
    public Task<ListedMount> MountAndListAsync(string host, CancellationToken cancellation)
    {
        string mountPoint = _scratch.MakeDirectory(host);
        return ListedMount.StartAsync(_scratch, _installation.Daemon,
            ["--device", _device, "--host-state", _scratch.MakeDirectory(host + "-state"), "--master", Address, mountPoint], mountPoint, cancellation);
    }

    /// <summary>A request to create one file, with an id that makes it safe to repeat, as clients send it.</summary>
    public static CreateFileRequest Create(string path, ulong sizeBytes) => new()
    {
        RequestId = ByteString.CopyFrom(Guid.CreateVersion7().ToByteArray(bigEndian: true)),
        Path = path,
        SizeBytes = sizeBytes,
    };

    public static void RequireCreated(CreateFilesReply reply)
    {
        foreach (CreateFileResult result in reply.Results)
        {
            if (result.ResultCase != CreateFileResult.ResultOneofCase.Reply)
                throw new InvalidOperationException($"the master refused {result.Error?.Path}: {result.Error?.Reason} {result.Error?.Message}");
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach ((ChildProcess daemon, string mountPoint) in _mounts)
        {
            await Scratch.UnmountAsync(mountPoint);
            await daemon.DisposeAsync();
        }
        _channel?.Dispose();
        if (_master is not null)
            await _master.DisposeAsync();
    }

    // A host that no master has registered yet serves names, and answers OPEN with EHOSTDOWN (SAFETY S11).
    private static bool CanOpen(string path)
    {
        const int EHOSTDOWN = 112;
        try
        {
            File.OpenHandle(path).Dispose();
            return true;
        }
        catch (IOException error) when (error.HResult == EHOSTDOWN)
        {
            return false;
        }
    }

    private async Task StartMasterAsync(long deviceBytes, string[] mkfsOptions, string[] masterOptions, CancellationToken cancellation)
    {
        string master = _installation.Master;
        string hostState = _scratch.MakeDirectory("master-state");
        using (FileStream file = File.Create(_device))
            file.SetLength(deviceBytes);
        await ChildProcess.ReadAllAsync(_installation.Tool, ["mkfs", _device, "--host-state", hostState, .. mkfsOptions], cancellation);
        _master = ChildProcess.Start(_scratch, master, ["--device", _device, "--listen", Address, "--listen", "unix:" + SocketPath, "--host-state", hostState, .. masterOptions]);
        _channel = GrpcChannel.ForAddress(Address);
        Client = new(_channel);
        await _master.WaitUntilAsync(() => AnswersAsync(cancellation), "it answered", cancellation);
    }

    private async Task<bool> AnswersAsync(CancellationToken cancellation)
    {
        try
        {
            await Client.GetStatusAsync(new GetStatusRequest(), cancellationToken: cancellation);
            return true;
        }
        catch (RpcException error) when (error.StatusCode is StatusCode.Unavailable)
        {
            return false;
        }
    }
}
