using System.CommandLine;
using System.Globalization;
using Famfs.CommandLine;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs chmod</c>, <c>famfs chown</c> and <c>famfs touch</c>: attributes of files and directories that exist. Each
/// goes on behind a path that fails, names it, and ends with the first failure's code.</summary>
internal static class AttributeCommands
{
    public static Command BuildChmod(CliContext context)
    {
        Argument<string> mode = new ModeArgument { Description = "Octal, or changes like u+x,go-w or g=u" };
        Attributes shared = new("Change permission bits", "chmod", mode);
        return shared.Build(context, parsed =>
        {
            if (!ModeText.TryParse(parsed.GetValue(mode)!, out ModeText? text))
                throw CliOptions.Usage($"MODE: '{parsed.GetValue(mode)}' is neither octal, at most 7777, nor changes like u+x,go-w");
            uint umask = ProcessOwner.Umask;
            return file => new SetAttributesRequest { Mode = text.Apply(file.Mode, file.Kind == FileKind.Directory, umask) };
        });
    }

    public static Command BuildChown(CliContext context)
    {
        Argument<string> owner = new("OWNER[:GROUP]") { Description = "Names or numbers; :GROUP alone changes the group only, OWNER: takes the owner's own group" };
        Attributes shared = new("Change owner and group", "chown", owner);
        return shared.Build(context, parsed =>
        {
            (uint? uid, uint? gid) = ParseOwner(parsed.GetValue(owner)!);
            return _ =>
            {
                SetAttributesRequest request = new();
                if (uid is { } user)
                    request.Uid = user;
                if (gid is { } group)
                    request.Gid = group;
                return request;
            };
        });
    }

    public static Command BuildTouch(CliContext context)
    {
        Option<bool> access = new("-a") { Description = "The access time only" };
        Option<bool> modify = new("-m") { Description = "The modification time only" };
        Option<string?> date = new("--date", "-d") { Description = "This time in place of now: 2026-11-28T12:00:00Z, without zone in this host's, or @SECONDS since 1970", HelpName = "TIME" };
        Option<string?> reference = new("--reference", "-r") { Description = "The times of this file of the host in place of now", HelpName = "FILE" };
        Attributes shared = new("Set times of what exists; `famfs creat` makes files", "touch", null) { Options = { access, modify, date, reference } };
        return shared.Build(context, parsed =>
        {
            (long accessNs, long modifyNs) = TimesOf(context, parsed.GetValue(date), parsed.GetValue(reference));
            bool both = parsed.GetValue(access) == parsed.GetValue(modify);
            bool now = both && parsed.GetValue(date) is null && parsed.GetValue(reference) is null;
            return _ =>
            {
                // A master that does not know of now takes the times.
                SetAttributesRequest request = new() { TimesNow = now };
                if (both || parsed.GetValue(access))
                    request.AccessTimeNs = accessNs;
                if (both || parsed.GetValue(modify))
                    request.ModifyTimeNs = modifyNs;
                return request;
            };
        });
    }

    /// <summary>A mode may begin with a dash: <c>-rwx</c>.</summary>
    private sealed class ModeArgument() : Argument<string>("MODE"), ITakesDashes
    {
        /// <inheritdoc/>
        public bool Takes(string word) => ModeText.TryParse(word, out _);
    }

    private static (uint? Uid, uint? Gid) ParseOwner(string text)
    {
        int colon = text.IndexOf(':', StringComparison.Ordinal);
        string user = colon < 0 ? text : text[..colon];
        string? group = colon < 0 ? null : text[(colon + 1)..];
        if (user.Length == 0 && string.IsNullOrEmpty(group))
            throw CliOptions.Usage($"OWNER[:GROUP]: '{text}' names neither");
        (uint Uid, uint? Gid)? found = user.Length == 0 ? null : Accounts.FindUser(user) ?? throw CliOptions.Usage($"OWNER: '{user}' is no user of this host and no number");
        uint? gid = group switch
        {
            null => null,
            "" => found!.Value.Gid ?? throw CliOptions.Usage($"OWNER: {user} has no group of its own here; name one"),
            _ => Accounts.FindGroup(group) ?? throw CliOptions.Usage($"GROUP: '{group}' is no group of this host and no number"),
        };
        return (found?.Uid, gid);
    }

    private const long NanosecondsPerSecond = 1_000_000_000;

    private static (long AccessNs, long ModifyNs) TimesOf(CliContext context, string? date, string? reference)
    {
        if (date is not null && reference is not null)
            throw CliOptions.Usage("--date and --reference exclude each other");
        if (reference is not null)
        {
            FileStatus status = FileStatus.Read(reference, followLinks: true);
            return (status.AccessTimeNs, status.ModifyTimeNs);
        }
        DateTimeOffset time = context.Environment.Clock.GetUtcNow();
        // As of date(1): seconds since 1970.
        if (date is ['@', .. string seconds] && long.TryParse(seconds, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long since))
        {
            return since is < long.MinValue / NanosecondsPerSecond or > long.MaxValue / NanosecondsPerSecond
                ? throw CliOptions.Usage($"--date: '{date}' is outside of 1677 to 2262")
                : (since * NanosecondsPerSecond, since * NanosecondsPerSecond);
        }
        if (date is not null && !DateTimeOffset.TryParse(date, CultureInfo.InvariantCulture, DateTimeStyles.AssumeLocal, out time))
            throw CliOptions.Usage($"--date: '{date}' is no time like 2026-11-28T12:00:00Z");
        long ns;
        try
        {
            ns = checked((time.UtcTicks - DateTime.UnixEpoch.Ticks) * 100);
        }
        catch (OverflowException)
        {
            throw CliOptions.Usage($"--date: '{date}' is outside of 1677 to 2262");
        }
        return (ns, ns);
    }

    /// <summary>What the three have in common.</summary>
    private sealed class Attributes(string description, string name, Argument<string>? first)
    {
        /// <summary>Entries of a directory that are changed at the same time. Chosen.</summary>
        private const int AtOnce = 16;

        private readonly Argument<string[]> _paths = new("PATH") { Description = "Files and directories", Arity = ArgumentArity.OneOrMore };
        private readonly Option<bool> _recursive = new("--recursive", "-R") { Description = "Directories with all below them" };
        private readonly Option<WaitChoice> _wait = CliOptions.Wait();

        public List<Option> Options { get; } = [];

        /// <summary>The command. <paramref name="read"/> reads the command line, and gives what to ask for each entry.</summary>
        public Command Build(CliContext context, Func<ParseResult, Func<V1.FileInfo, SetAttributesRequest>> read)
        {
            Command command = new(name, description);
            if (first is not null)
                command.Add(first);
            command.Add(_paths);
            command.Add(_recursive);
            foreach (Option option in Options)
                command.Add(option);
            command.Add(_wait);
            command.SetAction(async (parsed, cancel) =>
            {
                Func<V1.FileInfo, SetAttributesRequest> wish = read(parsed);
                List<Exception> errors = [];
                MutationReply? last = null;
                foreach (string path in parsed.GetValue(_paths)!)
                {
                    try
                    {
                        last = await ChangeAsync(context, parsed, path, wish, errors, cancel).ConfigureAwait(false);
                    }
                    catch (FamfsException e)
                    {
                        errors.Add(e);
                    }
                }
                foreach (Exception error in errors)
                    context.Refuse(error);
                if (last is not null)
                    MutationText.Print(context, parsed, last);
                return (int)(errors.Count == 0 ? ExitCode.Ok : ExitCodes.Of(errors[0]));
            });
            return command;
        }

        private async Task<MutationReply> ChangeAsync(CliContext context, ParseResult parsed, string path, Func<V1.FileInfo, SetAttributesRequest> wish, List<Exception> errors, CancellationToken cancel)
        {
            CliTarget target = await context.ResolveAsync(parsed, path, cancel).ConfigureAwait(false);
            TimeSpan timeout = context.TimeoutOf(parsed);
            V1.FileInfo file = (await target.Client.GetFileAsync(new GetFileRequest { Path = target.Path }, timeout, cancel).ConfigureAwait(false)).File;
            if (parsed.GetValue(_recursive) && file.Kind == FileKind.Directory)
            {
                ListDirectoryRequest everything = new() { Path = target.Path, Recursive = true };
                ParallelOptions options = new() { MaxDegreeOfParallelism = AtOnce, CancellationToken = cancel };
                await Parallel.ForEachAsync(target.Client.ListDirectoryAsync(everything, timeout, cancel), options, async (entry, stop) =>
                {
                    // A link has no mode of its own, and its target may lie outside.
                    if (entry.Kind == FileKind.Symlink && wish(entry).HasMode)
                        return;
                    try
                    {
                        await SetAsync(target.Path.Length == 0 ? entry.Path : $"{target.Path}/{entry.Path}", entry, new() { Kind = WaitKind.None }, stop).ConfigureAwait(false);
                    }
                    catch (FamfsException e) when (e.Reason is not (ErrorReason.NotMaster or ErrorReason.Timeout or ErrorReason.LogFull))
                    {
                        lock (errors)
                            errors.Add(e);
                    }
                }).ConfigureAwait(false);
            }
            // The directory comes last: whoever takes his own right away can still change what is below. It waits for all of them.
            return await SetAsync(target.Path, file, CliContext.WaitOf(target, parsed.GetValue(_wait)), cancel).ConfigureAwait(false);

            Task<MutationReply> SetAsync(string at, V1.FileInfo of, Wait wait, CancellationToken stop)
            {
                SetAttributesRequest request = wish(of);
                request.Path = at;
                request.Wait = wait;
                return target.Client.SetAttributesAsync(request, timeout, stop);
            }
        }
    }
}
