"""Abuses a master as a hostile or broken caller would, and measures what that costs everybody else.

Makes a file system of its own in /dev/shm and starts a master on it. Each attack runs in a process of its own. Prints a line
for each figure, with its limit, and exits with 1 if one is beyond it; times have limits only in the long run, because they
tell nothing on a machine that is busy with something else. What it started is ended and removed.
"""
import argparse
import json
import mmap
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import grpc
from reflected import MASTER, Api, uuid7

LIMIT_MIB = 400
BACK = 1.5
GAP_MS = 300
LONE_P99_MS = 50
DEVICE_BYTES = 32 << 40  # sparse: a file takes a unit of it, and bulk streams of minutes make millions
HEARTBEAT = 0x10000 + 136  # docs/format.md: anchor slot 0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # and empty SETTINGS (RFC 9113)
ALONE = [("grpc.use_local_subchannel_pool", 1)]
WIDE = ALONE + [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
CREATE_FILES = f"/{MASTER}/CreateFiles"
SUBSCRIBE = f"/{MASTER}/Subscribe"


# ---- attacks; each is run by a process of its own, prints "ready" when it is at work and JSON at its end


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


class Messages:
    """Messages of CreateFiles, each of new names, made by replacing a few bytes."""

    MARK = b"@@@@@@@@@@@@@@@@"

    def __init__(self, files, omit_maps=True):
        entries = (field(1, field(2, self.MARK + b"%05d" % i) + b"\x18\x01") for i in range(files))
        self.template = b"".join(entries) + (b"\x10\x01" if omit_maps else b"")
        self.prefix = b"%08x" % random.getrandbits(32)
        self.count = 0

    def next(self):
        self.count += 1
        return self.template.replace(self.MARK, self.prefix + b"%08d" % self.count)


def bulk(target, streams, files, seconds, most, reads):
    """Streams of CreateFiles at once, each on a connection of its own, for some seconds or so many files in all."""
    created = [0]
    errors = []
    answers = [0]
    end = time.monotonic() + seconds

    def run():
        messages = Messages(files)

        def source():
            while time.monotonic() < end and created[0] < most:
                created[0] += files
                yield messages.next()
            # A caller that takes no answers still has its stream.
            while not reads and time.monotonic() < end + 3600:
                time.sleep(1)

        channel = grpc.insecure_channel(target, options=WIDE)
        call = channel.stream_stream(CREATE_FILES)(source())
        try:
            if not reads:
                while time.monotonic() < end:
                    time.sleep(0.1)
                return
            for _ in call:
                answers[0] += 1
        except grpc.RpcError as error:
            errors.append(f"{error.code().name}: {error.details()}")

    threads = [threading.Thread(target=run, daemon=True) for _ in range(streams)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.join()
    if not reads:
        print(json.dumps({"waiting": True}), flush=True)
        sys.stdin.read()
    return {"messages": created[0] // files, "answers": answers[0], "errors": errors}


def deaf(target, count):
    """Subscriptions that are welcomed and then read nothing."""
    calls = []
    for _ in range(count):
        channel = grpc.insecure_channel(target, options=ALONE)
        call = channel.stream_stream(SUBSCRIBE)(iter([field(1, b"")]))
        next(call)
        calls.append((channel, call))
    print("ready", flush=True)
    sys.stdin.read()
    return {}


def unread(target, count, streams):
    """Connections that take no byte of an answer (their window is 0) and send as much as the master has promised to take: what
    comes after the first message of a stream is not read, because the answer to that one waits."""
    host, port = target.rsplit(":", 1)
    message = field(3, b"x" * 20_000)  # grpc.reflection.v1.ServerReflectionRequest.file_by_filename

    def literal(name, value):
        return bytes([0, len(name)]) + name + bytes([len(value)]) + value

    headers = b"\x83\x86" + b"".join(literal(n, v) for n, v in (  # POST, http: RFC 7541, appendix A
        (b":path", b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), (b":authority", b"x"),
        (b"content-type", b"application/grpc"), (b"te", b"trailers")))

    def frame(kind, flags, stream, data):
        return len(data).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + data

    def exactly(connection, size):
        data = b""
        while len(data) < size:
            part = connection.recv(size - len(data))
            if not part:
                raise OSError("closed")
            data += part
        return data

    def promised(connection):
        """Windows of the connection and of a stream, by its first frames: SETTINGS, WINDOW_UPDATE."""
        whole, each, seen = 65535, 65535, 0
        while seen != 3:
            head = exactly(connection, 9)
            data = exactly(connection, int.from_bytes(head[:3], "big"))
            if head[3] == 4 and not head[4]:
                seen |= 1
                for at in range(0, len(data), 6):
                    if data[at:at + 2] == b"\0\x04":
                        each = int.from_bytes(data[at + 2:at + 6], "big")
            elif head[3] == 8:
                seen |= 2
                whole += int.from_bytes(data, "big")
        return whole, each

    open_ones = []
    sent = 0
    body = (b"\0" + len(message).to_bytes(4, "big") + message) * 64
    for _ in range(count):
        connection = socket.create_connection((host, int(port)), timeout=20)
        open_ones.append(connection)
        try:
            connection.sendall(PREFACE[:24] + frame(4, 0, 0, b"\0\x04\0\0\0\0"))
            whole, each = promised(connection)
            for stream in range(1, 2 * streams, 2):
                connection.sendall(frame(1, 4, stream, headers))
                rest = min(each, whole, len(body))
                whole -= rest
                sent += rest
                for at in range(0, rest, 16384):
                    connection.sendall(frame(0, 0, stream, body[at:min(at + 16384, rest)]))
        except OSError:
            pass
    print("ready", flush=True)
    print(json.dumps({"mib": sent >> 20}), flush=True)
    sys.stdin.read()
    return {}


def crowd(target, path, streams, seconds, make):
    """The same call again and again, from several connections at once."""
    codes = {}
    texts = {}
    end = time.monotonic() + seconds
    gate = threading.Lock()

    def run():
        channel = grpc.insecure_channel(target, options=WIDE)
        call = channel.stream_stream(path)
        while time.monotonic() < end:
            try:
                message = make()
                for _ in call(iter([message]), timeout=max(1, end - time.monotonic())):
                    pass
                code = "OK"
            except grpc.RpcError as error:
                code = error.code().name
                with gate:
                    texts.setdefault(code, error.details()[:100])
            with gate:
                codes[code] = codes.get(code, 0) + 1

    threads = [threading.Thread(target=run, daemon=True) for _ in range(streams)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.join()
    return {"codes": codes, "texts": texts}


def barriers(target, seconds):
    ids = b"".join(field(2, i.to_bytes(16, "big")) for i in range(1, 400_001))
    return crowd(target, f"/{MASTER}/Barrier", 16, seconds, lambda: ids)


def hellos(target, seconds):
    text = b"x" * (5 << 20)

    def make():
        identity = field(1, os.urandom(16)) + field(2, os.urandom(16)) + field(3, os.urandom(16))
        return field(1, identity + field(7, text) + field(8, text) + field(9, text))

    return crowd(target, SUBSCRIBE, 16, seconds, make)


def entries(target, seconds):
    """Messages whose bytes become an object each two: empty files, groups, fields that nobody knows."""
    kinds = [b"\x0a\x00" * ((16 << 20) // 2), b"\xa3\x06\xa4\x06" * (4 << 20), (varint(99 << 3) + b"\x01") * (5 << 20)]
    turn = [0]

    def make():
        turn[0] += 1
        return kinds[turn[0] % len(kinds)]

    return crowd(target, CREATE_FILES, 8, seconds, make)


def heartbeat(device, seconds):
    """How long the longest pause of the heartbeat was, and of this process itself."""
    with open(device, "rb") as file:
        memory = mmap.mmap(file.fileno(), 0x20000, prot=mmap.PROT_READ)
    print("ready", flush=True)
    start = moved = looked = time.monotonic()
    seen = memory[HEARTBEAT:HEARTBEAT + 8]
    longest = late = 0
    while looked - start < seconds:
        time.sleep(0.001)
        now = time.monotonic()
        late = max(late, now - looked)
        looked = now
        value = memory[HEARTBEAT:HEARTBEAT + 8]
        if value != seen:
            longest = max(longest, now - moved)
            moved, seen = now, value
    longest = max(longest, looked - moved)
    return {"gap_ms": round(longest * 1000), "own_ms": round(late * 1000)}


def lone(target, seconds):
    """CreateFile, one after the other, with a pause between."""
    call = grpc.insecure_channel(target, options=ALONE).unary_unary(f"/{MASTER}/CreateFile")
    prefix = os.urandom(4).hex().encode()
    times = []
    errors = []
    call(field(2, prefix) + b"\x18\x01", timeout=60)
    print("ready", flush=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        try:
            call(field(2, prefix + b"%06d" % len(times)) + b"\x18\x01", timeout=max(1, end - start + 5))
        except grpc.RpcError as error:
            errors.append(f"{error.code().name}: {error.details()}")
        times.append((time.monotonic() - start) * 1000)
        time.sleep(0.01)
    times.sort()
    return {"count": len(times), "p50_ms": round(times[len(times) // 2], 2), "p99_ms": round(times[len(times) * 99 // 100], 2),
            "max_ms": round(times[-1], 2), "errors": errors[:3], "failed": len(errors)}


def connections(target, path, silent, idle):
    """Connections that say nothing, over TCP and over the unix socket, and ones that only speak HTTP/2."""
    host, port = target.rsplit(":", 1)
    open_ones = []
    for i in range(silent + idle):
        if path != "-" and i % 4 == 0:
            connection = socket.socket(socket.AF_UNIX)
            connection.setblocking(True)
            connection.settimeout(10)
            where = path
        else:
            connection = socket.socket()
            connection.settimeout(10)
            where = (host, int(port))
        try:
            connection.connect(where)
            if i >= silent:
                connection.sendall(PREFACE)
        except OSError:
            pass
        open_ones.append(connection)
    print("ready", flush=True)
    sys.stdin.readline()

    def closed(connection):
        connection.settimeout(0)
        try:
            while connection.recv(65536):
                pass
            return True
        except BlockingIOError:
            return False
        except OSError:
            return True

    return {"closed": sum(closed(c) for c in open_ones[:silent]), "of": silent}


def bad_inputs(target, count):
    """Calls of every kind with what nobody should send. Each has an answer, and none is the master's own fault."""
    seed = int(os.environ.get("FAMFS_ABUSE_SEED", random.getrandbits(31)))
    chance = random.Random(seed)
    channel = grpc.insecure_channel(target, options=WIDE)
    api = Api(channel)
    methods = {m.name: m for m in api.pool.FindServiceByName(MASTER).methods}
    names = sorted(set(methods) - {"Check", "GrantMasterSlot"})
    texts = ["", "/", "..", "a/../b", ".meta/x", ".staged/1", "a\0b", "\ufffd", "x" * 300, "/".join(["d"] * 3000), "ä" * 2000, "%n%s", "a//b", "/dev/shm/none", "-"]
    numbers = [0, 1, 2, 3, 4095, 2**21, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
    octets = [b"", b"\0" * 16, b"\xff" * 16, b"1" * 15, b"1" * 17, b"x" * 5000]

    def fill(message, depth):
        for entry in message.DESCRIPTOR.fields:
            many = getattr(entry, "is_repeated", None)
            if many is None or callable(many):
                many = entry.label == entry.LABEL_REPEATED
            for _ in range(chance.randrange(3) if many else chance.randrange(2)):
                if entry.message_type:
                    if depth < 4:
                        fill(getattr(message, entry.name).add() if many else getattr(message, entry.name), depth + 1)
                        if not many:
                            getattr(message, entry.name).SetInParent()
                    continue
                kind = entry.cpp_type
                if kind == entry.CPPTYPE_STRING:
                    value = chance.choice(texts) if entry.type == entry.TYPE_STRING else chance.choice([*octets, uuid7()])
                elif kind == entry.CPPTYPE_BOOL:
                    value = chance.random() < 0.5
                elif kind == entry.CPPTYPE_ENUM:
                    value = chance.choice([0, 1, 2, 3, 99, -1])
                elif kind in (entry.CPPTYPE_INT32, entry.CPPTYPE_UINT32):
                    value = chance.choice(numbers) & (0xFFFFFFFF if kind == entry.CPPTYPE_UINT32 else 0x7FFFFFFF)
                else:
                    value = chance.choice(numbers) & (2**64 - 1 if kind == entry.CPPTYPE_UINT64 else 2**63 - 1)
                if many:
                    getattr(message, entry.name).append(value)
                else:
                    setattr(message, entry.name, value)

    codes = {}
    wrong = []
    for i in range(count):
        name = chance.choice(names)
        message = api.new(methods[name].input_type.full_name)
        fill(message, 0)
        data = message.SerializeToString()
        style = chance.randrange(4)
        if style == 0:
            data = chance.randbytes(chance.randrange(300))
        elif style == 1 and data:
            data = bytearray(data)
            for _ in range(1 + len(data) // 50):
                data[chance.randrange(len(data))] = chance.randrange(256)
            data = bytes(data)
        elif style == 2 and data:
            data = data[:chance.randrange(len(data))]
        call = channel.stream_stream(f"/{MASTER}/{name}")
        try:
            waits = name in ("Subscribe", "Barrier", "CreateFile", "MakeDirectory")
            for _ in call(iter([data]), timeout=0.2 if waits else 30):
                pass
            code = "OK"
        except grpc.RpcError as error:
            code = error.code().name
            # A wait for what never comes ends with its time.
            if code in ("INTERNAL", "UNKNOWN", "UNAVAILABLE") or (code == "DEADLINE_EXCEEDED" and not waits):
                wrong.append(f"{name} {data[:60].hex()}: {code} {error.details()}")
        codes[code] = codes.get(code, 0) + 1
    return {"seed": seed, "codes": codes, "wrong": wrong[:5], "wrong_count": len(wrong)}


ATTACKS = {f.__name__: f for f in (bulk, deaf, unread, barriers, hellos, entries, heartbeat, lone, connections, bad_inputs)}


# ---- the run


class Attack:
    """One attack under way."""

    def __init__(self, name, *arguments):
        self.name = name
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--attack", name, json.dumps(arguments)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().strip()
        assert line == "ready", f"{name} did not begin: {line}"

    def result(self):
        """Waits for its end."""
        line = self.process.stdout.readline()
        assert line, f"{self.name} ended without a result"
        return json.loads(line)

    def tell(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self):
        self.process.kill()
        self.process.wait()


class Master:
    """A file system in /dev/shm and its master."""

    def __init__(self, famfs, master):
        self.famfs = famfs
        self.directory = tempfile.mkdtemp(prefix="famfs-abuse-")
        self.device = f"/dev/shm/{os.path.basename(self.directory)}"
        self.process = None
        try:
            with open(self.device, "wb") as file:
                file.truncate(DEVICE_BYTES)
            state = os.path.join(self.directory, "state")
            subprocess.run([famfs, "mkfs", "--host-state", state, self.device], check=True, stdout=subprocess.DEVNULL)
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.target = "127.0.0.1:%d" % free.getsockname()[1]
            self.socket = os.path.join(self.directory, "s")
            self.log = open(os.path.join(self.directory, "log"), "w+b")
            self.process = subprocess.Popen([master, "--host-state", state, "--device", self.device, "--listen", f"http://{self.target}",
                                             "--listen", f"unix:{self.socket}"], stdout=self.log, stderr=self.log)
            self.channel = grpc.insecure_channel(self.target, options=ALONE)
            grpc.channel_ready_future(self.channel).result(timeout=60)
            self.api = Api(self.channel)
        except BaseException:
            self.close()
            raise
        self.peak = 0
        threading.Thread(target=self._sample, daemon=True).start()

    def resident(self):
        """MiB of its own: the pool's memory, which it maps, is not the master's."""
        with open(f"/proc/{self.process.pid}/status") as file:
            rows = dict(line.split(":", 1) for line in file)
        return (int(rows["VmRSS"].split()[0]) - int(rows["RssShmem"].split()[0])) / 1024

    def _sample(self):
        while True:
            try:
                self.peak = max(self.peak, self.resident())
            except (OSError, KeyError):
                return
            time.sleep(0.02)

    def owed(self):
        """MiB that the files take that were made since: docs/sizing.md has 100 bytes and the name."""
        status = self.api.method(MASTER, "GetStatus")(self.api.new("famfs.v1.GetStatusRequest"), timeout=60)
        return status.file_count * (100 + len(Messages.MARK) + 5) / (1 << 20)

    def serves(self):
        status = self.api.method(MASTER, "GetStatus")(self.api.new("famfs.v1.GetStatusRequest"), timeout=60)
        create = self.api.method(MASTER, "CreateFile")
        create(self.api.new("famfs.v1.CreateFileRequest", path="serves-" + os.urandom(8).hex(), size_bytes=1), timeout=60)
        return status

    def back_within(self, limit, seconds):
        """Resident memory when it is below the limit, or at the end."""
        end = time.monotonic() + seconds
        while self.resident() > limit and time.monotonic() < end:
            time.sleep(0.1)
        return self.resident()

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if os.path.exists(self.device):
            os.unlink(self.device)
        shutil.rmtree(self.directory, ignore_errors=True)


class Report:
    def __init__(self, strict_times):
        self.rows = []
        self.bad = []
        self.strict_times = strict_times

    def figure(self, what, value, unit, limit=None, is_time=False):
        beyond = limit is not None and value > limit
        if beyond and (self.strict_times or not is_time):
            self.bad.append(what)
        text = f"{value:.1f}" if isinstance(value, float) else str(value)
        print(f"{what:58} {text:>9} {unit:4}" + (f" limit {limit:g}" if limit is not None else "") + ("  BEYOND" if beyond else ""), flush=True)
        self.rows.append({"what": what, "value": value, "unit": unit, "limit": limit})

    def fact(self, what, isgood, text=""):
        print(f"{what:58} {'yes' if isgood else 'NO':>9} {text}", flush=True)
        if not isgood:
            self.bad.append(what)
        self.rows.append({"what": what, "value": bool(isgood), "text": text})


def run(options):
    # Whoever ends this run ends what it started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    short = options.short
    report = Report(not short)
    master = Master(options.famfs, options.master)
    attacks = []

    def attack(*arguments):
        attacks.append(Attack(*arguments))
        return attacks[-1]

    def memory(name, makes_files=False):
        """After an attack, whose processes are still there. Files that an attack may make are no abuse: they are left out."""
        most = master.peak - (master.owed() if makes_files else 0)
        report.figure(f"{name}: resident memory, most" + (", without its files" if makes_files else ""), most, "MiB", LIMIT_MIB)
        for one in attacks:
            one.end()
        attacks.clear()
        owed = master.owed()
        # A managed master collects by and by, and has more to keep of its own: in the short run it is a figure without a limit.
        after = master.back_within(idle * BACK + owed, 5 if short else 90) - owed
        report.figure(f"{name}: afterwards, without its files, of idle", after / idle, "x", BACK, is_time=True)
        master.serves()
        master.peak = 0

    seconds = 3 if short else 10
    try:
        for _ in range(50):
            master.serves()
        time.sleep(2)
        idle = master.resident()
        report.figure("idle: resident memory", idle, "MiB")
        alone = attack("lone", master.target, seconds).result()
        report.figure("lone create, alone: p50", alone["p50_ms"], "ms")
        report.figure("lone create, alone: p99", alone["p99_ms"], "ms")
        attacks.clear()

        master.peak = 0
        attack("deaf", master.target, 30)
        writer = attack("bulk", master.target, 1, 1000, 20 if short else 120, 30_000 if short else 600_000, True)
        writer.result()
        memory("30 deaf streams")

        attack("barriers", master.target, seconds)
        result = attacks[-1].result()
        print("   ", result, flush=True)
        memory("barriers of 400,000 mounts")

        attack("hellos", master.target, seconds)
        result = attacks[-1].result()
        print("   ", result, flush=True)
        hosts = subprocess.run([options.famfs, "hosts", "--master", f"http://{master.target}"], capture_output=True, text=True, timeout=120)
        memory("hellos of 15 MiB")
        report.fact("hellos of 15 MiB: famfs hosts works", hosts.returncode == 0, hosts.stderr.strip()[:100])

        attack("entries", master.target, seconds)
        print("   ", attacks[-1].result(), flush=True)
        memory("messages of 8,000,000 fields")

        unread = attack("bulk", master.target, 16, 4000, seconds, 1 << 60, False)
        unread.result()
        tried = attack("lone", master.target, seconds).result()
        report.figure("16 bulk streams that do not read: lone creates failed", tried["failed"], "", 0)
        memory("16 bulk streams that do not read")

        count = 100 if short else 300
        print("   ", attack("unread", master.target, count, 4).result(), flush=True)
        tried = attack("lone", master.target, seconds).result()
        report.figure(f"{count} connections that take no answers: lone creates failed", tried["failed"], "", 0)
        memory(f"{count} connections that take no answers")

        count = 200 if short else 1500
        idle_ones = 50 if short else 500
        crowd_ = attack("connections", master.target, master.socket, count, idle_ones)
        tried = attack("lone", master.target, seconds).result()
        report.figure(f"{count + idle_ones} connections: lone creates failed", tried["failed"], "", 0)
        report.figure(f"{count + idle_ones} connections: lone create p99", tried["p99_ms"], "ms", LONE_P99_MS, is_time=True)
        patience = time.monotonic() + 15
        while time.monotonic() < patience:
            time.sleep(0.2)
        crowd_.tell()
        result = crowd_.result()
        report.fact(f"{count} silent connections: all closed", result["closed"] == result["of"], f"{result['closed']}")
        memory(f"{count + idle_ones} connections")

        result = try_bad_inputs(master, 300 if short else 3000)
        print("   ", {k: result[k] for k in ("seed", "codes")}, flush=True)
        for line in result["wrong"]:
            print("    " + line, flush=True)
        report.figure("bad inputs: answered as a fault of the master, or not", result["wrong_count"], "", 0)
        memory("bad inputs")

        beat = attack("heartbeat", master.device, seconds)
        streams = [attack("bulk", master.target, 8, 1000, seconds, 1 << 60, True) for _ in range(2)]
        beside = attack("lone", master.target, max(1, seconds - 1))
        tried = beside.result()
        gap = beat.result()
        done = [s.result() for s in streams]
        report.figure("16 bulk streams: files", sum(d["messages"] for d in done) * 1000, "")
        report.figure("16 bulk streams: refused or broken", sum(len(d["errors"]) for d in done), "", 0)
        report.figure("16 bulk streams: longest gap of the heartbeat", gap["gap_ms"], "ms", GAP_MS, is_time=True)
        report.figure("  of which the watching process did not run", gap["own_ms"], "ms")
        report.figure("16 bulk streams: lone create p50", tried["p50_ms"], "ms")
        report.figure("16 bulk streams: lone create p99", tried["p99_ms"], "ms", LONE_P99_MS, is_time=True)
        report.figure("16 bulk streams: lone creates failed", tried["failed"], "", 0)
        memory("16 bulk streams", makes_files=True)

        report.fact("the master still serves", master.serves().file_count > 0)
        master.process.send_signal(signal.SIGTERM)
        report.fact("it ends in order", master.process.wait(timeout=60) == 0)
        check = subprocess.run([options.famfs, "check", master.device], capture_output=True, text=True, timeout=600)
        report.fact("famfs check finds nothing", check.returncode == 0, check.stdout.strip()[-200:] if check.returncode else "")
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        master.log.flush()
        with open(master.log.name) as log:
            print(log.read()[-3000:])
        report.bad.append("the run itself")
    finally:
        for one in attacks:
            one.end()
        master.close()
    if options.report:
        with open(options.report, "w") as file:
            json.dump(report.rows, file, indent=1)
    print(f"{len(report.rows)} figures, {len(report.bad)} beyond their limits" + (": " + "; ".join(report.bad) if report.bad else ""))
    return 1 if report.bad else 0


def try_bad_inputs(master, count):
    process = subprocess.run([sys.executable, os.path.abspath(__file__), "--attack", "bad_inputs", json.dumps([master.target, count])], stdout=subprocess.PIPE, text=True, timeout=1200)
    assert process.returncode == 0, "bad_inputs ended without a result"
    return json.loads(process.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--famfs", help="the command famfs")
    parser.add_argument("--master", help="the program famfs-master")
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes, and no limits for times")
    parser.add_argument("--report", help="file for the figures, as JSON")
    parser.add_argument("--attack", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attack:
        print(json.dumps(ATTACKS[options.attack[0]](*json.loads(options.attack[1]))), flush=True)
        # Threads of calls that never end sleep on.
        os._exit(0)
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
