using System.Diagnostics;
using System.Globalization;
using Famfs.Client;
using Famfs.Core;
using Famfs.V1;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>
/// One client of a soak: makes, fills, reads, renames and removes files of its own directory through any mount, and holds some of them
/// open or mapped while others take their names. One task runs it. What it knows of a file is what was acknowledged to it.
/// </summary>
internal sealed class SoakClient : IDisposable
{
    private const int UnitBytes = 2 << 20;
    private const int MostUnits = 6;
    private const int MostHolds = 4;
    private const int SubtreeFiles = 3;

    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(5);

    private readonly SoakWorld _world;
    private readonly Random _random;
    private readonly FamfsClient _master;
    private readonly List<SoakFile> _files = [];
    private readonly List<SoakHold> _holds = [];
    private readonly Dictionary<string, long> _done = [];
    private readonly Lock _gate = new();
    private SoakWorker _worker = new(); // replaced and killed under _gate
    private bool _wasKilled; // guarded by _gate
    private int _rounds;
    private long _names;

    public SoakClient(SoakWorld world, int number, int seed)
    {
        _world = world;
        _random = new(seed);
        _master = Cluster.Connect(world.Address);
        Home = string.Create(CultureInfo.InvariantCulture, $"c{number}");
    }

    /// <summary>The directory that it works in.</summary>
    public string Home { get; }

    /// <summary>How often each operation was done. When it has ended.</summary>
    public IReadOnlyDictionary<string, long> Done => _done;

    /// <summary>How often it has let go of what it held at mounts that were not usable before its last operation began.</summary>
    public int Rounds => Volatile.Read(ref _rounds);

    /// <summary>Kills the program that uses its files, whatever it does. Any thread may.</summary>
    public void KillWorker()
    {
        lock (_gate)
        {
            _wasKilled = true;
            _worker.Kill();
        }
    }

    public void Dispose()
    {
        _worker.Dispose();
        _master.Dispose();
    }

    public async Task RunAsync()
    {
        try
        {
            await _master.MakeDirectoryAsync(new() { Path = Home });
            while (!_world.IsOver)
            {
                await LetGoAsync(h => !h.Mount.IsUsable);
                Interlocked.Increment(ref _rounds);
                string done = await StepAsync();
                _done[done] = _done.GetValueOrDefault(done) + 1;
                _world.Count();
            }
            foreach (SoakFile file in _files)
                await VerifyAsync(file);
            await LetGoAsync(_ => true);
        }
        catch (Exception error)
        {
            _world.Fail(error);
            throw;
        }
    }

    private async Task<string> StepAsync()
    {
        GetStatusReply status = await _master.GetStatusAsync();
        bool isFull = status.FreeBytes * 100 < status.CapacityBytes * (100 - SoakWorld.MostUsedPercent);
        int dice = _random.Next(100);
        if (_files.Count == 0 || (!isFull && dice < 40))
            return await CreateAsync();
        SoakFile file = AnyFile();
        return dice switch
        {
            < 40 => await RemoveAsync(file),
            < 55 => await FillAsync(file),
            < 70 => await VerifyAsync(file),
            < 78 => await HoldAsync(file),
            < 86 => await LookAsync(),
            < 94 => await RenameAsync(file),
            < 97 => await RemoveAsync(file),
            _ => await SubtreeAsync(),
        };
    }

    private async Task<string> CreateAsync()
    {
        CreateFileRequest request = new() { Path = NewName(Home), SizeBytes = (ulong)((_random.Next(1, MostUnits + 1) * UnitBytes) - _random.Next(100_000)) };
        if (_random.Next(4) == 0)
            request.Layout = new() { Kind = LayoutKind.Interleaved };
        V1.FileInfo made;
        int failures = _world.Master.Failures;
        bool mayFail = _world.Master.MayFail;
        try
        {
            // Who has nothing waits for what others hold.
            made = (await (_files.Count == 0 ? _master.CreateFileWaitingForSpaceAsync(request, s_patience) : _master.CreateFileAsync(request))).File;
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.NoSpace)
        {
            await LetGoAsync(_ => true);
            return "no space";
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.Timeout && _files.Count == 0)
        {
            // On a busy machine the last question has no answer in what is left of the wait. Perhaps made.
            await LetGoAsync(_ => true);
            await ForgetAsync(request.Path);
            return "no space";
        }
        catch (FamfsException) when (mayFail || _world.Master.Failures != failures)
        {
            // Space is waited for no longer than a master may take to start. Perhaps made.
            await ForgetAsync(request.Path);
            return "create, excused";
        }
        SoakFile file = new(request.Path, made.Inode, (long)request.SizeBytes);
        _files.Add(file);
        // Nobody's bytes: zeros.
        return await VerifyAsync(file) == "verify" && await FillAsync(file) == "fill" ? "create" : "create, excused";
    }

    private async Task<string> FillAsync(SoakFile file)
    {
        file.High++;
        if (!await AskAsync(UsableMount(), file.Ask("fill", _random.Next(2) == 0)))
            return "excused";
        file.Low = file.High;
        return "fill";
    }

    private async Task<string> VerifyAsync(SoakFile file) =>
        await AskAsync(UsableMount(), file.Ask("verify", _random.Next(2) == 0)) ? "verify" : "excused";

    private async Task<string> HoldAsync(SoakFile file)
    {
        if (_holds.Count == MostHolds)
        {
            SoakHold first = _holds[0];
            await LetGoAsync(h => h == first);
        }
        SoakMount mount = UsableMount();
        SoakHold hold = new(string.Create(CultureInfo.InvariantCulture, $"h{_names++}"), mount, file);
        if (!await AskAsync(mount, file.Ask("hold", _random.Next(2) == 0) with { Key = hold.Key }))
            return "excused";
        _holds.Add(hold);
        return "hold";
    }

    /// <summary>Looks at what it holds, whatever became of its name.</summary>
    private async Task<string> LookAsync()
    {
        if (_holds.Count == 0)
            return "nothing held";
        SoakHold hold = _holds[_random.Next(_holds.Count)];
        return await AskAsync(hold.Mount, hold.File.Ask("look", false) with { Key = hold.Key }) ? "look" : "excused";
    }

    private async Task<string> RenameAsync(SoakFile file)
    {
        SoakFile? other = _random.Next(2) == 0 ? AnyFile() : null;
        if (other == file)
            other = null;
        string to = other?.Path ?? NewName(Home);
        if (_random.Next(2) == 0)
        {
            await _master.RenameAsync(new() { OldPath = file.Path, NewPath = to, Replace = other is not null });
        }
        else if (!await AskAsync(UsableMount(), file.Ask("rename", false) with { To = to }))
        {
            // Perhaps made.
            _files.Remove(file);
            _files.Remove(other!);
            await ForgetAsync(file.Path);
            await ForgetAsync(to);
            return "rename, excused";
        }
        file.Path = to;
        _files.Remove(other!);
        return other is null ? "rename" : "replace";
    }

    private async Task<string> RemoveAsync(SoakFile file)
    {
        _files.Remove(file);
        if (_random.Next(2) == 0)
            await _master.RemoveAsync(new() { Path = file.Path });
        else if (!await AskAsync(UsableMount(), file.Ask("unlink", false)))
        {
            await ForgetAsync(file.Path);
            return "remove, excused";
        }
        return "remove";
    }

    /// <summary>Removes a name that is perhaps there, and never used again.</summary>
    private async Task ForgetAsync(string path)
    {
        try
        {
            await _master.RemoveAsync(new() { Path = path });
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.NotFound)
        {
            // It was removed, or had another name.
        }
    }

    /// <summary>A directory with files, one of them held, that is removed whole.</summary>
    private async Task<string> SubtreeAsync()
    {
        string top = NewName(Home);
        await _master.MakeDirectoryAsync(new() { Path = top });
        List<SoakFile> files = [];
        await foreach (CreateFileResult result in _master.CreateFilesAsync(Enumerable.Range(0, SubtreeFiles).Select(_ => new CreateFileRequest { Path = NewName(top), SizeBytes = UnitBytes })))
        {
            if (result.Error is null)
                files.Add(new(result.Reply.File.Path, result.Reply.File.Inode, UnitBytes));
            else
                Assert.Equal(ErrorReason.NoSpace, result.Error.Reason);
        }
        foreach (SoakFile file in files)
        {
            await VerifyAsync(file);
            await FillAsync(file);
        }
        if (files.Count > 0)
            await HoldAsync(files[0]);
        await _master.RemoveAsync(new() { Path = top, Recursive = true });
        return "subtree";
    }

    /// <summary>Lets go of what it holds there.</summary>
    private async Task LetGoAsync(Func<SoakHold, bool> which)
    {
        foreach (SoakHold hold in _holds.Where(which).ToList())
        {
            if (_holds.Remove(hold))
                await AskAsync(hold.Mount, hold.File.Ask("drop", false) with { Key = hold.Key });
        }
    }

    /// <summary>Asks its program. False: it was not done, and that is excused by what was made to fail meanwhile.</summary>
    private async Task<bool> AskAsync(SoakMount mount, SoakRequest request)
    {
        SoakRequest there = request with { Path = Path.Combine(mount.Path, request.Path), To = request.To is null ? null : Path.Combine(mount.Path, request.To) };
        bool isChange = request.Op is "rename" or "unlink";
        (int mountFailures, int masterFailures) = (mount.Failures, _world.Master.Failures);
        bool isExcused = mount.MayFail || (isChange && _world.Master.MayFail);
        long start = Stopwatch.GetTimestamp();
        SoakAnswer answer;
        while ((answer = await _worker.AskAsync(there)).IsEarly && Stopwatch.GetElapsedTime(start) < Cluster.Patience)
        {
            if (mount.Failures != mountFailures || (isChange && (_world.Master.MayFail || _world.Master.Failures != masterFailures)))
                return false;
            await Task.Delay(Cluster.Pause);
        }
        if (answer.IsDone)
            return true;
        isExcused |= mount.Failures != mountFailures || (isChange && _world.Master.Failures != masterFailures);
        if (answer.Died)
            isExcused |= ReplaceWorker();
        Assert.True(isExcused && answer.Wrong is null, $"{request} at {mount.Path}: {answer}");
        return false;
    }

    /// <summary>A new program for the one that ended; what that held is let go. True when it was killed on purpose.</summary>
    private bool ReplaceWorker()
    {
        lock (_gate)
        {
            _worker.Dispose();
            _worker = new();
            _holds.Clear();
            bool was = _wasKilled;
            _wasKilled = false;
            return was;
        }
    }

    private SoakFile AnyFile() => _files[_random.Next(_files.Count)];

    private SoakMount UsableMount()
    {
        SoakMount[] usable = [.. _world.Mounts.Where(m => m.IsUsable)];
        return usable[_random.Next(usable.Length)];
    }

    private string NewName(string directory) => string.Create(CultureInfo.InvariantCulture, $"{directory}/n{_names++}");

    /// <summary>A file, and the generations of writing that its blocks may have.</summary>
    private sealed class SoakFile(string path, ulong inode, long bytes)
    {
        public string Path { get; set; } = path;

        public int Low { get; set; }

        public int High { get; set; }

        public SoakRequest Ask(string op, bool mapped) => new(op, Path, inode, bytes, Low, High, mapped);
    }

    private sealed record SoakHold(string Key, SoakMount Mount, SoakFile File);
}
