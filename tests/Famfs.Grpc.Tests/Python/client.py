"""Calls the scripted test service through grpcio. argv: target, file with a FileDescriptorSet.

Prints one line per scenario, "name ok" or "name: what went wrong"; exits 0 if all are ok.
"""
import sys
import threading

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
    target, descriptors = sys.argv[1:]
    message = load(descriptors)
    ask = message("famfs.grpc.testing.Ask")
    answer = message("famfs.grpc.testing.Answer")
    channel = grpc.insecure_channel(target)
    path = "/famfs.grpc.testing.Scripted/"
    codec = {"request_serializer": ask.SerializeToString, "response_deserializer": answer.FromString}
    unary = channel.unary_unary(path + "Unary", **codec)
    client_stream = channel.stream_unary(path + "ClientStream", **codec)
    server_stream = channel.unary_stream(path + "ServerStream", **codec)
    duplex = channel.stream_stream(path + "Duplex", **codec)
    patience = 60

    def plain():
        reply = unary(ask(text="hello", number=7), timeout=patience)
        assert (reply.text, reply.number) == ("hello", 7), reply

    def large():
        data = bytes(range(256)) * 8192
        assert unary(ask(data=data), timeout=patience).data == data

    def many_requests():
        reply = client_stream((ask(text=str(i) + ",") for i in range(100)), timeout=patience)
        assert reply.number == 100 and reply.text == "".join(str(i) + "," for i in range(100)), reply

    def many_responses():
        numbers = [reply.number for reply in server_stream(ask(number=500, text="x"), timeout=patience)]
        assert numbers == list(range(500)), numbers

    def back_and_forth():
        turn = threading.Semaphore(1)

        def requests():
            for i in range(50):
                turn.acquire()
                yield ask(number=i)

        expected = 0
        for reply in duplex(requests(), timeout=patience):
            assert reply.number == expected, reply
            expected += 1
            turn.release()
        assert expected == 50, expected

    def metadata():
        reply, call = unary.with_call(
            ask(text="metadata"), timeout=patience,
            metadata=(("ask-text", "value"), ("ask-bytes-bin", b"\x00\xff\x01")))
        assert reply.text == "value/00FF01", reply
        assert ("answer-bytes-bin", b"\xfe\x00") in call.initial_metadata(), call.initial_metadata()
        assert ("trailer-bytes-bin", b"\x01\x02\x03") in call.trailing_metadata(), call.trailing_metadata()

    def failure():
        try:
            unary(ask(text="fail"), timeout=patience)
            raise AssertionError("no error")
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.FAILED_PRECONDITION, e
            assert e.details() == "100 % w\u00fcst \U0001f41f", e.details()
            assert ("grpc-status-details-bin", b"\x08\x09") in e.trailing_metadata(), e.trailing_metadata()

    def unimplemented():
        try:
            channel.unary_unary(path + "NoSuchMethod")(b"", timeout=patience)
            raise AssertionError("no error")
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.UNIMPLEMENTED, e

    def compressed():
        try:
            unary(ask(text="x" * 1000), timeout=patience, compression=grpc.Compression.Gzip)
            raise AssertionError("no error")
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.UNIMPLEMENTED, e

    def deadline():
        try:
            unary(ask(text="wait"), timeout=0.3)
            raise AssertionError("no error")
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.DEADLINE_EXCEEDED, e

    def cancellation():
        call = unary.future(ask(text="wait for cancellation"))
        reply = server_stream(ask(text="entered"), timeout=patience)
        assert next(iter(reply)).text == "entered"
        call.cancel()
        reply = server_stream(ask(text="cancelled"), timeout=patience)
        assert next(iter(reply)).text == "cancelled"

    def health():
        request = message("grpc.health.v1.HealthCheckRequest")
        response = message("grpc.health.v1.HealthCheckResponse")
        check = channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=request.SerializeToString, response_deserializer=response.FromString)
        assert check(request(service="s"), timeout=patience).status == 1
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch", request_serializer=request.SerializeToString, response_deserializer=response.FromString)
        call = watch(request(service="s"), timeout=patience)
        assert next(call).status == 1
        call.cancel()

    def reflection():
        request = message("grpc.reflection.v1alpha.ServerReflectionRequest")
        response = message("grpc.reflection.v1alpha.ServerReflectionResponse")
        info = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", request_serializer=request.SerializeToString, response_deserializer=response.FromString)
        replies = list(info(iter([request(list_services=""), request(file_containing_symbol="famfs.grpc.testing.Scripted")]), timeout=patience))
        assert "famfs.grpc.testing.Scripted" in [service.name for service in replies[0].list_services_response.service], replies
        file = descriptor_pb2.FileDescriptorProto.FromString(replies[1].file_descriptor_response.file_descriptor_proto[0])
        assert file.service[0].name == "Scripted", file

    bad = 0
    for scenario in (plain, large, many_requests, many_responses, back_and_forth, metadata, failure, unimplemented, compressed, deadline, cancellation, health, reflection):
        try:
            scenario()
            print(scenario.__name__, "ok")
        except Exception as e:  # every scenario is to be tried
            bad = 1
            print(f"{scenario.__name__}: {type(e).__name__} {e}")
    sys.exit(bad)


main()
