"""A program that uses files of mounts as it is told, until it is killed. Reads one JSON object a line, answers with one: {} when it was
done, {"wrong": text} when a byte is not one of the file, {"errno": number, "call": text} when a call failed, {"other": text} when the
name is that of another file, which a mount that follows may have for a while. The content of a file
names its inode and the generation of writing in each block of 64 KiB; generation 0 is zeros."""
import json, mmap, os, struct, sys

BLOCK = 64 << 10
held = {}  # key -> (file descriptor, memory or None, request)


class Wrong(Exception):
    pass


class Other(Exception):
    pass


def pattern(inode, generation, block):
    return bytes(BLOCK) if generation == 0 else struct.pack("<QQQQ", 0x6B616F73_666D6166, inode, generation, block) * (BLOCK // 32)


def judge(r, block, got):
    length = min(BLOCK, r["bytes"] - block * BLOCK)
    if len(got) != length:
        raise Wrong(f"{r['path']}: block {block} has {len(got)} bytes instead of {length}")
    generation = struct.unpack_from("<Q", got, 16)[0] if length >= 24 else r["high"]
    if r["low"] <= generation <= r["high"] and got == pattern(r["inode"], generation, block)[:length]:
        return
    # Who was killed while it wrote leaves a block of two generations: each word is of one that the file may have.
    generations = range(r["low"], r["high"] + 1)
    allowed = [b"".join(pattern(r["inode"], g, block)[8 * i:8 * i + 8] for g in generations) for i in range(4)]
    for at in range(0, length, 8):
        word, may = got[at:at + 8], allowed[at // 8 % 4]
        if not any(may[8 * g:8 * g + len(word)] == word for g in range(len(generations))):
            raise Wrong(f"{r['path']}: block {block} is not of inode {r['inode']}, generations {r['low']} to {r['high']}: {got[at - at % 32:][:32].hex()} at {at - at % 32} of it, {got[:32].hex()} at 0")


def blocks(r):
    return range((r["bytes"] + BLOCK - 1) // BLOCK)


def open_file(r, flags):
    fd = os.open(r["path"], flags)
    try:
        found = os.fstat(fd)
        if (found.st_ino, found.st_size) != (r["inode"], r["bytes"]):
            raise Other(f"{r['path']}: inode {found.st_ino} of {found.st_size} bytes instead of inode {r['inode']} of {r['bytes']}")
    except BaseException:
        os.close(fd)
        raise
    return fd


def fill(r):
    fd = open_file(r, os.O_RDWR)
    try:
        if r["mapped"]:
            with mmap.mmap(fd, r["bytes"]) as memory:
                for block in blocks(r):
                    length = min(BLOCK, r["bytes"] - block * BLOCK)
                    memory[block * BLOCK:block * BLOCK + length] = pattern(r["inode"], r["high"], block)[:length]
                memory.flush()
        else:
            for block in blocks(r):
                length = min(BLOCK, r["bytes"] - block * BLOCK)
                written = os.pwrite(fd, pattern(r["inode"], r["high"], block)[:length], block * BLOCK)
                if written != length:
                    raise Wrong(f"{r['path']}: {written} of {length} bytes were written")
    finally:
        os.close(fd)


def verify(r):
    fd = open_file(r, os.O_RDONLY)
    try:
        if r["mapped"]:
            with mmap.mmap(fd, r["bytes"], prot=mmap.PROT_READ) as memory:
                for block in blocks(r):
                    judge(r, block, memory[block * BLOCK:(block + 1) * BLOCK])
        else:
            for block in blocks(r):
                judge(r, block, os.pread(fd, BLOCK, block * BLOCK))
    finally:
        os.close(fd)


def hold(r):
    fd = open_file(r, os.O_RDONLY)
    held[r["key"]] = (fd, mmap.mmap(fd, r["bytes"], prot=mmap.PROT_READ) if r["mapped"] else None, r)


def look(r):
    """At what is held: its name may be gone, or another file's."""
    fd, memory, was = held[r["key"]]
    for block in blocks(was):
        got = os.pread(fd, BLOCK, block * BLOCK) if memory is None else memory[block * BLOCK:(block + 1) * BLOCK]
        judge({**was, "high": r["high"]}, block, got)


def drop(r):
    fd, memory, _ = held.pop(r["key"])
    if memory is not None:
        memory.close()
    os.close(fd)


WORK = {
    "fill": fill, "verify": verify, "hold": hold, "look": look, "drop": drop,
    "rename": lambda r: os.rename(r["path"], r["to"]),
    "unlink": lambda r: os.unlink(r["path"]),
}

for line in sys.stdin:
    request = json.loads(line)
    try:
        WORK[request["op"]](request)
        answer = {}
    except Wrong as wrong:
        answer = {"wrong": str(wrong)}
    except Other as other:
        answer = {"other": str(other)}
    except OSError as error:
        answer = {"errno": error.errno, "call": f"{request['op']} {request['path']}: {error}"}
    print(json.dumps(answer), flush=True)
