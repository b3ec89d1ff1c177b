using Google.Protobuf;
using Grpc.AspNetCore.Server.Model;
using Grpc.Core;

namespace Famfs.Master.Rpc;

/// <summary>
/// Binds the service's methods to the server with marshallers of our own: a message that cannot be parsed is the
/// caller's fault, and is INVALID_ARGUMENT. The generated binding lets the parser's exception pass, which answers
/// UNKNOWN and logs a stack trace for every such message.
/// </summary>
/// <param name="service">Answers every call.</param>
/// <param name="malformed">Counts what could not be parsed.</param>
internal sealed class MasterMethods(MasterService service, MalformedMessages malformed) : IServiceMethodProvider<MasterMethods>
{
    /// <inheritdoc/>
    public void OnServiceMethodDiscovery(ServiceMethodProviderContext<MasterMethods> context) =>
        V1.Master.BindService(new Binder(context, malformed), service);

    private sealed class Binder(ServiceMethodProviderContext<MasterMethods> context, MalformedMessages malformed) : ServiceBinderBase
    {
        public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, UnaryServerMethod<TRequest, TResponse>? handler) =>
            context.AddUnaryMethod(Checked(method), [], (_, request, call) => handler!(request, call));

        public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, ServerStreamingServerMethod<TRequest, TResponse>? handler) =>
            context.AddServerStreamingMethod(Checked(method), [], (_, request, responses, call) => handler!(request, responses, call));

        public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, ClientStreamingServerMethod<TRequest, TResponse>? handler) =>
            context.AddClientStreamingMethod(Checked(method), [], (_, requests, call) => handler!(requests, call));

        public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, DuplexStreamingServerMethod<TRequest, TResponse>? handler) =>
            context.AddDuplexStreamingMethod(Checked(method), [], (_, requests, responses, call) => handler!(requests, responses, call));

        private Method<TRequest, TResponse> Checked<TRequest, TResponse>(Method<TRequest, TResponse> method)
        {
            Func<DeserializationContext, TRequest> parse = method.RequestMarshaller.ContextualDeserializer;
            Marshaller<TRequest> requests = new(method.RequestMarshaller.ContextualSerializer, message =>
            {
                try
                {
                    return parse(message);
                }
                catch (InvalidProtocolBufferException error)
                {
                    malformed.Count(method.Name, error.Message);
                    throw new RpcException(new Status(StatusCode.InvalidArgument, $"the message of {method.Name} cannot be parsed: {error.Message}"));
                }
            });
            return new(method.Type, method.ServiceName, method.Name, requests, method.ResponseMarshaller);
        }
    }
}
