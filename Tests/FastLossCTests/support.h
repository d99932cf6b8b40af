// What the C tests share: checks that count, goldens, matrices with gaps between their rows, tolerances.
//
// All of it is C99 and C++11: the tests are compiled as both.

#ifndef FASTLOSS_TESTS_SUPPORT_H
#define FASTLOSS_TESTS_SUPPORT_H

#include <fastloss.h>

#include "json.h"

// ---- Checks

/// Counts a check; prints where and what if it fails.
#define CHECK(condition) check((condition), __FILE__, __LINE__, "%s", #condition)

/// The same with a text of printf's kind.
void check(int holds, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/// Checks that a call succeeded.
#define CHECK_OK(call) check_status((call), FASTLOSS_OK, NULL, __FILE__, __LINE__)

/// Checks that a call failed with a status and a message.
#define CHECK_FAILS(call, status, message) check_status((call), (status), (message), __FILE__, __LINE__)

void check_status(
    fastloss_status actual, fastloss_status expected, const char *message, const char *file, int line);

/// What the checks from now on are about, for messages.
void now_testing(const char *format, ...) __attribute__((format(printf, 1, 2)));

/// Leaves out a test, and says why in printf's manner.
void skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

/// How many checks were made and failed so far, and how many tests were left out.
long checks_made(void);
long checks_failed(void);
long tests_skipped(void);

// ---- Memory that lives until `forget`

void *remember(size_t size);
void forget(void);

// ---- Goldens: what PyTorch computes

typedef struct goldens {
    json *file;
    const json *cases;
} goldens;

/// The goldens of a loss, from the folder given to `find_goldens`.
void find_goldens(const char *folder);
const char *goldens_path(void);
goldens read_goldens(const char *stem);

double parameter(const json *golden, const char *name);
int has_parameter(const json *golden, const char *name);
const char *golden_name(const json *golden);
/// An input, or NULL where the case has none of that name.
const float *floats(const json *golden, const char *name);
const bool *bools(const json *golden, const char *name);
const int32_t *int32s(const json *golden, const char *name);
/// What PyTorch computes in float64, or NULL.
const double *truth(const json *golden, const char *name);

// ---- Matrices with gaps

/// A copy of a matrix with `gap` elements after each row. The gaps hold NaN (masks: true), so that nobody may
/// use them.
const float *spread(const float *dense, int64_t rows, int64_t columns, int64_t gap);
const bool *spread_mask(const bool *dense, int64_t rows, int64_t columns, int64_t gap);

/// A matrix to be written, whose elements all hold `value` and whose gaps hold something else.
float *blank(int64_t rows, int64_t columns, int64_t gap, float value);

/// The elements of such a matrix without the gaps, which are checked to hold what they held.
const float *gather(const float *matrix, int64_t rows, int64_t columns, int64_t gap);

// ---- Tolerances

/// Elementwise results: some units in the last place of a float.
#define ELEMENTWISE 1e-6
/// Results of products: errors relative to the size of what was summed.
#define PRODUCT 2e-6
/// Results of several layers of products, relative to the largest element.
#define HEAD 1e-5

/// Checks |actual - expected| <= relative * (|expected| + scale) for each element; NaN and infinity have to
/// agree.
#define CHECK_CLOSE(actual, expected, count, relative, scale)                           \
    check_close((actual), (expected), (count), (relative), (scale), __FILE__, __LINE__)
void check_close(
    const float *actual, const double *expected, int64_t count, double relative, double scale,
    const char *file, int line);

/// The same for one number.
#define CHECK_NUMBER(actual, expected, relative)                       \
    check_number((actual), (expected), (relative), __FILE__, __LINE__)
void check_number(double actual, double expected, double relative, const char *file, int line);

/// Checks that two arrays have the same bits.
#define CHECK_SAME(a, b, count) check_same((a), (b), (count), __FILE__, __LINE__)
void check_same(const float *a, const float *b, int64_t count, const char *file, int line);

// ---- The tests

void test_fork(void);
void test_environment(void);
void test_masked_losses(void);
void test_mixed_precision(void);
void test_classification(void);
void test_cell_embeddings(void);
void test_reductions(void);
void test_total_objective(void);
void test_heads(void);
void test_head_errors(void);
void test_errors(void);
void test_bounds(void);
void test_misuse(void);
void test_extreme_shapes(void);
void test_structs(void);
void test_runtime(void);
void test_threads(void);
void test_thread_pool(void);
void test_ranks(void);
void test_allocations(void);
void test_failing_allocations(void);
void test_memory_limit(void);

#endif
