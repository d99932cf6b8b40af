// Memory whose neighbour cannot be touched, for the operands of one call at a time.

#ifndef FASTLOSS_TESTS_GUARDED_H
#define FASTLOSS_TESTS_GUARDED_H

#include "support.h"

/// Where operands lie: against an unreadable page before or behind them, or in ordinary memory.
typedef enum { ORDINARY, AT_START, AT_END } placement;

/// Begins the operands of a call. The same seed gives the same values. The rest of an operand's pages holds
/// NaN, and so do the gaps between the rows of an input.
void begin_operands(placement where, uint32_t seed);

/// Inputs, from now on read-only: values between -1 and 1; numbers from 0 to 1; selections, the first of each
/// row true; numbers from 0 to `limit` - 1.
const float *input(int64_t rows, int64_t columns, int64_t gap);
const float *input_probabilities(int64_t rows, int64_t columns, int64_t gap);
const bool *input_mask(int64_t rows, int64_t columns, int64_t gap);
const int32_t *input_labels(int64_t rows, int64_t columns, int64_t gap, int32_t limit);
const double *input_norms(int64_t count);

/// Outputs of a model, whose elements are of a type: values between -1 and 1, and numbers from 0 to 1.
const float *model_input(int64_t rows, int64_t columns, int64_t gap, fastloss_element_type type);
const float *model_probabilities(int64_t rows, int64_t columns, int64_t gap, fastloss_element_type type);

/// Outputs. Every element, those of the gaps too, holds 7; of 16 bits, a number between 0.1 and 1.
float *output(int64_t rows, int64_t columns, int64_t gap);
float *model_output(int64_t rows, int64_t columns, int64_t gap, fastloss_element_type type);
double *output_doubles(int64_t count);
int64_t *output_counts(int64_t count);

/// The bytes of all outputs since `begin_operands`, one after the other; valid until the next call.
typedef struct output_bytes {
    const unsigned char *bytes;
    size_t size;
} output_bytes;
output_bytes all_outputs(void);

/// Whether the outputs' pages hold what they held, outside the outputs.
int operands_are_intact(void);

/// Releases the operands.
void end_operands(void);

#endif
