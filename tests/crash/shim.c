/* Faults of the disk and of the clock, put between the real server and the C library.
 *
 * Built by `shim.py` and given to a child process in LD_PRELOAD. Counts the calls that touch files
 * of one directory, in all threads together, and lets one of them fail. Reads the offset of the
 * machine's clock from a file that the test changes while the server runs. Every call is written to
 * a log before it is made, so that a test sees what was done after the fault. After an error the
 * other threads are held for a moment at their next call, until the one that got it could tell.
 *
 *   SHIM_DIRECTORY  files in it are counted; without it nothing is
 *   SHIM_CALLS      names of the calls that count, "pwrite,fdatasync"; all by default
 *   SHIM_AT         number of the call that fails, from 1; 0 for none
 *   SHIM_FAULT      eio, enospc, short (half of a write), kill, delay (2 seconds)
 *   SHIM_FOREVER    if set, every later call that counts fails as well
 *   SHIM_LOG        a file for one line a call: number, call, file, thread, fault
 *   SHIM_CLOCK      a file of 8 bytes: nanoseconds to add to CLOCK_REALTIME
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FILES_MAX 4096
#define NAME_BYTES 64

enum fault { NONE, EIO_FAULT, ENOSPC_FAULT, SHORT_FAULT, KILL_FAULT, DELAY_FAULT };

static char names[FILES_MAX][NAME_BYTES]; /* by descriptor; empty for files elsewhere */
static const char *directory;
static const char *calls;
static long fail_at;
static int is_forever;
static enum fault planned = NONE;
static int log_file = -1;
static atomic_long call_count;
static atomic_int is_error_met;
static __thread int is_told;
static volatile int64_t *clock_offset;

static enum fault parse_fault(const char *text) {
    static const char *words[] = {"", "eio", "enospc", "short", "kill", "delay"};
    for (int index = 1; text && index <= DELAY_FAULT; index++)
        if (!strcmp(text, words[index])) return (enum fault)index;
    return NONE;
}

__attribute__((constructor)) static void start(void) {
    const char *text = getenv("SHIM_AT");
    directory = getenv("SHIM_DIRECTORY");
    calls = getenv("SHIM_CALLS");
    fail_at = text ? atol(text) : 0;
    is_forever = getenv("SHIM_FOREVER") != NULL;
    planned = parse_fault(getenv("SHIM_FAULT"));
    text = getenv("SHIM_LOG");
    if (text) log_file = open(text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    text = getenv("SHIM_CLOCK");
    if (text) {
        int file = open(text, O_RDONLY | O_CLOEXEC);
        void *page = file < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
        if (page != MAP_FAILED) clock_offset = page;
        if (file >= 0) close(file);
    }
}

static const char *ours(const char *path) {
    size_t length = directory ? strlen(directory) : 0;
    if (!length || strncmp(path, directory, length)) return NULL;
    const char *name = path[length] == '/' ? path + length + 1 : ".";
    return path[length] && path[length] != '/' ? NULL : name;
}

static const char *ours_by_file(int file) {
    return file >= 0 && file < FILES_MAX && names[file][0] ? names[file] : NULL;
}

static int counts(const char *call) {
    if (!calls) return 1;
    const char *found = strstr(calls, call);
    size_t length = strlen(call);
    return found && (found[length] == ',' || !found[length]);
}

/* An error is known to all threads once the one that got it has come back from the call. */
static void wait_for_word(void) {
    struct timespec half = {0, 500000000};
    if (!is_told && atomic_load(&is_error_met)) {
        is_told = 1;
        nanosleep(&half, NULL);
    }
}

/* Counts a call and says how it is to fail; errno is set for those that fail at once. */
static enum fault meet(const char *call, const char *name) {
    static const char *words[] = {"", " eio", " enospc", " short", " kill", " delay"};
    if (!name || !counts(call)) return NONE;
    wait_for_word();
    long number = atomic_fetch_add(&call_count, 1) + 1;
    int is_met = fail_at && (number == fail_at || (is_forever && number > fail_at));
    enum fault fault = is_met ? planned : NONE;
    if (log_file >= 0) {
        char line[160];
        int bytes = snprintf(line, sizeof line, "%ld %s %s %ld%s\n", number, call, name,
                             syscall(SYS_gettid), words[fault]);
        if (write(log_file, line, (size_t)bytes) != bytes) abort();
    }
    if (fault == KILL_FAULT) raise(SIGKILL);
    if (fault == DELAY_FAULT) {
        struct timespec two = {2, 0};
        nanosleep(&two, NULL);
        return NONE;
    }
    if (fault) is_told = 1;
    if (fault) atomic_store(&is_error_met, 1);
    errno = fault == ENOSPC_FAULT ? ENOSPC : fault ? EIO : errno;
    return fault;
}

static void remember(int file, const char *name) {
    if (file < 0 || file >= FILES_MAX) return;
    names[file][0] = 0;
    if (name) snprintf(names[file], NAME_BYTES, "%s", name);
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)

#define OPEN(function)                                                                            \
    int function(const char *path, int flags, ...) {                                              \
        va_list arguments;                                                                        \
        va_start(arguments, flags);                                                               \
        mode_t mode = va_arg(arguments, mode_t);                                                  \
        va_end(arguments);                                                                        \
        REAL(function);                                                                           \
        const char *name = ours(path);                                                            \
        if (meet(flags & O_CREAT ? "create" : "open", name)) return -1;                           \
        int file = real(path, flags, mode);                                                       \
        remember(file, name);                                                                     \
        return file;                                                                              \
    }
OPEN(open64)
OPEN(open)

int close(int file) {
    REAL(close);
    remember(file, NULL);
    return real(file);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset) {
    REAL(pwrite64);
    enum fault fault = meet("pwrite", ours_by_file(file));
    if (fault == SHORT_FAULT) return real(file, bytes, count / 2, offset);
    /* As a device does: some of it is there. */
    if (fault && real(file, bytes, count / 2, offset) < 0) abort();
    if (fault) errno = fault == ENOSPC_FAULT ? ENOSPC : EIO;
    return fault ? -1 : real(file, bytes, count, offset);
}

ssize_t pread64(int file, void *bytes, size_t count, off64_t offset) {
    REAL(pread64);
    return meet("pread", ours_by_file(file)) ? -1 : real(file, bytes, count, offset);
}

int fdatasync(int file) {
    REAL(fdatasync);
    return meet("fdatasync", ours_by_file(file)) ? -1 : real(file);
}

int fsync(int file) {
    REAL(fsync);
    return meet("fsync", ours_by_file(file)) ? -1 : real(file);
}

int rename(const char *source, const char *target) {
    REAL(rename);
    const char *name = ours(target);
    if (meet("rename", name)) return -1;
    int result = real(source, target);
    /* Whoever has it open writes under the new name. */
    for (int file = 0; !result && name && file < FILES_MAX; file++)
        if (names[file][0] && !strcmp(names[file], ours(source))) remember(file, name);
    return result;
}

int unlink(const char *path) {
    REAL(unlink);
    return meet("unlink", ours(path)) ? -1 : real(path);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    REAL(clock_gettime);
    int result = real(clock, time);
    if (result == 0 && clock == CLOCK_REALTIME && clock_offset) {
        int64_t nanos = time->tv_nsec + *clock_offset % 1000000000;
        time->tv_sec += *clock_offset / 1000000000 + nanos / 1000000000;
        nanos %= 1000000000;
        time->tv_sec -= nanos < 0;
        time->tv_nsec = nanos < 0 ? nanos + 1000000000 : nanos;
    }
    return result;
}
