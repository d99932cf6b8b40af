// Reads and writes the elements of a model's outputs and gradients: float32, bfloat16 and float16.
//
// Kernels compute in float. A 16-bit element is widened in a register, without rounding, and a gradient is
// rounded once, to nearest, ties to even. Beyond the type's range it becomes an infinity; a NaN stays a quiet
// NaN with its upper bits. Every function takes the element type as a constant, so that each loop is
// specialised.
//
// Processors with F16C convert float16 themselves. For others there is integer code with the same results: it
// never computes with a subnormal float, which would take over a hundred cycles on some processors.

#ifndef FASTLOSS_ELEMENTS_H
#define FASTLOSS_ELEMENTS_H

#include "fastloss_kernels.h"

/// A loop body or helper that is inlined into each instruction set's function.
#define FASTLOSS_BODY static inline __attribute__((always_inline))

/// float16 that the processor converts; only `FASTLOSS_FLOAT16_OF_…` chooses it.
#define FASTLOSS_FLOAT16_NATIVE ((fastloss_element)3)

#if defined(__x86_64__)
#define FASTLOSS_FLOAT16_OF_baseline FASTLOSS_FLOAT16
#define FASTLOSS_FLOAT16_OF_avx2 FASTLOSS_FLOAT16_NATIVE
#define FASTLOSS_FLOAT16_OF_avx512 FASTLOSS_FLOAT16_NATIVE
#elif defined(__aarch64__)
#define FASTLOSS_FLOAT16_OF_baseline FASTLOSS_FLOAT16_NATIVE
#else
#define FASTLOSS_FLOAT16_OF_baseline FASTLOSS_FLOAT16
#endif

typedef union {
    float value;
    uint32_t bits;
} fastloss_float_view;

/// The bytes of `count` elements.
FASTLOSS_BODY size_t fastloss_bytes(size_t count, fastloss_element element) {
    return count * (element == FASTLOSS_FLOAT32 ? sizeof(float) : sizeof(uint16_t));
}

FASTLOSS_BODY float fastloss_widen_float16(uint16_t half) {
    fastloss_float_view view = {.bits = (uint32_t)(half & 0x7fff) << 13};
    // 2⁻¹⁴·(1 + f) − 2⁻¹⁴ normalises a subnormal 2⁻¹⁴·f exactly.
    const fastloss_float_view subnormal = {.bits = view.bits + (113u << 23)};
    const fastloss_float_view normalised = {.value = subnormal.value - 0x1p-14f};
    const uint32_t exponent = view.bits & 0x0f800000u;
    const uint32_t rebased = view.bits + (exponent == 0x0f800000u ? (255u - 31) << 23 : (127u - 15) << 23);
    view.bits = (exponent == 0 ? normalised.bits : rebased) | (uint32_t)(half & 0x8000) << 16;
    return view.value;
}

FASTLOSS_BODY uint16_t fastloss_narrow_float16(float value) {
    fastloss_float_view view = {.value = value};
    const uint32_t sign = view.bits & 0x80000000u;
    view.bits ^= sign;
    const uint32_t magnitude = view.bits;
    // Below 2⁻¹⁴ the addition of 1/2 rounds to a multiple of 2⁻²⁴, in the lowest bits.
    const fastloss_float_view added = {.value = view.value + 0.5f};
    const uint32_t subnormal = added.bits - 0x3f000000u;
    const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1)) >> 13;
    const uint32_t quiet_nan = 0x7e00u | (magnitude >> 13 & 0x3ffu);
    uint32_t half = magnitude < 113u << 23 ? subnormal : normal;
    half = magnitude >= 143u << 23 ? 0x7c00u : half;
    half = magnitude > 255u << 23 ? quiet_nan : half;
    return (uint16_t)(half | sign >> 16);
}

FASTLOSS_BODY uint16_t fastloss_narrow_bfloat16(float value) {
    const fastloss_float_view view = {.value = value};
    const uint32_t rounded = (view.bits + 0x7fffu + (view.bits >> 16 & 1)) >> 16;
    const uint32_t quiet_nan = view.bits >> 16 | 0x40u;
    return (uint16_t)((view.bits & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded);
}

FASTLOSS_BODY float fastloss_load(const void *elements, size_t index, fastloss_element element) {
    if (element == FASTLOSS_FLOAT32) return ((const float *)elements)[index];
    if (element == FASTLOSS_BFLOAT16) {
        const fastloss_float_view view = {.bits = (uint32_t)((const uint16_t *)elements)[index] << 16};
        return view.value;
    }
#if defined(__FLT16_MAX__)
    if (element == FASTLOSS_FLOAT16_NATIVE) return (float)((const _Float16 *)elements)[index];
#endif
    return fastloss_widen_float16(((const uint16_t *)elements)[index]);
}

FASTLOSS_BODY void fastloss_store(void *elements, size_t index, float value, fastloss_element element) {
    if (element == FASTLOSS_FLOAT32) {
        ((float *)elements)[index] = value;
        return;
    }
    if (element == FASTLOSS_BFLOAT16) {
        ((uint16_t *)elements)[index] = fastloss_narrow_bfloat16(value);
        return;
    }
#if defined(__FLT16_MAX__)
    if (element == FASTLOSS_FLOAT16_NATIVE) {
        ((_Float16 *)elements)[index] = (_Float16)value;
        return;
    }
#endif
    ((uint16_t *)elements)[index] = fastloss_narrow_float16(value);
}

/// Writes one gradient element. `mode` and `element` are constants after inlining.
FASTLOSS_BODY void fastloss_write_element(
    void *gradient, size_t index, float value, fastloss_write_mode mode, fastloss_element element) {
    if (mode == FASTLOSS_NO_OUTPUT) return;
    if (mode == FASTLOSS_ACCUMULATE) value += fastloss_load(gradient, index, element);
    fastloss_store(gradient, index, value, element);
}

#endif
