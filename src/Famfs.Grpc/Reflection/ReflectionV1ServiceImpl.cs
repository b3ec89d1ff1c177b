using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Grpc.Reflection.V1;
using V1Alpha = Grpc.Reflection.V1Alpha;

namespace Grpc.Reflection;

/// <summary>Answers what services a server has and how their messages look, version 1.</summary>
public class ReflectionV1ServiceImpl : ServerReflection.ServerReflectionBase
{
    private readonly IReadOnlyList<string> _services;
    private readonly SymbolRegistry _symbols;

    /// <summary>Describes these services.</summary>
    public ReflectionV1ServiceImpl(IEnumerable<string> services, SymbolRegistry symbolRegistry)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(symbolRegistry);
        _services = [.. services];
        _symbols = symbolRegistry;
    }

    /// <summary>Describes these services.</summary>
    public ReflectionV1ServiceImpl(IEnumerable<ServiceDescriptor> serviceDescriptors)
        : this(NamesOf(serviceDescriptors), SymbolRegistry.FromFiles(serviceDescriptors.Select(service => service.File)))
    {
    }

    /// <summary>Describes these services.</summary>
    public ReflectionV1ServiceImpl(params ServiceDescriptor[] serviceDescriptors)
        : this((IEnumerable<ServiceDescriptor>)serviceDescriptors)
    {
    }

    /// <inheritdoc/>
    public override async Task ServerReflectionInfo(IAsyncStreamReader<ServerReflectionRequest> requestStream, IServerStreamWriter<ServerReflectionResponse> responseStream, ServerCallContext context)
    {
        ArgumentNullException.ThrowIfNull(requestStream);
        ArgumentNullException.ThrowIfNull(responseStream);
        while (await requestStream.MoveNext(CancellationToken.None).ConfigureAwait(false))
        {
            await responseStream.WriteAsync(Answer(requestStream.Current)).ConfigureAwait(false);
        }
    }

    internal ServerReflectionResponse Answer(ServerReflectionRequest request)
    {
        ServerReflectionResponse response = new() { ValidHost = request.Host, OriginalRequest = request };
        switch (request.MessageRequestCase)
        {
            case ServerReflectionRequest.MessageRequestOneofCase.FileByFilename:
                AnswerFile(response, _symbols.FileByName(request.FileByFilename), $"file '{request.FileByFilename}'");
                break;
            case ServerReflectionRequest.MessageRequestOneofCase.FileContainingSymbol:
                AnswerFile(response, _symbols.FileContainingSymbol(request.FileContainingSymbol), $"symbol '{request.FileContainingSymbol}'");
                break;
            case ServerReflectionRequest.MessageRequestOneofCase.FileContainingExtension:
                ExtensionRequest extension = request.FileContainingExtension;
                AnswerFile(
                    response,
                    _symbols.FileContainingExtension(extension.ContainingType, extension.ExtensionNumber),
                    $"extension {extension.ExtensionNumber} of '{extension.ContainingType}'");
                break;
            case ServerReflectionRequest.MessageRequestOneofCase.AllExtensionNumbersOfType:
                if (_symbols.ExtensionNumbersOf(request.AllExtensionNumbersOfType) is { } numbers)
                {
                    response.AllExtensionNumbersResponse = new ExtensionNumberResponse { BaseTypeName = request.AllExtensionNumbersOfType };
                    response.AllExtensionNumbersResponse.ExtensionNumber.Add(numbers);
                }
                else
                {
                    AnswerError(response, StatusCode.NotFound, $"There is no type '{request.AllExtensionNumbersOfType}'.");
                }

                break;
            case ServerReflectionRequest.MessageRequestOneofCase.ListServices:
                response.ListServicesResponse = new ListServiceResponse();
                response.ListServicesResponse.Service.Add(_services.Select(name => new ServiceResponse { Name = name }));
                break;
            default:
                AnswerError(response, StatusCode.InvalidArgument, "The request asks nothing that is known here.");
                break;
        }

        return response;
    }

    private static IEnumerable<string> NamesOf(IEnumerable<ServiceDescriptor> services)
    {
        ArgumentNullException.ThrowIfNull(services);
        return services.Select(service => service.FullName);
    }

    private static void AnswerFile(ServerReflectionResponse response, FileDescriptor? file, string asked)
    {
        if (file is null)
        {
            AnswerError(response, StatusCode.NotFound, $"There is no {asked}.");
            return;
        }

        response.FileDescriptorResponse = new FileDescriptorResponse();
        AddWithImports(response.FileDescriptorResponse, file, []);
    }

    private static void AddWithImports(FileDescriptorResponse response, FileDescriptor file, HashSet<string> added)
    {
        if (!added.Add(file.Name))
        {
            return;
        }

        response.FileDescriptorProto.Add(file.SerializedData);
        foreach (FileDescriptor import in file.Dependencies)
        {
            AddWithImports(response, import, added);
        }
    }

    private static void AnswerError(ServerReflectionResponse response, StatusCode code, string message) =>
        response.ErrorResponse = new ErrorResponse { ErrorCode = (int)code, ErrorMessage = message };
}

/// <summary>The same for clients that know only version 1alpha, whose messages have the same bytes.</summary>
public class ReflectionServiceImpl : V1Alpha.ServerReflection.ServerReflectionBase
{
    private readonly ReflectionV1ServiceImpl _v1;

    /// <summary>Describes these services.</summary>
    public ReflectionServiceImpl(IEnumerable<string> services, SymbolRegistry symbolRegistry)
    {
        _v1 = new ReflectionV1ServiceImpl(services, symbolRegistry);
    }

    /// <summary>Describes these services.</summary>
    public ReflectionServiceImpl(IEnumerable<ServiceDescriptor> serviceDescriptors)
    {
        _v1 = new ReflectionV1ServiceImpl(serviceDescriptors);
    }

    /// <summary>Describes these services.</summary>
    public ReflectionServiceImpl(params ServiceDescriptor[] serviceDescriptors)
        : this((IEnumerable<ServiceDescriptor>)serviceDescriptors)
    {
    }

    /// <inheritdoc/>
    public override async Task ServerReflectionInfo(IAsyncStreamReader<V1Alpha.ServerReflectionRequest> requestStream, IServerStreamWriter<V1Alpha.ServerReflectionResponse> responseStream, ServerCallContext context)
    {
        ArgumentNullException.ThrowIfNull(requestStream);
        ArgumentNullException.ThrowIfNull(responseStream);
        while (await requestStream.MoveNext(CancellationToken.None).ConfigureAwait(false))
        {
            ServerReflectionRequest request = ServerReflectionRequest.Parser.ParseFrom(requestStream.Current.ToByteString());
            V1Alpha.ServerReflectionResponse response = V1Alpha.ServerReflectionResponse.Parser.ParseFrom(_v1.Answer(request).ToByteString());
            await responseStream.WriteAsync(response).ConfigureAwait(false);
        }
    }
}
