// Services of the host's C library that Swift cannot call directly.

#define _GNU_SOURCE
#include "fastloss_host.h"

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    // The affinity mask may allow fewer processors than the machine has, in a container or under taskset.
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

void fastloss_once(fastloss_once_step step, void (*make)(void)) {
    static pthread_once_t controls[FASTLOSS_ONCE_COUNT] = {PTHREAD_ONCE_INIT, PTHREAD_ONCE_INIT};
    pthread_once(&controls[step], make);
}

// ---- One block of memory for each thread

/// A block, and the function that releases its contents.
typedef struct {
    void (*release)(void *);
    max_align_t memory[];
} thread_block;

static pthread_key_t block_key;
static bool has_block_key = false;

static void free_block(void *pointer) {
    thread_block *const block = pointer;
    block->release(block->memory);
    free(block);
}

static void make_block_key(void) { has_block_key = pthread_key_create(&block_key, free_block) == 0; }

static bool prepare_block_key(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_block_key);
    return has_block_key;
}

void *fastloss_thread_memory(void) {
    if (!prepare_block_key()) return NULL;
    thread_block *const block = pthread_getspecific(block_key);
    return block ? block->memory : NULL;
}

void *fastloss_make_thread_memory(size_t size, void (*release)(void *)) {
    if (!prepare_block_key()) return NULL;
    thread_block *const block = calloc(1, sizeof(thread_block) + size);
    if (!block) return NULL;
    block->release = release;
    if (pthread_setspecific(block_key, block) != 0) {
        free(block);
        return NULL;
    }
    return block->memory;
}

// ---- Numbers

/// Writes a number that is given as "-d.ddde+x", in any locale. Exponents from −4 to 15 become plain digits.
static size_t lay_out(const char *scientific, char *text) {
    char digits[20];
    int count = 0;
    const char *p = scientific;
    char *out = text;
    if (*p == '-') *out++ = *p++;
    for (; *p && *p != 'e'; ++p)
        if (*p >= '0' && *p <= '9') digits[count++] = *p;
    const int exponent = atoi(p + 1);
    if (exponent < -4 || exponent > 15) {
        *out++ = digits[0];
        if (count > 1) *out++ = '.';
        for (int i = 1; i < count; ++i) *out++ = digits[i];
        strcpy(out, p);
        return strlen(text);
    }
    if (exponent < 0) *out++ = '0';
    for (int i = exponent < 0 ? exponent + 1 : 0; i < count || i <= exponent; ++i) {
        if (i == exponent + 1) *out++ = '.';
        *out++ = (char)(i >= 0 && i < count ? digits[i] : '0');
    }
    *out = 0;
    return strlen(text);
}

/// Writes NaN or an infinity.
static size_t format_special(double number, char *text) {
    strcpy(text, isnan(number) ? "nan" : number < 0 ? "-inf" : "inf");
    return strlen(text);
}

size_t fastloss_format_double(double number, char *text) {
    if (!isfinite(number)) return format_special(number, text);
    char scientific[FASTLOSS_NUMBER_CAPACITY];
    for (int decimals = 0; decimals < 17; ++decimals) {
        snprintf(scientific, sizeof scientific, "%.*e", decimals, number);
        if (strtod(scientific, NULL) == number) break;
    }
    return lay_out(scientific, text);
}

size_t fastloss_format_float(float number, char *text) {
    if (!isfinite(number)) return format_special((double)number, text);
    char scientific[FASTLOSS_NUMBER_CAPACITY];
    for (int decimals = 0; decimals < 9; ++decimals) {
        snprintf(scientific, sizeof scientific, "%.*e", decimals, (double)number);
        if (strtof(scientific, NULL) == number) break;
    }
    return lay_out(scientific, text);
}
