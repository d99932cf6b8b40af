"""Masked reductions, and the pooling of token states to cell embeddings, on NumPy arrays.

Forward passes return new arrays. Backward passes write to the caller's arrays: the gradient times
``gradient_scale``, added to the array with ``accumulate``. Cells and tokens of token states may have gaps
between them, like the rows of a matrix. The rules of :mod:`fastloss.losses` hold here too.
"""

from ctypes import addressof
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _abi
from ._arrays import BOOL, FLOAT, Matrix, States, address, block, matrix, output, plain, states
from ._library import fail, library, masked_options, sized, workspace
from ._parameters import EMPTY_RULES, POOLINGS, REDUCTIONS, chosen, flag, kind_of, real
from .errors import InvalidParameterError, OverlapError, ShapeError
from .losses import BoolArray, EmptyRule, FloatArray, Reduction

__all__ = [
    "NormalizedPooling",
    "masked_reductions",
    "masked_reductions_gradient",
    "normalized_weighted_token_pooling",
    "token_pooling",
    "token_pooling_gradient",
    "weighted_token_pooling",
    "weighted_token_pooling_gradient",
]

Pooling = Literal["cls", "avg-pool"]
DOUBLE = np.dtype(np.float64)


class NormalizedPooling(NamedTuple):
    """Embeddings of length 1, and the lengths of the sums, for the backward pass."""

    embeddings: FloatArray
    norms: npt.NDArray[np.float64]


def check(status: int) -> None:
    if status:
        fail(status)


# --- Masked reductions --------------------------------------------------------------------------------------


def masked_reductions(
    values: FloatArray,
    masks: BoolArray,
    *,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
) -> FloatArray:
    """Sums or means of B rows under K masks: sum_bk = Σₗ m_kl x_bl, computed as one matrix product.

    values: B × L, masks: K × L. Returns B × K.

    Raises ShapeError, ArrayError, EmptySelectionError (with the index of the mask).
    """
    x = matrix("values", values)
    m = masks_of(masks, x.columns)
    result = np.empty((x.rows, m.rows), dtype=np.float32)
    check(
        library.fastloss_masked_reductions(
            *x[:2],
            m.rows,
            *x[2:],
            *m[2:],
            options(reduction, when_empty),
            address(result),
            m.rows,
            workspace(),
        )
    )
    return result


def masked_reductions_gradient(
    output_gradient: FloatArray,
    masks: BoolArray,
    gradient: FloatArray,
    *,
    reduction: Reduction = "mean",
    when_empty: EmptyRule = "error",
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> None:
    """The backward pass of :func:`masked_reductions`.

    output_gradient: B × K, masks: K × L, gradient: B × L.
    """
    x = output("gradient", gradient)
    m = masks_of(masks, x.columns)
    g = matrix("output_gradient", output_gradient, like=Matrix(x.rows, m.rows, 0, 0))
    struct = gradient_struct(x.address, x.stride, 0, gradient_scale, accumulate)
    check(
        library.fastloss_masked_reductions_gradient(
            *x[:2], m.rows, *g[2:], *m[2:], options(reduction, when_empty), addressof(struct), workspace()
        )
    )


def masks_of(masks: BoolArray, columns: int) -> Matrix:
    m = matrix("masks", masks, BOOL)
    if m.columns != columns:
        raise ShapeError(f"masks is {m.rows} × {m.columns}; expected {m.rows} × {columns}")
    return m


def gradient_struct(
    location: int, stride: int, cell_stride: int, scale: float, accumulate: bool
) -> _abi.Gradient:
    return sized(
        _abi.Gradient,
        location,
        stride,
        cell_stride,
        real("gradient_scale", scale),
        flag("accumulate", accumulate),
    )


def options(reduction: str, when_empty: str) -> int:
    return masked_options(
        chosen("reduction", reduction, REDUCTIONS), chosen("when_empty", when_empty, EMPTY_RULES)
    )


# --- First token or mean ------------------------------------------------------------------------------------


def token_pooling(token_states: FloatArray, pooling: Pooling = "cls") -> FloatArray:
    """One embedding per cell: the state of the first token ("cls"), or the mean over all tokens ("avg-pool").

    token_states: B × L × D, L at least 1. Returns B × D.

    Raises ShapeError, ArrayError, InvalidParameterError.
    """
    h = states("token_states", token_states)
    result = np.empty((h.cells, h.width), dtype=np.float32)
    check(
        library.fastloss_token_pooling(
            chosen("pooling", pooling, POOLINGS), *h, address(result), h.width, workspace()
        )
    )
    return result


def token_pooling_gradient(
    embedding_gradient: FloatArray,
    gradient: FloatArray,
    pooling: Pooling = "cls",
    *,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> None:
    """The backward pass of :func:`token_pooling`. embedding_gradient: B × D, gradient: B × L × D."""
    h = states("gradient", gradient, writable=True)
    g = matrix("embedding_gradient", embedding_gradient, like=Matrix(h.cells, h.width, 0, 0))
    struct = gradient_struct(h.address, h.token_stride, h.cell_stride, gradient_scale, accumulate)
    check(
        library.fastloss_token_pooling_gradient(
            chosen("pooling", pooling, POOLINGS), *h[:3], *g[2:], addressof(struct), workspace()
        )
    )


# --- Weighted sums ------------------------------------------------------------------------------------------


def weighted_token_pooling(token_states: FloatArray, weights: FloatArray) -> FloatArray:
    """K weighted sums of tokens per cell: u_bk = Σₗ v_bkl h_bl. Weights multiply; they do not select.

    token_states: B × L × D, weights: B × K × L. Returns B × K × D.

    Raises ShapeError, ArrayError.
    """
    h = states("token_states", token_states)
    v, count = weights_of(weights, h)
    result = np.empty((h.cells, count, h.width), dtype=np.float32)
    check(
        library.fastloss_weighted_token_pooling(
            *h[:3], count, *h[3:], *v[2:], address(result), h.width, workspace()
        )
    )
    return result


def normalized_weighted_token_pooling(token_states: FloatArray, weights: FloatArray) -> NormalizedPooling:
    """:func:`weighted_token_pooling`, each sum divided by max(‖u‖, 10⁻¹²) (scGPT: ``w-pool``, with K = 1).

    token_states: B × L × D, weights: B × K × L. Returns B × K × D embeddings and B × K norms.
    """
    h = states("token_states", token_states)
    v, count = weights_of(weights, h)
    result = np.empty((h.cells, count, h.width), dtype=np.float32)
    norms = np.empty((h.cells, count), dtype=np.float64)
    check(
        library.fastloss_normalized_weighted_token_pooling(
            *h[:3], count, *h[3:], *v[2:], address(result), h.width, address(norms), workspace()
        )
    )
    return NormalizedPooling(result, norms)


def weighted_token_pooling_gradient(
    embedding_gradient: FloatArray,
    token_states: FloatArray,
    weights: FloatArray,
    *,
    normalized: NormalizedPooling | None = None,
    states_gradient: FloatArray | None = None,
    weights_gradient: FloatArray | None = None,
    gradient_scale: float = 1.0,
    accumulate: bool = False,
) -> None:
    """The backward pass of weighted sums, with respect to the states (B × L × D) and the weights (B × K × L).

    embedding_gradient: B × K × D. For normalized sums, ``normalized`` is the result of
    :func:`normalized_weighted_token_pooling`. Computes only the gradients that have an array.
    """
    h = states("token_states", token_states)
    v, count = weights_of(weights, h)
    pooled = (h.cells, count, h.width)
    g = rows_of("embedding_gradient", embedding_gradient, pooled)
    middle: list[int] = []
    form = ""
    if normalized is not None:
        if not isinstance(normalized, NormalizedPooling):
            raise InvalidParameterError(
                f"normalized is {kind_of(normalized)}; expected the NormalizedPooling that "
                f"normalized_weighted_token_pooling returned"
            )
        form = "normalized_"
        embeddings = rows_of("normalized.embeddings", normalized.embeddings, pooled)
        middle = [*embeddings[2:], block("normalized.norms", normalized.norms, pooled[:2], DOUBLE)]
    # Check everything before the first call writes.
    scale, accumulate = real("gradient_scale", gradient_scale), flag("accumulate", accumulate)
    calls: list[tuple[str, tuple[int, ...], _abi.Gradient]] = []
    if states_gradient is not None:
        place = states("states_gradient", states_gradient, writable=True)
        if place[:3] != h[:3]:
            raise ShapeError(f"states_gradient has the shape {place[:3]}; expected {h[:3]}")
        struct = sized(_abi.Gradient, place.address, place.token_stride, place.cell_stride, scale, accumulate)
        calls.append(("states", v[2:], struct))
    if weights_gradient is not None:
        shape = (h.cells, count, h.tokens)
        location = block("weights_gradient", weights_gradient, shape, FLOAT, writable=True)
        calls.append(("weights", h[3:], sized(_abi.Gradient, location, h.tokens, 0, scale, accumulate)))
    refuse_overlaps(
        {"states_gradient": states_gradient, "weights_gradient": weights_gradient},
        {"token_states": token_states, "weights": weights},
    )
    for name, other, struct in calls:
        function = getattr(library, f"fastloss_{form}weighted_token_pooling_{name}_gradient")
        check(function(*h[:3], count, *g[2:], *middle, *other, addressof(struct), workspace()))


def refuse_overlaps(outputs: dict[str, FloatArray | None], inputs: dict[str, FloatArray]) -> None:
    """Finds overlaps that the library cannot: each of its two calls has one of the outputs."""
    seen = dict(inputs)
    for name, array in outputs.items():
        if array is None:
            continue
        for other, given in seen.items():
            # The first test is fast and sufficient for arrays that are apart.
            if np.may_share_memory(array, given) and np.shares_memory(array, given):
                raise OverlapError(f"{name} shares memory with {other}; expected memory of its own")
        seen[name] = array


def weights_of(weights: FloatArray, h: States) -> tuple[Matrix, int]:
    """The (B K) × L weights, and K."""
    shape = plain("weights", weights, FLOAT).shape
    if len(shape) != 3:
        raise ShapeError(
            f"weights has the shape {shape}; expected 3 dimensions: {h.cells} cells, weightings, "
            f"{h.tokens} tokens"
        )
    return rows_of("weights", weights, (h.cells, shape[1], h.tokens)), shape[1]


def rows_of(name: str, array: FloatArray, shape: tuple[int, int, int]) -> Matrix:
    """An array of three dimensions as a matrix with the rows of all cells."""
    return Matrix(shape[0] * shape[1], shape[2], block(name, array, shape, FLOAT), shape[2])
