using Famfs.Core;
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
/// <param name="refusals">Counts what was refused before it was parsed.</param>
/// <param name="unexpected">Counts what failed by a fault of the master.</param>
internal sealed class MasterMethods(MasterService service, MalformedMessages malformed, Refusals refusals, UnexpectedErrors unexpected) : IServiceMethodProvider<MasterMethods>
{
    /// <inheritdoc/>
    public void OnServiceMethodDiscovery(ServiceMethodProviderContext<MasterMethods> context) =>
        V1.Master.BindService(new Binder(context, malformed, refusals, unexpected), service);

    private sealed class Binder(ServiceMethodProviderContext<MasterMethods> context, MalformedMessages malformed, Refusals refusals, UnexpectedErrors unexpected) : ServiceBinderBase
    {
        public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, UnaryServerMethod<TRequest, TResponse>? handler) =>
            context.AddUnaryMethod(Checked(method), [], (_, request, call) => CountedAsync(method, handler!(request, call), call));

        public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, ServerStreamingServerMethod<TRequest, TResponse>? handler) =>
            context.AddServerStreamingMethod(Checked(method), [], (_, request, responses, call) => CountedAsync(method, DoneAsync(handler!(request, responses, call)), call));

        public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, ClientStreamingServerMethod<TRequest, TResponse>? handler) =>
            context.AddClientStreamingMethod(Checked(method), [], (_, requests, call) => CountedAsync(method, handler!(requests, call), call));

        public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, DuplexStreamingServerMethod<TRequest, TResponse>? handler) =>
            context.AddDuplexStreamingMethod(Checked(method), [], (_, requests, responses, call) => CountedAsync(method, DoneAsync(handler!(requests, responses, call)), call));

        /// <summary>A caller that breaks off makes writes fail; that is no fault of the master.</summary>
        private async Task<T> CountedAsync<T>(IMethod method, Task<T> answer, ServerCallContext call)
        {
            try
            {
                return await answer.ConfigureAwait(false);
            }
            catch (RpcException error) when (error.Status.DebugException is { } cause && !call.CancellationToken.IsCancellationRequested)
            {
                unexpected.Count(method.Name, cause);
                throw;
            }
        }

        private static async Task<bool> DoneAsync(Task stream)
        {
            await stream.ConfigureAwait(false);
            return true;
        }

        private Method<TRequest, TResponse> Checked<TRequest, TResponse>(Method<TRequest, TResponse> method)
        {
            Func<DeserializationContext, TRequest> parse = method.RequestMarshaller.ContextualDeserializer;
            MessageShape shape = MessageShape.Of(V1.Master.Descriptor.FindMethodByName(method.Name).InputType);
            Marshaller<TRequest> requests = new(method.RequestMarshaller.ContextualSerializer, message =>
            {
                try
                {
                    shape.Require(message.PayloadAsReadOnlySequence());
                    return parse(message);
                }
                catch (FamfsException error)
                {
                    refusals.Count(method.Name, error);
                    throw StatusMap.ToRpc(error);
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
