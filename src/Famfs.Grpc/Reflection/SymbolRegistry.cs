using Google.Protobuf.Reflection;

namespace Grpc.Reflection;

/// <summary>Proto files by name, by the symbols they declare and by the extensions in them.</summary>
public class SymbolRegistry
{
    private readonly Dictionary<string, FileDescriptor> _byName;
    private readonly Dictionary<string, FileDescriptor> _bySymbol;
    private readonly Dictionary<(string Type, int Number), FileDescriptor> _byExtension;

    private SymbolRegistry(Dictionary<string, FileDescriptor> byName, Dictionary<string, FileDescriptor> bySymbol, Dictionary<(string Type, int Number), FileDescriptor> byExtension)
    {
        _byName = byName;
        _bySymbol = bySymbol;
        _byExtension = byExtension;
    }

    /// <summary>A registry of these files and everything they import.</summary>
    public static SymbolRegistry FromFiles(IEnumerable<FileDescriptor> fileDescriptors)
    {
        ArgumentNullException.ThrowIfNull(fileDescriptors);
        SymbolRegistry registry = new([], [], []);
        foreach (FileDescriptor file in fileDescriptors)
        {
            registry.Add(file);
        }

        return registry;
    }

    /// <summary>The file of that name, or null.</summary>
    public FileDescriptor? FileByName(string filename) => _byName.GetValueOrDefault(filename);

    /// <summary>The file that declares a symbol, given by its full name, or null.</summary>
    public FileDescriptor? FileContainingSymbol(string symbol) => _bySymbol.GetValueOrDefault(symbol);

    /// <summary>The file that declares an extension, or null.</summary>
    public FileDescriptor? FileContainingExtension(string type, int number) => _byExtension.GetValueOrDefault((type, number));

    /// <summary>Numbers of the known extensions of a type, ascending; null if the type is not known.</summary>
    public IReadOnlyList<int>? ExtensionNumbersOf(string type) => _bySymbol.ContainsKey(type)
        ? [.. _byExtension.Keys.Where(key => key.Type == type).Select(key => key.Number).Order()]
        : null;

    private void Add(FileDescriptor file)
    {
        if (!_byName.TryAdd(file.Name, file))
        {
            return;
        }

        foreach (FileDescriptor import in file.Dependencies)
        {
            Add(import);
        }

        foreach (EnumDescriptor type in file.EnumTypes)
        {
            AddEnum(file, type);
        }

        foreach (MessageDescriptor type in file.MessageTypes)
        {
            AddMessage(file, type);
        }

        foreach (FieldDescriptor extension in file.Extensions.UnorderedExtensions)
        {
            AddExtension(file, extension);
        }

        foreach (ServiceDescriptor service in file.Services)
        {
            _bySymbol[service.FullName] = file;
            foreach (MethodDescriptor method in service.Methods)
            {
                _bySymbol[method.FullName] = file;
            }
        }
    }

    private void AddMessage(FileDescriptor file, MessageDescriptor type)
    {
        _bySymbol[type.FullName] = file;
        foreach (MessageDescriptor nested in type.NestedTypes)
        {
            AddMessage(file, nested);
        }

        foreach (EnumDescriptor nested in type.EnumTypes)
        {
            AddEnum(file, nested);
        }

        foreach (FieldDescriptor field in type.Fields.InDeclarationOrder())
        {
            _bySymbol[field.FullName] = file;
        }

        foreach (OneofDescriptor oneof in type.Oneofs)
        {
            _bySymbol[oneof.FullName] = file;
        }

        foreach (FieldDescriptor extension in type.Extensions.UnorderedExtensions)
        {
            AddExtension(file, extension);
        }
    }

    private void AddEnum(FileDescriptor file, EnumDescriptor type)
    {
        _bySymbol[type.FullName] = file;
        foreach (EnumValueDescriptor value in type.Values)
        {
            _bySymbol[value.FullName] = file;
        }
    }

    private void AddExtension(FileDescriptor file, FieldDescriptor extension)
    {
        _bySymbol[extension.FullName] = file;
        _byExtension[(extension.ExtendeeType.FullName, extension.FieldNumber)] = file;
    }
}
