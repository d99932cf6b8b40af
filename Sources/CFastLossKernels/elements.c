// Whole arrays of elements: widening, narrowing, and one value written to all.

#include "instruction_sets.h"

FASTLOSS_BODY void widen(
    const void *restrict elements, size_t count, float *restrict values, fastloss_element element) {
    for (size_t i = 0; i < count; ++i) values[i] = fastloss_load(elements, i, element);
}

FASTLOSS_BODY void narrow(
    const float *restrict values, size_t count, void *restrict elements, fastloss_write_mode mode,
    fastloss_element element) {
    for (size_t i = 0; i < count; ++i) fastloss_write_element(elements, i, values[i], mode, element);
}

FASTLOSS_BODY void fill(
    float value, size_t count, void *elements, fastloss_write_mode mode, fastloss_element element) {
    for (size_t i = 0; i < count; ++i) fastloss_write_element(elements, i, value, mode, element);
}

#define WIDEN(mode, element) widen(elements, count, values, element)
#define DEFINE_WIDEN(isa)                                                              \
    FASTLOSS_TARGET(isa)                                                               \
    void FASTLOSS_NAME(widen, isa)(                                                    \
        const void *elements, size_t count, float *values, fastloss_element element) { \
        FASTLOSS_SPECIALISE_ELEMENT(FASTLOSS_NO_OUTPUT, element, isa, WIDEN)           \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE_WIDEN)

#define NARROW(mode, element) narrow(values, count, elements, mode, element)
#define DEFINE_NARROW(isa)                                                           \
    FASTLOSS_TARGET(isa)                                                             \
    void FASTLOSS_NAME(narrow, isa)(                                                 \
        const float *values, size_t count, void *elements, fastloss_write_mode mode, \
        fastloss_element element) {                                                  \
        FASTLOSS_SPECIALISE_ELEMENT(mode, element, isa, NARROW)                      \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE_NARROW)

#define FILL(mode, element) fill(value, count, elements, mode, element)
#define DEFINE_FILL(isa)                                                                                 \
    FASTLOSS_TARGET(isa)                                                                                 \
    void FASTLOSS_NAME(fill, isa)(                                                                       \
        float value, size_t count, void *elements, fastloss_write_mode mode, fastloss_element element) { \
        FASTLOSS_SPECIALISE_ELEMENT(mode, element, isa, FILL)                                            \
    }
FASTLOSS_FOR_EACH_ISA(DEFINE_FILL)
