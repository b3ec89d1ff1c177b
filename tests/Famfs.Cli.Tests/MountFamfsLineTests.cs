using Famfs.CommandLine;

namespace Famfs.Cli.Tests;

public sealed class MountFamfsLineTests
{
    [Fact]
    public void A_line_as_mount_writes_it()
    {
        MountFamfsLine line = Parse("models /mnt/models -sfnv -o rw,ro,master=http://a:1,master=http://b:1,cache=direct,_netdev,nofail,x-systemd.automount,comment=a,timeout=3s -t fuse.famfs");
        Assert.Equal(("models", "/mnt/models"), (line.Spec, line.Directory));
        Assert.True(line.IsSloppy && line.IsFake && line.IsVerbose && line.IsReadOnly && !line.IsRemount);
        Assert.Equal(["cache=direct", "ro"], line.MountWords);
        Assert.Equal(["http://a:1", "http://b:1"], line.All("master"));
        Assert.Equal("3s", line.Last("timeout"));
        Assert.Null(line.Last("log"));
    }

    [Fact]
    public void A_line_as_people_write_it()
    {
        MountFamfsLine line = Parse("-v -oremount,ro,rw models -n /mnt/models -o no-wait");
        Assert.Equal(("models", "/mnt/models"), (line.Spec, line.Directory));
        Assert.True(line.IsVerbose && line.IsRemount && line.NoWait && !line.IsReadOnly && !line.IsFake);
        Assert.Empty(line.MountWords);
    }

    [Fact]
    public void Commas_in_quotes_belong_to_the_value()
    {
        MountFamfsLine line = new();
        Assert.Null(line.Parse(["models", "/mnt", "-o", "master=\"http://a:1,http://b:1\",ro"]));
        Assert.Equal(["http://a:1,http://b:1"], line.All("master"));
        Assert.True(line.IsReadOnly);
    }

    [Theory]
    [InlineData("", "what to mount or the directory is missing")]
    [InlineData("models", "what to mount or the directory is missing")]
    [InlineData("a b c", "c: unknown argument")]
    [InlineData("a b -x", "-x: unknown option")]
    [InlineData("a b -o", "-o: its value is missing")]
    [InlineData("a b -o master", "-o master: its value is missing")]
    [InlineData("a b -o master=", "-o master: its value is missing")]
    [InlineData("a b -o quota", "-o quota: unknown mount option; known are ro, rw, noexec, exec, cache=direct")]
    [InlineData("a b -o cache=all", "-o cache=all: unknown mount option")]
    [InlineData("a b -N 7", "-N 7: mounting in another name space")]
    [InlineData("a b -t ext4", "-t ext4: is not famfs")]
    public void A_wrong_line_is_named(string text, string expected) =>
        Assert.StartsWith(expected, new MountFamfsLine().Parse(text.Split(' ', StringSplitOptions.RemoveEmptyEntries)), StringComparison.Ordinal);

    [Fact]
    public void A_remount_as_mount_writes_it_from_the_kernels_table()
    {
        MountFamfsLine line = Parse("lab /mnt -o rw,nosuid,nodev,relatime,user_id=0,group_id=0,default_permissions,allow_other,max_read=1048576,remount,ro");
        Assert.True(line.IsRemount && line.IsReadOnly);
        Assert.StartsWith("-o user_id=0: unknown mount option", new MountFamfsLine().Parse(["lab", "/mnt", "-o", "rw,user_id=0"]), StringComparison.Ordinal);
    }

    [Fact]
    public void Sloppy_drops_what_is_not_known()
    {
        MountFamfsLine line = Parse("a b -s -o quota,cache=all,locks=refuse");
        Assert.Equal(["locks=refuse"], line.MountWords);
    }

    [Fact]
    public void Words_of_mount_that_change_nothing_are_taken_and_the_daemon_hears_what_matters()
    {
        MountFamfsLine line = Parse("a b -o defaults,relatime,lazytime,atime,sync,nousers,X-mount.mkdir,x-a,comment=c,helper=h,user,exec,suid,ro");
        Assert.Equal(["user", "exec", "suid", "ro"], line.MountWords);
    }

    [Theory]
    [InlineData("noexec", true)]
    [InlineData("user", true)]
    [InlineData("user,exec", false)]
    [InlineData("exec,users", true)]
    [InlineData("defaults,ro", false)]
    public void Of_exec_and_noexec_the_last_counts_and_a_line_for_users_is_noexec(string words, bool expected) =>
        Assert.Equal(expected, MountOptionWords.IsNoExec([.. MountOptionWords.Split([words])]));

    [Theory]
    [InlineData("suid", "-o suid: has no effect, a mount of famfs is nosuid")]
    [InlineData("user,suid,dev", "-o suid: has no effect, a mount of famfs is nosuid")]
    [InlineData("dev", "-o dev: has no effect, a mount of famfs is nodev")]
    [InlineData("suid,nosuid", null)]
    [InlineData("suid,dev,user", null)]
    [InlineData("defaults,relatime", null)]
    public void Who_wants_set_id_bits_or_device_files_is_told(string words, string? remark) =>
        Assert.Equal(remark, MountOptionWords.FindRemark([.. MountOptionWords.Split([words])]));

    [Theory]
    [InlineData("/sbin/mount.famfs", true)]
    [InlineData("mount.fuse.famfs", true)]
    [InlineData("/usr/bin/famfs", false)]
    [InlineData("", false)]
    [InlineData(null, false)]
    public void It_is_called_by_its_name(string? name, bool expected) => Assert.Equal(expected, MountFamfs.IsCalled(name));

    private static MountFamfsLine Parse(string text)
    {
        MountFamfsLine line = new();
        Assert.Null(line.Parse(text.Split(' ')));
        return line;
    }
}
