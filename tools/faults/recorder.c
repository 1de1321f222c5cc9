/* Preloaded into a process: logs every change to files of FAULTS_FOLDER to the file FAULTS_LOG, in order, with data.
 *
 * A record: op (1 byte), length of the file's name (2), offset (8), length of the data (8), name, data; all native.
 * Syncing is only logged, as the disk is simulated. The lock makes the log's order that of the changes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static char folder[4096];
static size_t folder_length;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_LOG"), *watched = getenv("FAULTS_FOLDER");
    if (!path || !watched || !realpath(watched, folder)) return;
    folder_length = strlen(folder);
    log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* The name of a file inside the folder, "" for the folder itself, NULL for any other. SQLite's -shm is not on disk
 * in any sense: it is mapped memory, and made anew after a crash. */
static const char *name_in_folder(const char *path) {
    if (strncmp(path, folder, folder_length)) return NULL;
    if (!path[folder_length]) return "";
    if (path[folder_length] != '/') return NULL;
    const char *name = path + folder_length + 1;
    size_t length = strlen(name);
    if (length > 4 && !strcmp(name + length - 4, "-shm")) return NULL;
    if (strstr(name, " (deleted)")) return NULL;
    return name;
}

static const char *name_of(int fd, char *path) {
    char link[64];
    if (log_fd < 0 || fd == log_fd) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 4095);
    if (length <= 0) return NULL;
    path[length] = 0;
    return name_in_folder(path);
}

static void record(char op, const char *name, uint64_t offset, const void *data, uint64_t length) {
    uint16_t name_length = strlen(name);
    char head[19];
    head[0] = op;
    memcpy(head + 1, &name_length, 2);
    memcpy(head + 3, &offset, 8);
    memcpy(head + 11, &length, 8);
    struct iovec parts[3] = {{head, sizeof head}, {(void *)name, name_length}, {(void *)data, length}};
    if (writev(log_fd, parts, 3) != (ssize_t)(sizeof head + name_length + length)) abort();
}

#define REAL(type, name, ...)                                                                                          \
    static type (*real)(__VA_ARGS__);                                                                                  \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, name)

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    char path[4096];
    const char *name = name_of(fd, path);
    if (!name) return real(fd, data, length, offset);
    pthread_mutex_lock(&lock);
    ssize_t done = real(fd, data, length, offset);
    if (done > 0) record('W', name, offset, data, done);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

ssize_t write(int fd, const void *data, size_t length) {
    REAL(ssize_t, "write", int, const void *, size_t);
    char path[4096];
    const char *name = name_of(fd, path);
    if (!name) return real(fd, data, length);
    pthread_mutex_lock(&lock);
    ssize_t done = real(fd, data, length);
    if (done > 0) record('W', name, lseek(fd, 0, SEEK_CUR) - done, data, done);
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate64(int fd, off64_t length) {
    REAL(int, "ftruncate64", int, off64_t);
    char path[4096];
    const char *name = name_of(fd, path);
    if (!name) return real(fd, length);
    pthread_mutex_lock(&lock);
    int failed = real(fd, length);
    if (!failed) record('T', name, length, "", 0);
    pthread_mutex_unlock(&lock);
    return failed;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int sync_instead(int fd, int (*real)(int)) {
    char path[4096];
    const char *name = name_of(fd, path);
    if (!name) return real(fd);
    pthread_mutex_lock(&lock);
    record(*name ? 'S' : 'D', name, 0, "", 0);
    pthread_mutex_unlock(&lock);
    return 0;
}

int fsync(int fd) {
    REAL(int, "fsync", int);
    return sync_instead(fd, real);
}

int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    return sync_instead(fd, real);
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    const char *name = log_fd < 0 ? NULL : name_in_folder(path);
    if (!name) return real(path);
    pthread_mutex_lock(&lock);
    int failed = real(path);
    if (!failed) record('U', name, 0, "", 0);
    pthread_mutex_unlock(&lock);
    return failed;
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    const char *name = log_fd < 0 ? NULL : name_in_folder(from), *new_name = log_fd < 0 ? NULL : name_in_folder(to);
    if (!name || !new_name) return real(from, to);
    pthread_mutex_lock(&lock);
    int failed = real(from, to);
    if (!failed) record('R', name, 0, new_name, strlen(new_name));
    pthread_mutex_unlock(&lock);
    return failed;
}

/* Writing through a mapping cannot be seen from here; logged so that the replay refuses the log. */
void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset) {
    REAL(void *, "mmap64", void *, size_t, int, int, int, off64_t);
    char path[4096];
    const char *name;
    if (fd >= 0 && (protection & PROT_WRITE) && (flags & MAP_SHARED) && (name = name_of(fd, path))) {
        pthread_mutex_lock(&lock);
        record('M', name, 0, "", 0);
        pthread_mutex_unlock(&lock);
    }
    return real(address, length, protection, flags, fd, offset);
}
