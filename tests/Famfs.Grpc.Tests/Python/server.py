"""The scripted test service on grpcio. argv: address to bind, file with a FileDescriptorSet.

Prints the port it got, then serves until its standard input ends.
"""
import sys
import time
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def load(path):
    files = descriptor_pb2.FileDescriptorSet()
    with open(path, "rb") as source:
        files.ParseFromString(source.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)

    def message(name):
        descriptor = pool.FindMessageTypeByName(name)
        if hasattr(message_factory, "GetMessageClass"):
            return message_factory.GetMessageClass(descriptor)
        return message_factory.MessageFactory(pool).GetPrototype(descriptor)

    return message


def main():
    address, descriptors = sys.argv[1:]
    message = load(descriptors)
    ask = message("famfs.grpc.testing.Ask")
    answer = message("famfs.grpc.testing.Answer")

    def unary(request, context):
        if request.text == "metadata":
            got = dict(context.invocation_metadata())
            context.send_initial_metadata((("answer-text", got["ask-text"]), ("answer-bytes-bin", got["ask-bytes-bin"])))
            context.set_trailing_metadata((("trailer-bytes-bin", b"\x01\x02\x03"),))
        elif request.text == "fail":
            context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x09"),))
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "100 % w\u00fcst \U0001f41f")
        elif request.text == "wait":
            while context.is_active():
                time.sleep(0.01)
        elif request.text == "deadline":
            return answer(number=int(context.time_remaining()))
        return answer(text=request.text, data=request.data, number=request.number)

    def client_stream(requests, context):
        reply = answer()
        for request in requests:
            reply.text += request.text
            reply.number += 1
        return reply

    def server_stream(request, context):
        for i in range(request.number):
            yield answer(number=i, text=request.text, data=request.data)

    def duplex(requests, context):
        for request in requests:
            if request.text == "stop":
                context.abort(grpc.StatusCode.ABORTED, "stopped")
            yield answer(text=request.text, data=request.data, number=request.number)

    codec = {"request_deserializer": ask.FromString, "response_serializer": answer.SerializeToString}
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("famfs.grpc.testing.Scripted", {
        "Unary": grpc.unary_unary_rpc_method_handler(unary, **codec),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream, **codec),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream, **codec),
        "Duplex": grpc.stream_stream_rpc_method_handler(duplex, **codec),
    }),))
    port = server.add_insecure_port(address)
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None)


main()
