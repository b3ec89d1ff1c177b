using System.Text;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log;

/// <summary>The file system that an operator means where devices of several are found: its label, or its uuid. Not every format has
/// labels.</summary>
public sealed record FileSystemName
{
    // As many as any format keeps of a label.
    private const int MaxLabelBytes = 63;

    private readonly string _label;
    private readonly Guid? _uuid;

    private FileSystemName(string text, string label, Guid? uuid)
    {
        Text = text;
        _label = label;
        _uuid = uuid;
    }

    /// <summary>As it was given.</summary>
    public string Text { get; }

    /// <summary>A uuid in its usual form is one, anything else a label; <c>UUID=</c> and <c>LABEL=</c> say which is meant. Throws BAD_REQUEST for one
    /// that no file system can have.</summary>
    public static FileSystemName Parse(string text)
    {
        const string Label = "LABEL=", Uuid = "UUID=";
        bool isLabel = text.StartsWith(Label, StringComparison.Ordinal), isUuid = text.StartsWith(Uuid, StringComparison.Ordinal);
        string name = isLabel ? text[Label.Length..] : isUuid ? text[Uuid.Length..] : text;
        Guid uuid = default;
        if (!isLabel && Guid.TryParseExact(name, "D", out uuid))
            return new(text, "", uuid);
        if (isUuid)
            throw new FamfsException(ErrorReason.BadRequest, $"{text}: is no uuid, which looks like 0d2f9c1a-5a0e-4c57-9d3e-0123456789ab");
        return name.Length > 0 && Encoding.UTF8.GetByteCount(name) <= MaxLabelBytes
            ? new(text, name, null)
            : throw new FamfsException(ErrorReason.BadRequest, $"'{text}': a label has 1 to {MaxLabelBytes} bytes");
    }

    /// <summary>It is the name of a file system with this uuid and label.</summary>
    public bool IsOf(Guid fileSystem, string? label) => _uuid is { } uuid ? uuid == fileSystem : label == _label;

    /// <summary>Throws WRONG_FILESYSTEM for a pool of another one.</summary>
    public void Require(DevicePool pool, string path)
    {
        DeviceIdentity found = pool.Primary;
        if (!IsOf(found.FileSystem, found.Label))
            throw new FamfsException(ErrorReason.WrongFilesystem, $"{path}: is of file system {found.FileSystem}{(found.Label.Length == 0 ? "" : $" '{found.Label}'")}, not {Text}") { Path = path };
    }

    /// <inheritdoc/>
    public override string ToString() => Text;
}
