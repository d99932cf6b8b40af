"""FastLoss: the training losses of scGPT and scFormer on the CPU, value and gradient in one pass.

- For NumPy arrays: the functions of this module. :mod:`fastloss.losses` has the rules for all of them.
- For PyTorch: :mod:`fastloss.torch`, with scGPT's names, and :func:`patch_scgpt`.
"""

from ._library import describe, get_workers, library_version, set_workers
from ._scgpt import ScGPTPatch, patch_scgpt
from .errors import (
    ArrayError,
    EmptySelectionError,
    FastLossError,
    InvalidParameterError,
    LabelOutOfRangeError,
    OutOfMemoryError,
    OverlapError,
    ProbabilityOutOfRangeError,
    RankFailedError,
    RanksDisagreeError,
    ShapeError,
)
from .losses import (
    ElasticLossValue,
    LossValue,
    bernoulli_nll,
    bernoulli_nll_per_cell,
    contrastive_cell_embedding,
    cosine_similarity,
    cross_entropy,
    domain_adversarial,
    elastic_cell_similarity,
    gradient_reversal,
    masked_mse,
    masked_mse_per_cell,
    masked_relative_error,
    masked_relative_error_per_cell,
)
from .objective import ObjectiveValue, TotalObjective
from .pooling import (
    NormalizedPooling,
    masked_reductions,
    masked_reductions_gradient,
    normalized_weighted_token_pooling,
    token_pooling,
    token_pooling_gradient,
    weighted_token_pooling,
    weighted_token_pooling_gradient,
)

__version__ = "0.1.0"

__all__ = [
    "ArrayError",
    "ElasticLossValue",
    "EmptySelectionError",
    "FastLossError",
    "InvalidParameterError",
    "LabelOutOfRangeError",
    "LossValue",
    "NormalizedPooling",
    "ObjectiveValue",
    "OutOfMemoryError",
    "OverlapError",
    "ProbabilityOutOfRangeError",
    "RankFailedError",
    "RanksDisagreeError",
    "ScGPTPatch",
    "ShapeError",
    "TotalObjective",
    "bernoulli_nll",
    "bernoulli_nll_per_cell",
    "contrastive_cell_embedding",
    "cosine_similarity",
    "cross_entropy",
    "describe",
    "domain_adversarial",
    "elastic_cell_similarity",
    "get_workers",
    "gradient_reversal",
    "library_version",
    "masked_mse",
    "masked_mse_per_cell",
    "masked_reductions",
    "masked_reductions_gradient",
    "masked_relative_error",
    "masked_relative_error_per_cell",
    "normalized_weighted_token_pooling",
    "patch_scgpt",
    "set_workers",
    "token_pooling",
    "token_pooling_gradient",
    "weighted_token_pooling",
    "weighted_token_pooling_gradient",
]
