using System.CommandLine;
using System.Globalization;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs hosts</c>: every mount, how far it is, what it holds; without those that ended in order, unless asked for.</summary>
internal static class HostsCommand
{
    /// <summary>Held files of a mount that are shown, and the most that can be (a master names no more).</summary>
    private const int UsualHeld = 16;
    private const int MostHeld = 1024;

    public static Command Build(CliContext context)
    {
        Argument<string?> path = CliOptions.OptionalPath();
        Option<bool> held = new("--held") { Description = "Also each removed file that a mount has not released" };
        Option<int> limit = new("--limit") { Description = $"With --held: so many files of each mount, 1 to {MostHeld}", HelpName = "COUNT", DefaultValueFactory = _ => UsualHeld };
        limit.Validators.Add(result =>
        {
            // Of a value that cannot be read, the parser would throw.
            if (result.Tokens.FirstOrDefault(t => !int.TryParse(t.Value, NumberStyles.None, CultureInfo.InvariantCulture, out int count) || count is < 1 or > MostHeld) is { } wrong)
                result.AddError($"--limit {wrong.Value}: must be 1 to {MostHeld}");
        });
        Option<bool> all = new("--all", "-a") { Description = "Also mounts that ended in order" };
        Command command = new("hosts", "Show the mounts of all hosts") { path, all, held, limit, BuildEvict(context), BuildForget(context) };
        command.Aliases.Add("host");
        command.SetAction(async (parsed, cancel) =>
        {
            if (!parsed.GetValue(held) && parsed.GetResult(limit) is { Implicit: false })
                throw CliOptions.Usage("--limit: is of use with --held");
            int heldLimit = parsed.GetValue(held) ? parsed.GetValue(limit) : 0;
            CliTarget target = await context.ResolveFileSystemAsync(parsed, parsed.GetValue(path), cancel, reading: true).ConfigureAwait(false);
            ListHostsReply reply = await context.AskMasterOrMountAsync(
                parsed, target, master => master.ListHostsAsync(heldLimit, context.TimeoutOf(parsed), cancel),
                ListHostsReply.Parser, ["hosts", target.Mount?.MountPoint ?? ""], cancel).ConfigureAwait(false);
            // The memory knows no places. Of this one the host knows it.
            if (target.Mount is { } here && reply.Hosts.FirstOrDefault(h => h.MountPoint.Length == 0 && h.MountId == here.RequireMountId().ToByteString()) is { } own)
                own.MountPoint = here.MountPoint;
            List<HostStatus> shown = [.. reply.Hosts.Where(h => parsed.GetValue(all) || h.State != HostState.Gone || h.Evidence != GoneEvidence.CleanUnmount)];
            Dictionary<ByteString, IReadOnlyList<MountHolder>> holders = await FindHoldersAsync(context, shown, cancel).ConfigureAwait(false);
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteHosts("hosts", shown, holders, heldLimit);
                    json.WritePosition("position", reply.Position);
                    json.WriteEndObject();
                });
            }
            else
            {
                PrintTable(context, shown);
                if (heldLimit > 0)
                    PrintHeld(context, shown, heldLimit);
                foreach (HostStatus mount in shown.Where(h => holders.ContainsKey(h.MountId)))
                {
                    IReadOnlyList<MountHolder> held = holders[mount.MountId];
                    string point = LsCommand.Printable(mount.MountPoint);
                    context.Out.WriteLine(held.Count > 0
                        ? $"{point}: its daemon is gone, and it is held by {string.Join(", ", held.Select(h => LsCommand.Printable(h.ToString())))}; end them, then `famfs umount {point}`"
                        : $"{point}: its daemon is gone, and no process that this user may look at holds it; `famfs umount {point}`");
                }
            }
            return (int)ExitCode.Ok;
        });
        return command;
    }

    private static Command BuildEvict(CliContext context)
    {
        Argument<string> who = new("HOST") { Description = "Id of a mount, or id or name of a host: all its mounts and masters" };
        Argument<string?> path = CliOptions.OptionalPath();
        Option<bool> fenced = new("--fenced") { Description = "States that it can touch the memory no more: it is off, or cut off. Space that it had is given to others" };
        Option<string> detail = new("--detail") { Description = "How that is known, for the log", DefaultValueFactory = _ => "", HelpName = "TEXT" };
        Command command = new("evict", "Declare a silent mount or host gone") { who, path, fenced, detail };
        command.SetAction(async (parsed, cancel) =>
        {
            if (!parsed.GetValue(fenced))
            {
                context.Refuse(ExitCode.Usage, ErrorReason.BadRequest, "hosts evict: needs --fenced: nobody else can know that the host touches the memory no more");
                return (int)ExitCode.Usage;
            }
            CliTarget target = await context.ResolveFileSystemAsync(parsed, parsed.GetValue(path), cancel).ConfigureAwait(false);
            ListHostsReply hosts = await target.Client.ListHostsAsync(context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
            string named = parsed.GetValue(who)!;
            EvictHostRequest request = Find(hosts, named);
            (request.Evidence, request.Detail) = (GoneEvidence.Fenced, parsed.GetValue(detail));
            EvictHostReply reply = await target.Client.EvictHostAsync(request, context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteBoolean("recorded", reply.Recorded);
                    json.WritePosition("position", reply.Position);
                    json.WriteEndObject();
                });
            }
            else
            {
                context.Out.WriteLine($"{LsCommand.Printable(named)}: {(reply.Recorded ? "is recorded as gone" : "was recorded as gone before")}");
            }
            return (int)ExitCode.Ok;
        });
        return command;
    }

    private static Command BuildForget(CliContext context)
    {
        Argument<string> who = new("HOST") { Description = "Id or name of a host that has nothing left: no mount, no master" };
        Argument<string?> path = CliOptions.OptionalPath();
        Command command = new("forget", "Give the place of a host in the host table back") { who, path };
        command.SetAction(async (parsed, cancel) =>
        {
            CliTarget target = await context.ResolveFileSystemAsync(parsed, parsed.GetValue(path), cancel).ConfigureAwait(false);
            string named = parsed.GetValue(who)!;
            ForgetHostRequest request = Guid.TryParse(named, out Guid id) ? new() { HostId = id.ToByteString() } : new() { Name = named };
            ForgetHostReply reply = await target.Client.ForgetHostAsync(request, context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteString("host_id", JsonShapes.Uuid(reply.HostId));
                    json.WriteNumber("host_slot", reply.HostSlot);
                    json.WritePosition("position", reply.Position);
                    json.WriteEndObject();
                });
            }
            else
            {
                context.Out.WriteLine($"{LsCommand.Printable(named)}: is forgotten; block {reply.HostSlot} of the host table is free");
            }
            return (int)ExitCode.Ok;
        });
        return command;
    }

    /// <summary>Whom a word means. Throws NOT_FOUND when nobody, BAD_REQUEST when several.</summary>
    private static EvictHostRequest Find(ListHostsReply hosts, string named)
    {
        if (Guid.TryParse(named, out Guid id))
            return hosts.Hosts.Any(h => h.MountId == id.ToByteString()) ? new() { MountId = id.ToByteString() } : new() { HostId = id.ToByteString() };
        List<ByteString> of = [.. hosts.Hosts.Where(h => h.Name == named).Select(h => h.HostId).Distinct()];
        return of.Count switch
        {
            0 => throw new Core.FamfsException(ErrorReason.NotFound, $"{LsCommand.Printable(named)}: no host has that name, and it is no id; `famfs hosts --all` shows them"),
            1 => new() { HostId = of[0] },
            _ => throw new Core.FamfsException(ErrorReason.BadRequest, $"{LsCommand.Printable(named)}: {of.Count} hosts have that name; use an id of `famfs hosts --json`"),
        };
    }

    /// <summary>Who holds the mounts of this host whose daemon is gone: those that are at their place still. By mount id.</summary>
    private static async Task<Dictionary<ByteString, IReadOnlyList<MountHolder>>> FindHoldersAsync(CliContext context, List<HostStatus> mounts, CancellationToken cancel)
    {
        Dictionary<ByteString, IReadOnlyList<MountHolder>> holders = [];
        // The kernel's id of this boot tells that a mount is of this host, or of one that is tried on it.
        List<HostStatus> silent = [.. mounts.Where(m => m.State is not (HostState.Live or HostState.Gone) && !m.Subscribed && m.MountPoint.Length > 0)];
        if (silent.Count == 0 || !Guid.TryParse(ReadBoot(context.Environment.ProcPath), out Guid boot))
            return holders;
        HashSet<string> dead = [.. (await context.AskMountsAsync(cancel).ConfigureAwait(false)).Where(m => m.IsDead).Select(m => m.MountPoint)];
        foreach (HostStatus mount in silent.Where(m => m.BootId == boot.ToByteString() && dead.Contains(m.MountPoint)))
            holders[mount.MountId] = MountCalls.FindHolders(mount.MountPoint, context.Environment.ProcPath);
        return holders;
    }

    private static string ReadBoot(string proc)
    {
        try
        {
            return File.ReadAllText(Path.Combine(proc, "sys/kernel/random/boot_id")).Trim();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return ""; // a sandbox hides it: then nothing is known
        }
    }

    public static void PrintTable(CliContext context, IEnumerable<HostStatus> hosts) =>
        context.WriteTable(["HOST", "MOUNT POINT", "STATE", "POSITION", "LAG", "SILENT", "LEASE", "HELD", "LACKS", "VERSION", "DIALECT", "ADDRESS", "MOUNT"], hosts.Select(h => (IReadOnlyList<string>)
        [
            h.Name.Length > 0 ? LsCommand.Printable(h.Name) : JsonShapes.Uuid(h.HostId),
            OrDash(h.MountPoint),
            JsonShapes.Word(h.State) + (h.Evidence == GoneEvidence.Unspecified ? "" : $" ({JsonShapes.Word(h.Evidence)})"),
            JsonShapes.Text(h.Position),
            h.LagRecords.ToString(CultureInfo.InvariantCulture),
            string.Create(CultureInfo.InvariantCulture, $"{h.SilentMs / 1000.0:0.0}s"),
            h.LeaseMs == 0 ? "-" : string.Create(CultureInfo.InvariantCulture, $"{h.LeaseRemainingMs / 1000.0:0.0}s"),
            h.HeldInodes.ToString(CultureInfo.InvariantCulture),
            LackOf(h),
            OrDash(h.Version),
            OrDash(h.Dialect),
            OrDash(h.Address),
            JsonShapes.Uuid(h.MountId),
        ]), 4, 5, 6, 7);

    /// <summary>What each mount has of removed files, and what is not shown of it.</summary>
    private static void PrintHeld(CliContext context, IReadOnlyList<HostStatus> mounts, int limit)
    {
        List<IReadOnlyList<string>> rows = [.. mounts.SelectMany(m => m.HeldFiles.Take(limit).Select(f => (IReadOnlyList<string>)
        [
            NameOf(m),
            f.Inode.ToString(CultureInfo.InvariantCulture),
            f.SpaceBytes.ToString(CultureInfo.InvariantCulture),
            f.RemoveTimeNs == 0 ? "-" : DateTimeOffset.FromUnixTimeMilliseconds(f.RemoveTimeNs / 1_000_000).UtcDateTime.ToString("yyyy-MM-ddTHH:mm:ssZ", CultureInfo.InvariantCulture),
            f.Path.Length > 0 ? LsCommand.Printable(f.Path) : f.Name.Length > 0 ? $"…/{LsCommand.Printable(f.Name)}" : "-",
        ]))];
        context.Out.WriteLine();
        if (rows.Count > 0)
            context.WriteTable(["HELD BY", "INODE", "BYTES", "REMOVED", "PATH"], rows, 1, 2);
        else
            context.Out.WriteLine("no mount names a removed file that it holds");
        foreach (HostStatus mount in mounts.Where(m => m.State != HostState.Gone))
        {
            ulong more = mount.HeldInodes - (ulong)Math.Min(mount.HeldFiles.Count, limit);
            if (more > 0 && mount.HeldFiles.Count == 0)
                context.Out.WriteLine($"{NameOf(mount)}: has {more} removed files, which this master does not name");
            else if (more > 0)
                context.Out.WriteLine($"{NameOf(mount)}: and {more} more{(limit < MostHeld ? $" (--limit {Math.Min(mount.HeldInodes, MostHeld)})" : "")}");
            if (mount.HoldsSpace && mount.HeldInodes == 0)
                context.Out.WriteLine($"{NameOf(mount)}: has not told which removed files it has, so it may have any of the latest");
        }
    }

    /// <summary>Host and mount point of a mount, as far as they are known.</summary>
    public static string NameOf(HostStatus mount) =>
        $"{(mount.Name.Length > 0 ? LsCommand.Printable(mount.Name) : JsonShapes.Uuid(mount.HostId))} {(mount.MountPoint.Length > 0 ? LsCommand.Printable(mount.MountPoint) : $"mount {JsonShapes.Uuid(mount.MountId)}")}";

    /// <summary>The devices that a mount lacks: their indices, "-" for none, "?" where the mount does not tell. Of a list that is cut, and
    /// of a mount that has not looked for all, the rest is not known.</summary>
    private static string LackOf(HostStatus mount)
    {
        if (mount.State == HostState.Gone)
            return "-";
        return mount.MissingDevices is not { } said ? "?" : said.Indices.Count == 0 ? "-" : string.Join(',', said.Indices);
    }

    /// <summary>A mount says these when it subscribes; of one that has not, they are not known.</summary>
    private static string OrDash(string text) => text.Length > 0 ? LsCommand.Printable(text) : "-";
}
