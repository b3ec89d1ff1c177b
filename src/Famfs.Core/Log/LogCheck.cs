namespace Famfs.Core.Log;

/// <summary>The part of a check of an open pool that only its format knows. Used once, in the order of its members.</summary>
/// <param name="reader">Reads the log from its start.</param>
public abstract class LogCheck(ILogReader reader)
{
    /// <summary>Looks at what leads to the records.</summary>
    /// <returns>True: all damage that ends reading is in the report already, record by record.</returns>
    public abstract bool CheckStructures(CheckReport report);

    /// <summary>The reader, which the caller replays to its end.</summary>
    public ILogReader Reader { get; } = reader;

    /// <summary>Reports what reading has shown.</summary>
    public virtual void CheckEntries(CheckReport report)
    {
    }
}
