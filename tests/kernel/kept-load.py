"""Programs on a mount of a famfs kernel while its daemon is killed again and again. A call that fails, or a byte that is wrong, is a
line on standard output. fill FILE: words that tell where they are. count FILE STOP: stores 1, 2, 3, ... into each page by its
mapping, until STOP is there. hold FILE ROUNDS STOP: maps what fill has filled and checks each page, again and again, until STOP is
there; how often is in ROUNDS. verify FILE: checks what fill has filled. touch FILE ROUNDS: loads a byte of each page, again and
again, until it is killed. load MOUNT COUNTS STOP: checks both, and names, counting rounds into COUNTS, 8 bytes each."""
import mmap, os, struct, sys

PAGE = 4096
WORD = 0x9E3779B97F4A7C15


def words(page):
    return struct.pack("<Q", (page + 1) * WORD & (1 << 64) - 1) * 512


def pages(path, write=False):
    fd = os.open(path, os.O_RDWR if write else os.O_RDONLY)
    size = os.fstat(fd).st_size
    return fd, mmap.mmap(fd, size, prot=mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)), size // PAGE


class Wrong(Exception):
    pass


def mapped(mount):
    fd, memory, count = pages(mount + "/data")
    expected = {}
    while True:
        for page in range(0, count, 61):
            wanted = expected.setdefault(page, words(page))
            if memory[page * PAGE:(page + 1) * PAGE] != wanted:
                raise Wrong(f"page {page} of data, mapped")
        yield


def follower(mount):
    fd, memory, count = pages(mount + "/live")
    view = memoryview(memory).cast("Q")
    last = [0] * count
    while True:
        for page in range(count):
            now = view[page * 512]
            if now < last[page]:
                raise Wrong(f"page {page} of live went from {last[page]} to {now}")
            last[page] = now
        yield


def reader(mount):
    page = 0
    while True:
        # A mapping of its own each time: the kernel asks for the file, and faults.
        fd, memory, count = pages(mount + "/data")
        page = (page + 977) % count
        if os.pread(fd, PAGE, page * PAGE) != words(page) or memory[page * PAGE:(page + 1) * PAGE] != words(page):
            raise Wrong(f"page {page} of data, opened again")
        memory.close()
        os.close(fd)
        yield


def finder(mount):
    while True:
        seen = 0
        for directory, directories, files in os.walk(mount, onerror=lambda e: (_ for _ in ()).throw(e)):
            directories[:] = [name for name in directories if name != "changes"]  # what goes and comes there is the changer's
            for name in files + directories:
                os.lstat(os.path.join(directory, name))
                seen += 1
        if seen < 2:
            raise Wrong(f"{seen} entries in {mount}")
        yield


def changer(mount):
    home = mount + "/changes"
    os.mkdir(home)
    while True:
        os.mkdir(home + "/a")
        os.rename(home + "/a", home + "/b")
        if os.listdir(home) != ["b"]:
            raise Wrong(f"changes has {os.listdir(home)}")
        os.rmdir(home + "/b")
        yield


def load(mount, counts_path, stop):
    work = [mapped, follower, reader, finder, changer]
    with open(counts_path, "wb") as file:
        file.write(bytes(8 * len(work)))
    counts = os.open(counts_path, os.O_RDWR)
    children = []
    for index, make in enumerate(work):
        if (child := os.fork()) == 0:
            done = failed = 0
            while failed < 10:
                try:
                    for _ in make(mount):
                        done += 1
                        os.pwrite(counts, struct.pack("<Q", done), 8 * index)
                        if os.path.exists(stop):
                            os._exit(1 if failed else 0)
                except (OSError, Wrong) as error:
                    failed += 1
                    print(f"{make.__name__} after {done}: {type(error).__name__} {error}", flush=True)
                    if make is changer:
                        break
            os._exit(1)
        children.append(child)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))


if sys.argv[1] == "fill":
    fd, memory, count = pages(sys.argv[2], write=True)
    for page in range(count):
        memory[page * PAGE:(page + 1) * PAGE] = words(page)
elif sys.argv[1] == "count":
    fd, memory, count = pages(sys.argv[2], write=True)
    view = memoryview(memory).cast("Q")
    value = 0
    while not os.path.exists(sys.argv[3]):
        value += 1
        for page in range(count):
            view[page * 512] = value
    print(value)
elif sys.argv[1] == "hold":
    fd, memory, count = pages(sys.argv[2])
    rounds = 0
    while not os.path.exists(sys.argv[4]):
        for page in range(count):
            if memory[page * PAGE:(page + 1) * PAGE] != words(page):
                sys.exit(f"page {page} of {sys.argv[2]} is wrong in round {rounds}")
        rounds += 1
        with open(sys.argv[3] + ".new", "w") as file:
            file.write(f"{rounds}\n")
        os.rename(sys.argv[3] + ".new", sys.argv[3])
    links = os.fstat(fd).st_nlink
    print(f"{rounds} rounds, {links} links")
    sys.exit(0 if links == 0 else f"{links} links")
elif sys.argv[1] == "verify":
    fd, memory, count = pages(sys.argv[2])
    for page in range(count):
        if memory[page * PAGE:(page + 1) * PAGE] != words(page):
            sys.exit(f"page {page} of {sys.argv[2]} is wrong")
elif sys.argv[1] == "touch":
    fd, memory, count = pages(sys.argv[2])
    rounds = 0
    while True:
        for page in range(count):
            memory[page * PAGE]
        rounds += 1
        with open(sys.argv[3] + ".new", "w") as file:
            file.write(f"{rounds}\n")
        os.rename(sys.argv[3] + ".new", sys.argv[3])
else:
    load(*sys.argv[2:5])
