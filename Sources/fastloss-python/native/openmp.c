// Lends PyTorch's OpenMP threads to libfastloss.
//
// After each of PyTorch's parallel operations its threads look for more work for some milliseconds, on all
// processors. Helpers of the library's own would compete with them for as long. Later they sleep. Then they
// are no good: a team of OpenMP is complete only when the last thread has come, and waking one takes longer
// than a loss. The library's helpers may come late.
//
// The functions here belong to GNU's OpenMP library. Intel's and LLVM's have them, too. Measured: the article
// Tuning.

#define _GNU_SOURCE  // RTLD_NOLOAD, syscall
#include "openmp.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "library.h"

/// Calls `work(context)` on a team of threads: the caller's usual one, if `threads` and `flags` are 0.
typedef void gomp_parallel(void (*work)(void *), void *context, unsigned threads, unsigned flags);
typedef int omp_query(void);

/// Any function of the OpenMP library.
static const void *openmp;
static gomp_parallel *parallel;
static omp_query *most_threads, *in_parallel, *thread_number;
/// The newest thread of the process when the functions were found. Those of BLAS libraries are older.
static long last_foreign_thread;
/// An older thread that is of OpenMP's all the same, or 0: PyTorch may have computed before.
static long older_team_thread;

enum {
    /// Nanoseconds for which the threads certainly look for work.
    ALERT = 100 * 1000,
    /// Nanoseconds until a caller without a team looks for one again, which takes some tens of microseconds.
    PATIENCE = 10 * 1000 * 1000,
};

/// The team of the calling thread, once it has worked: the clock of the time that its second thread has spent
/// on a processor, and when it last worked. Before that, when a team was last looked for.
static _Thread_local struct {
    bool is_known;
    clockid_t clock;
    int64_t worked, sought;
} team;

static int64_t nanoseconds(clockid_t clock) {
    struct timespec time = {0, 0};
    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/// Whether a thread is on a processor: its clock stands while it sleeps. Reading it twice takes 0.4 µs.
static bool is_running(clockid_t clock) {
    const int64_t before = nanoseconds(clock);
    return nanoseconds(clock) != before;
}

/// Reads what Linux says of a thread of the process; an empty string if it says nothing.
static void read_about(long thread, const char *what, char *text, size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%ld/%s", thread, what);
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t length = file < 0 ? 0 : read(file, text, size - 1);
    if (file >= 0) close(file);
    text[length > 0 ? length : 0] = '\0';
}

/// Whether a thread is one of the library's helpers, by its name.
static bool is_helper(long thread) {
    char name[32];
    read_about(thread, "comm", name, sizeof name);
    return strcmp(name, "fastloss\n") == 0;
}

/// The start of the code of the library that an address lies in, or NULL.
static const void *library_of(const void *address) {
    Dl_info info;
    return dladdr(address, &info) ? info.dli_fbase : NULL;
}

/// Whether a thread sleeps in a function of the OpenMP library, so that it is a thread of a team.
static bool sleeps_in_openmp(long thread) {
    // The number of a system call, its arguments, the stack pointer and the instruction pointer, or
    // "running".
    char call[256];
    read_about(thread, "syscall", call, sizeof call);
    const char *const instruction = strrchr(call, ' ');
    if (!instruction) return false;
    const void *const library = library_of((const void *)(uintptr_t)strtoull(instruction, NULL, 16));
    return library && library == library_of(openmp);
}

/// The newest thread of the process that fits, or 0. Newer threads have larger numbers, until these start
/// again.
static long newest_thread(bool fits(long thread)) {
    DIR *const threads = opendir("/proc/self/task");
    if (!threads) return 0;
    long newest = 0;
    for (struct dirent *entry; (entry = readdir(threads));) {
        const long thread = strtol(entry->d_name, NULL, 10);
        if (thread > newest && fits(thread)) newest = thread;
    }
    closedir(threads);
    return newest;
}

static bool any(long thread) { return thread > 0; }

/// Whether a thread may be one of a team that looks for work: another one that is on a processor, and no
/// helper.
static bool may_be_of_team(long thread) {
    if (thread <= last_foreign_thread && thread != older_team_thread) return false;
    if (thread == syscall(SYS_gettid)) return false;
    // As pthread_getcpuclockid forms it.
    return is_running((clockid_t)(~(unsigned)thread << 3 | 6)) && !is_helper(thread);
}

/// Whether the caller has a team, as far as can be seen, and it looks for work.
static bool is_awake(void) {
    const int64_t now = nanoseconds(CLOCK_MONOTONIC);
    // The clock of a thread is 0 after its end.
    if (team.is_known && nanoseconds(team.clock) > 0)
        return now - team.worked < ALERT || is_running(team.clock);
    team.is_known = false;
    if (team.sought && now - team.sought < PATIENCE) return false;
    team.sought = now;
    return newest_thread(may_be_of_team) > 0;
}

/// The number of threads of the caller's team. A thread of a team gets no team of its own.
static int32_t threads(void *unused) {
    (void)unused;
    const int32_t most = most_threads();
    return most > 1 && !in_parallel() && is_awake() ? most : 1;
}

typedef struct {
    fastloss_pool_work work;
    void *context;
    clockid_t clock;  ///< of the second thread
    bool has_clock;
} shared_work;

static void work_in_team(void *memory) {
    shared_work *const shared = memory;
    if (thread_number() == 1) shared->has_clock = pthread_getcpuclockid(pthread_self(), &shared->clock) == 0;
    shared->work(shared->context);
}

static void run(fastloss_pool_work work, void *work_context, void *unused) {
    (void)unused;
    shared_work shared = {.work = work, .context = work_context};
    parallel(work_in_team, &shared, 0, 0);
    team.is_known = shared.has_clock;
    team.clock = shared.clock;
    team.worked = nanoseconds(CLOCK_MONOTONIC);
}

PyObject *use_openmp(PyObject *module, PyObject *path) {
    (void)module;
    const char *text = PyUnicode_AsUTF8AndSize(path, NULL);
    if (!text) return NULL;
    // Its handle finds the symbols of the OpenMP library that it is linked with, and of no other in the
    // process.
    void *handle = dlopen(text, RTLD_LAZY | RTLD_NOLOAD);
    if (!handle) Py_RETURN_FALSE;
    void *const symbols[] = {
        dlsym(handle, "GOMP_parallel"), dlsym(handle, "omp_get_max_threads"),
        dlsym(handle, "omp_in_parallel"), dlsym(handle, "omp_get_thread_num")};
    if (!symbols[0] || !symbols[1] || !symbols[2] || !symbols[3]) {
        dlclose(handle);
        Py_RETURN_FALSE;
    }
    memcpy(&parallel, &symbols[0], sizeof parallel);
    memcpy(&most_threads, &symbols[1], sizeof most_threads);
    memcpy(&in_parallel, &symbols[2], sizeof in_parallel);
    memcpy(&thread_number, &symbols[3], sizeof thread_number);
    openmp = symbols[0];
    last_foreign_thread = newest_thread(any);
    older_team_thread = newest_thread(sleeps_in_openmp);
    const fastloss_thread_pool pool = {sizeof pool, NULL, threads, run};
    fastloss_status status;
    // It waits for a call of another thread, whose callbacks may need the GIL.
    Py_BEGIN_ALLOW_THREADS status = library.set_thread_pool(&pool);
    Py_END_ALLOW_THREADS return PyBool_FromLong(status == FASTLOSS_OK);
}
