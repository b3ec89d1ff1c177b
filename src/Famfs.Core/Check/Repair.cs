using System.Text.Json;
using Famfs.Core.Dax;
using Famfs.V1;

namespace Famfs.Core.Check;

/// <summary>Bytes that make a finding good.</summary>
/// <param name="Code">Code of the finding.</param>
/// <param name="Device">Where they go.</param>
/// <param name="Offset">Device offset.</param>
/// <param name="Bytes">What is stored.</param>
/// <param name="What">One line for people.</param>
public sealed record Repair(string Code, DaxDevice Device, long Offset, byte[] Bytes, string What);

/// <summary>Carries repairs out: first what is there goes into a backup file, to the disk; then the bytes are stored,
/// flushed and read back. The caller holds the master's place.</summary>
public static class FileSystemRepair
{
    /// <summary>Writes the backup, then the repairs. The backup is a JSON array of objects with device, offset and
    /// the bytes before and after in hex; the file must not exist.</summary>
    public static void Apply(IReadOnlyList<Repair> repairs, string backupPath)
    {
        WriteBackup(repairs, backupPath);
        foreach (Repair repair in repairs)
        {
            repair.Device.Write(repair.Offset, repair.Bytes);
            repair.Device.WriteBack(repair.Offset, repair.Bytes.Length);
            repair.Device.Fence();
            byte[] back = Read(repair);
            if (!back.AsSpan().SequenceEqual(repair.Bytes))
                throw new FamfsException(ErrorReason.MediaCorrupt, $"{repair.Device.Path}: {repair.Bytes.Length} bytes at {repair.Offset} did not keep what was stored; the backup is in {backupPath}") { Path = repair.Device.Path };
        }
    }

    private static byte[] Read(Repair repair)
    {
        byte[] bytes = new byte[repair.Bytes.Length];
        repair.Device.Invalidate(repair.Offset, bytes.Length);
        repair.Device.Read(repair.Offset, bytes);
        return bytes;
    }

    private static void WriteBackup(IReadOnlyList<Repair> repairs, string path)
    {
        bool made = false;
        try
        {
            using FileStream file = new(path, FileMode.CreateNew, FileAccess.Write, FileShare.None);
            made = true;
            using (Utf8JsonWriter json = new(file, new JsonWriterOptions { Indented = true }))
            {
                json.WriteStartArray();
                foreach (Repair repair in repairs)
                {
                    json.WriteStartObject();
                    json.WriteString("code", repair.Code);
                    json.WriteString("device", repair.Device.Path);
                    json.WriteNumber("offset", repair.Offset);
                    json.WriteString("before", Convert.ToHexStringLower(Read(repair)));
                    json.WriteString("after", Convert.ToHexStringLower(repair.Bytes));
                    json.WriteEndObject();
                }
                json.WriteEndArray();
            }
            file.Flush(flushToDisk: true);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // Half of one would be taken for a backup, and be in the way of the next try.
            if (made)
                File.Delete(path);
            throw new FamfsException(ErrorReason.BadRequest, $"{path}: no backup can be written, so nothing is repaired: {error.Message}", error) { Path = path };
        }
    }
}
