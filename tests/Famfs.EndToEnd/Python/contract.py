"""Calls a master through grpcio, knowing nothing of its interface but what server reflection tells.

argv: target, file of the authority's certificate or "-", scenarios. Prints "name ok" or "name: what went wrong" for each
scenario; exits with 1 if any went wrong. Messages have the limits that grpcio has by default: 4 MiB received.
"""
import os
import sys
import time

import grpc
from reflected import MASTER, PATIENCE, Api, uuid7


def failing(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("no error")


def reflection(api):
    assert MASTER in api.services and "grpc.health.v1.Health" in api.services, api.services
    status = api.method(MASTER, "GetStatus")(api.new("famfs.v1.GetStatusRequest"), timeout=PATIENCE)
    assert len(status.file_system_uuid) == 16 and status.format == "native", status


def health(api):
    check = api.method("grpc.health.v1.Health", "Check")
    for service in ("", MASTER):
        assert check(api.new("grpc.health.v1.HealthCheckRequest", service=service), timeout=PATIENCE).status == 1, service
    watch = api.method("grpc.health.v1.Health", "Watch")(api.new("grpc.health.v1.HealthCheckRequest", service=MASTER), timeout=PATIENCE)
    assert next(watch).status == 1
    watch.cancel()


def detail(api):
    create = api.method(MASTER, "CreateFile")
    request = api.new("famfs.v1.CreateFileRequest", request_id=uuid7(), path="detail", size_bytes=1)
    first = create(request, timeout=PATIENCE)
    assert create(request, timeout=PATIENCE).file.inode == first.file.inode, "a repeated id made a second file"
    request.request_id = uuid7()
    error = failing(lambda: create(request, timeout=PATIENCE))
    assert error.code() == grpc.StatusCode.ALREADY_EXISTS, error
    trailer = dict(error.trailing_metadata())["famfs-error-bin"]
    assert api.new("famfs.v1.ErrorDetail").FromString(trailer).path == "detail", trailer


def long_path(api):
    """As long as an error can make itself: every byte of the path is sent as three in the text."""
    path = "/".join(["ä" * 127] * 16)[:2040]
    error = failing(lambda: api.method(MASTER, "CreateFile")(api.new("famfs.v1.CreateFileRequest", path=path, size_bytes=1), timeout=PATIENCE))
    assert error.code() == grpc.StatusCode.NOT_FOUND, error
    assert sent_bytes(error) < 8192, sent_bytes(error)


def timeout_of_many(api):
    """A wait for 400 mounts, none of which is there."""
    request = api.new("famfs.v1.BarrierRequest", mount_ids=[os.urandom(16) for _ in range(400)])
    error = failing(lambda: api.method(MASTER, "Barrier")(request, timeout=2))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED and "384 others" in error.details(), error
    assert api.new("famfs.v1.ErrorDetail").FromString(dict(error.trailing_metadata())["famfs-error-bin"]).lagging_count == 400
    assert sent_bytes(error) < 8192, sent_bytes(error)


def sent_bytes(error):
    text = sum(1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3 for byte in error.details().encode())
    return text + sum(len(key) + (len(value) + 2) // 3 * 4 if key.endswith("-bin") else len(key) + len(value) for key, value in error.trailing_metadata())


def malformed(api):
    """A length that goes beyond the message, again and again, in a unary call and in a stream."""
    unary = api.channel.unary_unary(f"/{MASTER}/CreateFile")
    stream = api.channel.stream_stream(f"/{MASTER}/Subscribe")
    for i in range(50):
        bad = bytes([0x42, 0xFF, 0xFF, 0xFF, 0xFF, 0x07])
        error = failing(lambda: unary(bad, timeout=PATIENCE) if i % 2 else list(stream(iter([bad]), timeout=PATIENCE)))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and "cannot be parsed" in error.details(), error


def bulk(api):
    """One message of 65,536 files near the limit of 16 MiB; its results take several times what a client takes at once."""
    prefix = "d" * 200
    files = [api.new("famfs.v1.CreateFileRequest", path=f"{prefix}{i:06}", size_bytes=1, request_id=uuid7()) for i in range(65536)]
    request = api.new("famfs.v1.CreateFilesRequest", files=files)
    assert 14 << 20 < request.ByteSize() < 16 << 20, request.ByteSize()
    replies = list(api.method(MASTER, "CreateFiles")(iter([request]), timeout=PATIENCE))
    results = [result for reply in replies for result in reply.results]
    assert [result.reply.file.path for result in results] == [file.path for file in files], len(results)
    assert max(reply.ByteSize() for reply in replies) <= 1 << 20
    listed = list(api.method(MASTER, "ListDirectory")(api.new("famfs.v1.ListDirectoryRequest", with_maps=True), timeout=PATIENCE))
    assert sum(len(part.entries) for part in listed) >= 65536
    assert max(part.ByteSize() for part in listed) <= 1 << 20
    records = api.method(MASTER, "Subscribe")(iter([api.new("famfs.v1.SubscribeRequest", hello=api.new("famfs.v1.Hello"))]), timeout=PATIENCE)
    end = next(records).welcome.position.sequence
    last = 0
    for reply in records:
        assert reply.ByteSize() <= 1 << 20 and reply.records.first_sequence == last + 1, (reply.ByteSize(), reply.records.first_sequence, last)
        last = count_records(reply.records.frames, last)
        if last >= end:
            break
    assert last >= end, f"the subscription ended at record {last} of {end}, because its caller has no acknowledgements to send"
    records.cancel()


def bad_ack(api):
    """What is wrong with an acknowledgement is told, also while a long log is on its way."""
    hello = api.new("famfs.v1.SubscribeRequest", hello=api.new("famfs.v1.Hello"))
    ack = api.new("famfs.v1.SubscribeRequest", ack=api.new("famfs.v1.Ack", position=api.new("famfs.v1.Position", sequence=1 << 60)))
    error = failing(lambda: list(api.method(MASTER, "Subscribe")(iter([hello, ack]), timeout=PATIENCE)))
    assert error.code() not in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN), error


def count_records(frames, last):
    at = 0
    while at < len(frames):
        length = int.from_bytes(frames[at:at + 4], "little")
        last += 1
        assert int.from_bytes(frames[at + 8:at + 16], "little") == last
        at += (length + 7) // 8 * 8
    return last


def too_large(api):
    request = api.new("famfs.v1.CreateFilesRequest", files=[api.new("famfs.v1.CreateFileRequest", path="x" * (17 << 20))])
    error = failing(lambda: list(api.method(MASTER, "CreateFiles")(iter([request]), timeout=PATIENCE)))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, error


def compressed(api):
    """A few bytes would become a large message after its size was looked at."""
    identity = {"host_id": b"h" * 16, "mount_id": b"m" * 16, "boot_id": b"b" * 16, "mount_point": "x" * (15 << 20)}
    hello = api.new("famfs.v1.SubscribeRequest", hello=api.new("famfs.v1.Hello", **identity))
    for method, requests in (("Subscribe", iter([hello])), ("CreateFiles", iter([api.new("famfs.v1.CreateFilesRequest", files=[api.new("famfs.v1.CreateFileRequest", path="x" * (15 << 20))])]))):
        error = failing(lambda: list(api.method(MASTER, method)(requests, timeout=PATIENCE, compression=grpc.Compression.Gzip)))
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


def cancelled_stream(api):
    status = api.method(MASTER, "GetStatus")
    hello = api.new("famfs.v1.SubscribeRequest", hello=api.new("famfs.v1.Hello"))

    def requests():
        yield hello
        while True:
            time.sleep(PATIENCE)

    records = api.method(MASTER, "Subscribe")(requests())
    next(records)
    wait("a subscriber", lambda: status(api.new("famfs.v1.GetStatusRequest"), timeout=PATIENCE).subscriber_count == 1)
    records.cancel()
    wait("its end", lambda: status(api.new("famfs.v1.GetStatusRequest"), timeout=PATIENCE).subscriber_count == 0)


def deaf(api):
    """Subscribes, says so, and never reads. The caller stops the master, and then this process."""
    records = api.method(MASTER, "Subscribe")(iter([api.new("famfs.v1.SubscribeRequest", hello=api.new("famfs.v1.Hello"))]))
    next(records)
    print("subscribed", flush=True)
    sys.stdin.read()


def wait(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def main():
    target, authority, *names = sys.argv[1:]
    if authority == "-":
        channel = grpc.insecure_channel(target)
    else:
        with open(authority, "rb") as file:
            channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(file.read()))
    bad = 0
    api = Api(channel)
    for name in names:
        try:
            globals()[name](api)
            print(name, "ok", flush=True)
        except Exception as error:  # every scenario is to be tried
            bad = 1
            print(f"{name}: {type(error).__name__} {error}", flush=True)
    channel.close()
    # Threads of streams that were cancelled sleep on.
    os._exit(bad)


main()
