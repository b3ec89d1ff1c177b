using System.Text.Json;
using Famfs.Core.Dax;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Famfs.V1;

namespace Famfs.Core.Check;

/// <summary>Carries repairs out: first what is there goes into a backup file, to the disk; then the bytes are stored,
/// flushed and read back. The caller holds a <see cref="MaintenanceLock"/>.</summary>
public static class FileSystemRepair
{
    /// <summary>Writes the backup, then the repairs. The backup is a JSON array of objects with device, offset and
    /// the bytes before and after in hex, and what is uncovered that is not zero; the file must not exist.</summary>
    public static void Apply(IReadOnlyList<Repair> repairs, string backupPath)
    {
        WriteBackup(repairs, backupPath);
        foreach (Repair repair in repairs)
        {
            repair.Device.Write(repair.Offset, repair.Bytes);
            repair.Device.WriteBack(repair.Offset, repair.Bytes.Length);
            repair.Device.Fence();
            byte[] back = Read(repair.Device, repair.Offset, repair.Bytes.Length);
            if (!back.AsSpan().SequenceEqual(repair.Bytes))
                throw new FamfsException(ErrorReason.MediaCorrupt, $"{repair.Device.Path}: {repair.Bytes.Length} bytes at {repair.Offset} did not keep what was stored; the backup is in {backupPath}") { Path = repair.Device.Path };
        }
    }

    private static byte[] Read(DaxDevice device, long offset, int lengthBytes)
    {
        byte[] bytes = new byte[lengthBytes];
        device.Invalidate(offset, bytes.Length);
        device.Read(offset, bytes);
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
                    json.WriteString("before", Convert.ToHexStringLower(Read(repair.Device, repair.Offset, repair.Bytes.Length)));
                    json.WriteString("after", Convert.ToHexStringLower(repair.Bytes));
                    WriteUncovered(json, repair);
                    json.WriteEndObject();
                }
                json.WriteEndArray();
            }
            file.Flush(flushToDisk: true);
            OpenFile.FlushDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        }
        catch (Exception error)
        {
            // A part of a backup would be taken for one, and be in the way of the next attempt.
            if (made)
                File.Delete(path);
            if (error is not (IOException or UnauthorizedAccessException))
                throw;
            throw new FamfsException(ErrorReason.BadRequest, $"{path}: no backup can be written, so nothing is repaired: {error.Message}", error) { Path = path };
        }
    }

    private static void WriteUncovered(Utf8JsonWriter json, Repair repair)
    {
        json.WriteStartArray("uncovered");
        for (long at = 0; at < repair.Uncovered.LengthBytes; at += repair.UncoveredPieceBytes)
        {
            byte[] piece = Read(repair.Device, repair.Uncovered.Offset + at, repair.UncoveredPieceBytes);
            if (!piece.AsSpan().ContainsAnyExcept((byte)0))
                continue;
            json.WriteStartObject();
            json.WriteNumber("offset", repair.Uncovered.Offset + at);
            json.WriteString("bytes", Convert.ToHexStringLower(piece));
            json.WriteEndObject();
            // A log may be larger than memory.
            json.Flush();
        }
        json.WriteEndArray();
    }
}
