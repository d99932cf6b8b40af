"""The losses on NumPy arrays.

These rules hold for every function:

- Arrays are float32, masks bool, labels int32, in row-major order. Predictions of the masked losses, the
  embeddings of elastic cell similarity and contrastive cell embedding, and logits may also be float16 or
  bfloat16 of ml_dtypes, and are read as they are; their gradient has the same type and is rounded once. A
  vector is one row. Rows may have gaps between them (a range of columns, every other row); the library packs
  such a matrix first. Nothing else is copied or converted. Any other array is an
  :class:`~fastloss.ArrayError`.
- Instances of subclasses (:class:`numpy.memmap`, :class:`numpy.matrix`) are read as plain arrays. Masked
  arrays are an ArrayError, because their hidden elements would count. Outputs are plain arrays or memmaps.
- A mask selects: an element outside has no effect, even if it is NaN or infinite. None selects every element.
  The bytes of a mask must be 0 or 1, as NumPy and PyTorch write them; this is not checked.
- ``gradient`` is an array that receives the gradient, computed in the same pass as the value. None computes
  no gradient. ``gradient_scale`` multiplies the gradient alone (a term's weight, loss scaling).
  ``accumulate`` adds to the array. A gradient must not share memory with an input.
- Numbers are finite and within the range of float32, and truth values are True or False. Others are an
  :class:`~fastloss.InvalidParameterError`, raised before any output is written.
- ``when_empty`` is the result if no element is selected: ``"error"`` raises
  :class:`~fastloss.EmptySelectionError`; ``"zero"`` is value and gradient 0; ``"nan"`` is upstream's result,
  a value of NaN, and NaN gradients for masked losses, 0 for others.
- The GIL is released during the computation. It uses :func:`~fastloss.get_workers` threads.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _native
from ._arrays import BOOL, FLOAT, Matrix, checked_labels, checked_matrix, checked_output, matrix, model_type
from ._library import call
from ._parameters import EMPTY_RULES, REDUCTIONS, flag, integer, real, word

__all__ = [
    "ElasticLossValue",
    "LossValue",
    "bernoulli_nll",
    "bernoulli_nll_per_cell",
    "contrastive_cell_embedding",
    "cosine_similarity",
    "cross_entropy",
    "domain_adversarial",
    "elastic_cell_similarity",
    "gradient_reversal",
    "masked_mse",
    "masked_mse_per_cell",
    "masked_relative_error",
    "masked_relative_error_per_cell",
]

FloatArray = npt.NDArray[np.float32]
#: float32, float16, or bfloat16 of ml_dtypes.
ModelArray = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
LabelArray = npt.NDArray[np.int32]
Reduction = Literal["mean", "sum"]
EmptyRule = Literal["error", "zero", "nan"]


class LossValue(NamedTuple):
    """A loss, and the number of elements (for cross-entropy, rows) that it reduces."""

    value: float
    selected_count: int


class ElasticLossValue(LossValue):
    """The loss of :func:`elastic_cell_similarity`: a :class:`LossValue` that knows its certified pairs."""

    #: How many of the B² pairs were summed in closed form, without their similarities.
    certified_pairs: int

    def __new__(cls, value: float, selected_count: int, certified_pairs: int = 0) -> "ElasticLossValue":
        loss = super().__new__(cls, value, selected_count)
        loss.certified_pairs = certified_pairs
        return loss


def checked_scale(scale: Any, accumulate: Any) -> tuple[float, bool]:
    return real("gradient_scale", scale), flag("accumulate", accumulate)


def checked_gradient(
    name: str, gradient: ModelArray | None, like: Matrix, kind: np.dtype[Any] = FLOAT
) -> ModelArray | None:
    return None if gradient is None else checked_output(name, gradient, like, kind)


def checked_words(reduction: Any, when_empty: Any) -> tuple[str, str]:
    return word("reduction", reduction, REDUCTIONS), word("when_empty", when_empty, EMPTY_RULES)


# --- Masked value losses ------------------------------------------------------------------------------------


def checked_masked(
    predictions: ModelArray,
    targets: FloatArray,
    mask: BoolArray | None,
    reduction: str,
    when_empty: str,
) -> tuple[Any, ...]:
    """The arguments of the metric, and the first arguments of a loss."""
    kind = model_type(predictions)
    like = matrix("predictions", predictions, kind)
    return (
        checked_matrix("predictions", predictions, kind),
        checked_matrix("targets", targets, like=like),
        None if mask is None else checked_matrix("mask", mask, BOOL, like),
        *checked_words(reduction, when_empty),
    )


def checked_loss(
    predictions: ModelArray,
    targets: FloatArray,
    mask: BoolArray | None,
    reduction: str,
    when_empty: str,
    gradient: ModelArray | None,
    gradient_scale: float,
    accumulate: bool,
    *values: FloatArray,
) -> tuple[Any, ...]:
    """The arguments of a masked loss; `values` is the memory of a loss per cell."""
    kind = model_type(predictions)
    like = matrix("predictions", predictions, kind)
    return (
        *checked_masked(predictions, targets, mask, reduction, when_empty),
        checked_gradient("gradient", gradient, like, kind),
        *checked_scale(gradient_scale, accumulate),
        *values,
    )


def one_per_row(predictions: ModelArray) -> FloatArray:
    """Memory for the values per cell."""
    return np.empty(matrix("predictions", predictions, model_type(predictions)).rows, dtype=np.float32)


def masked_mse(
    predictions: ModelArray,
    targets: FloatArray,
    mask: BoolArray | None = None,
    *,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
    gradient: ModelArray | None = None,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> LossValue:
    """Mean squared error over a mask (scGPT: ``masked_mse_loss``; MLM, MGM, GEP, MVC, GEPC).

    L = Σ m (x − t)² / M, ∂L/∂x = 2 m (x − t) / M, with M selected elements.

    predictions, targets, mask, gradient: B × L.

    Raises ShapeError, ArrayError, EmptySelectionError, InvalidParameterError, OverlapError.
    """
    loss = call(
        _native.masked_mse,
        checked_loss,
        predictions,
        targets,
        mask,
        reduction,
        when_empty,
        gradient,
        gradient_scale,
        accumulate,
    )
    return LossValue(*loss)


def masked_mse_per_cell(
    predictions: ModelArray,
    targets: FloatArray,
    mask: BoolArray | None = None,
    *,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
    gradient: ModelArray | None = None,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> FloatArray:
    """:func:`masked_mse` of each cell separately: B values.

    Row b of the gradient is that of the value of cell b. ``when_empty`` applies to each row.
    """
    values = one_per_row(predictions)
    call(
        _native.masked_mse_per_cell,
        checked_loss,
        predictions,
        targets,
        mask,
        reduction,
        when_empty,
        gradient,
        gradient_scale,
        accumulate,
        values,
    )
    return values


def bernoulli_nll(
    predictions: ModelArray,
    targets: FloatArray,
    mask: BoolArray | None = None,
    *,
    logits: bool = False,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
    gradient: ModelArray | None = None,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> LossValue:
    """Bernoulli negative log-likelihood of "this gene is expressed" (scGPT: ``criterion_neg_log_bernoulli``).

    With z = 1 where t > 0 and p clamped to [ε, 1 − ε], ε = 2⁻²³:

    L = −Σ m (z log p + (1 − z) log(1 − p)) / M, ∂L/∂p = (m / M) (p − z) / (p (1 − p)), 0 beyond the clamp.

    With ``logits`` the predictions are y, and p = σ(y) is not clamped: ∂L/∂y = (m / M) (p − z).

    predictions, targets, mask, gradient: B × L; probabilities in [0, 1] where selected.

    Raises as :func:`masked_mse`, and ProbabilityOutOfRangeError; the gradient is then unspecified.
    """
    function = _native.bernoulli_nll_logits if flag("logits", logits) else _native.bernoulli_nll
    loss = call(
        function,
        checked_loss,
        predictions,
        targets,
        mask,
        reduction,
        when_empty,
        gradient,
        gradient_scale,
        accumulate,
    )
    return LossValue(*loss)


def bernoulli_nll_per_cell(
    predictions: ModelArray,
    targets: FloatArray,
    mask: BoolArray | None = None,
    *,
    logits: bool = False,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
    gradient: ModelArray | None = None,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> FloatArray:
    """:func:`bernoulli_nll` of each cell separately: B values, as :func:`masked_mse_per_cell`."""
    function = (
        _native.bernoulli_nll_logits_per_cell if flag("logits", logits) else _native.bernoulli_nll_per_cell
    )
    values = one_per_row(predictions)
    call(
        function,
        checked_loss,
        predictions,
        targets,
        mask,
        reduction,
        when_empty,
        gradient,
        gradient_scale,
        accumulate,
        values,
    )
    return values


def masked_relative_error(
    predictions: ModelArray,
    targets: FloatArray,
    mask: BoolArray | None = None,
    *,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
) -> LossValue:
    """Masked relative error, a metric without a gradient (scGPT: ``masked_relative_error``, ``mre``).

    E = Σ m |x − t| / (t + 10⁻⁶) / M. A target of 0 weighs a million times as much as a target of 1.

    predictions, targets, mask: B × L. Raises as :func:`masked_mse`.
    """
    error = call(
        _native.masked_relative_error, checked_masked, predictions, targets, mask, reduction, when_empty
    )
    return LossValue(*error)


def masked_relative_error_per_cell(
    predictions: ModelArray,
    targets: FloatArray,
    mask: BoolArray | None = None,
    *,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
) -> FloatArray:
    """:func:`masked_relative_error` of each cell separately: B values."""
    values = one_per_row(predictions)

    def checked(*arguments: Any) -> tuple[Any, ...]:
        return *checked_masked(*arguments[:-1]), values

    call(
        _native.masked_relative_error_per_cell,
        checked,
        predictions,
        targets,
        mask,
        reduction,
        when_empty,
        values,
    )
    return values


# --- Classification -----------------------------------------------------------------------------------------


def checked_classes(
    logits: ModelArray, labels: LabelArray, ignored_label: int, reduction: str, when_empty: str
) -> tuple[Any, ...]:
    kind = model_type(logits)
    return (
        checked_matrix("logits", logits, kind),
        checked_labels("labels", labels, matrix("logits", logits, kind).rows),
        integer("ignored_label", ignored_label),
        *checked_words(reduction, when_empty),
    )


def checked_cross_entropy(
    logits: ModelArray,
    labels: LabelArray,
    ignored_label: int,
    reduction: str,
    when_empty: str,
    gradient: ModelArray | None,
    *scale: Any,
) -> tuple[Any, ...]:
    kind = model_type(logits)
    return (
        *checked_classes(logits, labels, ignored_label, reduction, when_empty),
        checked_gradient("gradient", gradient, matrix("logits", logits, kind), kind),
        *checked_scale(*scale),
    )


def cross_entropy(
    logits: ModelArray,
    labels: LabelArray,
    *,
    ignored_label: int = -100,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
    gradient: ModelArray | None = None,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> LossValue:
    """Cross-entropy of logits against labels (scGPT: ``criterion_cls``, ``criterion_dab``; CLS).

    L = Σ over rows with a label of (log Σⱼ exp zᵢⱼ − zᵢ,yᵢ) / N, ∂L/∂z = (softmax(z) − onehot(y)) / N.

    logits, gradient: B × C, of one type; labels: B, int32, each in 0 … C − 1 or ``ignored_label``. Ignored
    rows are not read.

    Raises ShapeError, ArrayError, LabelOutOfRangeError, EmptySelectionError, InvalidParameterError,
    OverlapError.
    """
    loss = call(
        _native.cross_entropy,
        checked_cross_entropy,
        logits,
        labels,
        ignored_label,
        reduction,
        when_empty,
        gradient,
        gradient_scale,
        accumulate,
    )
    return LossValue(*loss)


def checked_domain_adversarial(
    logits: ModelArray,
    labels: LabelArray,
    ignored_label: int,
    reduction: str,
    when_empty: str,
    lambd: float,
    discriminator_gradient: ModelArray | None,
    embedding_gradient: ModelArray | None,
    *scale: Any,
) -> tuple[Any, ...]:
    kind = model_type(logits)
    like = matrix("logits", logits, kind)
    return (
        *checked_classes(logits, labels, ignored_label, reduction, when_empty),
        real("lambd", lambd),
        checked_gradient("discriminator_gradient", discriminator_gradient, like, kind),
        checked_gradient("embedding_gradient", embedding_gradient, like, kind),
        *checked_scale(*scale),
    )


def domain_adversarial(
    logits: ModelArray,
    labels: LabelArray,
    *,
    lambd: float = 1.0,
    ignored_label: int = -100,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
    discriminator_gradient: ModelArray | None = None,
    embedding_gradient: ModelArray | None = None,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> LossValue:
    """Cross-entropy of batch labels behind a gradient reversal (DAB, DAR).

    ``discriminator_gradient`` receives ∂L/∂z, for the discriminator's parameters. ``embedding_gradient``
    receives −``lambd`` ∂L/∂z, for everything before the reversal. L is that of :func:`cross_entropy`, with
    the same parameters and errors.
    """
    loss = call(
        _native.domain_adversarial,
        checked_domain_adversarial,
        logits,
        labels,
        ignored_label,
        reduction,
        when_empty,
        lambd,
        discriminator_gradient,
        embedding_gradient,
        gradient_scale,
        accumulate,
    )
    return LossValue(*loss)


def checked_reversal(
    gradient: FloatArray, lambd: float, reversed_gradient: FloatArray, scale: float, accumulate: bool
) -> tuple[Any, ...]:
    return (
        checked_matrix("gradient", gradient),
        real("lambd", lambd),
        checked_output("reversed_gradient", reversed_gradient, matrix("gradient", gradient)),
        *checked_scale(scale, accumulate),
    )


def gradient_reversal(
    gradient: FloatArray, reversed_gradient: FloatArray, *, lambd: float = 1.0, accumulate: bool = False
) -> None:
    """The backward pass of gradient reversal (scGPT: ``grad_reverse``). Its forward pass is the identity.

    ``reversed_gradient`` receives −``lambd`` · ``gradient``. Both have the same shape and do not overlap.

    Raises ShapeError, ArrayError, InvalidParameterError, OverlapError.
    """
    call(_native.gradient_reversal, checked_reversal, gradient, lambd, reversed_gradient, 1.0, accumulate)


# --- Cell embeddings ----------------------------------------------------------------------------------------


def checked_elastic(
    embeddings: ModelArray,
    threshold: float,
    when_empty: str,
    certifies: bool,
    gradient: ModelArray | None,
    *scale: Any,
) -> tuple[Any, ...]:
    kind = model_type(embeddings)
    return (
        checked_matrix("embeddings", embeddings, kind),
        real("threshold", threshold),
        word("when_empty", when_empty, EMPTY_RULES),
        flag("certifies", certifies),
        checked_gradient("gradient", gradient, matrix("embeddings", embeddings, kind), kind),
        *checked_scale(*scale),
    )


def elastic_cell_similarity(
    embeddings: ModelArray,
    *,
    threshold: float = 0.8,
    when_empty: EmptyRule = "error",
    certifies: bool = True,
    gradient: ModelArray | None = None,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> ElasticLossValue:
    """Elastic cell similarity (scGPT: ECS; scFormer: ESC).

    With N the rows of E divided by max(‖row‖, 10⁻¹²) and C = relu(N Nᵀ) with diagonal 0:

    L = Σᵢⱼ [1 − (Cᵢⱼ − β)²] / B², β = ``threshold`` in [−1, 1]; the diagonal counts, as upstream.

    ∂L/∂Eᵢ = (dNᵢ − Nᵢ(Nᵢ·dNᵢ)) / ‖Eᵢ‖. If ‖Eᵢ‖ < 10⁻¹², then Nᵢ = Eᵢ/10⁻¹² and ∂L/∂Eᵢ = dNᵢ/10⁻¹²: the
    clamped norm is a constant, as in PyTorch's ``normalize``. A zero row has no positive similarity, so its
    gradient is 0.

    embeddings, gradient: B × D, of one type. The B × B matrix is stored up to 1,024 rows only. Beyond,
    scratch memory is about B · D floats.

    certifies: whether blocks of rows whose similarities are proved to have one sign are summed in closed
    form, where that saves time: beyond 1,024 rows, with B ≥ 2 · D. The result is the same up to rounding.
    Its ``certified_pairs`` is the number of these pairs.

    Raises ShapeError, ArrayError, InvalidParameterError, EmptySelectionError (B = 0), OverlapError.
    """
    loss = call(
        _native.elastic_cell_similarity,
        checked_elastic,
        embeddings,
        threshold,
        when_empty,
        certifies,
        gradient,
        gradient_scale,
        accumulate,
    )
    return ElasticLossValue(*loss)


def checked_contrastive(
    first: ModelArray,
    second: ModelArray,
    temperature: float,
    when_empty: str,
    first_gradient: ModelArray | None,
    second_gradient: ModelArray | None,
    *scale: Any,
) -> tuple[Any, ...]:
    kind = model_type(first)
    like = matrix("first", first, kind)
    return (
        checked_matrix("first", first, kind),
        checked_matrix("second", second, kind, like),
        real("temperature", temperature),
        word("when_empty", when_empty, EMPTY_RULES),
        checked_gradient("first_gradient", first_gradient, like, kind),
        checked_gradient("second_gradient", second_gradient, like, kind),
        *checked_scale(*scale),
    )


def contrastive_cell_embedding(
    first: ModelArray,
    second: ModelArray,
    *,
    temperature: float = 0.5,
    when_empty: EmptyRule = "error",
    first_gradient: ModelArray | None = None,
    second_gradient: ModelArray | None = None,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> LossValue:
    """Contrastive loss between two encodings of the same cells (scGPT, scFormer: CCE).

    With N the rows of E divided by max(‖row‖, 10⁻⁸), for E = ``first`` and ``second``, and A = N₁ N₂ᵀ / τ:

    L = mean over i of (log Σⱼ exp Aᵢⱼ − Aᵢᵢ), ∂L/∂Eᵢ = (dNᵢ − Nᵢ(Nᵢ·dNᵢ)) / ‖Eᵢ‖.

    If ‖Eᵢ‖ < 10⁻⁸, then Nᵢ = Eᵢ/10⁻⁸ and ∂L/∂Eᵢ = (dNᵢ − uᵢ(Nᵢ·dNᵢ)) / 10⁻⁸ with uᵢ = Eᵢ/‖Eᵢ‖: the gradient
    projects with the unclamped norm, as PyTorch's ``cosine_similarity`` does. A zero row has Nᵢ = 0 and
    ∂L/∂Eᵢ = dNᵢ/10⁻⁸, which may be nonzero.

    first, second and their gradients: B × D, of one type. The B × B matrix is never stored.

    Raises ShapeError, ArrayError, InvalidParameterError, EmptySelectionError (B = 0), OverlapError.
    """
    loss = call(
        _native.contrastive_cell_embedding,
        checked_contrastive,
        first,
        second,
        temperature,
        when_empty,
        first_gradient,
        second_gradient,
        gradient_scale,
        accumulate,
    )
    return LossValue(*loss)


def checked_cosine(embeddings: FloatArray, out: FloatArray) -> tuple[Any, ...]:
    rows = matrix("embeddings", embeddings).rows
    return checked_matrix("embeddings", embeddings), checked_output("out", out, Matrix(rows, rows, 0, 0))


def cosine_similarity(embeddings: FloatArray, out: FloatArray | None = None) -> FloatArray:
    """The cosine similarities N Nᵀ of elastic cell similarity, for inspection: B × B, exactly symmetric.

    embeddings: B × D. Returns ``out`` with the result, or a new array if it is None.

    Raises ShapeError, ArrayError, OverlapError.
    """
    if out is None:
        rows = matrix("embeddings", embeddings).rows
        out = np.empty((rows, rows), dtype=np.float32)
    call(_native.cosine_similarity, checked_cosine, embeddings, out)
    return out
