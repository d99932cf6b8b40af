"""The losses on NumPy arrays.

These rules hold for every function:

- Arrays are float32, masks bool, labels int32, in row-major order. A vector is one row. Rows may have gaps
  between them (a range of columns, every other row); the library packs such a matrix first. Nothing else is
  copied or converted. Any other array is an :class:`~fastloss.ArrayError`.
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

from ctypes import addressof
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _abi
from ._arrays import BOOL, Matrix, address, matrix, output
from ._arrays import labels as labels_address
from ._library import fail, library, masked_options, sized, workspace
from ._parameters import EMPTY_RULES, REDUCTIONS, chosen, flag, integer, real

__all__ = [
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
BoolArray = npt.NDArray[np.bool_]
LabelArray = npt.NDArray[np.int32]
Reduction = Literal["mean", "sum"]
EmptyRule = Literal["error", "zero", "nan"]


class LossValue(NamedTuple):
    """A loss, and the number of elements (for cross-entropy, rows) that it reduces."""

    value: float
    selected_count: int


def gradient_struct(
    name: str, gradient: FloatArray | None, like: Matrix, scale: float, accumulate: bool
) -> _abi.Gradient | None:
    # Checked even if there is no gradient.
    scale, accumulate = real("gradient_scale", scale), flag("accumulate", accumulate)
    if gradient is None:
        return None
    place = output(name, gradient, like)
    return sized(_abi.Gradient, place.address, place.stride, 0, scale, accumulate)


def pointer(struct: _abi.Gradient | None) -> int | None:
    return None if struct is None else addressof(struct)


def evaluated(status: int, loss: _abi.LossValue) -> LossValue:
    """The result of a call."""
    if status:
        fail(status)
    return LossValue(loss.value, loss.selected_count)


# --- Masked value losses ------------------------------------------------------------------------------------


def masked(
    predictions: FloatArray,
    targets: FloatArray,
    mask: BoolArray | None,
    reduction: str,
    when_empty: str,
) -> tuple[Matrix, list[Any]]:
    """The shape, and the first arguments of every masked loss."""
    x = matrix("predictions", predictions)
    t = matrix("targets", targets, like=x)
    m = (None, 0) if mask is None else matrix("mask", mask, BOOL, like=x)[2:]
    options = masked_options(
        chosen("reduction", reduction, REDUCTIONS), chosen("when_empty", when_empty, EMPTY_RULES)
    )
    return x, [x.rows, x.columns, x.address, x.stride, t.address, t.stride, *m, options]


def masked_loss(
    function: Any,
    predictions: FloatArray,
    targets: FloatArray,
    mask: BoolArray | None,
    reduction: str,
    when_empty: str,
    gradient: FloatArray | None,
    gradient_scale: float,
    accumulate: bool,
) -> LossValue:
    x, arguments = masked(predictions, targets, mask, reduction, when_empty)
    place = gradient_struct("gradient", gradient, x, gradient_scale, accumulate)
    loss = _abi.LossValue()
    return evaluated(function(*arguments, pointer(place), workspace(), addressof(loss)), loss)


def masked_loss_per_cell(
    function: Any,
    predictions: FloatArray,
    targets: FloatArray,
    mask: BoolArray | None,
    reduction: str,
    when_empty: str,
    gradient: FloatArray | None,
    gradient_scale: float,
    accumulate: bool,
) -> FloatArray:
    x, arguments = masked(predictions, targets, mask, reduction, when_empty)
    place = gradient_struct("gradient", gradient, x, gradient_scale, accumulate)
    values = np.empty(x.rows, dtype=np.float32)
    status = function(*arguments, pointer(place), workspace(), address(values), None)
    if status:
        fail(status)
    return values


def masked_mse(
    predictions: FloatArray,
    targets: FloatArray,
    mask: BoolArray | None = None,
    *,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
    gradient: FloatArray | None = None,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> LossValue:
    """Mean squared error over a mask (scGPT: ``masked_mse_loss``; MLM, MGM, GEP, MVC, GEPC).

    L = Σ m (x − t)² / M, ∂L/∂x = 2 m (x − t) / M, with M selected elements.

    predictions, targets, mask, gradient: B × L.

    Raises ShapeError, ArrayError, EmptySelectionError, InvalidParameterError, OverlapError.
    """
    return masked_loss(
        library.fastloss_masked_mse,
        predictions,
        targets,
        mask,
        reduction,
        when_empty,
        gradient,
        gradient_scale,
        accumulate,
    )


def masked_mse_per_cell(
    predictions: FloatArray,
    targets: FloatArray,
    mask: BoolArray | None = None,
    *,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
    gradient: FloatArray | None = None,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> FloatArray:
    """:func:`masked_mse` of each cell separately: B values.

    Row b of the gradient is that of the value of cell b. ``when_empty`` applies to each row.
    """
    return masked_loss_per_cell(
        library.fastloss_masked_mse_per_cell,
        predictions,
        targets,
        mask,
        reduction,
        when_empty,
        gradient,
        gradient_scale,
        accumulate,
    )


def bernoulli_nll(
    predictions: FloatArray,
    targets: FloatArray,
    mask: BoolArray | None = None,
    *,
    logits: bool = False,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
    gradient: FloatArray | None = None,
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
    function = (
        library.fastloss_bernoulli_nll_logits if flag("logits", logits) else library.fastloss_bernoulli_nll
    )
    return masked_loss(
        function, predictions, targets, mask, reduction, when_empty, gradient, gradient_scale, accumulate
    )


def bernoulli_nll_per_cell(
    predictions: FloatArray,
    targets: FloatArray,
    mask: BoolArray | None = None,
    *,
    logits: bool = False,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
    gradient: FloatArray | None = None,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> FloatArray:
    """:func:`bernoulli_nll` of each cell separately: B values, as :func:`masked_mse_per_cell`."""
    function = (
        library.fastloss_bernoulli_nll_logits_per_cell
        if flag("logits", logits)
        else library.fastloss_bernoulli_nll_per_cell
    )
    return masked_loss_per_cell(
        function, predictions, targets, mask, reduction, when_empty, gradient, gradient_scale, accumulate
    )


def masked_relative_error(
    predictions: FloatArray,
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
    _, arguments = masked(predictions, targets, mask, reduction, when_empty)
    loss = _abi.LossValue()
    return evaluated(library.fastloss_masked_relative_error(*arguments, workspace(), addressof(loss)), loss)


def masked_relative_error_per_cell(
    predictions: FloatArray,
    targets: FloatArray,
    mask: BoolArray | None = None,
    *,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
) -> FloatArray:
    """:func:`masked_relative_error` of each cell separately: B values."""
    x, arguments = masked(predictions, targets, mask, reduction, when_empty)
    values = np.empty(x.rows, dtype=np.float32)
    status = library.fastloss_masked_relative_error_per_cell(*arguments, workspace(), address(values), None)
    if status:
        fail(status)
    return values


# --- Classification -----------------------------------------------------------------------------------------


def cross_entropy(
    logits: FloatArray,
    labels: LabelArray,
    *,
    ignored_label: int = -100,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
    gradient: FloatArray | None = None,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> LossValue:
    """Cross-entropy of logits against labels (scGPT: ``criterion_cls``, ``criterion_dab``; CLS).

    L = Σ over rows with a label of (log Σⱼ exp zᵢⱼ − zᵢ,yᵢ) / N, ∂L/∂z = (softmax(z) − onehot(y)) / N.

    logits, gradient: B × C; labels: B, int32, each in 0 … C − 1 or ``ignored_label``. Ignored rows are not
    read.

    Raises ShapeError, ArrayError, LabelOutOfRangeError, EmptySelectionError, InvalidParameterError,
    OverlapError.
    """
    z = matrix("logits", logits)
    options = sized(
        _abi.CrossEntropyOptions,
        chosen("reduction", reduction, REDUCTIONS),
        chosen("when_empty", when_empty, EMPTY_RULES),
        integer("ignored_label", ignored_label),
    )
    place = gradient_struct("gradient", gradient, z, gradient_scale, accumulate)
    loss = _abi.LossValue()
    return evaluated(
        library.fastloss_cross_entropy(
            *z,
            labels_address("labels", labels, z.rows),
            addressof(options),
            pointer(place),
            workspace(),
            addressof(loss),
        ),
        loss,
    )


def domain_adversarial(
    logits: FloatArray,
    labels: LabelArray,
    *,
    lambd: float = 1.0,
    ignored_label: int = -100,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
    discriminator_gradient: FloatArray | None = None,
    embedding_gradient: FloatArray | None = None,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> LossValue:
    """Cross-entropy of batch labels behind a gradient reversal (DAB, DAR).

    ``discriminator_gradient`` receives ∂L/∂z, for the discriminator's parameters. ``embedding_gradient``
    receives −``lambd`` ∂L/∂z, for everything before the reversal. L is that of :func:`cross_entropy`, with
    the same parameters and errors.
    """
    z = matrix("logits", logits)
    options = sized(
        _abi.DomainAdversarialOptions,
        chosen("reduction", reduction, REDUCTIONS),
        chosen("when_empty", when_empty, EMPTY_RULES),
        integer("ignored_label", ignored_label),
        real("lambd", lambd),
    )
    own = gradient_struct("discriminator_gradient", discriminator_gradient, z, gradient_scale, accumulate)
    reversed_ = gradient_struct("embedding_gradient", embedding_gradient, z, gradient_scale, accumulate)
    loss = _abi.LossValue()
    return evaluated(
        library.fastloss_domain_adversarial(
            *z,
            labels_address("labels", labels, z.rows),
            addressof(options),
            pointer(own),
            pointer(reversed_),
            workspace(),
            addressof(loss),
        ),
        loss,
    )


def gradient_reversal(
    gradient: FloatArray, reversed_gradient: FloatArray, *, lambd: float = 1.0, accumulate: bool = False
) -> None:
    """The backward pass of gradient reversal (scGPT: ``grad_reverse``). Its forward pass is the identity.

    ``reversed_gradient`` receives −``lambd`` · ``gradient``. Both have the same shape and do not overlap.

    Raises ShapeError, ArrayError, InvalidParameterError, OverlapError.
    """
    g = matrix("gradient", gradient)
    place = gradient_struct("reversed_gradient", reversed_gradient, g, 1.0, accumulate)
    status = library.fastloss_gradient_reversal(*g, real("lambd", lambd), pointer(place), workspace())
    if status:
        fail(status)


# --- Cell embeddings ----------------------------------------------------------------------------------------


def elastic_cell_similarity(
    embeddings: FloatArray,
    *,
    threshold: float = 0.8,
    when_empty: EmptyRule = "error",
    gradient: FloatArray | None = None,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> LossValue:
    """Elastic cell similarity (scGPT: ECS; scFormer: ESC).

    With N the rows of E divided by max(‖row‖, 10⁻¹²) and C = relu(N Nᵀ) with diagonal 0:

    L = Σᵢⱼ [1 − (Cᵢⱼ − β)²] / B², β = ``threshold`` in [−1, 1]; the diagonal counts, as upstream.

    ∂L/∂Eᵢ = (dNᵢ − Nᵢ(Nᵢ·dNᵢ)) / ‖Eᵢ‖. If ‖Eᵢ‖ < 10⁻¹², then Nᵢ = Eᵢ/10⁻¹² and ∂L/∂Eᵢ = dNᵢ/10⁻¹²: the
    clamped norm is a constant, as in PyTorch's ``normalize``. A zero row has no positive similarity, so its
    gradient is 0.

    embeddings, gradient: B × D. The B × B matrix is stored up to 1,024 rows only. Beyond, scratch memory is
    about B · D floats.

    Raises ShapeError, ArrayError, InvalidParameterError, EmptySelectionError (B = 0), OverlapError.
    """
    e = matrix("embeddings", embeddings)
    options = sized(
        _abi.ElasticOptions, real("threshold", threshold), chosen("when_empty", when_empty, EMPTY_RULES)
    )
    place = gradient_struct("gradient", gradient, e, gradient_scale, accumulate)
    loss = _abi.LossValue()
    return evaluated(
        library.fastloss_elastic_cell_similarity(
            *e, addressof(options), pointer(place), workspace(), addressof(loss)
        ),
        loss,
    )


def contrastive_cell_embedding(
    first: FloatArray,
    second: FloatArray,
    *,
    temperature: float = 0.5,
    when_empty: EmptyRule = "error",
    first_gradient: FloatArray | None = None,
    second_gradient: FloatArray | None = None,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> LossValue:
    """Contrastive loss between two encodings of the same cells (scGPT, scFormer: CCE).

    With N the rows of E divided by max(‖row‖, 10⁻⁸), for E = ``first`` and ``second``, and A = N₁ N₂ᵀ / τ:

    L = mean over i of (log Σⱼ exp Aᵢⱼ − Aᵢᵢ), ∂L/∂Eᵢ = (dNᵢ − Nᵢ(Nᵢ·dNᵢ)) / ‖Eᵢ‖.

    If ‖Eᵢ‖ < 10⁻⁸, then Nᵢ = Eᵢ/10⁻⁸ and ∂L/∂Eᵢ = (dNᵢ − uᵢ(Nᵢ·dNᵢ)) / 10⁻⁸ with uᵢ = Eᵢ/‖Eᵢ‖: the gradient
    projects with the unclamped norm, as PyTorch's ``cosine_similarity`` does. A zero row has Nᵢ = 0 and
    ∂L/∂Eᵢ = dNᵢ/10⁻⁸, which may be nonzero.

    first, second and their gradients: B × D. The B × B matrix is never stored.

    Raises ShapeError, ArrayError, InvalidParameterError, EmptySelectionError (B = 0), OverlapError.
    """
    a = matrix("first", first)
    b = matrix("second", second, like=a)
    options = sized(
        _abi.ContrastiveOptions,
        real("temperature", temperature),
        chosen("when_empty", when_empty, EMPTY_RULES),
    )
    first_place = gradient_struct("first_gradient", first_gradient, a, gradient_scale, accumulate)
    second_place = gradient_struct("second_gradient", second_gradient, a, gradient_scale, accumulate)
    loss = _abi.LossValue()
    return evaluated(
        library.fastloss_contrastive_cell_embedding(
            *a,
            b.address,
            b.stride,
            addressof(options),
            pointer(first_place),
            pointer(second_place),
            workspace(),
            addressof(loss),
        ),
        loss,
    )


def cosine_similarity(embeddings: FloatArray, out: FloatArray | None = None) -> FloatArray:
    """The cosine similarities N Nᵀ of elastic cell similarity, for inspection: B × B, exactly symmetric.

    embeddings: B × D. Returns ``out`` with the result, or a new array if it is None.

    Raises ShapeError, ArrayError, OverlapError.
    """
    e = matrix("embeddings", embeddings)
    if out is None:
        out = np.empty((e.rows, e.rows), dtype=np.float32)
    place = output("out", out, like=Matrix(e.rows, e.rows, 0, 0))
    status = library.fastloss_cosine_similarity(*e, place.address, place.stride, workspace())
    if status:
        fail(status)
    return out
