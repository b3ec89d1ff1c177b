// Times one system call pattern on the files f0, f1, … of a directory, from several threads.
//
//   fusebench DIR stat|open|read|write THREADS SECONDS [BYTES]
//
// Prints calls per second, mean microseconds per call and thread, and MiB/s. Thread t uses file f<t>; reads and
// writes go through it in order, around at 64 MiB.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *dir, *op;
static size_t bytes = 4096;
static double seconds;
static volatile int go, stop;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void *run(void *arg)
{
	char path[4096];
	struct stat st;
	long n = 0;
	off_t at = 0;
	int fd = -1;
	void *buffer;

	snprintf(path, sizeof path, "%s/f%ld", dir, (long)arg);
	if (posix_memalign(&buffer, 4096, bytes))
		die("memory");
	memset(buffer, 1, bytes);
	if (*op == 'r' || *op == 'w') {
		fd = open(path, O_RDWR);
		if (fd < 0)
			die(path);
	}
	while (!go)
		;
	for (; !stop; n++) {
		switch (*op) {
		case 's':
			if (stat(path, &st))
				die("stat");
			break;
		case 'o':
			fd = open(path, O_RDONLY);
			if (fd < 0)
				die("open");
			close(fd);
			break;
		case 'r':
			if (pread(fd, buffer, bytes, at) != (ssize_t)bytes)
				die("read");
			break;
		case 'w':
			if (pwrite(fd, buffer, bytes, at) != (ssize_t)bytes)
				die("write");
			break;
		}
		at = (at + bytes) % (64 << 20);
	}
	return (void *)n;
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: DIR stat|open|read|write THREADS SECONDS [BYTES]\n");
		return 2;
	}
	dir = argv[1];
	op = argv[2];
	int threads = atoi(argv[3]);
	seconds = atof(argv[4]);
	if (argc > 5)
		bytes = atol(argv[5]);
	pthread_t *t = calloc(threads, sizeof *t);
	for (long i = 0; i < threads; i++)
		pthread_create(&t[i], NULL, run, (void *)i);
	usleep(100000);
	double start = now();
	go = 1;
	usleep(seconds * 1e6);
	stop = 1;
	long total = 0;
	for (int i = 0; i < threads; i++) {
		void *n;
		pthread_join(t[i], &n);
		total += (long)n;
	}
	double took = now() - start;
	printf("%10.0f /s %8.2f us %8.0f MiB/s\n", total / took, took * 1e6 * threads / total, total / took * bytes / 1048576);
	return 0;
}
