using Famfs.Core;
using Famfs.V1;

namespace Famfs.Client.Tests;

public sealed class HostIdentityTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-identity-test-").FullName;

    [Fact]
    public void The_host_id_is_made_once()
    {
        HostIdentity first = HostIdentity.Load(State, Sources("m1", "hw1"));
        HostIdentity second = HostIdentity.Load(State, Sources("m1", "hw1", Guid.NewGuid()));

        Assert.Equal(first.Host, second.Host);
        Assert.NotEqual(Guid.Empty, first.Host);
        Assert.NotEqual(first.Boot, second.Boot);
        Assert.Equal(first.MachineDigest, second.MachineDigest);
    }

    [Theory]
    [InlineData("m2", "hw1")]
    [InlineData("m1", "hw2")]
    public void A_copied_host_id_is_refused_unless_it_is_adopted(string machine, string hardware)
    {
        Guid host = HostIdentity.Load(State, Sources("m1", "hw1")).Host;

        FamfsException e = Assert.Throws<FamfsException>(() => HostIdentity.Load(State, Sources(machine, hardware)));
        Assert.Equal(ErrorReason.HostConflict, e.Reason);
        Assert.Equal(host, HostIdentity.Load(State, Sources(machine, hardware), adopt: true).Host);
        Assert.Equal(host, HostIdentity.Load(State, Sources(machine, hardware)).Host);
        Assert.Throws<FamfsException>(() => HostIdentity.Load(State, Sources("m1", "hw1")));
    }

    [Fact]
    public void A_hardware_id_that_cannot_be_read_does_not_change_the_host()
    {
        Guid host = HostIdentity.Load(State, Sources("m1", null)).Host;

        Assert.Equal(host, HostIdentity.Load(State, Sources("m1", "hw1")).Host);
        Assert.Equal(host, HostIdentity.Load(State, Sources("m1", null)).Host);
        // Bound by the second load.
        Assert.Throws<FamfsException>(() => HostIdentity.Load(State, Sources("m1", "hw2")));
    }

    [Theory]
    [InlineData("")]
    [InlineData("not a uuid\nmachine 00\n")]
    [InlineData("00000000-0000-0000-0000-000000000000\nmachine 0000000000000000000000000000000000000000000000000000000000000000\n")]
    [InlineData("6f6f6f6f-0000-4000-8000-000000000000\n")]
    [InlineData("6f6f6f6f-0000-4000-8000-000000000000\nmachine zz00000000000000000000000000000000000000000000000000000000000000\n")]
    [InlineData("6f6f6f6f-0000-4000-8000-000000000000\nmachine 0000000000000000000000000000000000000000000000000000000000000000\nwhat\n")]
    public void A_damaged_file_is_reported_and_not_replaced(string text)
    {
        Directory.CreateDirectory(State);
        string path = Path.Combine(State, "host-id");
        File.WriteAllText(path, text);

        FamfsException e = Assert.Throws<FamfsException>(() => HostIdentity.Load(State, Sources("m1", null), adopt: true));
        Assert.Equal(ErrorReason.MediaCorrupt, e.Reason);
        Assert.Equal(text, File.ReadAllText(path));
    }

    [Fact]
    public void Two_first_starts_at_once_agree()
    {
        HostIdentitySources sources = Sources("m1", "hw1");
        for (int round = 0; round < 40; round++)
        {
            string state = Path.Combine(State, $"{round}");
            Guid[] hosts = new Guid[8];
            using Barrier start = new(hosts.Length);
            Thread[] starters = [.. Enumerable.Range(0, hosts.Length).Select(i => new Thread(() =>
            {
                start.SignalAndWait();
                hosts[i] = HostIdentity.Load(state, sources).Host;
            }))];
            foreach (Thread starter in starters)
                starter.Start();
            foreach (Thread starter in starters)
                starter.Join();

            Assert.Single(hosts.Distinct());
            Assert.Single(Directory.GetFiles(state));
        }
    }

    [Fact]
    public void A_host_without_machine_id_is_told_so()
    {
        FamfsException e = Assert.Throws<FamfsException>(() => HostIdentity.Load(State, Sources("m1", null) with { MachineIdPath = "/nowhere/machine-id" }));
        Assert.Contains("/nowhere/machine-id", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_option_goes_before_the_environment_and_that_before_the_default()
    {
        Assert.Equal("/a", HostIdentity.StateDirectoryOf("/a", "/b"));
        Assert.Equal("/b", HostIdentity.StateDirectoryOf(null, "/b"));
        Assert.Equal("/var/lib/famfs", HostIdentity.StateDirectoryOf(null, ""));
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private string State => Path.Combine(_directory, "state");

    private HostIdentitySources Sources(string machine, string? hardware, Guid? boot = null)
    {
        string place = Path.Combine(_directory, $"{machine}-{hardware}-{boot}");
        Directory.CreateDirectory(place);
        File.WriteAllText(Path.Combine(place, "machine"), machine + "\n");
        File.WriteAllText(Path.Combine(place, "boot"), $"{boot ?? new Guid(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)}\n");
        if (hardware is not null)
            File.WriteAllText(Path.Combine(place, "hardware"), hardware + "\n");
        return new()
        {
            MachineIdPath = Path.Combine(place, "machine"),
            BootIdPath = Path.Combine(place, "boot"),
            HardwareIdPath = Path.Combine(place, "hardware"),
            HostName = "here",
        };
    }
}
