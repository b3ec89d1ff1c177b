"""A service manager for one service, as systemd is one for a unit with Type=notify, Restart=always and FileDescriptorStoreMax=N:
sd_notify(3), sd_listen_fds(3), $FDSTORE. What the service stores it gets back when it is started again, the newest first, as
systemd does. Arguments: N, the socket to make, then the service's. Tells on standard output what happens. When its input ends it
stops the service and forgets the store."""
import array, ctypes, os, select, signal, socket, sys

limit, path, service = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(path)
KCMP = {"x86_64": 312, "aarch64": 272}[os.uname().machine]
libc = ctypes.CDLL(None, use_errno=True)
store = []  # (descriptor, name), the newest first
stopping = False
child = 0


def tell(text):
    print(text, flush=True)


def is_same(one, other):
    me = os.getpid()
    return libc.syscall(KCMP, me, me, 0, one, other) == 0


def start():
    global child
    given = [fd for fd, _ in store]
    if (child := os.fork()) == 0:
        # First out of the way of those numbers that they are to have.
        high = [os.dup(fd) for fd in given]
        high = [fd if fd >= 3 + len(given) else duplicate_above(fd, 3 + len(given)) for fd in high]
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i, inheritable=True)
        environment = dict(os.environ, NOTIFY_SOCKET=path, FDSTORE=str(limit))
        if given:
            environment |= dict(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(given)), LISTEN_FDNAMES=":".join(name for _, name in store))
        os.execvpe(service[0], service, environment)
    tell(f"started {child} with {len(given)} files")


def duplicate_above(fd, least):
    import fcntl
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)


def receive():
    message, ancillary, _, _ = notify.recvmsg(65536, socket.CMSG_SPACE(1024 * 4))
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[:len(data) - len(data) % descriptors.itemsize])
    fields = dict(line.split("=", 1) for line in message.decode().split("\n") if "=" in line)
    name = fields.get("FDNAME", "stored")
    if fields.get("FDSTOREREMOVE") == "1":
        gone = [fd for fd, stored in store if stored == name]
        store[:] = [kept for kept in store if kept[1] != name]
        for fd in gone:
            os.close(fd)
        tell(f"removed {len(gone)} files, {len(store)} are left")
    elif fields.get("FDSTORE") == "1":
        for fd in descriptors:
            if any(is_same(fd, other) for other, _ in store) or len(store) >= limit:
                os.close(fd)
            else:
                store.insert(0, (fd, name))
        tell(f"stores {len(store)} files")
        return
    elif fields.get("READY") == "1":
        tell("ready")
    for fd in descriptors:
        os.close(fd)


def forget_dead():
    for kept in list(store):
        poll = select.poll()
        poll.register(kept[0], 0)
        if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
            store.remove(kept)
            os.close(kept[0])
            tell("a file of the store has ended")


wake, waker = os.pipe()
os.set_blocking(waker, False)
signal.signal(signal.SIGCHLD, lambda *_: None)
signal.set_wakeup_fd(waker)
start()
while True:
    ready, _, _ = select.select([notify, wake] + ([] if stopping else [sys.stdin]), [], [])
    if notify in ready:
        receive()
        forget_dead()
    if sys.stdin in ready and not sys.stdin.buffer.read1(1):
        stopping = True
        os.kill(child, signal.SIGTERM)
    if wake in ready:
        os.read(wake, 64)
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            # What it said before it ended.
            while select.select([notify], [], [], 0)[0]:
                receive()
            tell(f"exited {os.waitstatus_to_exitcode(status)}")
            if stopping:
                sys.exit(0)
            start()
