// The products of processors with AMX; see amx_product.c.

#ifndef FASTLOSS_AMX_PRODUCT_H
#define FASTLOSS_AMX_PRODUCT_H

#include "fastloss_tile_product.h"

/// Whether the processor has AMX with bfloat16, and Linux lets this process use it; see `fastloss_runs`.
bool fastloss_amx_is_usable(void);

/// NULL in a build without AMX.
extern const fastloss_tile_products *const fastloss_products_amx;

/// Those of AVX-512, which AMX falls back to; see tile_product.c.
extern const fastloss_tile_products fastloss_products_avx512;

#endif
