// Losses of a batch whose rows are spread over ranks: processes or threads. Included by fastloss.h.

#ifndef FASTLOSS_RANKS_H
#define FASTLOSS_RANKS_H

#include "common.h"
#include "losses.h"
#include "objective.h"

#ifdef __cplusplus
extern "C" {
#endif

// -----------------------------------------------------------------------------------------------------------
// Communicators
// -----------------------------------------------------------------------------------------------------------

/// Starts to send bytes to one rank and to receive bytes from another, and returns without waiting. Messages
/// between two ranks arrive in the order in which they were sent. A message of 0 bytes is neither sent nor
/// received. Both memories stay valid and unchanged by others until the exchange is finished.
///
/// \return 0, or 1 + the number of the rank that failed.
typedef int32_t (*fastloss_start_exchange)(
    void *context, const void *bytes, size_t byte_count, int32_t receiver, void *buffer, size_t buffer_count,
    int32_t sender);

/// Waits until the oldest exchange is complete, for a third of the group's time-out at most. After a failure
/// here or in `fastloss_start_exchange`, the memory of no exchange is in use any more, and every later
/// exchange fails.
///
/// \return 0, or 1 + the number of the rank that did not answer.
typedef int32_t (*fastloss_finish_exchange)(void *context);

/// Collects `byte_count` bytes of every rank in the order of the ranks, the same on every rank. Waits for two
/// thirds of the group's time-out at most; then the parts of ranks that have not answered are unchanged. It
/// works after a failed exchange, too: the ranks that are left tell each other who failed.
///
/// \return 0, or 1 + the number of the lowest rank that did not answer.
typedef int32_t (*fastloss_gather)(void *context, const void *bytes, size_t byte_count, void *all);

/// A group of ranks, as one of them sees it. The functions are called by the thread that calls the loss.
typedef struct fastloss_communicator {
    size_t size;                               ///< sizeof(fastloss_communicator)
    void *context;                             ///< passed to the functions
    int32_t rank;                              ///< the number of this rank, from 0
    int32_t ranks;                             ///< how many there are, at least 1
    fastloss_start_exchange start_exchange;    ///< not NULL
    fastloss_finish_exchange finish_exchange;  ///< not NULL
    fastloss_gather gather;                    ///< not NULL
} fastloss_communicator;

// -----------------------------------------------------------------------------------------------------------
// Losses across ranks
// -----------------------------------------------------------------------------------------------------------

// These rules hold for the functions below.
//
// Every rank calls the same function, with its own rows and its own gradient. The batch is the rows of rank
// 0, then those of rank 1, and so on. A rank may have any number of rows, also none. Every rank receives the
// same value, and the gradient of the whole batch's loss with respect to its rows. A training loop that
// averages gradients over ranks sets the gradients' scale to the number of ranks.
//
// All options and scales must agree, and so must the set of gradients that are wanted. If they do not, every
// rank returns RANKS_DISAGREE with a message that names a rank and the argument. If a call fails on one rank,
// that rank returns its status, and every other returns RANK_FAILED with the number of that rank in the
// message. Then the outputs of the others hold unspecified values. No call waits longer than the communicator
// does.

/// `fastloss_elastic_cell_similarity` of the rows of all ranks. Ranks compute every pair: `certificate` has
/// no effect, and `certified_pairs` receives 0.
///
/// \return as there; RANKS_DISAGREE, RANK_FAILED.
FASTLOSS_API fastloss_status fastloss_ranks_elastic_cell_similarity(
    int64_t rows, int64_t columns, const float *embeddings, int64_t embeddings_stride,
    const fastloss_elastic_options *options, const fastloss_gradient *gradient,
    const fastloss_communicator *communicator, fastloss_workspace *workspace, fastloss_loss_value *loss);

/// `fastloss_contrastive_cell_embedding` of the cells of all ranks.
///
/// \return as there; RANKS_DISAGREE, RANK_FAILED.
FASTLOSS_API fastloss_status fastloss_ranks_contrastive_cell_embedding(
    int64_t rows, int64_t columns, const float *first, int64_t first_stride, const float *second,
    int64_t second_stride, const fastloss_contrastive_options *options,
    const fastloss_gradient *first_gradient, const fastloss_gradient *second_gradient,
    const fastloss_communicator *communicator, fastloss_workspace *workspace, fastloss_loss_value *loss);

/// `fastloss_total_objective` of the cells of all ranks. Every mean runs over all ranks.
///
/// \return as there; RANKS_DISAGREE, RANK_FAILED.
FASTLOSS_API fastloss_status fastloss_ranks_total_objective(
    const fastloss_objective *objective, const fastloss_objective_inputs *inputs,
    const fastloss_objective_gradients *gradients, const fastloss_communicator *communicator,
    fastloss_workspace *workspace, fastloss_objective_value *value);

#ifdef __cplusplus
}
#endif

#endif
