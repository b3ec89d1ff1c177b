/* Maps a file, sums its bytes again and again, and prints the sum after each change of it and once a hundred turns. Ends with 1 at the
   first error. Static, so that it needs nothing in its image.
   usage: hold FILE [once] */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(const char *what)
{
    printf("failed: %s: %s\n", what, strerror(errno));
    fflush(stdout);
    return 1;
}

int main(int argc, char **argv)
{
    struct stat st;
    int file = argc > 1 ? open(argv[1], O_RDONLY) : -1;
    if (file < 0 || fstat(file, &st) != 0)
        return fail("open");
    const unsigned char *bytes = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, file, 0);
    if (bytes == MAP_FAILED)
        return fail("mmap");
    unsigned long before = 0;
    for (unsigned long turn = 0;; turn++) {
        unsigned char through[4096];
        unsigned long sum = 14695981039346656037ul;
        for (off_t at = 0; at < st.st_size; at += sizeof through) {
            ssize_t count = pread(file, through, sizeof through, at);
            if (count <= 0)
                return fail("read");
            if (memcmp(through, bytes + at, count) != 0)
                return fail("what is read is not what is mapped");
            for (ssize_t i = 0; i < count; i++)
                sum = (sum ^ through[i]) * 1099511628211ul;
        }
        if (turn % 100 == 0 || sum != before)
            printf("turn %lu: %ld bytes, sum %016lx\n", turn, (long)st.st_size, sum);
        before = sum;
        fflush(stdout);
        if (argc > 2)
            return 0;
        usleep(20000);
    }
}
