using System.Globalization;
using System.Text.Json;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Cli;

/// <summary>The messages as JSON: names as in the protos, ids as uuids, modes in octal, enums in small
/// letters. Written by hand so that the shape is stable and trimming keeps it.</summary>
internal static class JsonShapes
{
    public static void WriteFile(this Utf8JsonWriter json, V1.FileInfo file)
    {
        json.WriteStartObject();
        json.WriteString("path", file.Path);
        json.WriteString("kind", Word(file.Kind));
        json.WriteNumber("inode", file.Inode);
        json.WriteString("mode", QuantityText.FormatMode(file.Mode));
        json.WriteNumber("uid", file.Uid);
        json.WriteNumber("gid", file.Gid);
        json.WriteNumber("size_bytes", file.SizeBytes);
        json.WriteNumber("modify_time_ns", file.ModifyTimeNs);
        json.WriteString("state", Word(file.State));
        if (file.SymlinkTarget.Length != 0)
            json.WriteString("symlink_target", file.SymlinkTarget);
        if (file.Map is not null)
        {
            json.WritePropertyName("map");
            json.WriteMap(file.Map);
        }
        json.WriteEndObject();
    }

    public static void WriteMap(this Utf8JsonWriter json, FileMap map)
    {
        json.WriteStartObject();
        json.WriteNumber("chunk_bytes", map.ChunkBytes);
        json.WriteStartArray("extents");
        foreach (Extent extent in map.Extents)
        {
            json.WriteStartObject();
            json.WriteNumber("device", extent.Device);
            json.WriteNumber("offset_bytes", extent.OffsetBytes);
            json.WriteNumber("length_bytes", extent.LengthBytes);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteEndObject();
    }

    public static void WritePosition(this Utf8JsonWriter json, string name, Position? position)
    {
        if (position is null)
        {
            json.WriteNull(name);
            return;
        }
        json.WriteStartObject(name);
        json.WriteString("file_system_uuid", Uuid(position.FileSystemUuid));
        json.WriteNumber("generation", position.Generation);
        json.WriteNumber("sequence", position.Sequence);
        json.WriteNumber("term", position.Term);
        json.WriteEndObject();
    }

    public static void WriteDevices(this Utf8JsonWriter json, string name, IEnumerable<DeviceInfo> devices)
    {
        json.WriteStartArray(name);
        foreach (DeviceInfo device in devices)
            json.WriteDevice(device);
        json.WriteEndArray();
    }

    public static void WriteDevice(this Utf8JsonWriter json, DeviceInfo device)
    {
        json.WriteStartObject();
        json.WriteNumber("index", device.Index);
        json.WriteString("device_uuid", Uuid(device.DeviceUuid));
        json.WriteNumber("length_bytes", device.LengthBytes);
        json.WriteNumber("free_bytes", device.FreeBytes);
        json.WriteNumber("largest_free_bytes", device.LargestFreeBytes);
        json.WriteBoolean("coherent", device.Coherent);
        json.WriteString("name", device.Name);
        json.WriteString("path", device.Path);
        json.WriteEndObject();
    }

    /// <summary><paramref name="holders"/>: by mount id, the processes of this host that hold a mount whose daemon is gone.</summary>
    public static void WriteHosts(this Utf8JsonWriter json, string name, IEnumerable<HostStatus> hosts, IReadOnlyDictionary<ByteString, IReadOnlyList<MountHolder>>? holders = null, int heldLimit = 0)
    {
        json.WriteStartArray(name);
        foreach (HostStatus host in hosts)
        {
            json.WriteStartObject();
            json.WriteString("host_id", Uuid(host.HostId));
            json.WriteString("name", host.Name);
            json.WriteString("mount_id", Uuid(host.MountId));
            json.WriteString("mount_point", host.MountPoint);
            json.WriteString("boot_id", Uuid(host.BootId));
            json.WriteString("state", Word(host.State));
            json.WriteString("evidence", Word(host.Evidence));
            json.WritePosition("position", host.Position);
            json.WriteNumber("lag_records", host.LagRecords);
            json.WriteNumber("silent_ms", host.SilentMs);
            json.WriteBoolean("subscribed", host.Subscribed);
            json.WriteString("dialect", host.Dialect);
            json.WriteString("version", host.Version);
            json.WriteString("address", host.Address);
            json.WriteNumber("held_inodes", host.HeldInodes);
            if (heldLimit > 0)
            {
                json.WriteBoolean("holds_space", host.HoldsSpace);
                json.WriteStartArray("held_files");
                foreach (HeldFile file in host.HeldFiles.Take(heldLimit))
                {
                    json.WriteStartObject();
                    json.WriteNumber("inode", file.Inode);
                    json.WriteNumber("space_bytes", file.SpaceBytes);
                    json.WriteString("path", file.Path.Length > 0 ? file.Path : null);
                    json.WriteString("name", file.Name.Length > 0 ? file.Name : null);
                    if (file.RemoveTimeNs != 0)
                        json.WriteNumber("remove_time_ns", file.RemoveTimeNs);
                    else
                        json.WriteNull("remove_time_ns");
                    json.WriteEndObject();
                }
                json.WriteEndArray();
            }
            if (host.MissingDevices is { } said)
            {
                json.WriteNumber("known_devices", said.DeviceCount);
                json.WriteStartArray("missing_devices");
                foreach (uint index in said.Indices)
                    json.WriteNumberValue(index);
                json.WriteEndArray();
            }
            else
            {
                json.WriteNull("known_devices");
                json.WriteNull("missing_devices");
            }
            json.WriteNumber("lease_ms", host.LeaseMs);
            json.WriteNumber("lease_remaining_ms", host.LeaseRemainingMs);
            if (holders?.TryGetValue(host.MountId, out IReadOnlyList<MountHolder>? held) == true)
            {
                json.WriteStartArray("holders");
                foreach (MountHolder holder in held)
                {
                    json.WriteStartObject();
                    json.WriteNumber("process_id", holder.ProcessId);
                    json.WriteString("name", holder.Name);
                    json.WriteEndObject();
                }
                json.WriteEndArray();
            }
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    /// <summary>An id as a uuid; whatever else it is, as hex.</summary>
    public static string Uuid(ByteString id) => id.TryToGuid(out Guid uuid) ? uuid.ToString("D") : Convert.ToHexStringLower(id.Span);

    /// <summary>An enum's name in small letters with underscores; a value of a newer master as its number.</summary>
    public static string Word<T>(T value)
        where T : struct, Enum
    {
        string name = value.ToString();
        if (char.IsAsciiDigit(name[0]) || name[0] == '-')
            return name;
        System.Text.StringBuilder word = new();
        for (int i = 0; i < name.Length; i++)
        {
            if (i > 0 && char.IsUpper(name[i]))
                word.Append('_');
            word.Append(char.ToLowerInvariant(name[i]));
        }
        return word.ToString();
    }

    /// <summary>A position as people write it: generation:sequence@term.</summary>
    public static string Text(Position? position) => position is null
        ? "-"
        : string.Create(CultureInfo.InvariantCulture, $"{position.Generation}:{position.Sequence}@{position.Term}");
}
