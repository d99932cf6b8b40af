// Losses across ranks: threads that pass messages through a communicator of callbacks give what one call
// gives.

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { MOST_RANKS = 3, ROWS = 23, COLUMNS = 7, MOST_MESSAGES = 128 };

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

enum { CALLS = 3, GRADIENTS = 4 };

/// What the functions give for embeddings of a type. Gradients of 16 bits take half of their memory.
typedef struct {
    fastloss_status status[CALLS];
    double values[CALLS];
    float gradients[GRADIENTS][ROWS * COLUMNS];
} typed_results;

typedef struct {
    rank_state state;
    int first_row, rows;
    float threshold;
    fastloss_status elastic, contrastive, invalid;
    char message[256], invalid_message[256];
    fastloss_loss_value elastic_loss, contrastive_loss;
    float elastic_gradient[ROWS * COLUMNS], gradients[2][ROWS * COLUMNS];
    typed_results wide, narrow;
} rank_run;

/// Calls each function across ranks, with embeddings of a type.
static void call_with_type(
    rank_run *run, const fastloss_communicator *communicator, fastloss_element_type type,
    const float *const embeddings[2], typed_results *results) {
    fastloss_gradient gradients[GRADIENTS];
    for (int i = 0; i < GRADIENTS; i++) {
        const fastloss_gradient gradient = FASTLOSS_GRADIENT((float *)(void *)results->gradients[i], COLUMNS);
        gradients[i] = gradient;
    }
    fastloss_loss_value loss = {0, 0};
    fastloss_elastic_options elastic = FASTLOSS_ELASTIC_OPTIONS;
    elastic.embeddings = type;
    results->status[0] = fastloss_ranks_elastic_cell_similarity(
        run->rows, COLUMNS, embeddings[0], COLUMNS, &elastic, &gradients[0], communicator, NULL, &loss);
    results->values[0] = loss.value;
    fastloss_contrastive_options contrastive = FASTLOSS_CONTRASTIVE_OPTIONS;
    contrastive.embeddings = type;
    results->status[1] = fastloss_ranks_contrastive_cell_embedding(
        run->rows, COLUMNS, embeddings[0], COLUMNS, embeddings[1], COLUMNS, &contrastive, &gradients[1],
        &gradients[2], communicator, NULL, &loss);
    results->values[1] = loss.value;
    fastloss_objective objective = FASTLOSS_OBJECTIVE;
    fastloss_objective_enable(&objective, FASTLOSS_TERM_ELASTIC, 1);
    fastloss_objective_inputs inputs = FASTLOSS_OBJECTIVE_INPUTS;
    fastloss_objective_gradients of_objective = FASTLOSS_OBJECTIVE_GRADIENTS;
    inputs.cells = run->rows, inputs.width = COLUMNS;
    inputs.cell_embedding.data = embeddings[0];
    inputs.cell_embedding_type = type;
    of_objective.cell_embedding.data = gradients[3].data;
    inputs.cell_embedding.stride = of_objective.cell_embedding.stride = COLUMNS;
    fastloss_objective_value value = FASTLOSS_OBJECTIVE_VALUE;
    results->status[2] =
        fastloss_ranks_total_objective(&objective, &inputs, &of_objective, communicator, NULL, &value);
    results->values[2] = value.total;
}

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
    // bfloat16: the upper halves of floats.
    uint16_t elements[2][ROWS * COLUMNS];
    float widened[2][ROWS * COLUMNS];
    for (int matrix = 0; matrix < 2; matrix++)
        for (int i = 0; i < run->rows * COLUMNS; i++) {
            uint32_t bits;
            memcpy(&bits, (matrix == 0 ? first : second) + place + (size_t)i, sizeof bits);
            elements[matrix][i] = (uint16_t)(bits >> 16);
            bits &= 0xffff0000u;
            memcpy(&widened[matrix][i], &bits, sizeof bits);
        }
    const float *const wide[] = {widened[0], widened[1]};
    const float *const narrow[] = {
        (const float *)(const void *)elements[0], (const float *)(const void *)elements[1]};
    call_with_type(run, &communicator, FASTLOSS_ELEMENT_FLOAT32, wide, &run->wide);
    call_with_type(run, &communicator, FASTLOSS_ELEMENT_BFLOAT16, narrow, &run->narrow);
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

/// 16-bit embeddings give the values of the widened ones, and their gradients rounded.
static void check_types(const rank_run *run) {
    for (int call = 0; call < CALLS; call++) {
        CHECK(run->wide.status[call] == FASTLOSS_OK && run->narrow.status[call] == FASTLOSS_OK);
        CHECK(run->wide.values[call] != 0 && run->narrow.values[call] == run->wide.values[call]);
    }
    for (int gradient = 0; gradient < GRADIENTS; gradient++) {
        const char *elements = (const char *)run->narrow.gradients[gradient];
        double largest = 0;
        for (int i = 0; i < run->rows * COLUMNS; i++) {
            uint16_t element;
            memcpy(&element, elements + (size_t)i * sizeof element, sizeof element);
            const uint32_t bits = (uint32_t)element << 16;
            float rounded;
            memcpy(&rounded, &bits, sizeof rounded);
            const double exact = (double)run->wide.gradients[gradient][i];
            CHECK(fabs((double)rounded - exact) <= fabs(exact) / 256);
            largest = fmax(largest, fabs(exact));
        }
        CHECK(run->rows == 0 || largest > 0);
        // Nothing is written behind the 16-bit elements.
        for (int i = (run->rows * COLUMNS + 1) / 2; i < ROWS * COLUMNS; i++)
            CHECK(run->narrow.gradients[gradient][i] == 0);
    }
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
            check_types(&runs[rank]);
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
