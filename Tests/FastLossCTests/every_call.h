// Every function of the header that computes, on inputs of its own: what tests run through that ask the same
// of all functions.

#ifndef FASTLOSS_TESTS_EVERY_CALL_H
#define FASTLOSS_TESTS_EVERY_CALL_H

#include "support.h"

enum { MOST_RESULTS = 1 << 18, MOST_CALLS = 64 };

/// What a call computes: its value and everything it writes. What it does not write is 0.
typedef struct call_results {
    double value;
    float outputs[MOST_RESULTS];
} call_results;

typedef struct every_call {
    const char *name;
    fastloss_status (*run)(fastloss_workspace *workspace, call_results *results);
} every_call;

extern const every_call every_calls[];
extern const int every_call_count;

/// Multiplies the inputs, which are of the order of 1, for the calls from now on. Probabilities, masks and
/// labels stay.
void scale_inputs(float factor);

/// Runs a call from results of 0.
fastloss_status run_call(const every_call *call, fastloss_workspace *workspace, call_results *results);

/// Whether two results have the same bits.
int same_results(const call_results *a, const call_results *b);

#endif
