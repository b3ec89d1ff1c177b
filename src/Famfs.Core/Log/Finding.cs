using Famfs.Core.Dax;

namespace Famfs.Core.Log;

/// <summary>How bad a finding is.</summary>
public enum FindingSeverity
{
    /// <summary>Something is lost, cannot be read, or contradicts itself.</summary>
    Error,

    /// <summary>Odd, but nothing depends on it.</summary>
    Warning,
}

/// <summary>Something that a check found.</summary>
/// <param name="Code">Stable name of the kind of finding.</param>
/// <param name="Where">What it is about.</param>
/// <param name="What">One line for people.</param>
/// <param name="Severity">How bad it is.</param>
public readonly record struct Finding(string Code, string Where, string What, FindingSeverity Severity = FindingSeverity.Error);

/// <summary>Bytes that make a finding good.</summary>
/// <param name="Code">Code of the finding.</param>
/// <param name="Device">Where they go.</param>
/// <param name="Offset">Device offset.</param>
/// <param name="Bytes">What is stored.</param>
/// <param name="What">One line for people.</param>
public sealed record Repair(string Code, DaxDevice Device, long Offset, byte[] Bytes, string What)
{
    /// <summary>Offset and number of bytes that nothing counts any more after the repair, in pieces of
    /// <see cref="UncoveredPieceBytes"/>: the next append writes over them, so the backup has them too.</summary>
    public (long Offset, long LengthBytes) Uncovered { get; init; }

    /// <summary>Bytes of a piece of <see cref="Uncovered"/>.</summary>
    public int UncoveredPieceBytes { get; init; } = 1;
}

/// <summary>Collects what a check finds. One thread.</summary>
/// <param name="phase">Is told each phase when it begins; null: nobody is.</param>
public sealed class CheckReport(Action<string>? phase = null)
{
    /// <summary>Findings so far.</summary>
    public List<Finding> Findings { get; } = [];

    /// <summary>Code of records that are whole, and that the end of the log which is told does not cover.</summary>
    public const string UnpublishedCode = "unpublished";

    /// <summary>Code of an end that is told behind the last whole record, where nothing whole follows.</summary>
    public const string LogEndCode = "log-end";

    /// <summary>What can be made good of them.</summary>
    public List<Repair> Repairs { get; } = [];

    /// <summary>Begins a phase.</summary>
    public void Begin(string name) => phase?.Invoke(name);

    /// <summary>Adds a finding.</summary>
    public void Add(string code, string where, string what, FindingSeverity severity = FindingSeverity.Error) =>
        Findings.Add(new(code, where, what, severity));
}
