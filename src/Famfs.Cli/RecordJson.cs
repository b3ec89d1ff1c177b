using System.Collections;
using System.Collections.Frozen;
using System.Text;
using System.Text.Json;
using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace Famfs.Cli;

/// <summary>
/// A record of the log as JSON: names as in log.proto, what is not set left out. Of the fields of bytes, names are text, ids are uuids,
/// and the rest (digests, values of attributes) is hexadecimal digits. Numbers are numbers.
/// </summary>
internal static class RecordJson
{
    private static readonly FrozenSet<string> s_names = FrozenSet.Create(StringComparer.Ordinal, "name", "old_name", "new_name", "target");

    public static string Format(IMessage record)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream, new JsonWriterOptions { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
            Write(json, record);
        return Encoding.UTF8.GetString(stream.GetBuffer(), 0, (int)stream.Length);
    }

    private static void Write(Utf8JsonWriter json, IMessage message)
    {
        json.WriteStartObject();
        foreach (FieldDescriptor field in message.Descriptor.Fields.InFieldNumberOrder())
        {
            object value = field.Accessor.GetValue(message);
            if (field.IsRepeated)
            {
                IList items = (IList)value;
                if (items.Count == 0)
                    continue;
                json.WriteStartArray(field.Name);
                foreach (object item in items)
                    Write(json, field, item);
                json.WriteEndArray();
            }
            else if (field.HasPresence ? field.Accessor.HasValue(message) : !IsDefault(value))
            {
                json.WritePropertyName(field.Name);
                Write(json, field, value);
            }
        }
        json.WriteEndObject();
    }

    private static bool IsDefault(object value) => value switch
    {
        ByteString bytes => bytes.IsEmpty,
        string text => text.Length == 0,
        bool flag => !flag,
        float or double => Convert.ToDouble(value, System.Globalization.CultureInfo.InvariantCulture) == 0,
        _ => Convert.ToDecimal(value, System.Globalization.CultureInfo.InvariantCulture) == 0,
    };

    private static void Write(Utf8JsonWriter json, FieldDescriptor field, object value)
    {
        switch (value)
        {
            case IMessage message:
                Write(json, message);
                break;
            case ByteString bytes when s_names.Contains(field.Name):
                json.WriteStringValue(TextOf(bytes.Span));
                break;
            case ByteString bytes:
                json.WriteStringValue(field.Name.EndsWith("_digest", StringComparison.Ordinal) ? Convert.ToHexStringLower(bytes.Span) : JsonShapes.Uuid(bytes));
                break;
            case string text:
                json.WriteStringValue(text);
                break;
            case bool flag:
                json.WriteBooleanValue(flag);
                break;
            case int or long:
                json.WriteNumberValue(Convert.ToInt64(value, System.Globalization.CultureInfo.InvariantCulture));
                break;
            case uint or ulong:
                json.WriteNumberValue(Convert.ToUInt64(value, System.Globalization.CultureInfo.InvariantCulture));
                break;
            case float or double:
                json.WriteNumberValue(Convert.ToDouble(value, System.Globalization.CultureInfo.InvariantCulture));
                break;
            default:
                WriteEnum(json, field.EnumType, Convert.ToInt32(value, System.Globalization.CultureInfo.InvariantCulture));
                break;
        }
    }

    /// <summary>As the other verbs write it: without the name of the type before it. A value of a newer version is its number.</summary>
    private static void WriteEnum(Utf8JsonWriter json, EnumDescriptor type, int number)
    {
        if (type.FindValueByNumber(number) is not { } value)
        {
            json.WriteNumberValue(number);
            return;
        }
        StringBuilder prefix = new();
        foreach (char c in type.Name)
            prefix.Append(char.IsUpper(c) && prefix.Length > 0 ? "_" : "").Append(char.ToUpperInvariant(c));
        prefix.Append('_');
        string name = value.Name.StartsWith(prefix.ToString(), StringComparison.Ordinal) ? value.Name[prefix.Length..] : value.Name;
        json.WriteStringValue(name.ToLowerInvariant());
    }

    /// <summary>Names are UTF-8 by habit, not by rule: a byte that is none is shown as \xNN.</summary>
    private static string TextOf(ReadOnlySpan<byte> name)
    {
        StringBuilder text = new();
        while (!name.IsEmpty)
        {
            if (Rune.DecodeFromUtf8(name, out Rune rune, out int used) == System.Buffers.OperationStatus.Done)
            {
                text.Append(rune.ToString());
            }
            else
            {
                foreach (byte bad in name[..used])
                    text.Append(System.Globalization.CultureInfo.InvariantCulture, $"\\x{bad:x2}");
            }
            name = name[used..];
        }
        return text.ToString();
    }
}
