using Xunit;

namespace Famfs.EndToEnd;

/// <summary>Content that the command writes on one host and another host reads: cp, creat --randomize, verify.</summary>
public sealed class ContentTests
{
    [Fact]
    public void Content_of_a_seed_is_verified_on_the_other_host_and_a_changed_byte_is_found()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", master).Path;
        string b = cluster.Mount("b", master).Path;
        foreach (string[] layout in (string[][])[["--contiguous"], ["--interleave", "2"]])
        {
            string name = layout[0][2..];
            cluster.Famfs(["creat", "--size", "5000001", .. layout, "--randomize", "--seed", "7", "--wait", "all", Path.Combine(a, name)]);
            cluster.Famfs("verify", "--seed", "7", Path.Combine(a, name), Path.Combine(b, name));
            (int exit, string output) = cluster.TryFamfs("verify", "--seed", "8", Path.Combine(b, name));
            Assert.Equal(1, exit);
            Assert.Contains("byte 0 is", output, StringComparison.Ordinal);

            using (FileStream file = File.Open(Path.Combine(b, name), FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite))
            {
                file.Position = 4_321_000;
                int old = file.ReadByte();
                file.Position = 4_321_000;
                file.WriteByte((byte)(old ^ 1));
            }
            (exit, output) = cluster.TryFamfs("verify", "--seed", "7", Path.Combine(a, name));
            Assert.Equal(1, exit);
            Assert.Contains("byte 4321000 is", output, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_copy_that_was_killed_goes_on_where_it_was_and_leaves_what_is_in_its_way()
    {
        const int Files = 60;
        using Cluster cluster = Cluster.Create(deviceBytes: 512L << 20);
        string master = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", master).Path;
        string b = cluster.Mount("b", master).Path;
        string source = cluster.NewDirectory("source");
        Random random = new(3);
        for (int i = 0; i < Files; i++)
        {
            byte[] content = new byte[1 + random.Next(1 << 20)];
            random.NextBytes(content);
            Directory.CreateDirectory(Path.Combine(source, $"d{i % 7}"));
            File.WriteAllBytes(Path.Combine(source, $"d{i % 7}", $"f{i}"), content);
        }

        // Into a directory that is there, so that the same command means the same again.
        cluster.Famfs("mkdir", "--mode", "755", Path.Combine(a, "copy"));
        using (ServerProcess copy = Cluster.StartFamfs("cp", "-r", "--jobs", "2", source, Path.Combine(a, "copy")))
        {
            Cluster.Await("some files of the copy", () => Count(a) > Files / 6);
            copy.Signal("KILL");
            copy.AwaitExit();
        }
        // One that is there already has other bytes, as a file that was made and not filled yet has.
        string touched = Directory.GetFiles(Path.Combine(a, "copy"), "*", SearchOption.AllDirectories)[0];
        using (FileStream file = File.Open(touched, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
            file.WriteByte(0xee);

        cluster.Famfs("cp", "-r", source, Path.Combine(a, "copy"));
        Assert.Equal(Files, Count(a));
        foreach (string path in Directory.GetFiles(source, "*", SearchOption.AllDirectories))
            Assert.Equal(File.ReadAllBytes(path), File.ReadAllBytes(Path.Combine(b, "copy", "source", Path.GetRelativePath(source, path))));
        Assert.Contains("; 0 bytes written", cluster.Famfs("cp", "-r", source, Path.Combine(a, "copy")), StringComparison.Ordinal);

        File.AppendAllText(Path.Combine(source, "d0", "f0"), "x");
        byte[] before = File.ReadAllBytes(Path.Combine(b, "copy", "source", "d0", "f0"));
        (int exit, string output) = cluster.TryFamfs("cp", "-r", source, Path.Combine(a, "copy"));
        Assert.Equal(4, exit);
        Assert.Contains("d0/f0", output, StringComparison.Ordinal);
        Assert.Equal(before, File.ReadAllBytes(Path.Combine(b, "copy", "source", "d0", "f0")));
        Assert.Empty(cluster.Check().Findings);
    }

    private static int Count(string mount) => Directory.GetFiles(Path.Combine(mount, "copy"), "*", SearchOption.AllDirectories).Length;
}
