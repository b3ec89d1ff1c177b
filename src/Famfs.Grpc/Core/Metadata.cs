using System.Collections;
using System.Text;

namespace Grpc.Core;

/// <summary>
/// Ordered name/value pairs sent before (headers) or after (trailers) the messages of a call. Names are lower case;
/// those that end in <c>-bin</c> hold bytes, base64 on the wire, the others hold ASCII text.
/// </summary>
public sealed class Metadata : IList<Metadata.Entry>
{
    /// <summary>What the name of a binary entry ends in.</summary>
    public const string BinaryHeaderSuffix = "-bin";

    /// <summary>An empty collection that refuses changes.</summary>
    public static readonly Metadata Empty = new Metadata().Freeze();

    private readonly List<Entry> _entries;
    private bool _readOnly;

    /// <summary>Makes an empty collection.</summary>
    public Metadata()
    {
        _entries = [];
    }

    /// <inheritdoc/>
    public int Count => _entries.Count;

    /// <inheritdoc/>
    public bool IsReadOnly => _readOnly;

    /// <inheritdoc/>
    public Entry this[int index]
    {
        get => _entries[index];
        set
        {
            ArgumentNullException.ThrowIfNull(value);
            RequireWritable();
            _entries[index] = value;
        }
    }

    /// <summary>The last entry of that name, or null.</summary>
    public Entry? Get(string key)
    {
        for (int i = _entries.Count - 1; i >= 0; i--)
        {
            if (_entries[i].KeyEquals(key))
            {
                return _entries[i];
            }
        }

        return null;
    }

    /// <summary>Text of the last entry of that name, or null.</summary>
    public string? GetValue(string key) => Get(key)?.Value;

    /// <summary>Bytes of the last entry of that name, or null.</summary>
    public byte[]? GetValueBytes(string key) => Get(key)?.ValueBytes;

    /// <summary>All entries of that name, in order.</summary>
    public IEnumerable<Entry> GetAll(string key) => _entries.Where(entry => entry.KeyEquals(key));

    /// <inheritdoc/>
    public int IndexOf(Entry item) => _entries.IndexOf(item);

    /// <inheritdoc/>
    public void Insert(int index, Entry item)
    {
        ArgumentNullException.ThrowIfNull(item);
        RequireWritable();
        _entries.Insert(index, item);
    }

    /// <inheritdoc/>
    public void RemoveAt(int index)
    {
        RequireWritable();
        _entries.RemoveAt(index);
    }

    /// <inheritdoc/>
    public void Add(Entry item)
    {
        ArgumentNullException.ThrowIfNull(item);
        RequireWritable();
        _entries.Add(item);
    }

    /// <summary>Adds a text entry.</summary>
    public void Add(string key, string value) => Add(new Entry(key, value));

    /// <summary>Adds a binary entry; the name must end in <c>-bin</c>.</summary>
    public void Add(string key, byte[] valueBytes) => Add(new Entry(key, valueBytes));

    /// <inheritdoc/>
    public void Clear()
    {
        RequireWritable();
        _entries.Clear();
    }

    /// <inheritdoc/>
    public bool Contains(Entry item) => _entries.Contains(item);

    /// <inheritdoc/>
    public void CopyTo(Entry[] array, int arrayIndex) => _entries.CopyTo(array, arrayIndex);

    /// <inheritdoc/>
    public bool Remove(Entry item)
    {
        RequireWritable();
        return _entries.Remove(item);
    }

    /// <inheritdoc/>
    public IEnumerator<Entry> GetEnumerator() => _entries.GetEnumerator();

    /// <inheritdoc/>
    IEnumerator IEnumerable.GetEnumerator() => _entries.GetEnumerator();

    internal Metadata Freeze()
    {
        _readOnly = true;
        return this;
    }

    private void RequireWritable()
    {
        if (_readOnly)
        {
            throw new InvalidOperationException("The metadata is read only.");
        }
    }

    /// <summary>One name with its text or bytes.</summary>
    public class Entry
    {
        private readonly string? _text;
        private readonly byte[]? _bytes;

        /// <summary>A binary entry. The bytes are copied.</summary>
        /// <exception cref="ArgumentException">The name is invalid or does not end in <c>-bin</c>.</exception>
        public Entry(string key, byte[] valueBytes)
            : this(NormalizeKey(key), (byte[])Required(valueBytes).Clone(), trusted: true)
        {
            if (!IsBinary)
            {
                throw new ArgumentException($"The name of a binary entry ends in {BinaryHeaderSuffix}.", nameof(key));
            }
        }

        /// <summary>A text entry.</summary>
        /// <exception cref="ArgumentException">The name is invalid or ends in <c>-bin</c>.</exception>
        public Entry(string key, string value)
            : this(NormalizeKey(key), Required(value), trusted: true)
        {
            if (IsBinary)
            {
                throw new ArgumentException($"A name that ends in {BinaryHeaderSuffix} takes bytes.", nameof(key));
            }
        }

        private Entry(string key, byte[] bytes, bool trusted)
        {
            _ = trusted;
            Key = key;
            _bytes = bytes;
        }

        private Entry(string key, string text, bool trusted)
        {
            _ = trusted;
            Key = key;
            _text = text;
        }

        /// <summary>The name, in lower case.</summary>
        public string Key { get; }

        /// <summary>A copy of the bytes; of a text entry, its ASCII bytes.</summary>
        public byte[] ValueBytes => _bytes is null ? Encoding.ASCII.GetBytes(_text!) : (byte[])_bytes.Clone();

        /// <summary>The text; of a binary entry, its bytes read as ASCII.</summary>
        public string Value => _text ?? Encoding.ASCII.GetString(_bytes!);

        /// <summary>Whether the name ends in <c>-bin</c>.</summary>
        public bool IsBinary => Key.EndsWith(BinaryHeaderSuffix, StringComparison.Ordinal);

        internal ReadOnlySpan<byte> RawBytes => _bytes;

        /// <inheritdoc/>
        public override string ToString() => _bytes is null
            ? $"[Entry: key={Key}, value={_text}]"
            : $"[Entry: key={Key}, valueBytes={Convert.ToHexString(_bytes)}]";

        internal static Entry FromWire(string key, string text) => new(key, text, trusted: true);

        internal static Entry FromWire(string key, byte[] bytes) => new(key, bytes, trusted: true);

        internal bool KeyEquals(string key) => string.Equals(Key, key, StringComparison.OrdinalIgnoreCase);

        private static T Required<T>(T value)
            where T : class
        {
            ArgumentNullException.ThrowIfNull(value);
            return value;
        }

        private static string NormalizeKey(string key)
        {
            ArgumentNullException.ThrowIfNull(key);
            foreach (char c in key)
            {
                if (!char.IsAsciiLetterOrDigit(c) && c is not ('_' or '-' or '.'))
                {
                    throw new ArgumentException($"Metadata name '{key}' has a character other than a-z, 0-9, '.', '_' and '-'.", nameof(key));
                }
            }

            return key.Length != 0
                ? key.ToLowerInvariant()
                : throw new ArgumentException("A metadata name is not empty.", nameof(key));
        }
    }
}
