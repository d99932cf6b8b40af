// The layout of every struct of fastloss.h, pinned: a program that was compiled against this header passes
// these very bytes. A struct that begins with its size may get fields at its end: then the line with its size
// changes and the one with its last field stays, as does its `firstSize` in Swift. Any other change is a
// change of FASTLOSS_ABI_VERSION.

#include "fastloss.h"

#define FASTLOSS_LAYOUT(type, bytes)                                                           \
    _Static_assert(sizeof(type) == (bytes), #type " has changed: its size is part of the ABI")
#define FASTLOSS_LAST_FIELD(type, field, offset)                                                        \
    _Static_assert(                                                                                     \
        offsetof(type, field) == (offset), #type "." #field " has moved: its place is part of the ABI")

_Static_assert(sizeof(bool) == 1, "masks are bytes");
_Static_assert(sizeof(float) == 4 && sizeof(double) == 8, "numbers are IEEE 754 singles and doubles");

#if UINTPTR_MAX == UINT64_MAX
FASTLOSS_LAYOUT(fastloss_loss_value, 16);
FASTLOSS_LAYOUT(fastloss_gradient, 40);
FASTLOSS_LAST_FIELD(fastloss_gradient, update, 36);
FASTLOSS_LAYOUT(fastloss_masked_options, 16);
FASTLOSS_LAST_FIELD(fastloss_masked_options, when_empty, 12);
FASTLOSS_LAYOUT(fastloss_cross_entropy_options, 24);
FASTLOSS_LAST_FIELD(fastloss_cross_entropy_options, reserved, 20);
FASTLOSS_LAYOUT(fastloss_domain_adversarial_options, 24);
FASTLOSS_LAST_FIELD(fastloss_domain_adversarial_options, lambda, 20);
FASTLOSS_LAYOUT(fastloss_elastic_options, 16);
FASTLOSS_LAST_FIELD(fastloss_elastic_options, when_empty, 12);
FASTLOSS_LAYOUT(fastloss_contrastive_options, 16);
FASTLOSS_LAST_FIELD(fastloss_contrastive_options, when_empty, 12);
FASTLOSS_LAYOUT(fastloss_objective, 128);
FASTLOSS_LAST_FIELD(fastloss_objective, batch_lambda, 124);
FASTLOSS_LAYOUT(fastloss_view, 16);
FASTLOSS_LAYOUT(fastloss_mask_view, 16);
FASTLOSS_LAYOUT(fastloss_mutable_view, 16);
FASTLOSS_LAYOUT(fastloss_objective_inputs, 240);
FASTLOSS_LAST_FIELD(fastloss_objective_inputs, batch_labels, 232);
FASTLOSS_LAYOUT(fastloss_objective_gradients, 176);
FASTLOSS_LAST_FIELD(fastloss_objective_gradients, reversed_batch_logits, 160);
FASTLOSS_LAYOUT(fastloss_objective_value, 424);
FASTLOSS_LAST_FIELD(fastloss_objective_value, logged, 296);
#endif
