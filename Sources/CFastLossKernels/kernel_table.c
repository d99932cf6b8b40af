// The tables of kernels, one per instruction set, and the choice of the best one for this processor.

#include "amx_product.h"
#include "instruction_sets.h"

#define ENTRY(kernel, isa) .kernel = FASTLOSS_NAME(kernel, isa),
#define TABLE(isa) static const fastloss_kernels isa##_kernels = {FASTLOSS_FOR_EACH_KERNEL(ENTRY, isa)};
FASTLOSS_FOR_EACH_ISA(TABLE)

#if defined(__x86_64__)
/// Every processor with AVX2 has the others, but a virtual machine may hide them.
static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
#endif

fastloss_isa fastloss_best_isa(void) {
#if defined(__x86_64__)
    // This also checks that the operating system saves the wider registers.
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && has_avx2())
        return FASTLOSS_ISA_AVX512;
    if (has_avx2()) return FASTLOSS_ISA_AVX2;
#endif
    return FASTLOSS_ISA_BASELINE;
}

bool fastloss_runs(fastloss_isa isa) {
    if (isa == FASTLOSS_ISA_AMX)
        return fastloss_best_isa() == FASTLOSS_ISA_AVX512 && fastloss_amx_is_usable();
    return isa <= fastloss_best_isa();
}

const fastloss_kernels *fastloss_kernels_for(fastloss_isa isa) {
    if (!fastloss_runs(isa)) return NULL;
    switch (isa) {
    case FASTLOSS_ISA_BASELINE: return &baseline_kernels;
#if defined(__x86_64__)
    case FASTLOSS_ISA_AVX2: return &avx2_kernels;
    // AMX multiplies matrices. Its kernels are those of AVX-512.
    case FASTLOSS_ISA_AVX512:
    case FASTLOSS_ISA_AMX: return &avx512_kernels;
#endif
    default: return NULL;
    }
}
