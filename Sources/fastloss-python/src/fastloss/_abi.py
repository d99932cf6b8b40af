"""The C interface, `fastloss.h`, in ctypes: structs, constants and signatures, and nothing else.

ctypes rather than a compiled extension: one wheel serves every Python and every torch, and the calls cost a
microsecond or two. The GIL is released for the time of each call.
"""

from ctypes import (
    CDLL,
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
    sizeof,
)
from typing import Any, TypeVar

__all__ = [
    "ABI_VERSION",
    "EMPTY_RULES",
    "POOLINGS",
    "REDUCTIONS",
    "TERM_CAPACITY",
    "TERM_NAMES",
    "ContrastiveOptions",
    "CrossEntropyOptions",
    "DomainAdversarialOptions",
    "ElasticOptions",
    "Gradient",
    "LossValue",
    "MaskedOptions",
    "Objective",
    "ObjectiveGradients",
    "ObjectiveInputs",
    "ObjectiveValue",
    "View",
    "declare",
    "sized",
]

ABI_VERSION = 1
TERM_CAPACITY = 16

REDUCTIONS = {"mean": 0, "sum": 1}
EMPTY_RULES = {"error": 0, "zero": 1, "nan": 2}
POOLINGS = {"cls": 0, "avg-pool": 1}
#: In the order of `fastloss_term`, under the names by which scGPT logs them.
TERM_NAMES = ("mse", "nzlp", "mvc", "mvc_nzlp", "gen", "cls", "cce", "ecs", "dab")


AnyStructure = TypeVar("AnyStructure", bound=Structure)


def sized(structure: type[AnyStructure], *values: Any) -> AnyStructure:
    """A struct that begins with its own size; fields that are not given are 0, which is their default."""
    return structure(sizeof(structure), *values)


class LossValue(Structure):
    _fields_ = [("value", c_double), ("selected_count", c_int64)]


class Gradient(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("data", c_void_p),
        ("stride", c_int64),
        ("cell_stride", c_int64),
        ("scale", c_float),
        ("update", c_int32),
    ]


class MaskedOptions(Structure):
    _fields_ = [("size", c_size_t), ("reduction", c_int32), ("when_empty", c_int32)]


class CrossEntropyOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("reduction", c_int32),
        ("when_empty", c_int32),
        ("ignored_label", c_int32),
        ("reserved", c_int32),
    ]


class DomainAdversarialOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("reduction", c_int32),
        ("when_empty", c_int32),
        ("ignored_label", c_int32),
        ("lambda_", c_float),
    ]


class ElasticOptions(Structure):
    _fields_ = [("size", c_size_t), ("threshold", c_float), ("when_empty", c_int32)]


class ContrastiveOptions(Structure):
    _fields_ = [("size", c_size_t), ("temperature", c_float), ("when_empty", c_int32)]


class Objective(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("terms", c_uint32),
        ("nonzero_form", c_int32),
        ("weights", c_float * TERM_CAPACITY),
        ("mask_when_empty", c_int32),
        ("elastic_threshold", c_float),
        ("elastic_when_empty", c_int32),
        ("contrastive_temperature", c_float),
        ("contrastive_when_empty", c_int32),
        ("cell_type_reduction", c_int32),
        ("cell_type_when_empty", c_int32),
        ("cell_type_ignored_label", c_int32),
        ("batch_reduction", c_int32),
        ("batch_when_empty", c_int32),
        ("batch_ignored_label", c_int32),
        ("batch_lambda", c_float),
    ]


class View(Structure):
    """A matrix: `fastloss_view`, `fastloss_mask_view` and `fastloss_mutable_view` are alike in memory."""

    _fields_ = [("data", c_void_p), ("stride", c_int64)]


class ObjectiveInputs(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("cells", c_int64),
        ("genes", c_int64),
        ("width", c_int64),
        ("cell_type_count", c_int64),
        ("batch_count", c_int64),
        ("targets", View),
        ("mask", View),
        ("gene_predictions", View),
        ("gene_nonzero", View),
        ("cell_predictions", View),
        ("cell_nonzero", View),
        ("generated_predictions", View),
        ("cell_embedding", View),
        ("second_cell_embedding", View),
        ("cell_type_logits", View),
        ("batch_logits", View),
        ("cell_type_labels", c_void_p),
        ("batch_labels", c_void_p),
    ]


class ObjectiveGradients(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("scale", c_float),
        ("update", c_int32),
        ("gene_predictions", View),
        ("gene_nonzero", View),
        ("cell_predictions", View),
        ("cell_nonzero", View),
        ("generated_predictions", View),
        ("cell_embedding", View),
        ("second_cell_embedding", View),
        ("cell_type_logits", View),
        ("batch_logits", View),
        ("reversed_batch_logits", View),
    ]


class ObjectiveValue(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("total", c_double),
        ("relative_error", c_double),
        ("selected_count", c_int64),
        ("terms", c_uint32),
        ("reserved", c_uint32),
        ("values", c_double * TERM_CAPACITY),
        ("weighted", c_double * TERM_CAPACITY),
        ("logged", c_double * TERM_CAPACITY),
    ]


# --- Signatures ---------------------------------------------------------------------------------------------

# Pointers to structs are plain addresses too: the callers keep the structs alive, and ctypes is spared a
# check.
POINTER = c_void_p
MATRIX = [POINTER, c_int64]
#: Token states: the stride between tokens and the one between cells.
STATES = [POINTER, c_int64, c_int64]
#: Rows, columns, predictions, targets, mask, options.
MASKED = [c_int64, c_int64, *MATRIX, *MATRIX, *MATRIX, POINTER]
#: Rows, classes, logits, labels, options, gradient.
LABELLED = [c_int64, c_int64, *MATRIX, POINTER, POINTER, POINTER]
#: Cells, tokens, width, weightings.
WEIGHTED = [c_int64] * 4
#: Workspace and where the loss goes.
WORKSPACE = POINTER
LOSS = [WORKSPACE, POINTER]
PER_CELL = [WORKSPACE, POINTER, POINTER]

#: The arguments of every function that returns a status.
STATUS_FUNCTIONS: dict[str, list[Any]] = {
    "workspace_create": [c_int64, POINTER],
    "masked_mse": [*MASKED, POINTER, *LOSS],
    "masked_mse_per_cell": [*MASKED, POINTER, *PER_CELL],
    "bernoulli_nll": [*MASKED, POINTER, *LOSS],
    "bernoulli_nll_per_cell": [*MASKED, POINTER, *PER_CELL],
    "bernoulli_nll_logits": [*MASKED, POINTER, *LOSS],
    "bernoulli_nll_logits_per_cell": [*MASKED, POINTER, *PER_CELL],
    "masked_relative_error": [*MASKED, *LOSS],
    "masked_relative_error_per_cell": [*MASKED, *PER_CELL],
    "cross_entropy": [*LABELLED, *LOSS],
    "gradient_reversal": [c_int64, c_int64, *MATRIX, c_float, POINTER, WORKSPACE],
    "domain_adversarial": [*LABELLED, POINTER, *LOSS],
    "elastic_cell_similarity": [c_int64, c_int64, *MATRIX, POINTER, POINTER, *LOSS],
    "contrastive_cell_embedding": [c_int64, c_int64, *MATRIX, *MATRIX, POINTER, POINTER, POINTER, *LOSS],
    "cosine_similarity": [c_int64, c_int64, *MATRIX, *MATRIX, WORKSPACE],
    "masked_reductions": [c_int64, c_int64, c_int64, *MATRIX, *MATRIX, POINTER, *MATRIX, WORKSPACE],
    "masked_reductions_gradient": [c_int64, c_int64, c_int64, *MATRIX, *MATRIX, POINTER, POINTER, WORKSPACE],
    "token_pooling": [c_int32, c_int64, c_int64, c_int64, *STATES, *MATRIX, WORKSPACE],
    "token_pooling_gradient": [c_int32, c_int64, c_int64, c_int64, *MATRIX, POINTER, WORKSPACE],
    "weighted_token_pooling": [*WEIGHTED, *STATES, *MATRIX, *MATRIX, WORKSPACE],
    "weighted_token_pooling_states_gradient": [*WEIGHTED, *MATRIX, *MATRIX, POINTER, WORKSPACE],
    "weighted_token_pooling_weights_gradient": [*WEIGHTED, *MATRIX, *STATES, POINTER, WORKSPACE],
    "normalized_weighted_token_pooling": [*WEIGHTED, *STATES, *MATRIX, *MATRIX, POINTER, WORKSPACE],
    "normalized_weighted_token_pooling_states_gradient": [
        *WEIGHTED,
        *MATRIX,
        *MATRIX,
        POINTER,
        *MATRIX,
        POINTER,
        WORKSPACE,
    ],
    "normalized_weighted_token_pooling_weights_gradient": [
        *WEIGHTED,
        *MATRIX,
        *MATRIX,
        POINTER,
        *STATES,
        POINTER,
        WORKSPACE,
    ],
    "objective_integration": [POINTER, c_bool, c_bool, c_float, c_float],
    "objective_annotation": [POINTER],
    "objective_perturbation": [POINTER],
    "objective_multi_omics": [POINTER],
    "objective_generative_pretraining": [POINTER, c_bool],
    "objective_masked_pretraining": [POINTER],
    "objective_scformer": [POINTER, c_bool, c_bool],
    "total_objective": [POINTER] * 5,
}

#: The others: what they return and take.
OTHER_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "abi_version": (c_int32, []),
    "version": (c_char_p, []),
    "describe": (c_size_t, [c_char_p, c_size_t]),
    "last_error": (c_char_p, []),
    "status_name": (c_char_p, [c_int32]),
    "term_name": (c_char_p, [c_int32]),
    "workspace_destroy": (None, [POINTER]),
    "workspace_byte_count": (c_size_t, [POINTER]),
    "workspace_workers": (c_int64, [POINTER]),
}


def declare(library: CDLL) -> None:
    """Tells ctypes every function's types; AttributeError if the library lacks one."""
    for name, arguments in STATUS_FUNCTIONS.items():
        function = getattr(library, f"fastloss_{name}")
        function.restype = c_int32
        function.argtypes = arguments
    for name, (result, arguments) in OTHER_FUNCTIONS.items():
        function = getattr(library, f"fastloss_{name}")
        function.restype = result
        function.argtypes = arguments
