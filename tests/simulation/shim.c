/* Writes down what a process does to the files below one directory, and lets one of these calls fail.
 *
 * Preloaded into a child (LD_PRELOAD). HOLDFAST_TRACE_ROOT names the directory. Until `trace_start` is
 * called nothing is written down. Every call that changes a file or a name, or syncs one, becomes one
 * entry of the journal: a header of nine little-endian 64-bit numbers (kind, error, inode, offset, length,
 * inode of the second name, and the lengths of data, first name and second name), then those three. A call that is
 * made to fail is entered with its error, and reaches no file. See tracing.py, which reads it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, EXCHANGE, UNLINK, MKDIR, RMDIR, MARK, OTHER };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int journal = -1;
static long calls, fail_at, fail_errno, fail_count;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

/* The call's path, made absolute, when it lies below the root. */
static int below(int directory, const char *path, char *full) {
    if (journal < 0) return 0;
    if (path[0] == '/') {
        snprintf(full, PATH_MAX, "%s", path);
    } else {
        char link[64], base[PATH_MAX];
        snprintf(link, sizeof link, directory == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", directory);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0) return 0;
        base[length] = 0;
        snprintf(full, PATH_MAX, "%.2000s/%.2000s", base, path);
    }
    return !strncmp(full, root, root_length) && (full[root_length] == '/' || !full[root_length]);
}

/* The inode behind a handle when its file lies below the root; 0 otherwise. */
static uint64_t inode_of(int handle) {
    if (journal < 0 || handle == journal) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strncmp(path, root, root_length) || (path[root_length] && path[root_length] != '/')) return 0;
    struct stat found;
    return fstat(handle, &found) ? 0 : found.st_ino;
}

static uint64_t inode_at(const char *path) {
    struct stat found;
    return lstat(path, &found) ? 0 : found.st_ino;
}

static void put(const void *data, size_t length) {
    while (length) {
        ssize_t done = syscall(SYS_write, journal, data, length);
        if (done <= 0) abort();
        data = (const char *)data + done;
        length -= done;
    }
}

static void enter(enum kind kind, int error, uint64_t inode, uint64_t offset, uint64_t length,
                  uint64_t other, const void *data, size_t data_length, const char *one, const char *two) {
    uint64_t one_length = one ? strlen(one) : 0, two_length = two ? strlen(two) : 0;
    uint64_t head[9] = {kind, error, inode, offset, length, other, data_length, one_length, two_length};
    pthread_mutex_lock(&lock);
    put(head, sizeof head);
    put(data, data_length);
    put(one, one_length);
    put(two, two_length);
    pthread_mutex_unlock(&lock);
}

/* Whether the call that is about to be made must fail; counts it. */
static int fails(void) {
    long number = __sync_add_and_fetch(&calls, 1);
    return fail_at && number >= fail_at && (!fail_count || number < fail_at + fail_count);
}

static int refused(enum kind kind, uint64_t inode, const char *path) {
    enter(kind, fail_errno, inode, 0, 0, 0, NULL, 0, path, NULL);
    errno = fail_errno;
    return -1;
}

void trace_start(const char *directory, const char *file) {
    snprintf(root, sizeof root, "%s", directory);
    root_length = strlen(root);
    calls = fail_at = 0;
    int handle = syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (handle < 0) abort();
    journal = handle;
}

/* From the `at`th call on (1 is the next after trace_start), `count` calls fail; 0: all that follow. */
void trace_fail(long at, int error, long count) {
    fail_at = at;
    fail_errno = error;
    fail_count = count;
}

void trace_mark(const char *text) {
    if (journal >= 0) enter(MARK, 0, 0, 0, 0, 0, text, strlen(text), NULL, NULL);
}

long trace_calls(void) {
    return calls;
}

static int opened(int directory, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    if (!below(directory, path, full) || (flags & O_ACCMODE) == O_RDONLY)
        return syscall(SYS_openat, directory, path, flags, mode);
    struct stat before;
    int made = (flags & O_CREAT) && stat(full, &before);
    int cut = (flags & O_TRUNC) && !made;
    if ((made || cut) && fails()) return refused(made ? CREATE : TRUNCATE, cut ? before.st_ino : 0, full);
    int handle = syscall(SYS_openat, directory, path, flags, mode);
    if (handle >= 0 && made) enter(CREATE, 0, inode_at(full), 0, 0, 0, NULL, 0, full, NULL);
    if (handle >= 0 && cut) enter(TRUNCATE, 0, before.st_ino, 0, 0, 0, NULL, 0, NULL, NULL);
    return handle;
}

#define OPEN_MODE(flags) \
    mode_t mode = 0; \
    if (((flags) & O_CREAT) || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { OPEN_MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { OPEN_MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { OPEN_MODE(flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { OPEN_MODE(flags) return opened(at, path, flags, mode); }

ssize_t pwrite64(int handle, const void *data, size_t length, off64_t offset) {
    uint64_t inode = inode_of(handle);
    if (inode && fails()) return refused(WRITE, inode, NULL);
    ssize_t done = REAL(pwrite64)(handle, data, length, offset);
    if (inode && done > 0) enter(WRITE, 0, inode, offset, done, 0, data, done, NULL, NULL);
    return done;
}
ssize_t pwrite(int handle, const void *data, size_t length, off_t offset) {
    return pwrite64(handle, data, length, offset);
}

ssize_t write(int handle, const void *data, size_t length) {
    uint64_t inode = inode_of(handle);
    if (inode && fails()) return refused(WRITE, inode, NULL);
    ssize_t done = REAL(write)(handle, data, length);
    if (inode && done > 0) {
        /* After the call, so that a file opened for appending tells where it went. */
        off64_t end = lseek64(handle, 0, SEEK_CUR);
        enter(WRITE, 0, inode, end - done, done, 0, data, done, NULL, NULL);
    }
    return done;
}

ssize_t writev(int handle, const struct iovec *parts, int count) {
    if (!inode_of(handle)) return REAL(writev)(handle, parts, count);
    ssize_t all = 0;
    for (int part = 0; part < count; part++) {
        ssize_t done = write(handle, parts[part].iov_base, parts[part].iov_len);
        if (done < 0) return all ? all : -1;
        all += done;
    }
    return all;
}

int ftruncate64(int handle, off64_t length) {
    uint64_t inode = inode_of(handle);
    if (inode && fails()) return refused(TRUNCATE, inode, NULL);
    int done = REAL(ftruncate64)(handle, length);
    if (inode && !done) enter(TRUNCATE, 0, inode, 0, length, 0, NULL, 0, NULL, NULL);
    return done;
}
int ftruncate(int handle, off_t length) { return ftruncate64(handle, length); }

/* Space set aside reads as zeros, as if the file had been made longer. */
int fallocate64(int handle, int mode, off64_t offset, off64_t length) {
    uint64_t inode = inode_of(handle);
    if (inode && fails()) return refused(TRUNCATE, inode, NULL);
    struct stat before;
    if (inode) fstat(handle, &before);
    int done = REAL(fallocate64)(handle, mode, offset, length);
    if (inode && !done && offset + length > before.st_size)
        enter(mode ? OTHER : TRUNCATE, 0, inode, 0, offset + length, 0, NULL, 0, NULL, NULL);
    return done;
}
int fallocate(int handle, int mode, off_t offset, off_t length) {
    return fallocate64(handle, mode, offset, length);
}
int posix_fallocate64(int handle, off64_t offset, off64_t length) {
    return fallocate64(handle, 0, offset, length) ? errno : 0;
}
int posix_fallocate(int handle, off_t offset, off_t length) {
    return fallocate64(handle, 0, offset, length) ? errno : 0;
}

static int synced(int handle, int (*call)(int)) {
    uint64_t inode = inode_of(handle);
    if (inode && fails()) return refused(SYNC, inode, NULL);
    int done = call(handle);
    if (inode && !done) enter(SYNC, 0, inode, 0, 0, 0, NULL, 0, NULL, NULL);
    return done;
}
int fsync(int handle) { return synced(handle, REAL(fsync)); }
int fdatasync(int handle) { return synced(handle, REAL(fdatasync)); }

static int renamed(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    char one[PATH_MAX], two[PATH_MAX];
    int inside = below(from_at, from, one) & below(to_at, to, two);
    if (inside && fails()) return refused(RENAME, 0, one);
    uint64_t first = inside ? inode_at(one) : 0, second = inside ? inode_at(two) : 0;
    int done = syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    if (inside && !done)
        enter(flags & RENAME_EXCHANGE ? EXCHANGE : RENAME, 0, first, 0, 0, second, NULL, 0, one, two);
    return done;
}
int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_at, const char *from, int to_at, const char *to) {
    return renamed(from_at, from, to_at, to, 0);
}
int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    return renamed(from_at, from, to_at, to, flags);
}

static int removed(int at, const char *path, int flags) {
    char full[PATH_MAX];
    enum kind kind = flags & AT_REMOVEDIR ? RMDIR : UNLINK;
    int inside = below(at, path, full);
    uint64_t inode = inside ? inode_at(full) : 0;
    if (inode && fails()) return refused(kind, inode, full);
    int done = syscall(SYS_unlinkat, at, path, flags);
    if (inode && !done) enter(kind, 0, inode, 0, 0, 0, NULL, 0, full, NULL);
    return done;
}
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return removed(at, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int at, const char *path, mode_t mode) {
    char full[PATH_MAX];
    int inside = below(at, path, full);
    struct stat before;
    if (inside && lstat(full, &before) && fails()) return refused(MKDIR, 0, full);
    int done = syscall(SYS_mkdirat, at, path, mode);
    if (inside && !done) enter(MKDIR, 0, inode_at(full), 0, 0, 0, NULL, 0, full, NULL);
    return done;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* Calls that move bytes past this shim, or give a file a second name: entered, so that the reader can refuse. */
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t length, unsigned flags) {
    if (inode_of(out)) { errno = ENOSYS; return -1; }
    return REAL(copy_file_range)(in, from, out, to, length, flags);
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t length) {
    if (inode_of(out)) { errno = EINVAL; return -1; }
    return REAL(sendfile64)(out, in, offset, length);
}
ssize_t sendfile(int out, int in, off_t *offset, size_t length) { return sendfile64(out, in, offset, length); }
int link(const char *from, const char *to) {
    char full[PATH_MAX];
    int inside = below(AT_FDCWD, to, full), done = REAL(link)(from, to);
    if (inside && !done) enter(OTHER, 0, inode_at(full), 0, 0, 0, NULL, 0, full, NULL);
    return done;
}
