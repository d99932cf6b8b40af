// Losses across ranks: threads that pass messages through a communicator of callbacks give what one call
// gives.

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { MOST_RANKS = 3, ROWS = 23, COLUMNS = 7, MOST_MESSAGES = 64 };

/// The messages of one sender to one receiver, in their order; those that were received stay.
typedef struct {
    void *bytes[MOST_MESSAGES];
    int sent, received;
} queue;

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t arrived;
    int ranks;
    queue exchanges[MOST_RANKS][MOST_RANKS], gathered[MOST_RANKS][MOST_RANKS];
} board;

typedef struct {
    board *messages;
    int rank;
    struct {
        void *buffer;
        size_t count;
        int sender;
    } started[MOST_MESSAGES];
    int count, finished;
} rank_state;

static void put(board *messages, queue *to, const void *bytes, size_t count) {
    void *copy = malloc(count);
    memcpy(copy, bytes, count);
    pthread_mutex_lock(&messages->mutex);
    to->bytes[to->sent++] = copy;
    pthread_cond_broadcast(&messages->arrived);
    pthread_mutex_unlock(&messages->mutex);
}

static void take(board *messages, queue *from, void *bytes, size_t count) {
    pthread_mutex_lock(&messages->mutex);
    while (from->received == from->sent) pthread_cond_wait(&messages->arrived, &messages->mutex);
    void *message = from->bytes[from->received++];
    pthread_mutex_unlock(&messages->mutex);
    memcpy(bytes, message, count);
    free(message);
}

static int32_t start_exchange(
    void *context, const void *bytes, size_t byte_count, int32_t receiver, void *buffer, size_t buffer_count,
    int32_t sender) {
    rank_state *state = (rank_state *)context;
    if (byte_count > 0)
        put(state->messages, &state->messages->exchanges[state->rank][receiver], bytes, byte_count);
    state->started[state->count].buffer = buffer;
    state->started[state->count].count = buffer_count;
    state->started[state->count++].sender = sender;
    return 0;
}

static int32_t finish_exchange(void *context) {
    rank_state *state = (rank_state *)context;
    const int next = state->finished++;
    const int sender = state->started[next].sender;
    if (state->started[next].count > 0)
        take(
            state->messages, &state->messages->exchanges[sender][state->rank], state->started[next].buffer,
            state->started[next].count);
    return 0;
}

static int32_t gather_parts(void *context, const void *bytes, size_t byte_count, void *all) {
    rank_state *state = (rank_state *)context;
    for (int other = 0; other < state->messages->ranks; other++)
        if (other != state->rank)
            put(state->messages, &state->messages->gathered[state->rank][other], bytes, byte_count);
    for (int other = 0; other < state->messages->ranks; other++) {
        char *part = (char *)all + (size_t)other * byte_count;
        if (other == state->rank)
            memcpy(part, bytes, byte_count);
        else
            take(state->messages, &state->messages->gathered[other][state->rank], part, byte_count);
    }
    return 0;
}

static float first[ROWS * COLUMNS], second[ROWS * COLUMNS];

typedef struct {
    rank_state state;
    int first_row, rows;
    float threshold;
    fastloss_status elastic, contrastive, invalid, sixteen, objectives[2];
    char message[256], invalid_message[256], sixteen_message[256];
    fastloss_loss_value elastic_loss, contrastive_loss;
    double totals[2];
    float objective_gradient[ROWS * COLUMNS];
    uint16_t narrow_gradient[ROWS * COLUMNS];
    float elastic_gradient[ROWS * COLUMNS], gradients[2][ROWS * COLUMNS];
} rank_run;

static void *run_rank(void *argument) {
    rank_run *run = (rank_run *)argument;
    const fastloss_communicator communicator = {
        sizeof(fastloss_communicator),
        &run->state,
        run->state.rank,
        run->state.messages->ranks,
        start_exchange,
        finish_exchange,
        gather_parts};
    fastloss_elastic_options options = FASTLOSS_ELASTIC_OPTIONS;
    options.threshold = run->threshold;
    const size_t place = (size_t)(run->first_row * COLUMNS);
    const fastloss_gradient gradient = FASTLOSS_GRADIENT(run->elastic_gradient, COLUMNS);
    run->elastic = fastloss_ranks_elastic_cell_similarity(
        run->rows, COLUMNS, first + place, COLUMNS, &options, &gradient, &communicator, NULL,
        &run->elastic_loss);
    strncpy(run->message, fastloss_last_error(), sizeof run->message - 1);
    const fastloss_gradient of_first = FASTLOSS_GRADIENT(run->gradients[0], COLUMNS);
    const fastloss_gradient of_second = FASTLOSS_GRADIENT(run->gradients[1], COLUMNS);
    run->contrastive = fastloss_ranks_contrastive_cell_embedding(
        run->rows, COLUMNS, first + place, COLUMNS, second + place, COLUMNS, NULL, &of_first, &of_second,
        &communicator, NULL, &run->contrastive_loss);
    // A mistake that is found before the ranks have met.
    fastloss_loss_value unused;
    run->invalid = fastloss_ranks_elastic_cell_similarity(
        run->rows, COLUMNS, run->state.rank == 1 ? NULL : first + place, COLUMNS, NULL, NULL, &communicator,
        NULL, &unused);
    strncpy(run->invalid_message, fastloss_last_error(), sizeof run->invalid_message - 1);
    options.embeddings = FASTLOSS_ELEMENT_BFLOAT16;
    run->sixteen = fastloss_ranks_elastic_cell_similarity(
        run->rows, COLUMNS, first + place, COLUMNS, &options, NULL, &communicator, NULL, &unused);
    strncpy(run->sixteen_message, fastloss_last_error(), sizeof run->sixteen_message - 1);
    // The objective takes bfloat16: the upper halves of floats.
    uint16_t elements[ROWS * COLUMNS];
    float widened[ROWS * COLUMNS];
    for (int i = 0; i < run->rows * COLUMNS; i++) {
        uint32_t bits;
        memcpy(&bits, &first[place + (size_t)i], sizeof bits);
        elements[i] = (uint16_t)(bits >> 16);
        bits &= 0xffff0000u;
        memcpy(&widened[i], &bits, sizeof bits);
    }
    fastloss_objective objective = FASTLOSS_OBJECTIVE;
    fastloss_objective_enable(&objective, FASTLOSS_TERM_ELASTIC, 1);
    for (int is_narrow = 0; is_narrow < 2; is_narrow++) {
        fastloss_objective_inputs inputs = FASTLOSS_OBJECTIVE_INPUTS;
        fastloss_objective_gradients gradients = FASTLOSS_OBJECTIVE_GRADIENTS;
        inputs.cells = run->rows, inputs.width = COLUMNS;
        inputs.cell_embedding.data = is_narrow ? (const float *)(const void *)elements : widened;
        inputs.cell_embedding_type = is_narrow ? FASTLOSS_ELEMENT_BFLOAT16 : FASTLOSS_ELEMENT_FLOAT32;
        gradients.cell_embedding.data =
            is_narrow ? (float *)(void *)run->narrow_gradient : run->objective_gradient;
        inputs.cell_embedding.stride = gradients.cell_embedding.stride = COLUMNS;
        fastloss_objective_value value = FASTLOSS_OBJECTIVE_VALUE;
        run->objectives[is_narrow] =
            fastloss_ranks_total_objective(&objective, &inputs, &gradients, &communicator, NULL, &value);
        run->totals[is_narrow] = value.total;
    }
    return NULL;
}

static void run_ranks(int ranks, float other_threshold, rank_run *runs) {
    static const int rows[MOST_RANKS][MOST_RANKS] = {{ROWS, 0, 0}, {9, 14, 0}, {5, 17, 1}};
    board messages;
    memset(&messages, 0, sizeof messages);
    pthread_mutex_init(&messages.mutex, NULL);
    pthread_cond_init(&messages.arrived, NULL);
    messages.ranks = ranks;
    pthread_t threads[MOST_RANKS];
    for (int rank = 0, row = 0; rank < ranks; rank++) {
        memset(&runs[rank], 0, sizeof runs[rank]);
        runs[rank].state.messages = &messages;
        runs[rank].state.rank = rank;
        runs[rank].first_row = row;
        runs[rank].rows = rows[ranks - 1][rank];
        runs[rank].threshold = rank == 1 ? other_threshold : 0.5f;
        row += runs[rank].rows;
    }
    for (int rank = 0; rank < ranks; rank++) pthread_create(&threads[rank], NULL, run_rank, &runs[rank]);
    for (int rank = 0; rank < ranks; rank++) pthread_join(threads[rank], NULL);
    pthread_cond_destroy(&messages.arrived);
    pthread_mutex_destroy(&messages.mutex);
}

/// Whether a rank's gradient is near its rows of the whole one.
static int is_near(const float *own, const float *whole, const rank_run *run) {
    double error = 0, norm = 0;
    for (int i = 0; i < ROWS * COLUMNS; i++) norm += (double)whole[i] * (double)whole[i];
    for (int i = 0; i < run->rows * COLUMNS; i++) {
        const double difference = (double)own[i] - (double)whole[run->first_row * COLUMNS + i];
        error += difference * difference;
    }
    return norm > 0 && sqrt(error) <= 1e-6 * sqrt(norm);
}

void test_ranks(void) {
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        first[i] = (float)sin(1.0 + i * 0.7);
        second[i] = (float)cos(2.0 + i * 1.3);
    }
    static float elastic_gradient[ROWS * COLUMNS], gradients[2][ROWS * COLUMNS];
    const fastloss_gradient of_elastic = FASTLOSS_GRADIENT(elastic_gradient, COLUMNS);
    const fastloss_gradient of_first = FASTLOSS_GRADIENT(gradients[0], COLUMNS);
    const fastloss_gradient of_second = FASTLOSS_GRADIENT(gradients[1], COLUMNS);
    fastloss_elastic_options options = FASTLOSS_ELASTIC_OPTIONS;
    options.threshold = 0.5f;
    fastloss_loss_value elastic, contrastive;
    CHECK_OK(fastloss_elastic_cell_similarity(
        ROWS, COLUMNS, first, COLUMNS, &options, &of_elastic, NULL, &elastic));
    CHECK_OK(fastloss_contrastive_cell_embedding(
        ROWS, COLUMNS, first, COLUMNS, second, COLUMNS, NULL, &of_first, &of_second, NULL, &contrastive));

    static rank_run runs[MOST_RANKS];
    for (int ranks = 1; ranks <= MOST_RANKS; ranks++) {
        now_testing("%d ranks", ranks);
        run_ranks(ranks, 0.5f, runs);
        for (int rank = 0; rank < ranks; rank++) {
            CHECK(runs[rank].elastic == FASTLOSS_OK && runs[rank].contrastive == FASTLOSS_OK);
            CHECK(fabs(runs[rank].elastic_loss.value - elastic.value) <= 1e-7);
            CHECK(fabs(runs[rank].contrastive_loss.value - contrastive.value) <= 1e-7 * contrastive.value);
            CHECK(runs[rank].contrastive_loss.value == runs[0].contrastive_loss.value);
            CHECK(runs[rank].contrastive_loss.selected_count == ROWS);
            CHECK(is_near(runs[rank].elastic_gradient, elastic_gradient, &runs[rank]));
            CHECK(is_near(runs[rank].gradients[0], gradients[0], &runs[rank]));
            CHECK(is_near(runs[rank].gradients[1], gradients[1], &runs[rank]));
            CHECK(runs[rank].objectives[0] == FASTLOSS_OK && runs[rank].objectives[1] == FASTLOSS_OK);
            CHECK(runs[rank].totals[0] != 0 && runs[rank].totals[1] == runs[rank].totals[0]);
            for (int i = 0; i < runs[rank].rows * COLUMNS; i++) {
                const uint32_t bits = (uint32_t)runs[rank].narrow_gradient[i] << 16;
                float rounded;
                memcpy(&rounded, &bits, sizeof rounded);
                const double exact = (double)runs[rank].objective_gradient[i];
                CHECK(fabs((double)rounded - exact) <= fabs(exact) / 256);
            }
            CHECK(runs[rank].sixteen == FASTLOSS_ERROR_INVALID_PARAMETER);
            CHECK(
                strcmp(
                    runs[rank].sixteen_message,
                    "options.embeddings is a 16-bit type, but this function reads FASTLOSS_ELEMENT_FLOAT32 "
                    "alone")
                == 0);
            if (ranks == 1) continue;
            if (rank == 1) {
                CHECK(runs[rank].invalid == FASTLOSS_ERROR_NULL_POINTER);
            } else {
                CHECK(runs[rank].invalid == FASTLOSS_ERROR_RANK_FAILED);
                CHECK(strstr(runs[rank].invalid_message, "rank 1 failed") != NULL);
            }
        }
    }
    now_testing("ranks with different thresholds");
    run_ranks(3, 0.25f, runs);
    for (int rank = 0; rank < 3; rank++) {
        CHECK(runs[rank].elastic == FASTLOSS_ERROR_RANKS_DISAGREE);
        CHECK(strcmp(runs[rank].message, "rank 1 has 0.25 for threshold, but rank 0 has 0.5") == 0);
        CHECK(runs[rank].contrastive == FASTLOSS_OK);
    }
    now_testing("communicators");
    CHECK_FAILS(
        fastloss_ranks_elastic_cell_similarity(
            ROWS, COLUMNS, first, COLUMNS, NULL, NULL, NULL, NULL, &elastic),
        FASTLOSS_ERROR_NULL_POINTER, "communicator is NULL");
}
