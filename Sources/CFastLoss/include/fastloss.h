// The C interface of FastLoss: the training losses of scGPT and scFormer on the CPU, value and gradient.
//
// For C99 and C++11. Compile with `pkg-config --cflags --libs fastloss`, or in CMake link fastloss::fastloss
// after find_package(fastloss CONFIG REQUIRED).
//
//     enum { B = 64, L = 1201 };
//     static float predictions[B * L], targets[B * L], gradient[B * L];
//     static bool mask[B * L];
//     ...
//     fastloss_gradient output = FASTLOSS_GRADIENT(gradient, L);
//     fastloss_loss_value loss;
//     fastloss_status status = fastloss_masked_mse(
//         B, L, predictions, L, targets, L, mask, L, NULL, &output, NULL, &loss);
//     if (status != FASTLOSS_OK) fprintf(stderr, "%s\n", fastloss_last_error());
//
// These rules hold for every function.
//
// Matrices
//   Elements are float32, those of masks bool, in row-major order. A function takes the sides once and a
//   stride for each matrix. The stride counts the elements from the start of one row to the start of the
//   next. It is at least the number of columns. If it equals the number of columns, nothing is copied.
//   Otherwise the call packs the matrix into scratch memory first, and unpacks an output at the end. Gaps
//   between rows are neither read nor written.
//
// Pointers
//   Pointers have the alignment of their type. The caller owns all memory, and no pointer is kept after the
//   call. A matrix or array without elements may be NULL. Any other NULL is FASTLOSS_ERROR_NULL_POINTER,
//   unless the parameter says what NULL means.
//
// Masks
//   A mask selects. An element whose mask is false has no effect, even if it is NaN or infinite. Selected NaN
//   and infinities propagate as in IEEE arithmetic. A NULL mask selects every element. Each byte of a mask
//   must be 0 or 1; other values are undefined behaviour.
//
// Options
//   NULL options are the defaults, and these are upstream's (scGPT's and scFormer's).
//
// Gradients
//   A `fastloss_gradient` names the memory, a factor, and whether to overwrite or to accumulate. NULL
//   computes no gradient. An output must not share memory with an input or with another output. The rows of
//   two matrices may interleave in one buffer.
//
// Errors
//   Every function that can fail returns a status; below, statuses appear without their prefix
//   FASTLOSS_ERROR_. `fastloss_last_error` returns the message, which names parameters and members as these
//   headers do. A call that fails has written to no output, with two exceptions: after
//   PROBABILITY_OUT_OF_RANGE and RANK_FAILED all outputs hold unspecified values. Every function may return
//   the statuses from 100 on, and OUT_OF_MEMORY if it uses a workspace. Given valid pointers and sizes, no
//   function aborts.
//
// Threads
//   Any number of threads may call any function at the same time. A workspace serves one call at a time; a
//   call that finds its workspace in use returns WORKSPACE_BUSY. A NULL workspace is the calling thread's
//   own: its first such call creates it, and the end of the thread frees it. On one processor and OpenBLAS
//   build, results are bitwise the same for any number of workers.
//
// fork()
//   A child process may call any function. It must not use a workspace that another thread of the parent was
//   using at the time of fork().
//
// Rounding
//   All workers use the floating-point environment of the calling thread: rounding mode, subnormals,
//   exception flags. The accuracy is tested in the default environment.
//
// Memory
//   After the first call with a shape, calls with that shape and workspace allocate no memory. If scratch
//   memory is not available, a call returns OUT_OF_MEMORY. Two allocations are outside this library's
//   control, and end the process if they fail: OpenBLAS maps a buffer in a thread's first product, and the
//   Swift runtime and the dynamic linker allocate in the first call of a function. The helper threads live as
//   long as the process, so dlclose() does not unload the library.
//
// ABI
//   A struct that may grow begins with its size; the initialisers set it. A newer library accepts the structs
//   of an older header. An older library accepts the structs of a newer header if all members that it does
//   not know are zero. Zero in an added member means the default. Functions, constants, terms and members may
//   be added; everything else stays the same for one FASTLOSS_ABI_VERSION. Enumerations are int32_t with
//   named constants, which fixes their size.
//
// Symbols: B cells (rows), L genes or tokens, D embedding columns, C classes, K masks or weightings; m the
// mask, M the number of selected elements, x predictions, t targets. All counts and strides are in elements.

#ifndef FASTLOSS_H
#define FASTLOSS_H

#include "fastloss/common.h"
#include "fastloss/heads.h"
#include "fastloss/losses.h"
#include "fastloss/objective.h"
#include "fastloss/pooling.h"
#include "fastloss/ranks.h"

#endif
