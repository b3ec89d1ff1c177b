using System.Diagnostics;
using System.Globalization;
using Famfs.Fuse.Session;
using Microsoft.Extensions.Logging;

namespace Famfs.Fuse.Daemon;

/// <summary>The daemon's side of <see cref="GuardProgram"/>: a child process. The thread of the upkeep, but for the start and the
/// end.</summary>
internal sealed class DeathGuard : IDisposable
{
    // Chosen: it has nothing to do but to end.
    private static readonly TimeSpan s_end = TimeSpan.FromSeconds(1);

    private readonly Process _process;
    private readonly ILogger _log;
    private bool _isKept;
    private bool _hasEnded;

    private DeathGuard(Process process, ILogger log)
    {
        _process = process;
        _log = log;
    }

    /// <summary>Starts it; null, and a warning, where that cannot be done: the mount works without.</summary>
    public static DeathGuard? TryStart(FuseMount mount, ILogger log)
    {
        try
        {
            string program = Environment.ProcessPath ?? throw new FileNotFoundException("this program's file is not known");
            ProcessStartInfo start = new(program)
            {
                RedirectStandardInput = true,
                WorkingDirectory = "/", // that of the daemon may be on a file system that is to be unmounted
            };
            if (Path.GetFileNameWithoutExtension(program) == "dotnet")
                start.ArgumentList.Add(Environment.GetCommandLineArgs()[0]);
            foreach (string argument in (string[])[GuardProgram.Option, Environment.ProcessId.ToString(CultureInfo.InvariantCulture), mount.ConnectionNumber.ToString(CultureInfo.InvariantCulture), mount.MountPointPath])
                start.ArgumentList.Add(argument);
            return new(Process.Start(start)!, log);
        }
        catch (Exception error) when (error is System.ComponentModel.Win32Exception or IOException)
        {
            DaemonLog.Unguarded(log, error.Message);
            return null;
        }
    }

    /// <summary>Tells it whether another process keeps the mount now.</summary>
    public void Tell(bool isKept)
    {
        if (isKept == _isKept || _hasEnded)
            return;
        try
        {
            _process.StandardInput.BaseStream.WriteByte(isKept ? GuardProgram.Kept : GuardProgram.Unkept);
            _process.StandardInput.BaseStream.Flush();
            _isKept = isKept;
        }
        catch (IOException error)
        {
            _hasEnded = true;
            DaemonLog.Unguarded(_log, error.Message);
        }
    }

    public void Dispose()
    {
        try
        {
            _process.StandardInput.Close();
        }
        catch (IOException)
        {
            // It has ended.
        }
        _process.WaitForExit(s_end);
        _process.Dispose();
    }
}
