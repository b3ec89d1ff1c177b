"""A master's interface as server reflection tells it, for Python programs that know nothing else of it."""
import os
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PATIENCE = 120
MASTER = "famfs.v1.Master"


def message_class(pool, name):
    descriptor = pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


def reflection_messages():
    """The few fields of grpc.reflection.v1 that are needed here."""
    file = descriptor_pb2.FileDescriptorProto(name="reflection.proto", package="grpc.reflection.v1", syntax="proto3")
    text, octets, message = 9, 12, 11
    one, many = 1, 3

    def add(name, *fields):
        entry = file.message_type.add(name=name)
        for number, (label, kind, field, of) in fields:
            entry.field.add(name=field, number=number, label=label, type=kind, type_name=of and ".grpc.reflection.v1." + of)

    add("ServerReflectionRequest", (4, (one, text, "file_containing_symbol", None)), (7, (one, text, "list_services", None)))
    add("FileDescriptorResponse", (1, (many, octets, "file_descriptor_proto", None)))
    add("ServiceResponse", (1, (one, text, "name", None)))
    add("ListServiceResponse", (1, (many, message, "service", "ServiceResponse")))
    add("ServerReflectionResponse", (4, (one, message, "files", "FileDescriptorResponse")), (6, (one, message, "services", "ListServiceResponse")))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return [message_class(pool, "grpc.reflection.v1." + name) for name in ("ServerReflectionRequest", "ServerReflectionResponse")]


class Api:
    """Every method of the services that the server lists, by name."""

    def __init__(self, channel):
        request, response = reflection_messages()
        info = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=request.SerializeToString, response_deserializer=response.FromString)
        listed = next(info(iter([request(list_services="*")]), timeout=PATIENCE))
        self.services = [service.name for service in listed.services.service]
        self.pool = descriptor_pool.DescriptorPool()
        files = {}
        for service in self.services:
            reply = next(info(iter([request(file_containing_symbol=service)]), timeout=PATIENCE))
            for one in reply.files.file_descriptor_proto:
                file = descriptor_pb2.FileDescriptorProto.FromString(one)
                files[file.name] = file
        while files:
            ready = [f for f in files.values() if not any(d in files for d in f.dependency)]
            for file in ready:
                self.pool.Add(files.pop(file.name))
        self.channel = channel

    def new(self, name, **fields):
        return message_class(self.pool, name)(**fields)

    def method(self, service, name):
        method = self.pool.FindServiceByName(service).methods_by_name[name]
        proto = descriptor_pb2.MethodDescriptorProto()
        method.CopyToProto(proto)
        kinds = {(False, False): "unary_unary", (False, True): "unary_stream", (True, False): "stream_unary", (True, True): "stream_stream"}
        make = getattr(self.channel, kinds[proto.client_streaming, proto.server_streaming])
        return make(
            f"/{service}/{name}",
            request_serializer=message_class(self.pool, method.input_type.full_name).SerializeToString,
            response_deserializer=message_class(self.pool, method.output_type.full_name).FromString)


def uuid7():
    now = time.time_ns() // 1_000_000
    raw = bytearray(now.to_bytes(6, "big") + os.urandom(10))
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)
