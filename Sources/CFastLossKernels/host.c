// Two questions to the host that Swift's C library overlay cannot ask, because they are GNU extensions.

#define _GNU_SOURCE
#include "fastloss_kernels.h"

#include <dlfcn.h>
#include <unistd.h>

#if defined(__linux__)
#include <sched.h>
#endif

const char *fastloss_library_of(const void *address) {
    Dl_info info;
    return dladdr(address, &info) != 0 ? info.dli_fname : NULL;
}

int fastloss_available_processors(void) {
#if defined(__linux__)
    // The affinity mask may allow less than the machine has: in a container, under taskset.
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}
