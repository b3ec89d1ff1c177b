using System.CommandLine;
using Famfs.Core;
using Famfs.Core.Log;
using Famfs.V1;

namespace Famfs.Cli;

/// <summary>Options and arguments that several verbs share, and how their text is read.</summary>
internal static class CliOptions
{
    public static Argument<string> Path(string description = "A path on a mount, or with --master from the root") =>
        new("PATH") { Description = description };

    public static Argument<string[]> Paths(string description = "Paths on a mount, or with --master from the root") =>
        new("PATH") { Description = description, Arity = ArgumentArity.OneOrMore };

    public static Argument<string?> OptionalPath() =>
        new("PATH") { Description = "A path on the mount, when it is not the only one", Arity = ArgumentArity.ZeroOrOne };

    public static Option<WaitChoice> Wait() => new("--wait")
    {
        Description = "Return when it is in the log (none), when this mount shows it (mount), or when every mount does (all); mount when there is one",
        HelpName = "none|mount|all",
        CustomParser = result =>
        {
            switch (result.Tokens[0].Value)
            {
                case "none": return WaitChoice.None;
                case "mount": return WaitChoice.Mount;
                case "all": return WaitChoice.All;
                default:
                    result.AddError($"--wait: '{result.Tokens[0].Value}' is not none, mount or all");
                    return WaitChoice.Default;
            }
        },
    };

    public static Option<long?> Size(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "BYTES",
        CustomParser = result =>
        {
            if (QuantityText.TryParseSize(result.Tokens[0].Value, out long bytes, out string error))
                return bytes;
            result.AddError($"{name}: {error}");
            return null;
        },
    };

    public static Option<uint?> Mode() => new("--mode")
    {
        Description = "Permission bits, octal",
        HelpName = "OCTAL",
        CustomParser = result =>
        {
            if (QuantityText.TryParseMode(result.Tokens[0].Value, out uint mode))
                return mode;
            result.AddError($"--mode: '{result.Tokens[0].Value}' is not octal permission bits, at most 7777");
            return null;
        },
    };

    public static Option<uint?> Uid() => new("--uid") { Description = "Owner; the caller by default" };

    public static Option<uint?> Gid() => new("--gid") { Description = "Group; the caller's by default" };

    public static Option<string?> HostState() => new("--host-state")
    {
        Description = $"Directory with this host's identity; also {HostIdentity.StateDirectoryVariable}, default {HostIdentity.DefaultStateDirectory}",
        HelpName = "DIR",
    };

    public static Option<string> SystemUuidFile(MediaFormats formats) => new("--system-uuid-file")
    {
        Description = $"{formats.WithSystemUuid?.Name}: file with the uuid of this system, which alone may write; {formats.WithSystemUuid?.SystemUuidFile} when not said",
        HelpName = "FILE",
        DefaultValueFactory = _ => formats.WithSystemUuid?.SystemUuidFile ?? "",
        Hidden = formats.WithSystemUuid is null,
    };

    /// <summary>An error of the command line found after parsing.</summary>
    public static FamfsException Usage(string message) => new(ErrorReason.BadRequest, message);
}

/// <summary>The layout options of creat and cp.</summary>
internal sealed class LayoutOptions
{
    private readonly Option<bool> _contiguous = new("--contiguous") { Description = "Not interleaved: one range of one device where there is one, else up to 32" };
    private readonly Option<(uint Strips, ulong Chunk)?> _interleave = new("--interleave")
    {
        Description = "Over STRIPS strips in chunks of CHUNK (a power of two, 2M when not given); with more strips than devices, strips share a device",
        HelpName = "STRIPS[:CHUNK]",
        CustomParser = result =>
        {
            string text = result.Tokens[0].Value;
            string[] parts = text.Split(':');
            ulong chunk = 0;
            if (parts.Length is 1 or 2 && uint.TryParse(parts[0], System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out uint strips) && strips is > 0 and <= 4096)
            {
                if (parts.Length == 1)
                    return (strips, chunk);
                if (QuantityText.TryParseSize(parts[1], out long bytes, out _) && long.IsPow2(bytes))
                    return (strips, (ulong)bytes);
                result.AddError($"--interleave: chunk '{parts[1]}' is not a power of two");
                return null;
            }
            result.AddError($"--interleave: '{text}' is not STRIPS or STRIPS:CHUNK with 1 to 4096 strips");
            return null;
        },
    };
    private readonly Option<uint[]> _devices = new("--device") { Description = "Index of a device to use; repeat for several", HelpName = "INDEX" };

    public void AddTo(Command command)
    {
        command.Add(_contiguous);
        command.Add(_interleave);
        command.Add(_devices);
    }

    public LayoutWish Read(ParseResult parsed)
    {
        (uint Strips, ulong Chunk)? interleave = parsed.GetValue(_interleave);
        bool contiguous = parsed.GetValue(_contiguous);
        if (contiguous && interleave is not null)
            throw CliOptions.Usage("--contiguous and --interleave exclude each other");
        LayoutWish wish = new()
        {
            Kind = contiguous ? LayoutKind.Contiguous : interleave is null ? LayoutKind.Auto : LayoutKind.Interleaved,
            Strips = interleave?.Strips ?? 0,
            ChunkBytes = interleave?.Chunk ?? 0,
        };
        wish.Devices.AddRange(parsed.GetValue(_devices) ?? []);
        return wish;
    }
}
