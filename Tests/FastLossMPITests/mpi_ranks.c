// A C program over MPI: the callbacks of a fastloss_communicator, and a comparison with one process.
// scripts/testing/test-mpi runs it with one to five processes. Prints what is wrong, and ends with 1.

// example:begin mpiRanks
#include <fastloss.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum { EXCHANGE = 1, GATHER = 2, MOST_EXCHANGES = 8 };

/// The context of the callbacks: a rank of an MPI communicator, and its exchanges in their order.
typedef struct {
    MPI_Comm communicator;
    double timeout;  // of the group, in seconds
    struct {
        MPI_Request requests[2];  // what comes, and what goes
        int32_t peers[2];
        void *copy;  // of what goes: MPI may read it after a failure
    } exchanges[MOST_EXCHANGES];
    int started, finished;
    int32_t failure;  // 0, or 1 + the rank that failed
} mpi_ranks;

/// Waits for a message. MPI has no wait with a time limit.
static int is_complete(MPI_Request *request, double deadline) {
    int done = 0;
    do {
        if (MPI_Test(request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return 0;
    } while (!done && MPI_Wtime() < deadline);
    return done;
}

/// Rows and normalisers are floats and doubles. Counting floats, an int suffices for 8 GiB.
static int32_t start_exchange(
    void *context, const void *bytes, size_t byte_count, int32_t receiver, void *buffer, size_t buffer_count,
    int32_t sender) {
    mpi_ranks *ranks = context;
    if (ranks->failure) return ranks->failure;
    const int place = ranks->started++ % MOST_EXCHANGES;
    MPI_Request *requests = ranks->exchanges[place].requests;
    requests[0] = requests[1] = MPI_REQUEST_NULL;
    ranks->exchanges[place].peers[0] = sender;
    ranks->exchanges[place].peers[1] = receiver;
    ranks->exchanges[place].copy = NULL;
    if (buffer_count > 0
        && MPI_Irecv(
               buffer, (int)(buffer_count / sizeof(float)), MPI_FLOAT, sender, EXCHANGE, ranks->communicator,
               &requests[0])
            != MPI_SUCCESS)
        return ranks->failure = 1 + sender;
    if (byte_count == 0) return 0;
    void *copy = malloc(byte_count);
    if (!copy) return ranks->failure = 1 + receiver;
    memcpy(copy, bytes, byte_count);
    ranks->exchanges[place].copy = copy;
    return MPI_Isend(
               copy, (int)(byte_count / sizeof(float)), MPI_FLOAT, receiver, EXCHANGE, ranks->communicator,
               &requests[1])
            == MPI_SUCCESS
        ? 0
        : (ranks->failure = 1 + receiver);
}

static int32_t finish_exchange(void *context) {
    mpi_ranks *ranks = context;
    if (ranks->failure) return ranks->failure;
    const double deadline = MPI_Wtime() + ranks->timeout / 3;
    const int place = ranks->finished % MOST_EXCHANGES;
    for (int part = 0; part < 2 && !ranks->failure; ++part)
        if (!is_complete(&ranks->exchanges[place].requests[part], deadline))
            ranks->failure = 1 + ranks->exchanges[place].peers[part];
    if (!ranks->failure) {
        free(ranks->exchanges[place].copy);
        ++ranks->finished;
        return 0;
    }
    // From here on, the buffers of all exchanges belong to the caller. The copies stay with MPI.
    for (int exchange = ranks->finished; exchange < ranks->started; ++exchange) {
        MPI_Request *incoming = &ranks->exchanges[exchange % MOST_EXCHANGES].requests[0];
        if (*incoming == MPI_REQUEST_NULL) continue;
        MPI_Cancel(incoming);
        MPI_Request_free(incoming);
    }
    return ranks->failure;
}

static int32_t gather(void *context, const void *bytes, size_t byte_count, void *all) {
    mpi_ranks *ranks = context;
    const double deadline = MPI_Wtime() + ranks->timeout * 2 / 3;
    int rank = 0, size = 0;
    int32_t missing = 0;
    MPI_Comm_rank(ranks->communicator, &rank);
    MPI_Comm_size(ranks->communicator, &size);
    const int count = (int)byte_count;
    char *parts = malloc(byte_count * (size_t)(size + 1));
    MPI_Request *requests = malloc(2 * sizeof(MPI_Request) * (size_t)size);
    if (!parts || !requests) return 1 + rank;
    char *const own = parts + byte_count * (size_t)size;
    memcpy(own, bytes, byte_count);
    for (int other = 0; other < size; ++other) {
        requests[2 * other] = requests[2 * other + 1] = MPI_REQUEST_NULL;
        if (other == rank) continue;
        MPI_Irecv(
            parts + byte_count * (size_t)other, count, MPI_BYTE, other, GATHER, ranks->communicator,
            &requests[2 * other]);
        MPI_Isend(own, count, MPI_BYTE, other, GATHER, ranks->communicator, &requests[2 * other + 1]);
    }
    for (int other = 0; other < size; ++other) {
        const int came = other == rank || is_complete(&requests[2 * other], deadline);
        const char *part = other == rank ? own : parts + byte_count * (size_t)other;
        if (came) memcpy((char *)all + byte_count * (size_t)other, part, byte_count);
        if (!came && !missing) missing = 1 + other;
    }
    for (int other = 0; other < size; ++other)
        if (!is_complete(&requests[2 * other + 1], deadline) && !missing) missing = 1 + other;
    if (missing) return missing;  // MPI may still use the memory
    free(parts);
    free(requests);
    return 0;
}

/// The communicator of a call. Errors of MPI become results instead of ending the program.
static fastloss_communicator communicator_of(mpi_ranks *ranks) {
    fastloss_communicator result = {
        .size = sizeof(fastloss_communicator),
        .context = ranks,
        .start_exchange = start_exchange,
        .finish_exchange = finish_exchange,
        .gather = gather,
    };
    int rank = 0, size = 1;
    MPI_Comm_set_errhandler(ranks->communicator, MPI_ERRORS_RETURN);
    MPI_Comm_rank(ranks->communicator, &rank);
    MPI_Comm_size(ranks->communicator, &size);
    result.rank = rank, result.ranks = size;
    return result;
}
// example:end

#include <math.h>
#include <stdio.h>
#include <unistd.h>

enum { COLUMNS = 33 };

static void expect(int condition, const char *text) {
    if (condition) return;
    printf("mpi_ranks: failed: %s: %s\n", text, fastloss_last_error());
    MPI_Abort(MPI_COMM_WORLD, 1);
}

/// Numbers in [−1, 1), the same on all ranks.
static float *numbers(int64_t count, uint64_t state) {
    float *result = malloc(sizeof(float) * (size_t)count);
    for (int64_t i = 0; i < count; ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        result[i] = (float)(state >> 40) * 0x1p-23f - 1;
    }
    return result;
}

/// The rank's part of a gradient against that of one process.
static void expect_close(const float *own, const float *whole, int64_t count, const char *text) {
    double error = 0, norm = 0;
    for (int64_t i = 0; i < count; ++i) {
        error += ((double)own[i] - whole[i]) * ((double)own[i] - whole[i]);
        norm += (double)whole[i] * whole[i];
    }
    expect(error <= 1e-12 * norm, text);
}

/// Rank 1 stays away. The others get an error that names it, in time.
static void stay_away(const fastloss_communicator *communicator, double timeout) {
    if (communicator->rank == 1) {
        sleep((unsigned)(2 * timeout));
        _exit(0);
    }
    const float rows[2] = {1, 2};
    fastloss_loss_value value;
    const double start = MPI_Wtime();
    expect(
        fastloss_ranks_elastic_cell_similarity(1, 2, rows, 2, NULL, NULL, communicator, NULL, &value)
            == FASTLOSS_ERROR_RANK_FAILED,
        "a rank that stays away");
    expect(MPI_Wtime() - start < timeout + 2, "in time");
    expect(strstr(fastloss_last_error(), "rank 1") != NULL, "the rank's name");
    printf("rank %d names rank 1\n", communicator->rank);
    fflush(NULL);
    // mpirun ends all others as soon as one ends without a word to MPI.
    sleep((unsigned)timeout);
    _exit(0);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    const int is_away = argc > 1 && strcmp(argv[1], "away") == 0;
    mpi_ranks ranks = {.communicator = MPI_COMM_WORLD, .timeout = is_away ? 4 : 60};
    const fastloss_communicator communicator = communicator_of(&ranks);
    if (is_away) stay_away(&communicator, ranks.timeout);
    // Unequal numbers of rows, none on the last of several ranks.
    int64_t rows = 0, first = 0, own = 0;
    for (int rank = 0; rank < communicator.ranks; ++rank) {
        const int64_t count = rank > 0 && rank == communicator.ranks - 1 ? 0 : 20 + 3 * rank;
        if (rank < communicator.rank) first += count;
        if (rank == communicator.rank) own = count;
        rows += count;
    }
    float *a = numbers(rows * COLUMNS, 1), *b = numbers(rows * COLUMNS, 2);
    float *all[2], *part[2];
    for (int i = 0; i < 2; ++i) {
        all[i] = numbers(rows * COLUMNS, 3);
        part[i] = numbers(own * COLUMNS + 1, 4);
    }
    const fastloss_gradient of_all[2] = {
        FASTLOSS_GRADIENT(all[0], COLUMNS), FASTLOSS_GRADIENT(all[1], COLUMNS)};
    const fastloss_gradient of_part[2] = {
        FASTLOSS_GRADIENT(part[0], COLUMNS), FASTLOSS_GRADIENT(part[1], COLUMNS)};
    const int64_t start = first * COLUMNS;
    fastloss_loss_value whole, value;

    fastloss_elastic_options elastic = FASTLOSS_ELASTIC_OPTIONS;
    elastic.threshold = 0.1f;
    expect(
        !fastloss_elastic_cell_similarity(rows, COLUMNS, a, COLUMNS, &elastic, &of_all[0], NULL, &whole),
        "ECS of one process");
    expect(
        !fastloss_ranks_elastic_cell_similarity(
            own, COLUMNS, a + start, COLUMNS, &elastic, &of_part[0], &communicator, NULL, &value),
        "ECS");
    expect(fabs(value.value - whole.value) <= 1e-7 * fabs(whole.value), "the value of ECS");
    expect_close(part[0], all[0] + start, own * COLUMNS, "the gradient of ECS");

    fastloss_contrastive_options contrastive = FASTLOSS_CONTRASTIVE_OPTIONS;
    expect(
        !fastloss_contrastive_cell_embedding(
            rows, COLUMNS, a, COLUMNS, b, COLUMNS, &contrastive, &of_all[0], &of_all[1], NULL, &whole),
        "CCE of one process");
    expect(
        !fastloss_ranks_contrastive_cell_embedding(
            own, COLUMNS, a + start, COLUMNS, b + start, COLUMNS, &contrastive, &of_part[0], &of_part[1],
            &communicator, NULL, &value),
        "CCE");
    expect(fabs(value.value - whole.value) <= 1e-7 * fabs(whole.value), "the value of CCE");
    for (int i = 0; i < 2; ++i) expect_close(part[i], all[i] + start, own * COLUMNS, "a gradient of CCE");

    // An option that differs is an error on every rank, and the group stays usable.
    if (communicator.ranks > 1) {
        elastic.threshold = communicator.rank == 1 ? 0.25f : 0.5f;
        for (int call = 0; call < 2; ++call)
            expect(
                fastloss_ranks_elastic_cell_similarity(
                    own, COLUMNS, a + start, COLUMNS, &elastic, NULL, &communicator, NULL, &value)
                    == FASTLOSS_ERROR_RANKS_DISAGREE,
                "ranks that disagree");
    }
    for (int i = 0; i < 2; ++i) free(all[i]), free(part[i]);
    free(a), free(b);
    MPI_Finalize();
    return 0;
}
