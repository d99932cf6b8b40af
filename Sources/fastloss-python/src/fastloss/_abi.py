"""The structs, constants and signatures of the C interface in ctypes.

Written by scripts/generate/interface from the headers in Sources/CFastLoss/include. Do not edit.
"""

from ctypes import (
    Structure,
    c_bool,
    c_char_p,
    c_double,
    c_float,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_void_p,
)
from typing import Any

# fmt: off

ABI_VERSION = 1
IGNORED_LABEL = -100
CLASSIFIER_BLOCK_CAPACITY = 16
OK = 0
ERROR_SHAPE_MISMATCH = 1
ERROR_INVALID_SHAPE = 2
ERROR_DIMENSION_TOO_LARGE = 3
ERROR_INVALID_PARAMETER = 4
ERROR_EMPTY_SELECTION = 5
ERROR_LABEL_OUT_OF_RANGE = 6
ERROR_PROBABILITY_OUT_OF_RANGE = 7
ERROR_OVERLAPPING_BUFFERS = 8
ERROR_MISSING_INPUT = 9
ERROR_GRADIENT_WITHOUT_INPUT = 10
ERROR_NOT_FINITE = 11
ERROR_FACTORIZATION_FAILED = 12
ERROR_OUT_OF_MEMORY = 13
ERROR_RANKS_DISAGREE = 14
ERROR_RANK_FAILED = 15
ERROR_NULL_POINTER = 100
ERROR_MISALIGNED_POINTER = 101
ERROR_INVALID_STRIDE = 102
ERROR_INVALID_ENUMERATION = 103
ERROR_INVALID_STRUCT = 104
ERROR_WORKSPACE_BUSY = 105
REDUCTION_MEAN = 0
REDUCTION_SUM = 1
ELEMENT_FLOAT32 = 0
ELEMENT_BFLOAT16 = 1
ELEMENT_FLOAT16 = 2
EMPTY_ERROR = 0
EMPTY_ZERO = 1
EMPTY_NAN = 2
CERTIFICATE_AUTOMATIC = 0
CERTIFICATE_NEVER = 1
UPDATE_OVERWRITE = 0
UPDATE_ACCUMULATE = 1
NONZERO_PROBABILITIES = 0
NONZERO_LOGITS = 1
POOLING_CLS = 0
POOLING_AVERAGE = 1
TERM_MASKED_GENE = 0
TERM_MASKED_GENE_ZERO = 1
TERM_CELL_GENE = 2
TERM_CELL_GENE_ZERO = 3
TERM_GENERATION = 4
TERM_CELL_TYPE = 5
TERM_CONTRASTIVE = 6
TERM_ELASTIC = 7
TERM_BATCH = 8
TERM_COUNT = 9
TERM_CAPACITY = 16
QUERY_INNER_PRODUCT = 0
QUERY_INNER_PRODUCT_DETACHED = 1
QUERY_CONCAT = 2
QUERY_SUM = 3


class Gradient(Structure):
    _fields_ = [
        ("size", c_size_t), ("data", c_void_p), ("stride", c_int64), ("cell_stride", c_int64),
        ("scale", c_float), ("update", c_int32),
    ]


class MaskedOptions(Structure):
    _fields_ = [
        ("size", c_size_t), ("reduction", c_int32), ("when_empty", c_int32), ("predictions", c_int32),
        ("reserved", c_int32),
    ]


class Objective(Structure):
    _fields_ = [
        ("size", c_size_t), ("terms", c_uint32), ("nonzero_form", c_int32),
        ("weights", c_float * TERM_CAPACITY), ("mask_when_empty", c_int32), ("elastic_threshold", c_float),
        ("elastic_when_empty", c_int32), ("contrastive_temperature", c_float),
        ("contrastive_when_empty", c_int32), ("cell_type_reduction", c_int32),
        ("cell_type_when_empty", c_int32), ("cell_type_ignored_label", c_int32),
        ("batch_reduction", c_int32), ("batch_when_empty", c_int32), ("batch_ignored_label", c_int32),
        ("batch_lambda", c_float), ("elastic_certificate", c_int32), ("reserved", c_int32),
    ]


class ElasticOptions(Structure):
    _fields_ = [
        ("size", c_size_t), ("threshold", c_float), ("when_empty", c_int32), ("embeddings", c_int32),
        ("reserved", c_int32), ("certificate", c_int32), ("reserved_last", c_int32),
        ("certified_pairs", c_void_p),
    ]


class ContrastiveOptions(Structure):
    _fields_ = [
        ("size", c_size_t), ("temperature", c_float), ("when_empty", c_int32), ("embeddings", c_int32),
        ("reserved", c_int32),
    ]


class LossValue(Structure):
    _fields_ = [
        ("value", c_double), ("selected_count", c_int64),
    ]


class View(Structure):
    _fields_ = [
        ("data", c_void_p), ("stride", c_int64),
    ]


class MaskView(Structure):
    _fields_ = [
        ("data", c_void_p), ("stride", c_int64),
    ]


class MutableView(Structure):
    _fields_ = [
        ("data", c_void_p), ("stride", c_int64),
    ]


class ObjectiveInputs(Structure):
    _fields_ = [
        ("size", c_size_t), ("cells", c_int64), ("genes", c_int64), ("width", c_int64),
        ("cell_type_count", c_int64), ("batch_count", c_int64), ("targets", View), ("mask", MaskView),
        ("gene_predictions", View), ("gene_nonzero", View), ("cell_predictions", View),
        ("cell_nonzero", View), ("generated_predictions", View), ("cell_embedding", View),
        ("second_cell_embedding", View), ("cell_type_logits", View), ("batch_logits", View),
        ("cell_type_labels", c_void_p), ("batch_labels", c_void_p), ("gene_predictions_type", c_int32),
        ("gene_nonzero_type", c_int32), ("cell_predictions_type", c_int32), ("cell_nonzero_type", c_int32),
        ("generated_predictions_type", c_int32), ("cell_embedding_type", c_int32),
        ("second_cell_embedding_type", c_int32), ("cell_type_logits_type", c_int32),
        ("batch_logits_type", c_int32), ("reserved", c_int32),
    ]


class ObjectiveGradients(Structure):
    _fields_ = [
        ("size", c_size_t), ("scale", c_float), ("update", c_int32), ("gene_predictions", MutableView),
        ("gene_nonzero", MutableView), ("cell_predictions", MutableView), ("cell_nonzero", MutableView),
        ("generated_predictions", MutableView), ("cell_embedding", MutableView),
        ("second_cell_embedding", MutableView), ("cell_type_logits", MutableView),
        ("batch_logits", MutableView), ("reversed_batch_logits", MutableView),
    ]


class ObjectiveValue(Structure):
    _fields_ = [
        ("size", c_size_t), ("total", c_double), ("relative_error", c_double), ("selected_count", c_int64),
        ("terms", c_uint32), ("reserved", c_uint32), ("values", c_double * TERM_CAPACITY),
        ("weighted", c_double * TERM_CAPACITY), ("logged", c_double * TERM_CAPACITY),
        ("certified_pairs", c_int64),
    ]


class Communicator(Structure):
    _fields_ = [
        ("size", c_size_t), ("context", c_void_p), ("rank", c_int32), ("ranks", c_int32),
        ("start_exchange", c_void_p), ("finish_exchange", c_void_p), ("gather", c_void_p),
    ]


#: The result type and the argument types of every function. Pointers to structs are plain addresses: the
#: callers keep the structs alive, and ctypes skips a check.
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "fastloss_abi_version": (c_int32, []),
    "fastloss_version": (c_char_p, []),
    "fastloss_describe": (c_size_t, [c_char_p, c_size_t]),
    "fastloss_status_name": (c_char_p, [c_int32]),
    "fastloss_last_error": (c_char_p, []),
    "fastloss_workspace_create": (c_int32, [c_int64, c_void_p]),
    "fastloss_workspace_destroy": (None, [c_void_p]),
    "fastloss_workspace_byte_count": (c_size_t, [c_void_p]),
    "fastloss_workspace_workers": (c_int64, [c_void_p]),
    "fastloss_set_thread_pool": (c_int32, [c_void_p]),
    "fastloss_masked_mse": (c_int32, [
        c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p,
        c_void_p, c_void_p]),
    "fastloss_masked_mse_per_cell": (c_int32, [
        c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p,
        c_void_p, c_void_p, c_void_p]),
    "fastloss_bernoulli_nll": (c_int32, [
        c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p,
        c_void_p, c_void_p]),
    "fastloss_bernoulli_nll_per_cell": (c_int32, [
        c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p,
        c_void_p, c_void_p, c_void_p]),
    "fastloss_bernoulli_nll_logits": (c_int32, [
        c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p,
        c_void_p, c_void_p]),
    "fastloss_bernoulli_nll_logits_per_cell": (c_int32, [
        c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p,
        c_void_p, c_void_p, c_void_p]),
    "fastloss_masked_relative_error": (c_int32, [
        c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p,
        c_void_p]),
    "fastloss_masked_relative_error_per_cell": (c_int32, [
        c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p,
        c_void_p, c_void_p]),
    "fastloss_cross_entropy": (c_int32, [
        c_int64, c_int64, c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p]),
    "fastloss_gradient_reversal": (c_int32, [
        c_int64, c_int64, c_void_p, c_int64, c_float, c_void_p, c_void_p]),
    "fastloss_domain_adversarial": (c_int32, [
        c_int64, c_int64, c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p]),
    "fastloss_elastic_cell_similarity": (c_int32, [
        c_int64, c_int64, c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_void_p]),
    "fastloss_contrastive_cell_embedding": (c_int32, [
        c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_void_p,
        c_void_p]),
    "fastloss_cosine_similarity": (c_int32, [
        c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p]),
    "fastloss_masked_reductions": (c_int32, [
        c_int64, c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p, c_int64,
        c_void_p]),
    "fastloss_masked_reductions_gradient": (c_int32, [
        c_int64, c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p, c_void_p]),
    "fastloss_token_pooling": (c_int32, [
        c_int32, c_int64, c_int64, c_int64, c_void_p, c_int64, c_int64, c_void_p, c_int64, c_void_p]),
    "fastloss_token_pooling_gradient": (c_int32, [
        c_int32, c_int64, c_int64, c_int64, c_void_p, c_int64, c_void_p, c_void_p]),
    "fastloss_weighted_token_pooling": (c_int32, [
        c_int64, c_int64, c_int64, c_int64, c_void_p, c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64,
        c_void_p]),
    "fastloss_weighted_token_pooling_states_gradient": (c_int32, [
        c_int64, c_int64, c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p]),
    "fastloss_weighted_token_pooling_weights_gradient": (c_int32, [
        c_int64, c_int64, c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_int64, c_void_p,
        c_void_p]),
    "fastloss_normalized_weighted_token_pooling": (c_int32, [
        c_int64, c_int64, c_int64, c_int64, c_void_p, c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64,
        c_void_p, c_void_p]),
    "fastloss_normalized_weighted_token_pooling_states_gradient": (c_int32, [
        c_int64, c_int64, c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p,
        c_int64, c_void_p, c_void_p]),
    "fastloss_normalized_weighted_token_pooling_weights_gradient": (c_int32, [
        c_int64, c_int64, c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p,
        c_int64, c_int64, c_void_p, c_void_p]),
    "fastloss_term_name": (c_char_p, [c_int32]),
    "fastloss_objective_enable": (c_int32, [c_void_p, c_int32, c_float]),
    "fastloss_objective_disable": (c_int32, [c_void_p, c_int32]),
    "fastloss_objective_integration": (c_int32, [c_void_p, c_bool, c_bool, c_float, c_float]),
    "fastloss_objective_annotation": (c_int32, [c_void_p]),
    "fastloss_objective_perturbation": (c_int32, [c_void_p]),
    "fastloss_objective_multi_omics": (c_int32, [c_void_p]),
    "fastloss_objective_generative_pretraining": (c_int32, [c_void_p, c_bool]),
    "fastloss_objective_masked_pretraining": (c_int32, [c_void_p]),
    "fastloss_objective_scformer": (c_int32, [c_void_p, c_bool, c_bool]),
    "fastloss_total_objective": (c_int32, [c_void_p, c_void_p, c_void_p, c_void_p, c_void_p]),
    "fastloss_expression_decoder_predict": (c_int32, [
        c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_int64, c_void_p]),
    "fastloss_expression_decoder_gradient": (c_int32, [
        c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p]),
    "fastloss_expression_decoder_loss": (c_int32, [
        c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p]),
    "fastloss_masked_value_decoder_predict": (c_int32, [
        c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_int64, c_void_p]),
    "fastloss_masked_value_decoder_gradient": (c_int32, [
        c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p]),
    "fastloss_masked_value_decoder_loss": (c_int32, [
        c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p]),
    "fastloss_cell_type_decoder_predict": (c_int32, [
        c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p]),
    "fastloss_cell_type_decoder_gradient": (c_int32, [
        c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p]),
    "fastloss_cell_type_decoder_loss": (c_int32, [
        c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p]),
    "fastloss_adversarial_discriminator_predict": (c_int32, [
        c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p]),
    "fastloss_adversarial_discriminator_gradient": (c_int32, [
        c_void_p, c_float, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p]),
    "fastloss_adversarial_discriminator_loss": (c_int32, [
        c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p]),
    "fastloss_batch_label_encoder_embed": (c_int32, [
        c_void_p, c_int64, c_void_p, c_void_p, c_int64, c_void_p]),
    "fastloss_batch_label_encoder_gradient": (c_int32, [
        c_void_p, c_int64, c_void_p, c_void_p, c_int64, c_void_p, c_void_p]),
    "fastloss_ranks_elastic_cell_similarity": (c_int32, [
        c_int64, c_int64, c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p]),
    "fastloss_ranks_contrastive_cell_embedding": (c_int32, [
        c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_void_p,
        c_void_p, c_void_p]),
    "fastloss_ranks_total_objective": (c_int32, [c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p]),
}
