using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography.X509Certificates;
using Famfs.Client;
using Famfs.CommandLine;
using Famfs.Core;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary>Something that is missing, or worth knowing, and what to do about it.</summary>
internal sealed record Complaint(string What, string Fix);

/// <summary>The part of <c>famfs doctor</c> about how the programs are run on this host: by systemd or in a pod, whether their mounts are
/// seen where they are to be seen, their certificates and their versions. Adds to <paramref name="missing"/> what keeps something from
/// working, to <paramref name="notes"/> the rest.</summary>
internal sealed class DoctorServices(CliContext context, List<Complaint> missing, List<Complaint> notes)
{
    public const string Kubernetes = "kubernetes";
    public const string Systemd = "systemd";
    public const string None = "none";

    private const string MasterUnit = "famfs-master.service";
    private const string KeeperUnit = "famfs-keeper.service";

    // Chosen: long enough for somebody to issue another one.
    private static readonly TimeSpan s_soon = TimeSpan.FromDays(14);

    /// <summary>What runs the programs here.</summary>
    public string Manager { get; } = context.Environment.Variable("KUBERNETES_SERVICE_HOST") is { Length: > 0 } ? Kubernetes
        : Directory.Exists(Path.Combine(context.Environment.RunPath, "systemd", "system")) ? Systemd
        : None;

    /// <summary>Looks at everything. <paramref name="mayMount"/>: this process has the right to.</summary>
    public async Task ExamineAsync(IReadOnlyList<FamfsMount> mounts, bool mayMount, CancellationToken cancel)
    {
        IReadOnlyList<Setting> settings = context.Configuration.Settings;
        if (Manager == Systemd)
            await LookAtUnitsAsync(settings, cancel).ConfigureAwait(false);
        // A pod that only uses a mount of its node has no rights to mount, and no state.
        if (Manager == Kubernetes && mayMount)
            LookAtPod(mounts, settings);
        LookAtCertificates(settings);
        foreach (FamfsMount mount in mounts)
            LookAtVersion(mount);
    }

    /// <summary>What this host's keeper has; null where none of this user runs.</summary>
    public IReadOnlyList<KeptFiles>? AskKeeper()
    {
        try
        {
            return HostKeeper.TryList(StateDirectory);
        }
        catch (IOException error)
        {
            missing.Add(new($"{KeeperConnection.PathIn(StateDirectory)}: {error.Message}", "`systemctl restart famfs-keeper`, or start it again; mounts whose daemons run are given to the next keeper"));
            return null;
        }
    }

    /// <summary>Complains of mounts that wait for a daemon.</summary>
    public void LookAtKept(IReadOnlyList<KeptFiles>? kept, IReadOnlyList<FamfsMount> mounts)
    {
        foreach (KeptFiles files in (kept ?? []).Where(k => k.Holder == 0))
            missing.Add(new($"{files.Key}: is kept and has no daemon; programs that use it wait", $"start famfsd as before and they continue, or `famfs umount {files.Key}`"));
        foreach (FamfsMount mount in kept is null ? [] : mounts)
        {
            try
            {
                if (mount.ReadAttribute("user.famfs.uuid") is not null && mount.ReadKeeper() is null)
                    notes.Add(new($"{mount.MountPoint}: is not kept, and ends with its daemon", "the daemon's log has the cause: --keeper none, policy lease, another --host-state, or an older version"));
            }
            catch (FamfsException)
            {
                // Complained of elsewhere.
            }
        }
    }

    private string StateDirectory => HostIdentity.StateDirectoryOf(null, context.Environment.Variable(HostIdentity.StateDirectoryVariable));

    private async Task LookAtUnitsAsync(IReadOnlyList<Setting> settings, CancellationToken cancel)
    {
        string[] instances = [.. settings.Where(s => s.Program == "famfsd" && s.Instance.Length > 0).Select(s => $"famfsd@{s.Instance}.service").Distinct()];
        string output;
        try
        {
            string program = ProgramFinder.Require("systemctl", context.Environment.ProgramDirectory, context.Environment.Variable("PATH"));
            using Process process = new() { StartInfo = new(program, ["show", "--property=Id,LoadState,ActiveState,Result,UnitFileState", MasterUnit, KeeperUnit, "famfsd@*.service", .. instances]) { RedirectStandardOutput = true, RedirectStandardError = true } };
            process.Start();
            Task<string> said = process.StandardError.ReadToEndAsync(cancel);
            output = await process.StandardOutput.ReadToEndAsync(cancel).ConfigureAwait(false);
            await process.WaitForExitAsync(cancel).ConfigureAwait(false);
            if (process.ExitCode != 0)
                throw new FamfsException(ErrorReason.Unspecified, $"{program} ended with {process.ExitCode}: {(await said.ConfigureAwait(false)).Split('\n')[0]}");
        }
        catch (Exception error) when (error is FamfsException or System.ComponentModel.Win32Exception)
        {
            notes.Add(new($"systemd cannot be asked about the units: {error.Message}", "is this a container that has the host's /run?"));
            return;
        }
        HashSet<string> seen = [];
        foreach (string block in output.Split("\n\n", StringSplitOptions.RemoveEmptyEntries))
        {
            Dictionary<string, string> unit = block.Split('\n').Select(l => l.Split('=', 2)).Where(p => p.Length == 2).ToDictionary(p => p[0], p => p[1]);
            string id = unit.GetValueOrDefault("Id", "");
            if (id.Length == 0 || !seen.Add(id))
                continue;
            string state = unit.GetValueOrDefault("ActiveState", ""), enabled = unit.GetValueOrDefault("UnitFileState", "");
            if (state == "failed")
                missing.Add(new($"{id}: has failed ({unit.GetValueOrDefault("Result")})", $"`journalctl -u {id}` has the cause; `systemctl restart {id}` tries again"));
            else if (state != "active" && state != "activating" && enabled == "enabled")
                missing.Add(new($"{id}: is enabled and not running ({state})", $"`systemctl start {id}`"));
            else if (instances.Contains(id) && unit.GetValueOrDefault("LoadState") == "loaded" && state != "active" && state != "activating")
                notes.Add(new($"{id}: is configured and neither enabled nor running", $"`systemctl enable --now {id}`, unless it is mounted in another way"));
        }
    }

    private void LookAtPod(IReadOnlyList<FamfsMount> mounts, IReadOnlyList<Setting> settings)
    {
        string table = context.Environment.MountTablePath;
        IEnumerable<string> places = settings.Where(s => s.Program == "famfsd" && s.Key == "mountpoint").Select(s => MountEntry.PlaceOf(s.Value, table)).Concat(mounts.Select(m => m.MountPoint));
        foreach (string place in places.Distinct())
        {
            if (MountEntry.Covering(place, table) is { IsShared: false } entry)
                missing.Add(new($"{place}: what is mounted there stays inside this container ({entry.MountPoint} is no shared mount)", "mount a hostPath above it with `mountPropagation: Bidirectional`, in a privileged container"));
        }
        string state = StateDirectory;
        if (MountEntry.Covering(Path.GetFullPath(state), table) is { MountPoint: "/" })
            missing.Add(new($"{state}: is in the container's own file system, so the identity of this host and its locks end with the container", "mount the node's directory there, by hostPath"));
    }

    private void LookAtCertificates(IReadOnlyList<Setting> settings)
    {
        HashSet<(string?, string?, string?)> looked = [];
        Look(
            context.Environment.Variable(ClientTls.CaFileVariable),
            context.Environment.Variable(ClientTls.CertificateFileVariable),
            context.Environment.Variable(ClientTls.KeyFileVariable));
        foreach (string program in (string[])["famfsd", "famfs-master"])
        {
            foreach (string instance in settings.Where(s => s.Program == program).Select(s => s.Instance).Distinct())
            {
                string? Find(string key) => settings.LastOrDefault(s => s.Program == program && s.Instance == instance && s.Key == key)?.Value
                    ?? settings.LastOrDefault(s => s.Program == program && s.Instance.Length == 0 && s.Key == key)?.Value;
                Look(Find("ca-file") ?? Find("client-ca-file"), Find("certificate-file"), Find("key-file"));
            }
        }

        void Look(string? authorities, string? certificate, string? key)
        {
            if (!looked.Add((authorities, certificate, key)))
                return;
            if (authorities is not null)
                LookAtCertificate(authorities, () => PemFiles.LoadAuthorities(authorities));
            if (certificate is not null && key is not null)
            {
                LookAtCertificate(certificate, () =>
                {
                    X509Certificate2 own = PemFiles.LoadCertificate(certificate, key, out X509Certificate2Collection chain);
                    return [own, .. chain];
                });
            }
        }
    }

    private void LookAtCertificate(string path, Func<X509Certificate2Collection> load)
    {
        X509Certificate2Collection certificates;
        try
        {
            certificates = load();
        }
        catch (FamfsException error)
        {
            missing.Add(new(error.Message, "the running programs go on with what they have read before; the next start fails"));
            return;
        }
        DateTime now = context.Environment.Clock.GetUtcNow().UtcDateTime;
        foreach (X509Certificate2 certificate in certificates)
        {
            using (certificate)
            {
                (DateTime begin, DateTime end) = (certificate.NotBefore.ToUniversalTime(), certificate.NotAfter.ToUniversalTime());
                string what = $"{path}: the certificate of {certificate.Subject}";
                const string Fix = "put another one there; no restart is needed";
                if (now < begin)
                    missing.Add(new($"{what} is not valid before {Text(begin)}", "is the clock of this host right?"));
                else if (now > end)
                    missing.Add(new($"{what} has expired on {Text(end)}", Fix));
                else if (end - now < s_soon)
                    notes.Add(new($"{what} expires on {Text(end)}", Fix));
            }
        }
    }

    private void LookAtVersion(FamfsMount mount)
    {
        string? version;
        try
        {
            version = mount.ReadVersion();
            // What does not say its file system is no mount that could be asked.
            if (version is null && mount.ReadAttribute("user.famfs.uuid") is null)
                return;
        }
        catch (FamfsException)
        {
            return; // complained of elsewhere
        }
        if (version != VersionCommand.Own)
            notes.Add(new($"{mount.MountPoint}: its daemon is of {(version is null ? "an older version" : $"version {version}")}, this command of {VersionCommand.Own}", "unmount and mount it again for the other one (docs/upgrading.md)"));
    }

    private static string Text(DateTime time) => time.ToString("yyyy-MM-dd HH:mm'Z'", CultureInfo.InvariantCulture);
}
