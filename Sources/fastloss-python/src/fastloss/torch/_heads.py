"""The task heads with their losses in one call of the library: value and gradients in one pass.

A decoder is an operator, as the losses are, so that torch.compile takes it. A classifier is a direct call for
eager mode alone; torch.compile makes as fast code of its few PyTorch operations.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, contiguous_format, empty_like, is_grad_enabled, nn

from .._library import NAMES, fail, workspace
from ._compatibility import is_compiling
from ._operators import Operator, attach, is_eager, scalar
from ._tensors import (
    FLOAT,
    MODEL,
    PLAIN,
    TARGETS,
    as_float,
    check_kind,
    check_mask,
    contiguous,
    labels,
    mask_like,
    matrix,
    native,
)

__all__ = [
    "classifier_loss",
    "expression_loss",
    "has_hooks",
    "is_linear",
    "masked_value_loss",
    "takes",
    "takes_head",
    "takes_values",
]

Tensors = Sequence[Tensor | None]
STRIDED = torch.strided


def is_plain(tensor: Tensor, kinds: tuple[torch.dtype, ...]) -> bool:
    """Whether the library can take the tensor, after a copy at most. torch.compile has types of its own."""
    return (
        tensor.dtype in kinds
        and tensor.is_cpu
        and tensor.layout is STRIDED
        and (is_compiling() or type(tensor) in PLAIN or not is_eager())
    )


def takes(inputs: Tensors, parameters: Tensors, target: Tensor, mask: Tensor) -> bool:
    """Whether the library computes a decoder and its losses."""
    return takes_head(inputs, parameters) and takes_values(target, mask)


def takes_head(inputs: Tensors, parameters: Tensors) -> bool:
    """Whether the library computes a decoder: on the CPU, with float32 parameters. Also under autocast, whose
    outputs it reads as they are."""
    return all(tensor is None or is_plain(tensor, OUTPUTS) for tensor in inputs) and all(
        tensor is None or (is_plain(tensor, FLOATS) and tensor.is_contiguous()) for tensor in parameters
    )


def readable(tensor: Tensor) -> Tensor:
    """float32 for a float16 tensor with a gradient, which autograd then rounds; see `_losses`."""
    return tensor.float() if tensor.dtype is torch.float16 and tensor.requires_grad else tensor


def takes_values(target: Any, mask: Any) -> bool:
    """Whether the library computes the losses of these targets, which have no gradients."""
    return (
        isinstance(target, Tensor)
        and isinstance(mask, Tensor)
        and is_plain(target, NUMBERS)
        and is_plain(mask, MASKS)
        and not target.requires_grad
        and not mask.requires_grad
    )


# Tuples, because torch.compile of PyTorch 2.1 cannot look into sets.
FLOATS, OUTPUTS, NUMBERS = tuple(FLOAT), tuple(MODEL), tuple(TARGETS)
#: Masks of numbers are checked and converted before.
MASKS = (torch.bool,)


def has_hooks(*modules: nn.Module) -> bool:
    """Whether a module has hooks, which a call of the library would skip."""
    return any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks for module in modules
    )


def is_linear(module: nn.Module, outputs: int, inputs: int) -> bool:
    """Whether a module is PyTorch's linear layer of this shape, with bias, and nothing else."""
    return (
        type(module) is nn.Linear
        and module.bias is not None
        and module.weight.shape == (outputs, inputs)
        and not has_hooks(module)
    )


def decoder_result(result: Any, weights: Sequence[float], has_zeros: bool) -> Any:
    """The total, and a tensor of both losses and the relative error; a status or None as it is."""
    if type(result) is not tuple:
        return result
    mse, nzlp, relative_error, _ = result
    total = weights[0] * mse
    if has_zeros:
        total += weights[1] * nzlp
    else:
        nzlp = 0.0
    return total, torch.tensor((mse, nzlp, relative_error), dtype=torch.float32, device="cpu")


def fake_result(like: Tensor) -> tuple[Tensor, ...]:
    return like.new_empty((), dtype=torch.float32), like.new_empty(3, dtype=torch.float32)


def memory(tensor: Tensor | None) -> Tensor | None:
    """Contiguous memory for a tensor's gradient; None if it needs none."""
    if tensor is None or not tensor.requires_grad:
        return None
    return empty_like(tensor, memory_format=contiguous_format)


def direct(operator: Operator, arguments: Sequence[Any]) -> Any:
    """The results of a call in eager mode; None if the library does not read the arguments in place."""
    inputs = [arguments[index] for index in operator.differentiable]
    gradients = [memory(tensor) if is_grad_enabled() else None for tensor in inputs]
    result = operator.call(gradients, *arguments)
    if type(result) is int:
        fail(result, operator.names_in_messages)
    if result is None:
        return None
    loss, terms = scalar(result[0]), result[1]
    computed = [gradient for gradient in gradients if gradient is not None]
    if computed:
        pairs = zip(inputs, gradients, strict=True)
        loss = attach((loss,), computed, *[tensor for tensor, gradient in pairs if gradient is not None])
    return loss, terms


def checked_target(target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    check_kind("target", target, TARGETS)
    return contiguous("target", as_float(target)), mask_like("mask", mask, target.shape, "target")


def checked_batches(
    batch_emb: Tensor | None, batch_labels: Tensor | None, cells: int
) -> tuple[Tensor | None, Tensor | None]:
    return (
        None if batch_emb is None else matrix("batch_emb", batch_emb, MODEL),
        None if batch_labels is None else labels("batch_labels", batch_labels, cells),
    )


def optional(tensors: Tensors) -> list[Tensor | None]:
    return [None if tensor is None else contiguous("a parameter", tensor) for tensor in tensors]


def run(operator: Operator, arguments: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """The total and the terms. The arguments are such as `takes` admits."""
    found = direct(operator, arguments) if is_eager() else None
    result: tuple[Tensor, Tensor] = operator.call_anything(arguments) if found is None else found
    return result


# --- The decoder from token states --------------------------------------------------------------------------

PERCEPTRON = 6


def call_expression(
    gradients: Tensors,
    states: Tensor,
    target: Tensor,
    mask: Tensor,
    batch_emb: Tensor | None,
    batch_labels: Tensor | None,
    *others: Any,
) -> Any:
    *parameters, mse_weight, nzlp_weight = others
    count = 2 * PERCEPTRON if parameters[PERCEPTRON] is not None else PERCEPTRON
    places = (*gradients[:2], *gradients[2 : 2 + count])
    result = native.expression_decoder(
        workspace(),
        states,
        batch_emb,
        batch_labels,
        mask,
        target,
        mse_weight,
        nzlp_weight,
        tuple(parameters[:count]),
        places if any(place is not None for place in places) else None,
    )
    return decoder_result(result, (mse_weight, nzlp_weight), count > PERCEPTRON)


def checked_expression(
    states: Tensor,
    target: Tensor,
    mask: Tensor,
    batch_emb: Tensor | None,
    batch_labels: Tensor | None,
    *others: Any,
) -> tuple[Any, ...]:
    *parameters, mse_weight, nzlp_weight = others
    check_kind("x", states, MODEL)
    target, mask = checked_target(target, mask)
    return (
        contiguous("x", states),
        target,
        mask,
        *checked_batches(batch_emb, batch_labels, states.shape[0]),
        *optional(parameters),
        mse_weight,
        nzlp_weight,
    )


def fake_expression(states: Tensor, target: Tensor, mask: Tensor, *_: Any) -> tuple[Tensor, ...]:
    check_kind("x", states, MODEL)
    check_mask("mask", mask, target.shape, "target")
    return fake_result(states)


LAYERS = tuple(f"{index}_{name}" for index in (0, 2, 4) for name in ("weight", "bias"))
HEAD_NAMES = {**NAMES, "states": "x", "targets": "target", "values": "target"}

expression = Operator(
    "expression_decoder",
    "Tensor x, Tensor target, Tensor mask, Tensor? batch_emb, Tensor? batch_labels, "
    + ", ".join(f"Tensor? {part}_{layer}" for part in ("fc", "zero_logit") for layer in LAYERS)
    + ", float mse_weight, float nzlp_weight",
    (0, 3, *range(5, 5 + 2 * PERCEPTRON)),
    None,
    call_expression,
    checked_expression,
    fake_expression,
    names_in_messages=HEAD_NAMES,
    results=2,
    constant=("target", "mask"),
)


def expression_loss(
    states: Tensor,
    target: Tensor,
    mask: Tensor,
    batch_emb: Tensor | None,
    batch_labels: Tensor | None,
    parameters: Tensors,
    weights: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """parameters: 6 of `fc`, and 6 or no more of `zero_logit`, in the order of `LAYERS`."""
    absent = [None] * (2 * PERCEPTRON - len(parameters))
    states, batch_emb = readable(states), None if batch_emb is None else readable(batch_emb)
    return run(expression, (states, target, mask, batch_emb, batch_labels, *parameters, *absent, *weights))


# --- The decoder from cell embeddings -----------------------------------------------------------------------

#: The numbers of the library.
STYLES = {"inner product": 0, "inner product, detach": 1, "concat query": 2, "sum query": 3}
MASKED_VALUE = (
    "gene2query_weight",
    "gene2query_bias",
    "W_weight",
    "W_zero_logit_weight",
    "W_zero_logit_bias",
    "fc1_weight",
    "fc1_bias",
    "hidden_activation_weight",
    "fc2_weight",
    "fc2_bias",
)


def call_masked_value(
    gradients: Tensors,
    cell_emb: Tensor,
    gene_embs: Tensor,
    target: Tensor,
    mask: Tensor,
    batch_emb: Tensor | None,
    batch_labels: Tensor | None,
    genes: Tensor | None,
    *others: Any,
) -> Any:
    *parameters, style, mse_weight, nzlp_weight = others
    result = native.masked_value_decoder(
        workspace(),
        style,
        cell_emb,
        gene_embs,
        batch_emb,
        batch_labels,
        genes,
        mask,
        target,
        mse_weight,
        nzlp_weight,
        tuple(parameters),
        tuple(gradients) if any(place is not None for place in gradients) else None,
    )
    return decoder_result(result, (mse_weight, nzlp_weight), parameters[3] is not None)


def checked_masked_value(
    cell_emb: Tensor,
    gene_embs: Tensor,
    target: Tensor,
    mask: Tensor,
    batch_emb: Tensor | None,
    batch_labels: Tensor | None,
    genes: Tensor | None,
    *others: Any,
) -> tuple[Any, ...]:
    *parameters, style, mse_weight, nzlp_weight = others
    target, mask = checked_target(target, mask)
    return (
        matrix("cell_emb", cell_emb, MODEL),
        matrix("gene_embs", gene_embs, MODEL),
        target,
        mask,
        *checked_batches(batch_emb, batch_labels, cell_emb.shape[0]),
        None if genes is None else contiguous("genes", genes),
        *optional(parameters),
        style,
        mse_weight,
        nzlp_weight,
    )


def fake_masked_value(
    cell_emb: Tensor, gene_embs: Tensor, target: Tensor, mask: Tensor, *_: Any
) -> tuple[Tensor, ...]:
    check_kind("cell_emb", cell_emb, MODEL)
    check_mask("mask", mask, target.shape, "target")
    return fake_result(cell_emb)


masked_value = Operator(
    "masked_value_decoder",
    "Tensor cell_emb, Tensor gene_embs, Tensor target, Tensor mask, Tensor? batch_emb, "
    + "Tensor? batch_labels, Tensor? genes, "
    + ", ".join(f"Tensor? {name}" for name in MASKED_VALUE)
    + ", int style, float mse_weight, float nzlp_weight",
    (0, 1, 4, *range(7, 7 + len(MASKED_VALUE))),
    None,
    call_masked_value,
    checked_masked_value,
    fake_masked_value,
    names_in_messages={**HEAD_NAMES, "genes": "genes"},
    results=2,
    constant=("target", "mask"),
)


def masked_value_loss(
    cell_emb: Tensor,
    gene_embs: Tensor,
    target: Tensor,
    mask: Tensor,
    batch_emb: Tensor | None,
    batch_labels: Tensor | None,
    genes: Tensor | None,
    style: str,
    parameters: Tensors,
    weights: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """parameters: those of `MASKED_VALUE`; None for those that the style lacks."""
    return run(
        masked_value,
        (
            *(readable(cell_emb), readable(gene_embs), target, mask),
            *(None if batch_emb is None else readable(batch_emb), batch_labels, genes),
            *(*parameters, STYLES[style], *weights),
        ),
    )


# --- Classifiers --------------------------------------------------------------------------------------------


#: The widest layers of a classifier that are computed in one call. With 64 cells, that takes less time than
#: PyTorch's operations at a width of 128, and more at 512, where their products are large.
LARGEST_WIDTH = 256


def classifier_loss(x: Tensor, labels: Tensor, parameters: Tensors, lambd: float | None) -> Tensor | None:
    """The cross-entropy; None if the library does not take the arguments.

    parameters: weight and bias of each linear layer and of each normalization. lambd: None for ReLU; for
    LeakyReLU, the factor of the gradient reversal.
    """
    if not is_eager() or x.shape[-1] > LARGEST_WIDTH or not is_plain(x, OUTPUTS):
        return None
    x = readable(x)
    inputs = [x, *parameters]
    gradients = [memory(tensor) if is_grad_enabled() else None for tensor in inputs]
    computed = [gradient for gradient in gradients if gradient is not None]
    places = tuple(gradients) if computed else None
    if lambd is None:
        result = native.cell_type_decoder(workspace(), x, labels, tuple(parameters), places)
    else:
        result = native.adversarial_discriminator(workspace(), x, labels, tuple(parameters), places, lambd)
    if type(result) is int:
        fail(result)
    if result is None:
        return None
    loss = scalar(result[0])
    if not computed:
        return loss
    pairs = zip(inputs, gradients, strict=True)
    return attach((loss,), computed, *[tensor for tensor, gradient in pairs if gradient is not None])
