using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;

namespace Famfs.Cli.Tests.Verbs;

/// <summary>What doctor says of units, pods, certificates and versions, on a host that a directory pretends to be.</summary>
public sealed class DoctorServicesTests : IDisposable
{
    private static readonly DateTimeOffset s_now = new(2026, 3, 1, 0, 0, 0, TimeSpan.Zero);

    private readonly FakeDaxBus _bus = new("dax0.0");
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-doctor-").FullName;
    private readonly Dictionary<string, string> _variables = [];

    public DoctorServicesTests()
    {
        SetMounts();
        Directory.CreateDirectory(Path.Combine(_directory, "proc", "self"));
        Directory.CreateDirectory(Path.Combine(_directory, "conf"));
        File.WriteAllText(Path.Combine(_directory, "proc", "cpuinfo"), "flags : clwb\n");
        File.WriteAllText(Path.Combine(_directory, "proc", "self", "status"), "CapEff:\t000001ffffffffff\n");
        _variables["FAMFS_CONFIG_DIR"] = Path.Combine(_directory, "conf");
        Script("famfsd", """{"fuse_minor":46,"offered":"0x0","dialect":"stock","devices":[]}""");
    }

    public void Dispose()
    {
        _bus.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public async Task Units_that_have_failed_or_do_not_run_are_named()
    {
        Directory.CreateDirectory(Path.Combine(_directory, "run", "systemd", "system"));
        File.WriteAllText(Path.Combine(_directory, "conf", "a.conf"), "[famfsd models]\nmountpoint = /mnt/models\n[famfsd other]\nmountpoint = /mnt/other\n");
        Script("systemctl", """
            Id=famfs-master.service
            LoadState=loaded
            ActiveState=failed
            Result=exit-code
            UnitFileState=enabled

            Id=famfsd@models.service
            LoadState=loaded
            ActiveState=inactive
            UnitFileState=enabled

            Id=famfsd@models.service
            LoadState=loaded
            ActiveState=inactive
            UnitFileState=enabled

            Id=famfsd@other.service
            LoadState=loaded
            ActiveState=inactive
            UnitFileState=disabled
            """);
        (ExitCode code, string output) = await RunAsync();
        Assert.Equal(ExitCode.Failed, code);
        Assert.Contains("services      systemd\n", output, StringComparison.Ordinal);
        Assert.Contains("MISSING       famfs-master.service: has failed (exit-code): `journalctl -u famfs-master.service`", output, StringComparison.Ordinal);
        Assert.Equal(2, output.Split("MISSING       famfsd@models.service: is enabled and not running (inactive)").Length);
        Assert.Contains("note          famfsd@other.service: is configured and neither enabled nor running", output, StringComparison.Ordinal);
        string asked = await File.ReadAllTextAsync(Path.Combine(_directory, "systemctl.arguments"), TestContext.Current.CancellationToken);
        Assert.Contains("famfs-master.service famfs-keeper.service famfsd@*.service famfsd@models.service famfsd@other.service", asked, StringComparison.Ordinal);

        Script("systemctl", "Id=famfs-master.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled");
        Assert.Equal(ExitCode.Ok, (await RunAsync()).Code);
        File.Delete(Path.Combine(_directory, "systemctl"));
        (code, output) = await RunAsync();
        Assert.Equal(ExitCode.Ok, code);
        Assert.Contains("note          systemd cannot be asked about the units", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_pod_whose_mounts_stay_inside_or_whose_identity_ends_with_it_misses_something()
    {
        _variables["KUBERNETES_SERVICE_HOST"] = "10.0.0.1";
        _variables["FAMFS_STATE_DIR"] = "/var/lib/famfs";
        File.WriteAllText(Path.Combine(_directory, "conf", "a.conf"), "[famfsd]\nmountpoint = /mnt/famfs/models\n");
        SetMounts("2 1 0:40 / /mnt/famfs rw master:5 - ext4 /dev/sda rw");
        (ExitCode code, string output) = await RunAsync();
        Assert.Equal(ExitCode.Failed, code);
        Assert.Contains("services      in a pod of Kubernetes\n", output, StringComparison.Ordinal);
        Assert.Contains("MISSING       /mnt/famfs/models: what is mounted there stays inside this container (/mnt/famfs is no shared mount)", output, StringComparison.Ordinal);
        Assert.Contains("MISSING       /var/lib/famfs: is in the container's own file system", output, StringComparison.Ordinal);

        SetMounts("2 1 0:40 / /mnt/famfs rw shared:5 - ext4 /dev/sda rw", "3 1 0:40 /var/lib/famfs /var/lib/famfs rw - ext4 /dev/sda rw");
        Assert.Equal(ExitCode.Ok, (await RunAsync()).Code);
        // A mount that is there is judged by itself.
        SetMounts("2 1 0:40 / /mnt/famfs rw shared:5 - ext4 /dev/sda rw", "3 1 0:40 /var/lib/famfs /var/lib/famfs rw - ext4 /dev/sda rw", "4 2 0:50 / /mnt/famfs/models rw - fuse.famfs famfs rw");
        Assert.Contains("(/mnt/famfs/models is no shared mount)", (await RunAsync()).Output, StringComparison.Ordinal);

        // One that only uses what its node has mounted.
        SetMounts();
        File.WriteAllText(Path.Combine(_directory, "proc", "self", "status"), "CapEff:\t0\n");
        Assert.DoesNotContain("stays inside this container", (await RunAsync()).Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Certificates_that_cannot_be_used_or_not_for_long_are_named()
    {
        string good = Issue("good", s_now.AddDays(-1), s_now.AddDays(100));
        Configure(good, good);
        Assert.DoesNotContain("certificate", (await RunAsync()).Output, StringComparison.Ordinal);

        Configure(Issue("soon", s_now.AddDays(-1), s_now.AddDays(3)), "soon");
        (ExitCode code, string output) = await RunAsync();
        Assert.Equal(ExitCode.Ok, code);
        Assert.Contains($"note          {_directory}/soon.pem: the certificate of CN=soon expires on 2026-03-04 00:00Z", output, StringComparison.Ordinal);

        Configure(Issue("over", s_now.AddDays(-10), s_now.AddDays(-1)), "over");
        (code, output) = await RunAsync();
        Assert.Equal(ExitCode.Failed, code);
        Assert.Contains($"MISSING       {_directory}/over.pem: the certificate of CN=over has expired on 2026-02-28 00:00Z", output, StringComparison.Ordinal);

        Configure(Issue("early", s_now.AddDays(1), s_now.AddDays(100)), "early");
        Assert.Contains("CN=early is not valid before 2026-03-02 00:00Z: is the clock of this host right?", (await RunAsync()).Output, StringComparison.Ordinal);

        Configure(good, "over");
        Assert.Contains($"MISSING       {_directory}/over.key: is not the unencrypted private key of {_directory}/good.pem", (await RunAsync()).Output, StringComparison.Ordinal);
        Configure("absent", "absent");
        Assert.Contains($"MISSING       {_directory}/absent.key: is not there", (await RunAsync()).Output, StringComparison.Ordinal);

        File.WriteAllText(Path.Combine(_directory, "conf", "a.conf"), $"[famfs]\nca-file = {_directory}/over.pem\n");
        Assert.Contains("CN=over has expired", (await RunAsync()).Output, StringComparison.Ordinal);
    }

    private void Configure(string certificate, string key) =>
        File.WriteAllText(Path.Combine(_directory, "conf", "a.conf"), $"[famfs-master]\ncertificate-file = {_directory}/{certificate}.pem\nkey-file = {_directory}/{key}.key\n");

    private string Issue(string name, DateTimeOffset begin, DateTimeOffset end)
    {
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using X509Certificate2 issued = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256).CreateSelfSigned(begin, end);
        File.WriteAllText(Path.Combine(_directory, name + ".pem"), issued.ExportCertificatePem());
        File.WriteAllText(Path.Combine(_directory, name + ".key"), key.ExportPkcs8PrivateKeyPem());
        return name;
    }

    private void SetMounts(params string[] more) =>
        File.WriteAllLines(Path.Combine(_directory, "mounts"), ["1 0 8:1 / / rw - ext4 /dev/sda rw", .. more]);

    private void Script(string name, string answer)
    {
        string path = Path.Combine(_directory, name);
        File.WriteAllText(path, $"#!/bin/sh\necho \"$@\" > {path}.arguments\ncat <<'END'\n{answer}\nEND\n");
        if (!OperatingSystem.IsWindows())
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }

    private async Task<(ExitCode Code, string Output)> RunAsync()
    {
        using StringWriter output = new() { NewLine = "\n" };
        using StringWriter error = new() { NewLine = "\n" };
        CliEnvironment environment = new()
        {
            Formats = TestFormats.All,
            Out = output,
            Error = error,
            Variable = name => _variables.GetValueOrDefault(name),
            Clock = new FixedClock(),
            MountTablePath = Path.Combine(_directory, "mounts"),
            ProcPath = Path.Combine(_directory, "proc"),
            RunPath = Path.Combine(_directory, "run"),
            DaxBinding = _bus.Binding,
            ProgramDirectory = _directory,
        };
        ExitCode code = await FamfsCommand.RunAsync(["doctor", "dax0.0"], environment, TestContext.Current.CancellationToken);
        Assert.Equal("", error.ToString());
        return (code, output.ToString());
    }

    private sealed class FixedClock : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => s_now;
    }
}
