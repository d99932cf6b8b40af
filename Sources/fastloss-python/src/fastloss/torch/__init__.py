"""FastLoss for PyTorch: scGPT's losses with their names and signatures, value and gradient in one pass.

    from fastloss.torch import masked_mse_loss, criterion_neg_log_bernoulli

:mod:`fastloss.torch.heads` has scGPT's task heads as modules.

These rules hold for every function:

- PyTorch is 2.1 or newer. Tensors are float32 on the CPU. The `input` of the masked losses, cell embeddings,
  logits and the outputs of `integration_loss` may also be bfloat16 or float16, for example autocast's; a
  gradient has the type of its tensor. Contiguous tensors, and matrices with gaps between rows, are read in
  place; others, and float16 that requires a gradient, are copied first. Other devices, types and layouts are
  an :class:`~fastloss.ArrayError` that names the call that converts them. Targets of other real types are
  converted, except float64, which would lose digits. Masks are bool, or of another real type with the values
  0 and 1, which is converted. Labels are int32, or int64, which is converted.
- Numbers are finite and within the range of float32. Others are an :class:`~fastloss.InvalidParameterError`.
- Losses are float32 on the CPU and ignore PyTorch's default device and type.
- Losses are differentiable once, with respect to `input`, `cell_emb`, `cell1`, `cell2`, `logits` and, for the
  MSE, `target`. The forward pass computes the gradients if any is required. A mask that requires gradients is
  an error, because it has none. The caller may change the returned gradients in place. With
  retain_graph=True, backward passes hand out copies. With create_graph=True the gradients are as without, and
  differentiating them is a RuntimeError.
- Upstream multiplies by the mask; FastLoss selects, so NaN outside the mask has no effect. An empty mask
  gives NaN and NaN gradients, as upstream. If all labels are ignored, the loss is NaN and the gradient 0, as
  PyTorch.
- The functions work in eager mode, with torch.compile(fullgraph=True) and with make_fx, through the custom
  operators `torch.ops.fastloss`. The transforms of torch.func and forward-mode differentiation are an
  ArrayError, and torch.jit.trace is a FastLossError, because they cannot trace the library.
- The GIL is released during the computation. :func:`fastloss.set_workers` sets the number of threads.
  They are PyTorch's own right after one of its parallel operations, and the library's otherwise, or if
  torch.set_num_threads has set a smaller number.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._parameters import mapping, real
from ..errors import FastLossError
from . import _losses
from ._compatibility import is_compiling
from ._deferred import Deferred, undeferred
from ._operators import is_eager
from ._tensors import check_tensor, refuse_transforms, transforms_are_active
from ._threads import share_threads

__all__ = [
    "IntegrationLoss",
    "certified_pairs",
    "contrastive_cell_embedding",
    "criterion_neg_log_bernoulli",
    "cross_entropy",
    "elastic_cell_similarity",
    "grad_reverse",
    "integration_loss",
    "masked_mse_loss",
    "masked_relative_error",
]

share_threads()


def masked_mse_loss(input: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over a mask: Σ m (x − t)² / Σ m (scGPT: ``scgpt.loss.masked_mse_loss``).

    input, target, mask: of one shape, any number of dimensions. Returns a scalar.
    """
    if input.__class__ is Deferred:
        found = input.loss("mse", target, mask)
        if found is not None:
            return found
        input = input.value()
    loss: Tensor = _losses.mse(input, target, mask)
    return loss


def criterion_neg_log_bernoulli(input: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood of "the value is not zero" (scGPT: ``scgpt.loss.criterion_neg_log_bernoulli``).

    −Σ m (z log p + (1 − z) log(1 − p)) / Σ m, with z = 1 if target > 0, and p = input clamped to
    [2⁻²³, 1 − 2⁻²³]. Outside this range the gradient is 0.

    input (probabilities), target, mask: of one shape, any number of dimensions. Returns a scalar.

    Raises ProbabilityOutOfRangeError, a ValueError as in upstream, for a selected probability that is NaN or
    outside [0, 1].
    """
    if input.__class__ is Deferred:
        found = input.loss("nzlp", target, mask)
        if found is not None:
            return found
        input = input.value()
    loss: Tensor = _losses.bernoulli(input, target, mask)
    return loss


def masked_relative_error(input: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean of |x − t| / (t + 10⁻⁶) over a mask, a metric (scGPT: ``scgpt.loss.masked_relative_error``).

    input, target, mask: of one shape, any number of dimensions. Returns a scalar that is not differentiable.

    Raises EmptySelectionError for an empty mask. Upstream's assertion fails.
    """
    if input.__class__ is Deferred:
        found = input.loss("mre", target, mask)
        if found is not None:
            return found
        input = input.value()
    error: Tensor = _losses.relative_error(input, target, mask)
    return error


def elastic_cell_similarity(cell_emb: Tensor, threshold: float, certifies: bool = True) -> Tensor:
    """ECS: the mean over all pairs of 1 − (C − threshold)² (scGPT: ``loss_ecs`` of ``TransformerModel``).

    C is the matrix of cosine similarities of the rows, with negative elements and the diagonal set to 0. The
    result has no weight; upstream's scripts multiply by 10.

    A row with a norm below 10⁻¹² is divided by 10⁻¹² instead, and its gradient is dN / 10⁻¹², as in PyTorch's
    ``normalize``. A zero row has no positive similarity, so its gradient is 0.

    cell_emb: B × D; threshold in [−1, 1]. Returns a scalar. The B × B matrix is stored up to 1,024 rows only.

    certifies: whether blocks of rows whose similarities are proved to have one sign are summed in closed
    form, where that saves time: beyond 1,024 rows, with B ≥ 2 · D. The result is the same up to rounding;
    :func:`certified_pairs` counts these pairs.
    """
    loss: Tensor = _losses.elastic(cell_emb, threshold, certifies)
    return loss


def certified_pairs(cell_emb: Tensor, threshold: float) -> int:
    """How many of the B² pairs :func:`elastic_cell_similarity` sums in closed form, for a log.

    Computes the loss without its gradient. cell_emb and threshold as there. Raises its errors, and
    FastLossError outside eager mode.
    """
    return _losses.certified_pairs(cell_emb, threshold)


def contrastive_cell_embedding(cell1: Tensor, cell2: Tensor, temperature: float = 0.5) -> Tensor:
    """CCE: cross-entropy of cos(cell1ᵢ, cell2ⱼ) / temperature against j = i (scGPT: ``loss_cce``).

    A row E with a norm below 10⁻⁸ is divided by 10⁻⁸ instead, N = E / 10⁻⁸, and its gradient is (dN −
    u(N·dN)) / 10⁻⁸ with u = E / ‖E‖, as in PyTorch's ``cosine_similarity``. The gradient of a zero row is dN
    / 10⁻⁸, which may be nonzero.

    cell1, cell2: B × D, two encodings of the same cells. Returns a scalar. The B × B matrix is never stored.
    """
    loss: Tensor = _losses.contrastive(cell1, cell2, temperature)
    return loss


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the rows whose label is not −100 (``torch.nn.CrossEntropyLoss()``; CLS, DAB).

    logits: B × C; labels: B, int64 or int32. Returns a scalar.

    Raises LabelOutOfRangeError, an IndexError as in PyTorch, for any other label outside 0 … C − 1.
    """
    loss: Tensor = _losses.cross_entropy(logits, labels)
    return loss


class Reversal(torch.autograd.Function):
    """The identity with the gradient times −lambd, multiplied by PyTorch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lambd: float) -> Tensor:
        ctx.lambd = lambd
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        return grad_output * -ctx.lambd, None


def grad_reverse(x: Tensor, lambd: float = 1.0) -> Tensor:
    """The identity with the gradient times −lambd (scGPT: ``scgpt.model.grad_reverse``).

    x: any shape, device and floating type; lambd: a finite number. Returns a view of x.

    Raises ArrayError in forward-mode differentiation and in the transforms of torch.func.
    """
    check_tensor("x", x)
    lambd = real("lambd", lambd)
    if not is_compiling() and transforms_are_active():
        refuse_transforms([("x", x)])
    reversed_: Tensor = Reversal.apply(x, lambd)  # type: ignore[no-untyped-call]
    return reversed_


class Terms(Mapping[str, Tensor]):
    """The terms of a step by their names: scalars without gradients. Asking for one makes a view of it."""

    __slots__ = ("_indices", "_values")

    def __init__(self, indices: Mapping[str, int], values: Tensor) -> None:
        self._indices, self._values = indices, values

    def __getitem__(self, name: str) -> Tensor:
        return self._values[self._indices[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __repr__(self) -> str:
        return repr(dict(self))


class IntegrationLoss(NamedTuple):
    """The loss of a training step, and its terms for the log."""

    #: The weighted sum: a scalar with a gradient.
    total: Tensor
    #: The enabled terms as scGPT logs them: "mse", "nzlp", "mvc", "mvc_nzlp", "cls" and "ecs" with their
    #: weights, "dab" without; and "mre", the masked relative error. Scalars without gradients.
    terms: Mapping[str, Tensor]


def integration_loss(
    outputs: Mapping[str, Tensor],
    target_values: Tensor,
    masked_positions: Tensor,
    batch_labels: Tensor | None = None,
    *,
    cell_type_labels: Tensor | None = None,
    explicit_zero_prob: bool = True,
    gepc: bool = True,
    ecs_threshold: float = 0.8,
    ecs_weight: float = 10.0,
    dab_weight: float = 1.0,
    cls_weight: float = 1.0,
) -> IntegrationLoss:
    """scGPT's objective for integration: all terms and gradients in one call.

    MSE + [explicit_zero_prob] NLL + [gepc] MSE + [both] NLL + ecs_weight · ECS + dab_weight · DAB +
    cls_weight · CLS

    outputs: the output of scGPT's ``TransformerModel``. Required are "mlm_output", with explicit_zero_prob
        "mlm_zero_probs", with gepc "mvc_output", and with both "mvc_zero_probs", all B × L; "cell_emb", B ×
        D, if ecs_threshold > 0; "dab_output", B × batches, with batch labels; "cls_output", B × types, with
        cell-type labels. Call the model with ``MVC=True`` and ``ECS=False``: this function computes ECS from
        "cell_emb".
    target_values: B × L. masked_positions: B × L, true for selected elements. Labels: B. None of them may
        require gradients.
    ecs_threshold: 0 or less disables ECS, as upstream's ``ecs_thres``.

    The gradient of "dab_output" is the discriminator's. The model's gradient reversal changes its sign.

    Raises FastLossError for a missing output, and the errors of the terms' losses.
    """
    step = _losses.integration_step(
        explicit_zero_prob,
        gepc,
        ecs_threshold,
        ecs_weight,
        cls_weight,
        dab_weight,
        cell_type_labels is not None,
        batch_labels is not None,
    )
    if type(outputs) is not dict:
        mapping("outputs", outputs, "names to tensors")
    read = [None if name is None else undeferred(outputs.get(name)) for name in step.names]
    others = (target_values, masked_positions, cell_type_labels, batch_labels)
    found = _losses.direct_integration(step, read, *others) if is_eager() else None
    if found is None:
        # Without zip(strict=True), which torch.compile cannot trace before PyTorch 2.2.
        for index, name in enumerate(step.names):
            if name is not None and read[index] is None:
                raise FastLossError(
                    f"outputs has no {name!r}, which is required {REASONS[name]}; it has {sorted(outputs)}"
                )
        found = _losses.integration(*read, *others, step.weights, step.threshold)
    total, terms = found
    if is_compiling():
        return IntegrationLoss(total, {name: terms[index] for name, index in step.terms.items()})
    return IntegrationLoss(total, Terms(step.terms, terms))


#: When each output is required.
REASONS = {
    "mlm_output": "always",
    "mlm_zero_probs": "with explicit_zero_prob=True",
    "mvc_output": "with gepc=True",
    "mvc_zero_probs": "with gepc=True and explicit_zero_prob=True",
    "cell_emb": "with ecs_threshold > 0",
    "cls_output": "with cell_type_labels",
    "dab_output": "with batch_labels",
}
