namespace Famfs.Fuse.Protocol;

/// <summary>What follows the fixed part of a request.</summary>
public enum PayloadKind : byte
{
    /// <summary>Nothing: the length must match exactly, so that a layout this server does not know is rejected
    /// and not misread.</summary>
    None = 0,

    /// <summary>One NUL-terminated name of a file.</summary>
    Name,

    /// <summary>One NUL-terminated name of an extended attribute, which may hold a slash.</summary>
    AttributeName,

    /// <summary>Two names of files, each NUL-terminated.</summary>
    TwoNames,

    /// <summary>A name of a file, then the text of a symbolic link, each NUL-terminated.</summary>
    NameAndTarget,

    /// <summary>A name of an extended attribute, NUL-terminated, then its value.</summary>
    AttributeNameAndValue,

    /// <summary>Bytes that the operation checks itself.</summary>
    Data,
}

/// <summary>One kind of request as bytes: what is read and what is written.</summary>
/// <param name="Opcode">Number on the wire.</param>
/// <param name="Name">C name without prefix, for messages and statistics.</param>
/// <param name="In">Struct of the fixed part after the header; null: there is none.</param>
/// <param name="InBytes">Bytes of it that every kernel sends.</param>
/// <param name="Payload">What follows that.</param>
/// <param name="OutBytes">Bytes after the header of a reply that is no error; null: as many as there are.</param>
/// <param name="Replies">False for the few that the kernel expects no reply to.</param>
public record OpcodeRow(uint Opcode, string Name, Type? In, int InBytes, PayloadKind Payload, int? OutBytes, bool Replies);

/// <summary>The opcodes of one dialect. Lookup by number is an array access.</summary>
public sealed class OpcodeTable
{
    private readonly OpcodeRow?[] _rows;

    /// <summary>Makes a table; opcodes are below 256 and distinct.</summary>
    public OpcodeTable(IEnumerable<OpcodeRow> rows)
    {
        _rows = new OpcodeRow?[256];
        foreach (OpcodeRow row in rows)
        {
            if (_rows[row.Opcode] is not null)
                throw new ArgumentException($"opcode {row.Opcode} is twice in the table", nameof(rows));
            _rows[row.Opcode] = row;
        }
    }

    /// <summary>The row of an opcode, null for one that this dialect does not have.</summary>
    public OpcodeRow? Find(uint opcode) => opcode < (uint)_rows.Length ? _rows[opcode] : null;

    /// <summary>Every row, by opcode.</summary>
    public IEnumerable<OpcodeRow> Rows => _rows.Where(row => row is not null)!;
}
