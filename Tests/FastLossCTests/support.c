#include "support.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Checks

static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;
static long made = 0;
static long failed = 0;
static long skipped = 0;
static char subject[256] = "";

void now_testing(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(subject, sizeof subject, format, arguments);
    va_end(arguments);
}

void check(int holds, const char *file, int line, const char *format, ...) {
    pthread_mutex_lock(&counting);
    made++;
    if (!holds) {
        failed++;
        if (failed <= 50) {
            va_list arguments;
            va_start(arguments, format);
            fprintf(stderr, "%s:%d: %s: ", file, line, subject);
            vfprintf(stderr, format, arguments);
            fprintf(stderr, "\n");
            va_end(arguments);
        }
    }
    pthread_mutex_unlock(&counting);
}

void check_status(
    fastloss_status actual, fastloss_status expected, const char *message, const char *file, int line) {
    check(
        actual == expected, file, line, "%s instead of %s: %s", fastloss_status_name(actual),
        fastloss_status_name(expected), actual == FASTLOSS_OK ? "" : fastloss_last_error());
    if (message != NULL && actual == expected) {
        check(
            strcmp(fastloss_last_error(), message) == 0, file, line,
            "the message is\n    %s\ninstead of\n    %s", fastloss_last_error(), message);
    }
}

void skip(const char *format, ...) {
    skipped++;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "skipped: %s: ", subject);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
}

long checks_made(void) { return made; }
long checks_failed(void) { return failed; }
long tests_skipped(void) { return skipped; }

// ---- Memory

static void **remembered = NULL;
static size_t remembered_count = 0;

void *remember(size_t size) {
    remembered = (void **)realloc(remembered, (remembered_count + 1) * sizeof(void *));
    void *memory = malloc(size > 0 ? size : 1);
    if (remembered == NULL || memory == NULL) abort();
    remembered[remembered_count++] = memory;
    return memory;
}

void forget(void) {
    for (size_t i = 0; i < remembered_count; i++) free(remembered[i]);
    free(remembered);
    remembered = NULL;
    remembered_count = 0;
}

// ---- Goldens

static const char *goldens_folder = ".";

void find_goldens(const char *folder) { goldens_folder = folder; }
const char *goldens_path(void) { return goldens_folder; }

goldens read_goldens(const char *stem) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.json", goldens_folder, stem);
    goldens result;
    result.file = json_read(path);
    result.cases = json_member(result.file, "cases");
    check(result.cases != NULL && result.cases->count > 0, __FILE__, __LINE__, "%s has cases", path);
    return result;
}

static const json *part(const json *golden, const char *section, const char *name) {
    const json *members = json_member(golden, section);
    return members == NULL ? NULL : json_member(members, name);
}

double parameter(const json *golden, const char *name) {
    const json *value = part(golden, "parameters", name);
    check(value != NULL, __FILE__, __LINE__, "parameter %s is missing", name);
    return value == NULL ? 0 : value->number;
}

int has_parameter(const json *golden, const char *name) { return part(golden, "parameters", name) != NULL; }

const char *golden_name(const json *golden) { return json_member(golden, "name")->text; }

const float *floats(const json *golden, const char *name) {
    const json *array = part(golden, "inputs", name);
    if (array == NULL) return NULL;
    float *result = (float *)remember(array->count * sizeof(float));
    for (size_t i = 0; i < array->count; i++) result[i] = (float)array->members[i].number;
    return result;
}

const bool *bools(const json *golden, const char *name) {
    const json *array = part(golden, "inputs", name);
    if (array == NULL) return NULL;
    bool *result = (bool *)remember(array->count * sizeof(bool));
    for (size_t i = 0; i < array->count; i++) result[i] = array->members[i].number != 0;
    return result;
}

const int32_t *int32s(const json *golden, const char *name) {
    const json *array = part(golden, "inputs", name);
    if (array == NULL) return NULL;
    int32_t *result = (int32_t *)remember(array->count * sizeof(int32_t));
    for (size_t i = 0; i < array->count; i++) result[i] = (int32_t)array->members[i].number;
    return result;
}

const double *truth(const json *golden, const char *name) {
    const json *array = part(golden, "float64", name);
    if (array == NULL) return NULL;
    double *result = (double *)remember(array->count * sizeof(double));
    for (size_t i = 0; i < array->count; i++) result[i] = array->members[i].number;
    return result;
}

// ---- Matrices with gaps

static const float gap_value = -123456.0f;

const float *spread(const float *dense, int64_t rows, int64_t columns, int64_t gap) {
    int64_t stride = columns + gap;
    float *result = (float *)remember((size_t)(rows * stride) * sizeof(float));
    for (int64_t i = 0; i < rows * stride; i++) {
        result[i] = i % stride < columns ? dense[i / stride * columns + i % stride] : NAN;
    }
    return result;
}

const bool *spread_mask(const bool *dense, int64_t rows, int64_t columns, int64_t gap) {
    int64_t stride = columns + gap;
    bool *result = (bool *)remember((size_t)(rows * stride) * sizeof(bool));
    for (int64_t i = 0; i < rows * stride; i++) {
        result[i] = i % stride < columns ? dense[i / stride * columns + i % stride] : true;
    }
    return result;
}

float *blank(int64_t rows, int64_t columns, int64_t gap, float value) {
    int64_t stride = columns + gap;
    float *result = (float *)remember((size_t)(rows * stride) * sizeof(float));
    for (int64_t i = 0; i < rows * stride; i++) result[i] = i % stride < columns ? value : gap_value;
    return result;
}

const float *gather(const float *matrix, int64_t rows, int64_t columns, int64_t gap) {
    int64_t stride = columns + gap;
    float *result = (float *)remember((size_t)(rows * columns) * sizeof(float));
    int untouched = 1;
    for (int64_t i = 0; i < rows * stride; i++) {
        if (i % stride < columns)
            result[i / stride * columns + i % stride] = matrix[i];
        else if (matrix[i] != gap_value)
            untouched = 0;
    }
    check(untouched, __FILE__, __LINE__, "a gap was written to");
    return result;
}

// ---- Tolerances

static int is_close(double actual, double expected, double relative, double scale) {
    if (isnan(expected)) return isnan(actual);
    if (isinf(expected)) return actual == expected;
    return fabs(actual - expected) <= relative * (fabs(expected) + scale);
}

void check_close(
    const float *actual, const double *expected, int64_t count, double relative, double scale,
    const char *file, int line) {
    for (int64_t i = 0; i < count; i++) {
        if (is_close(actual[i], expected[i], relative, scale)) continue;
        check(0, file, line, "element %ld is %.9g instead of %.17g", (long)i, (double)actual[i], expected[i]);
        return;
    }
    check(1, file, line, "all elements");
}

void check_number(double actual, double expected, double relative, const char *file, int line) {
    check(
        is_close(actual, expected, relative, 1e-12), file, line, "%.17g instead of %.17g", actual, expected);
}

void check_same(const float *a, const float *b, int64_t count, const char *file, int line) {
    check(memcmp(a, b, (size_t)count * sizeof(float)) == 0, file, line, "the bits differ");
}
