"""Lists a directory into memory that never comes: the kernel holds the directory's lock meanwhile, until this program is killed. Says
"ready", then begins when it is told by a line. Linux, x86-64."""
import ctypes, fcntl, mmap, os, struct, sys

USERFAULTFD, GETDENTS64 = 323, 217
UFFDIO_API, UFFDIO_REGISTER, UFFD_API, MISSING = 0xC018AA3F, 0xC020AA00, 0xAA, 1
BYTES = 1 << 16

libc = ctypes.CDLL(None, use_errno=True)
directory = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
memory = mmap.mmap(-1, BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
faults = libc.syscall(USERFAULTFD, os.O_CLOEXEC)
if faults < 0:
    sys.exit(f"userfaultfd: {os.strerror(ctypes.get_errno())}")
fcntl.ioctl(faults, UFFDIO_API, struct.pack("QQQ", UFFD_API, 0, 0))
fcntl.ioctl(faults, UFFDIO_REGISTER, struct.pack("QQQQ", address, BYTES, MISSING, 0))
print("ready", flush=True)
sys.stdin.readline()
libc.syscall(GETDENTS64, directory, ctypes.c_void_p(address), ctypes.c_size_t(BYTES))
