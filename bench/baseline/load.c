// Loads a mounted tree with system calls for a fixed time and prints one line of JSON.
//
//   load MODE PATH [--threads N] [--seconds S] [--block BYTES] [--span BYTES]
//
// MODE     stat         fstatat of a random name of directory PATH
//          open         openat + close of a random name of directory PATH
//          readdir      opendir, all entries, closedir of directory PATH
//          read-random  pread of one block at a random block offset of file PATH
//          read-seq     pread of one block after the other, wrapping around
//          write-random, write-seq: the same with pwrite
// --span   bytes of the file that are used (default: its size); threads share it in equal parts
//
// Output: {"mode":…,"threads":…,"ops":…,"units":…,"seconds":…,"p50_ns":…,"p99_ns":…,"max_ns":…}
// units is entries for readdir, bytes for reads and writes, ops otherwise. Any failing system call ends
// the program with status 1 and a line on stderr: a benchmark of errors is none.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum mode { STAT, OPEN, READDIR, READ_RANDOM, READ_SEQ, WRITE_RANDOM, WRITE_SEQ, MODES };

static const char *const mode_names[MODES] = {
    "stat", "open", "readdir", "read-random", "read-seq", "write-random", "write-seq",
};

// Latencies in a histogram of 64 linear steps per power of two: relative error below 1.6 %.
#define STEP_BITS 6
#define STEPS (1 << STEP_BITS)
#define BUCKETS ((64 - STEP_BITS) * STEPS)

struct worker {
    pthread_t thread;
    int index;
    uint64_t ops;
    uint64_t units;
    uint64_t max_ns;
    uint64_t end_ns;
    uint64_t histogram[BUCKETS];
};

static enum mode mode;
static const char *path;
static int thread_count = 1;
static double seconds = 1.0;
static size_t block = 4096;
static uint64_t span;
static char **names;
static size_t name_count;
static pthread_barrier_t start_line;
static _Atomic uint64_t start_ns;

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "load: %s %s: %s\n", what, path, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static size_t bucket_of(uint64_t ns)
{
    if (ns < STEPS)
        return (size_t)ns;
    int shift = 63 - __builtin_clzll(ns) - STEP_BITS;
    return ((size_t)shift + 1) * STEPS + (size_t)((ns >> shift) - STEPS);
}

static uint64_t bucket_top(size_t bucket)
{
    if (bucket < STEPS)
        return bucket;
    size_t shift = bucket / STEPS - 1;
    return ((uint64_t)(bucket % STEPS + STEPS + 1) << shift) - 1;
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

// getdents64 directly: readdir(3) would add its own cost per entry on both sides.
static uint64_t list_directory(char *buffer, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        fail("open directory");
    uint64_t entries = 0;
    for (;;) {
        long got = syscall(SYS_getdents64, fd, buffer, bytes);
        if (got < 0)
            fail("getdents64");
        if (got == 0)
            break;
        for (long at = 0; at < got; entries++) {
            uint16_t length;
            memcpy(&length, buffer + at + 16, sizeof length);
            at += length;
        }
    }
    close(fd);
    return entries;
}

static void *work(void *argument)
{
    struct worker *me = argument;
    uint64_t random_state = 0x9e3779b97f4a7c15u * (uint64_t)(me->index + 1);
    size_t buffer_bytes = block > 65536 ? block : 65536;
    char *buffer;
    int fd = -1;

    if (posix_memalign((void **)&buffer, 4096, buffer_bytes) != 0)
        fail("memory");
    memset(buffer, 'a' + me->index, buffer_bytes);
    if (mode == STAT || mode == OPEN)
        fd = open(path, O_RDONLY | O_DIRECTORY);
    else if (mode == READ_RANDOM || mode == READ_SEQ)
        fd = open(path, O_RDONLY);
    else if (mode == WRITE_RANDOM || mode == WRITE_SEQ)
        fd = open(path, O_RDWR);
    if (fd < 0 && mode != READDIR)
        fail("open");

    uint64_t part = span / (uint64_t)thread_count;
    uint64_t blocks = part / block;
    uint64_t first = part * (uint64_t)me->index;
    uint64_t next = 0;

    pthread_barrier_wait(&start_line);
    uint64_t begin = now_ns();
    uint64_t none = 0;
    atomic_compare_exchange_strong(&start_ns, &none, begin);
    uint64_t end = begin + (uint64_t)(seconds * 1e9);
    uint64_t before = begin;
    while (before < end) {
        uint64_t units = 1;
        switch (mode) {
        case STAT: {
            struct stat st;
            if (fstatat(fd, names[next_random(&random_state) % name_count], &st, AT_SYMLINK_NOFOLLOW) != 0)
                fail("stat in");
            break;
        }
        case OPEN: {
            int file = openat(fd, names[next_random(&random_state) % name_count], O_RDONLY);
            if (file < 0)
                fail("open in");
            close(file);
            break;
        }
        case READDIR:
            units = list_directory(buffer, buffer_bytes);
            break;
        default: {
            uint64_t number = mode == READ_RANDOM || mode == WRITE_RANDOM
                ? next_random(&random_state) % blocks
                : next++ % blocks;
            off_t offset = (off_t)(first + number * block);
            ssize_t done = mode == READ_RANDOM || mode == READ_SEQ
                ? pread(fd, buffer, block, offset)
                : pwrite(fd, buffer, block, offset);
            if (done != (ssize_t)block) {
                if (done >= 0)
                    errno = ENODATA;
                fail("transfer");
            }
            units = block;
            break;
        }
        }
        uint64_t after = now_ns();
        uint64_t took = after - before;
        me->histogram[bucket_of(took)]++;
        if (took > me->max_ns)
            me->max_ns = took;
        me->ops++;
        me->units += units;
        before = after;
    }
    me->end_ns = before;
    return NULL;
}

static void collect_names(void)
{
    DIR *directory = opendir(path);
    if (directory == NULL)
        fail("open directory");
    size_t room = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        if (name_count == room) {
            room = room == 0 ? 1024 : room * 2;
            names = realloc(names, room * sizeof *names);
            if (names == NULL)
                fail("memory");
        }
        names[name_count++] = strdup(entry->d_name);
    }
    closedir(directory);
    if (name_count == 0) {
        errno = ENOENT;
        fail("no names in");
    }
}

static uint64_t percentile(const uint64_t *histogram, uint64_t total, double share)
{
    uint64_t rank = (uint64_t)((double)total * share);
    uint64_t seen = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (seen > rank)
            return bucket_top(i);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc % 2 == 0) {
        fprintf(stderr, "usage: load MODE PATH [--threads N] [--seconds S] [--block BYTES] [--span BYTES]\n");
        return 2;
    }
    for (mode = 0; mode < MODES && strcmp(argv[1], mode_names[mode]) != 0; mode++)
        ;
    path = argv[2];
    for (int i = 3; i < argc; i += 2) {
        if (strcmp(argv[i], "--threads") == 0)
            thread_count = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--block") == 0)
            block = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--span") == 0)
            span = strtoull(argv[i + 1], NULL, 10);
        else
            thread_count = 0;
    }
    if (mode == MODES || thread_count < 1 || thread_count > 64 || seconds <= 0 || block == 0) {
        fprintf(stderr, "load: bad mode or option\n");
        return 2;
    }
    if (mode == STAT || mode == OPEN) {
        collect_names();
    } else if (mode != READDIR) {
        struct stat st;
        if (stat(path, &st) != 0)
            fail("stat");
        if (span == 0 || span > (uint64_t)st.st_size)
            span = (uint64_t)st.st_size;
        if (span / (uint64_t)thread_count < block) {
            fprintf(stderr, "load: %s is too small for %d threads\n", path, thread_count);
            return 1;
        }
    }

    struct worker *workers = calloc((size_t)thread_count, sizeof *workers);
    if (workers == NULL)
        fail("memory");
    pthread_barrier_init(&start_line, NULL, (unsigned)thread_count);
    for (int i = 0; i < thread_count; i++) {
        workers[i].index = i;
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            fail("pthread_create");
    }
    struct worker *all = &workers[0];
    for (int i = 0; i < thread_count; i++) {
        struct worker *one = &workers[i];
        pthread_join(one->thread, NULL);
        if (i == 0)
            continue;
        all->ops += one->ops;
        all->units += one->units;
        if (one->max_ns > all->max_ns)
            all->max_ns = one->max_ns;
        if (one->end_ns > all->end_ns)
            all->end_ns = one->end_ns;
        for (size_t b = 0; b < BUCKETS; b++)
            all->histogram[b] += one->histogram[b];
    }
    printf("{\"mode\":\"%s\",\"threads\":%d,\"ops\":%llu,\"units\":%llu,\"seconds\":%.6f,"
           "\"p50_ns\":%llu,\"p99_ns\":%llu,\"max_ns\":%llu}\n",
           mode_names[mode], thread_count, (unsigned long long)all->ops, (unsigned long long)all->units,
           (double)(all->end_ns - atomic_load(&start_ns)) / 1e9,
           (unsigned long long)percentile(all->histogram, all->ops, 0.50),
           (unsigned long long)percentile(all->histogram, all->ops, 0.99),
           (unsigned long long)all->max_ns);
    return 0;
}
