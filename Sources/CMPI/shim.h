// The part of MPI that FastLossMPI needs. MPI's handles and constants are macros, which Swift cannot import,
// and differ between implementations: here they stay in C.

#ifndef FASTLOSS_CMPI_SHIM_H
#define FASTLOSS_CMPI_SHIM_H

#include <limits.h>
#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>

/// A communicator of FastLoss's own, so that its messages meet no others.
typedef struct {
    MPI_Comm communicator;
    int rank, size;
} fastloss_mpi_group;

/// A message that is on its way, in at most two parts: MPI counts in int.
typedef struct { MPI_Request parts[2]; } fastloss_mpi_message;

enum {
    FASTLOSS_MPI_EXCHANGE_TAG = 1,
    FASTLOSS_MPI_GATHER_TAG = 2,
    /// Empty messages: the sender starts no further exchange; it sends nothing more at all.
    FASTLOSS_MPI_STOP_TAG = 3,
    FASTLOSS_MPI_LEAVE_TAG = 4,
    FASTLOSS_MPI_BLOCK = 1 << 20,
};

/// Initialises MPI for calls of one thread, unless the program has.
static inline bool fastloss_mpi_initialize(void) {
    int done = 0, provided = 0;
    if (MPI_Initialized(&done) != MPI_SUCCESS) return false;
    return done || MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) == MPI_SUCCESS;
}

static inline void fastloss_mpi_finalize(void) {
    int done = 0;
    if (MPI_Finalized(&done) == MPI_SUCCESS && !done) MPI_Finalize();
}

/// Duplicates a communicator, given by its Fortran handle, or that of all processes.
static inline bool fastloss_mpi_open(const MPI_Fint *handle, fastloss_mpi_group *group) {
    const MPI_Comm original = handle ? MPI_Comm_f2c(*handle) : MPI_COMM_WORLD;
    if (MPI_Comm_dup(original, &group->communicator) != MPI_SUCCESS) return false;
    // Errors become results instead of ending the program.
    MPI_Comm_set_errhandler(group->communicator, MPI_ERRORS_RETURN);
    MPI_Comm_rank(group->communicator, &group->rank);
    MPI_Comm_size(group->communicator, &group->size);
    return true;
}

static inline void fastloss_mpi_close(fastloss_mpi_group *group) {
    int done = 0;
    if (MPI_Finalized(&done) == MPI_SUCCESS && !done) MPI_Comm_free(&group->communicator);
}

/// Starts to send or to receive.
static inline bool fastloss_mpi_start(
    const fastloss_mpi_group *group, bool sends, void *bytes, size_t count, int peer, int tag,
    fastloss_mpi_message *message) {
    const size_t blocks = count / FASTLOSS_MPI_BLOCK, rest = count % FASTLOSS_MPI_BLOCK;
    char *const last = (char *)bytes + blocks * FASTLOSS_MPI_BLOCK;
    message->parts[0] = message->parts[1] = MPI_REQUEST_NULL;
    if (blocks > INT_MAX) return false;
    if (blocks > 0) {
        MPI_Datatype block;
        MPI_Type_contiguous(FASTLOSS_MPI_BLOCK, MPI_BYTE, &block);
        MPI_Type_commit(&block);
        const int error = sends
            ? MPI_Isend(bytes, (int)blocks, block, peer, tag, group->communicator, &message->parts[0])
            : MPI_Irecv(bytes, (int)blocks, block, peer, tag, group->communicator, &message->parts[0]);
        // MPI keeps the type until the message is complete.
        MPI_Type_free(&block);
        if (error != MPI_SUCCESS) return false;
    }
    if (rest == 0) return true;
    return (sends ? MPI_Isend(last, (int)rest, MPI_BYTE, peer, tag, group->communicator, &message->parts[1])
                  : MPI_Irecv(last, (int)rest, MPI_BYTE, peer, tag, group->communicator, &message->parts[1]))
        == MPI_SUCCESS;
}

/// Tells all other processes what a tag says.
static inline void fastloss_mpi_notify(const fastloss_mpi_group *group, int tag) {
    int done = 0;
    if (MPI_Finalized(&done) != MPI_SUCCESS || done) return;
    for (int other = 0; other < group->size; ++other) {
        MPI_Request request;
        if (other == group->rank) continue;
        if (MPI_Isend(NULL, 0, MPI_BYTE, other, tag, group->communicator, &request) == MPI_SUCCESS)
            MPI_Request_free(&request);
    }
}

/// Whether a process has told this one what a tag says. Nobody receives the message, so that it stays true.
static inline bool fastloss_mpi_is_notified(const fastloss_mpi_group *group, int peer, int tag) {
    int found = 0;
    return MPI_Iprobe(peer, tag, group->communicator, &found, MPI_STATUS_IGNORE) == MPI_SUCCESS && found;
}

/// Whether a message is complete: 1, 0, or −1 after an error.
static inline int fastloss_mpi_test(fastloss_mpi_message *message) {
    int done = 0;
    if (MPI_Testall(2, message->parts, &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS) return -1;
    return done ? 1 : 0;
}

/// Gives up a message that this process was to receive. Its memory is free afterwards.
static inline void fastloss_mpi_cancel(fastloss_mpi_message *message) {
    for (int part = 0; part < 2; ++part) {
        if (message->parts[part] == MPI_REQUEST_NULL) continue;
        MPI_Cancel(&message->parts[part]);
        MPI_Request_free(&message->parts[part]);
    }
}

#endif
