/* Loaded before libc (LD_PRELOAD): notes what processes write below $RECORD_BELOW, and when they wait for the disk.
 *
 * One record for each operation, appended to $RECORD_TO with one write: a header, the path, the data. Writes are noted
 * once they were made; a sync is noted when it begins and when it has returned, so that only what was noted before its
 * beginning counts as synced.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct header { uint32_t kind, path_bytes; uint64_t offset, data_bytes; uint64_t thread; };

static int record_fd = -1;
static const char *below;
static size_t below_bytes;
static ssize_t (*real_write)(int, const void *, size_t);

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
    const char *to = getenv("RECORD_TO");
    below = getenv("RECORD_BELOW");
    real_write = next("write");
    if (to == NULL || below == NULL) return;
    below_bytes = strlen(below);
    int fd = open(to, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    record_fd = fcntl(fd, F_DUPFD_CLOEXEC, 700);  /* out of the way of programs that close what they do not know */
    close(fd);
}

static void note(char kind, const char *path, size_t path_bytes, uint64_t offset, const void *data, size_t bytes) {
    static __thread uint64_t self;
    if (self == 0) self = (uint64_t)gettid();
    struct header header = {(uint32_t)kind, (uint32_t)path_bytes, offset, bytes, self};
    struct iovec parts[3] = {{&header, sizeof header}, {(void *)path, path_bytes}, {(void *)data, bytes}};
    int saved = errno;
    if (writev(record_fd, parts, 3) < 0) abort();
    errno = saved;
}

static size_t path_of(int fd, char *path, size_t room) {
    if (record_fd < 0 || fd == record_fd) return 0;
    char link[64] = "/proc/self/fd/";
    char digits[16]; int n = 0, left = fd;
    if (fd < 0) return 0;
    do { digits[n++] = '0' + left % 10; left /= 10; } while (left);
    size_t at = strlen(link);
    while (n) link[at++] = digits[--n];
    link[at] = 0;
    int saved = errno;
    ssize_t got = readlink(link, path, room);
    errno = saved;
    if (got < (ssize_t)below_bytes || memcmp(path, below, below_bytes) != 0) return 0;
    return (size_t)got;
}

static void note_fd(char kind, int fd, uint64_t offset, const void *data, size_t bytes) {
    char path[4096];
    size_t path_bytes = path_of(fd, path, sizeof path);
    if (path_bytes) note(kind, path, path_bytes, offset, data, bytes);
}

ssize_t write(int fd, const void *data, size_t bytes) {
    if (real_write == NULL) real_write = next("write");
    ssize_t done = real_write(fd, data, bytes);
    if (done > 0 && record_fd >= 0 && fd != record_fd) {
        char path[4096];
        size_t path_bytes = path_of(fd, path, sizeof path);
        if (path_bytes) {
            int saved = errno;
            off_t end = lseek(fd, 0, SEEK_CUR);
            errno = saved;
            note('w', path, path_bytes, (uint64_t)end - (uint64_t)done, data, (size_t)done);
        }
    }
    return done;
}

#define PWRITE(name) \
    ssize_t name(int fd, const void *data, size_t bytes, off_t offset) { \
        static ssize_t (*real)(int, const void *, size_t, off_t); \
        if (real == NULL) real = next(#name); \
        ssize_t done = real(fd, data, bytes, offset); \
        if (done > 0) note_fd('w', fd, (uint64_t)offset, data, (size_t)done); \
        return done; \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define TRUNCATE(name) \
    int name(int fd, off_t bytes) { \
        static int (*real)(int, off_t); \
        if (real == NULL) real = next(#name); \
        int done = real(fd, bytes); \
        if (done == 0) note_fd('t', fd, (uint64_t)bytes, NULL, 0); \
        return done; \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define SYNC(name) \
    int name(int fd) { \
        static int (*real)(int); \
        if (real == NULL) real = next(#name); \
        note_fd('b', fd, 0, NULL, 0); \
        int done = real(fd); \
        if (done == 0) note_fd('s', fd, 0, NULL, 0); \
        return done; \
    }
SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path) {
    static int (*real)(const char *);
    if (real == NULL) real = next("unlink");
    int done = real(path);
    if (done == 0 && record_fd >= 0 && strncmp(path, below, below_bytes) == 0) note('u', path, strlen(path), 0, NULL, 0);
    return done;
}

int mkdir(const char *path, mode_t mode) {
    static int (*real)(const char *, mode_t);
    if (real == NULL) real = next("mkdir");
    int done = real(path, mode);
    if (done == 0 && record_fd >= 0 && strncmp(path, below, below_bytes) == 0) note('m', path, strlen(path), 0, NULL, 0);
    return done;
}
