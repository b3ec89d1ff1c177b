"""Programs on a mount while its daemon is killed and replaced: each does one thing again and again and checks what it sees. A call
that fails, or a byte that is wrong, is a line on standard output. Counts what each has done into COUNTS, 8 bytes each, until STOP
is there. Arguments: MOUNT, COUNTS, STOP, and where fio is, if it is."""
import mmap, os, random, struct, subprocess, sys, time

mount, counts_path, stop = sys.argv[1:4]
FIO = sys.argv[4:]
SIZE = 4 << 20
BLOCK = 64 << 10
p = lambda name: os.path.join(mount, name)


def pattern(block):
    return struct.pack("<Q", block * 0x9E3779B97F4A7C15 & (1 << 64) - 1) * (BLOCK // 8)


class Wrong(Exception):
    pass


def expect(what, got, wanted):
    if got != wanted:
        raise Wrong(f"{what}: {got!r:.200} instead of {wanted!r:.200}")


def reader():
    fd = os.open(p("data"), os.O_RDONLY)
    while True:
        block = random.randrange(SIZE // BLOCK)
        if os.pread(fd, BLOCK, block * BLOCK) != pattern(block):
            raise Wrong(f"block {block} of data")
        yield


def mapped():
    fd = os.open(p("data"), os.O_RDONLY)
    while True:
        with mmap.mmap(fd, SIZE, prot=mmap.PROT_READ) as memory:
            for _ in range(4):
                block = random.randrange(SIZE // BLOCK)
                if memory[block * BLOCK:(block + 1) * BLOCK] != pattern(block):
                    raise Wrong(f"block {block} of data, mapped")
        # Pages that are dropped are read again.
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        yield


def writer():
    fd = os.open(p("log"), os.O_RDWR)
    content = {}
    for stamp in range(1 << 62):
        block = random.randrange(SIZE // BLOCK)
        bytes_ = struct.pack("<QQ", stamp, block) * (BLOCK // 16)
        expect("pwrite", os.pwrite(fd, bytes_, block * BLOCK), BLOCK)
        content[block] = bytes_
        other = random.choice(list(content))
        if os.pread(fd, BLOCK, other * BLOCK) != content[other]:
            raise Wrong(f"block {other} of log")
        yield


def lister():
    names = {f"n{i}" for i in range(2000)}
    while True:
        found = []
        with os.scandir(p("many")) as entries:
            for entry in entries:
                found.append(entry.name)
                if len(found) % 100 == 0:
                    yield
        expect("number of names", len(found), len(names))
        expect("names", set(found) ^ names, set())


def finder():
    while True:
        seen = 0
        for directory, directories, files in os.walk(p("tree"), onerror=lambda e: (_ for _ in ()).throw(e)):
            for name in files + directories:
                os.lstat(os.path.join(directory, name))
                seen += 1
            yield
        expect("entries of the tree", seen, 30)


def opener():
    while True:
        name = p(f"tree/d{random.randrange(5)}/f{random.randrange(5)}")
        with open(name, "rb", buffering=0) as file:
            expect("size", os.fstat(file.fileno()).st_size, 4096)
            expect("content", file.read(8192), b"\0" * 4096)
        yield


def scanner():
    # As `git status` does: what each file was like at first, asked of all, and read of some.
    def look():
        found = {}
        for directory, directories, files in os.walk(p("tree"), onerror=lambda e: (_ for _ in ()).throw(e)):
            for name in files:
                path = os.path.join(directory, name)
                status = os.lstat(path)
                found[path] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)
        return found

    index = look()
    while True:
        now = look()
        expect("files of the scan", {k for k in index.keys() | now.keys() if index.get(k) != now.get(k)}, set())
        for path in random.sample(sorted(index), 5):
            with open(path, "rb", buffering=0) as file:
                expect(path, file.read(8192), b"\0" * 4096)
        yield


def fio():
    while True:
        # Writes each block once, with a checksum, and reads all of them again.
        run = subprocess.run([*FIO, "--name=verify", f"--filename={p('fio')}", "--rw=randwrite", "--bs=16k", f"--size={SIZE}", "--verify=crc32c", "--verify_fatal=1",
                              "--ioengine=psync", "--fallocate=none", "--allow_file_create=0", f"--randseed={random.randrange(1 << 30)}"], capture_output=True, text=True)
        if run.returncode != 0:
            raise Wrong(f"fio ended with {run.returncode}: {(run.stderr + run.stdout)[-600:]!r}")
        yield


def changer(me):
    home = p(f"changes{me}")
    os.mkdir(home)
    while True:
        os.mkdir(home + "/a")
        os.mkdir(home + "/a/b")
        os.symlink("target", home + "/a/l")
        expect("link", os.readlink(home + "/a/l"), "target")
        os.chmod(home + "/a", 0o700)
        os.setxattr(home + "/a", "user.me", b"1", os.XATTR_CREATE)
        yield
        os.rename(home + "/a", home + "/c")
        expect("listing", sorted(os.listdir(home + "/c")), ["b", "l"])
        expect("attribute", os.getxattr(home + "/c", "user.me"), b"1")
        os.unlink(home + "/c/l")
        os.rmdir(home + "/c/b")
        os.rmdir(home + "/c")
        expect("listing", os.listdir(home), [])
        yield


WORK = [reader, mapped, writer, lister, finder, opener, lambda: changer(0), lambda: changer(1), scanner] + [fio] * bool(FIO)
NAMES = ["reader", "mapped", "writer", "lister", "finder", "opener", "changer0", "changer1", "scanner", "fio"]

with open(counts_path, "wb") as file:
    file.write(bytes(8 * len(WORK)))
counts = open(counts_path, "r+b", buffering=0)
children = []
for index, work in enumerate(WORK):
    if (child := os.fork()) == 0:
        random.seed(index)
        done = failed = 0
        while failed < 20:
            try:
                for _ in work():
                    done += 1
                    os.pwrite(counts.fileno(), struct.pack("<Q", done), 8 * index)
                    if os.path.exists(stop):
                        os._exit(1 if failed else 0)
            except (OSError, Wrong) as error:
                failed += 1
                print(f"{time.time():.3f} {NAMES[index]} after {done}: {type(error).__name__} {error}", flush=True)
                if NAMES[index].startswith("changer"):
                    break  # where its directory stands is not known any more
        os._exit(1)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
