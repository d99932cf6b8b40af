// The number of elements that a mask selects: the M of every masked mean.

#include "instruction_sets.h"

FASTLOSS_BODY size_t count_selected(const bool *mask, size_t count) {
    // Widen bytes once a block instead of once an element. A byte lane holds up to 255 ones.
    enum { LANES = 64, ROUNDS = 255 };
    size_t selected = 0, start = 0;
    while (count - start >= LANES) {
        const size_t left = (count - start) / LANES;
        const size_t rounds = left < ROUNDS ? left : ROUNDS;
        unsigned char lanes[LANES] = {0};
        for (size_t round = 0; round < rounds; ++round, start += LANES)
            for (size_t lane = 0; lane < LANES; ++lane) lanes[lane] += mask[start + lane];
        for (size_t lane = 0; lane < LANES; ++lane) selected += lanes[lane];
    }
    for (; start < count; ++start) selected += mask[start];
    return selected;
}

#define DEFINE(isa)                                                                                  \
    FASTLOSS_TARGET(isa) size_t FASTLOSS_NAME(count_selected, isa)(const bool *mask, size_t count) { \
        return count_selected(mask, count);                                                          \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE)
