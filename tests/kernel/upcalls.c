/*
 * upcalls MOUNT FILE FAULTS BYTES: opens FILE (on MOUNT), then takes page faults on a mapping of it and reads and writes
 * it, and asks the daemon before and after how many messages the kernel has sent (user.famfs.requests of MOUNT).
 * Asking costs messages itself; what it costs is found by asking twice. Exit status 0 when nothing else was sent.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "upcalls: %s: %s\n", what, strerror(errno));
	exit(2);
}

static unsigned long long requests(const char *mount)
{
	char text[32] = "";
	if (getxattr(mount, "user.famfs.requests", text, sizeof text - 1) <= 0)
		die(mount);
	return strtoull(text, 0, 10);
}

static long faults(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

int main(int argc, char **argv)
{
	static char buffer[1 << 20];
	const size_t page = 4096, huge = 2 << 20;
	if (argc != 5)
		return 2;
	long wanted = atol(argv[3]), before, mappings = 0;
	unsigned long long bytes = strtoull(argv[4], 0, 10), moved = 0, r0, r1, r2;
	int file = open(argv[2], O_RDWR);
	struct stat st;
	if (file < 0 || fstat(file, &st) != 0)
		die(argv[2]);
	/* An address that is no multiple of 2 MiB: the kernel maps page by page, a fault for each. */
	char *room = mmap(0, st.st_size + 2 * huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		die("addresses");
	char *place = (char *)(((unsigned long)room + huge - 1) & ~(huge - 1)) + page;

	requests(argv[1]); /* whatever the first time costs more */
	r0 = requests(argv[1]);
	r1 = requests(argv[1]);
	before = faults();
	while (faults() - before < wanted) {
		char *map = mmap(place, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
		if (map == MAP_FAILED)
			die("mmap");
		for (off_t at = 0; at < st.st_size; at += page)
			map[at] ^= 1;
		mappings++;
	}
	long taken = faults() - before;
	for (moved = 0; moved < bytes; ) {
		off_t at = (moved / 2) % st.st_size;
		if (pread(file, buffer, sizeof buffer, at) != sizeof buffer || pwrite(file, buffer, sizeof buffer, at) != sizeof buffer)
			die("read or write");
		moved += 2 * sizeof buffer;
	}
	r2 = requests(argv[1]);
	long long extra = (long long)(r2 - r1) - (long long)(r1 - r0);
	printf("%ld faults (%ld mappings) and %llu MiB of reads and writes: %lld messages (%llu before, %llu after, %llu for asking)\n",
	       taken, mappings, moved >> 20, extra, r1, r2, r1 - r0);
	return extra != 0;
}
