"""The losses of `fastloss.torch`: for each the call of the library, and the checks of its arguments."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, is_grad_enabled

from .. import _abi, objective
from .._library import NAMES, TERM_NAMES, fail, workspace
from .._parameters import flag, real
from ..errors import EmptySelectionError, FastLossError, ShapeError
from ._compatibility import is_compiling
from ._operators import Operator, attach, gradient_memory, is_eager, memory_like, scalar
from ._tensors import (
    CPU,
    MODEL,
    TARGETS,
    as_float,
    check_kind,
    check_labels,
    check_mask,
    check_tensor,
    contiguous,
    labels,
    mask_like,
    matrix,
    native,
)

__all__ = ["bernoulli", "contrastive", "cross_entropy", "elastic", "integration", "mse", "relative_error"]

#: A loss without selected elements is NaN, as in PyTorch. For the metric it is an error, as in upstream.
DROP_IN = ("mean", "nan")
METRIC = ("mean", "error")
IGNORED = _abi.IGNORED_LABEL
#: Overwrite with the gradient itself.
PLAIN = (1.0, False)

#: scGPT's names of the parameters, for messages.
MASKED_NAMES = {**NAMES, "predictions": "input", "targets": "target"}
EMBEDDING_NAMES = {**NAMES, "embeddings": "cell_emb", "first": "cell1", "second": "cell2"}

Gradients = Sequence[Tensor | None]


def fake_loss(first: Tensor) -> tuple[Tensor, ...]:
    return (first.new_empty((), dtype=torch.float32),)


def differentiable(result: Any, input: Tensor, gradient: Tensor | None) -> Tensor | None:
    """The loss of a call in eager mode; None if the call declined its arguments, or failed."""
    if type(result) is not tuple:
        return None
    loss = scalar(result[0])
    return loss if gradient is None else attach((loss,), (gradient,), input)


# --- Outputs of 16 bits -------------------------------------------------------------------------------------
#
# bfloat16 is read as it is. float16 is, too, if no gradient is wanted. A float16 gradient would be rounded
# before `grad_output` multiplies it, and torch.amp.GradScaler scales by 2¹⁶ because most gradients of a mean
# are too small for the type. So the gradient of a float16 tensor is computed in float32, and autograd rounds
# it after the multiplication. `memory_like` makes float32 memory for it, which `_native` declines; then the
# tensor is converted.


def computed(tensor: Tensor) -> Tensor:
    """The tensor in the type that a gradient is computed in."""
    return tensor.to(torch.float32) if tensor.dtype is torch.float16 else tensor


def model_matrix(name: str, tensor: Tensor) -> Tensor:
    return computed(matrix(name, tensor, MODEL))


# --- Masked value losses ------------------------------------------------------------------------------------


def direct_mse(input: Tensor, target: Tensor, mask: Tensor) -> Tensor | None:
    if target.requires_grad or mask is None:
        return None
    gradient = memory_like(input)
    result = native.masked_mse(workspace(), input, target, mask, *DROP_IN, gradient, *PLAIN)
    return differentiable(result, input, gradient)


def call_mse(gradients: Gradients, input: Tensor, target: Tensor, mask: Tensor) -> Any:
    of_input, of_target = gradients
    if of_target is None:
        return native.masked_mse(workspace(), input, target, mask, *DROP_IN, of_input, *PLAIN)
    # The gradient of the target is the negative gradient of the input, and float32 like the target.
    result = native.masked_mse(workspace(), as_float(input), target, mask, *DROP_IN, of_target, -1.0, False)
    if of_input is not None and type(result) is tuple:
        of_input.copy_(of_target).neg_()
    return result


def direct_bernoulli(input: Tensor, target: Tensor, mask: Tensor) -> Tensor | None:
    if mask is None:
        return None
    gradient = memory_like(input)
    result = native.bernoulli_nll(workspace(), input, target, mask, *DROP_IN, gradient, *PLAIN)
    return differentiable(result, input, gradient)


def call_bernoulli(gradients: Gradients, input: Tensor, target: Tensor, mask: Tensor) -> Any:
    return native.bernoulli_nll(workspace(), input, target, mask, *DROP_IN, *gradients, *PLAIN)


def direct_relative_error(input: Tensor, target: Tensor, mask: Tensor) -> Tensor | None:
    if mask is None:
        return None
    result = native.masked_relative_error(workspace(), input, target, mask, *METRIC)
    return differentiable(result, input, None)


def call_relative_error(gradients: Gradients, input: Tensor, target: Tensor, mask: Tensor) -> Any:
    result = native.masked_relative_error(workspace(), input, target, mask, *METRIC)
    if result == _abi.ERROR_EMPTY_SELECTION:
        raise EmptySelectionError("mask selects no element; expected at least one", result)
    return result


def check_values(input: Tensor, target: Tensor) -> None:
    check_kind("input", input, MODEL)
    check_kind("target", target, TARGETS)
    if target.shape != input.shape:
        raise ShapeError(
            f"target has the shape {tuple(target.shape)}; expected {tuple(input.shape)}, as input"
        )


def checked_values(input: Tensor, target: Tensor, mask: Tensor) -> tuple[Any, ...]:
    """Contiguous vectors, copied only if necessary: the losses do not depend on the shape."""
    check_values(input, target)
    mask = mask_like("mask", mask, input.shape, "input")
    return (
        contiguous("input", computed(input)).view(-1),
        contiguous("target", as_float(target)).view(-1),
        mask.view(-1),
    )


def fake_masked(input: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    check_values(input, target)
    check_mask("mask", mask, input.shape, "input")
    return fake_loss(input)


VALUES = "Tensor input, Tensor target, Tensor mask"
mse = Operator(
    "masked_mse",
    VALUES,
    (0, 1),
    direct_mse,
    call_mse,
    checked_values,
    fake_masked,
    names_in_messages=MASKED_NAMES,
    constant=("mask",),
)
bernoulli = Operator(
    "bernoulli_nll",
    VALUES,
    (0,),
    direct_bernoulli,
    call_bernoulli,
    checked_values,
    fake_masked,
    names_in_messages=MASKED_NAMES,
    constant=("mask",),
)
relative_error = Operator(
    "masked_relative_error",
    VALUES,
    (),
    direct_relative_error,
    call_relative_error,
    checked_values,
    fake_masked,
    names_in_messages=MASKED_NAMES,
)


# --- Cell embeddings ----------------------------------------------------------------------------------------


def direct_elastic(cell_emb: Tensor, threshold: float, certifies: bool) -> Tensor | None:
    gradient = memory_like(cell_emb)
    result = native.elastic_cell_similarity(
        workspace(), cell_emb, threshold, "nan", certifies, gradient, *PLAIN
    )
    return differentiable(result, cell_emb, gradient)


def call_elastic(gradients: Gradients, cell_emb: Tensor, threshold: float, certifies: bool) -> Any:
    return native.elastic_cell_similarity(
        workspace(), cell_emb, threshold, "nan", certifies, *gradients, *PLAIN
    )


def checked_elastic(cell_emb: Tensor, threshold: float, certifies: bool) -> tuple[Any, ...]:
    return model_matrix("cell_emb", cell_emb), real("threshold", threshold), flag("certifies", certifies)


def fake_elastic(cell_emb: Tensor, threshold: float, certifies: bool) -> tuple[Tensor, ...]:
    check_kind("cell_emb", cell_emb, MODEL)
    return fake_loss(cell_emb)


def certified_pairs(cell_emb: Tensor, threshold: float) -> int:
    """The pairs that the loss of these embeddings sums in closed form, by computing its value."""
    if not is_eager():
        raise FastLossError("certified_pairs reads the embeddings, so it works in eager mode only")
    check_tensor("cell_emb", cell_emb)
    result = call_elastic((None,), *checked_elastic(cell_emb, threshold, True))
    if type(result) is int:
        fail(result, EMBEDDING_NAMES)
    pairs: int = result[2]
    return pairs


def direct_contrastive(cell1: Tensor, cell2: Tensor, temperature: float) -> Tensor | None:
    first, second = memory_like(cell1), memory_like(cell2)
    result = native.contrastive_cell_embedding(
        workspace(), cell1, cell2, temperature, "nan", first, second, *PLAIN
    )
    if first is None:
        return differentiable(result, cell2, second)
    if second is None or type(result) is not tuple:
        return differentiable(result, cell1, first)
    return attach((scalar(result[0]),), (first, second), cell1, cell2)


def call_contrastive(gradients: Gradients, cell1: Tensor, cell2: Tensor, temperature: float) -> Any:
    return native.contrastive_cell_embedding(
        workspace(), cell1, cell2, temperature, "nan", *gradients, *PLAIN
    )


def check_pair(cell1: Tensor, cell2: Tensor) -> None:
    # Before the shapes: some kinds of tensors have none.
    check_kind("cell1", cell1, MODEL)
    check_kind("cell2", cell2, MODEL)
    if cell1.shape != cell2.shape:
        raise ShapeError(f"cell2 has the shape {tuple(cell2.shape)}; expected {tuple(cell1.shape)}, as cell1")


def matching_pair(cell1: Tensor, cell2: Tensor) -> tuple[Tensor, Tensor]:
    """Both encodings as matrices of one shape and type."""
    check_pair(cell1, cell2)
    first, second = model_matrix("cell1", cell1), model_matrix("cell2", cell2)
    if first.dtype is second.dtype:
        return first, second
    return as_float(first), as_float(second)


def checked_contrastive(cell1: Tensor, cell2: Tensor, temperature: float) -> tuple[Any, ...]:
    return *matching_pair(cell1, cell2), real("temperature", temperature)


def fake_contrastive(cell1: Tensor, cell2: Tensor, temperature: float) -> tuple[Tensor, ...]:
    check_pair(cell1, cell2)
    return fake_loss(cell1)


elastic = Operator(
    "elastic_cell_similarity",
    "Tensor cell_emb, float threshold, bool certifies",
    (0,),
    direct_elastic,
    call_elastic,
    checked_elastic,
    fake_elastic,
    names_in_messages=EMBEDDING_NAMES,
)
contrastive = Operator(
    "contrastive_cell_embedding",
    "Tensor cell1, Tensor cell2, float temperature",
    (0, 1),
    direct_contrastive,
    call_contrastive,
    checked_contrastive,
    fake_contrastive,
    names_in_messages=EMBEDDING_NAMES,
)


# --- Classification -----------------------------------------------------------------------------------------


def direct_cross_entropy(logits: Tensor, target: Tensor) -> Tensor | None:
    gradient = memory_like(logits)
    result = native.cross_entropy(workspace(), logits, target, IGNORED, *DROP_IN, gradient, *PLAIN)
    return differentiable(result, logits, gradient)


def call_cross_entropy(gradients: Gradients, logits: Tensor, target: Tensor) -> Any:
    return native.cross_entropy(workspace(), logits, target, IGNORED, *DROP_IN, *gradients, *PLAIN)


def checked_cross_entropy(logits: Tensor, target: Tensor) -> tuple[Any, ...]:
    logits = model_matrix("logits", logits)
    return logits, labels("labels", target, logits.shape[0])


def fake_cross_entropy(logits: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    check_kind("logits", logits, MODEL)
    check_labels("labels", target, logits.shape[0])
    return fake_loss(logits)


cross_entropy = Operator(
    "cross_entropy",
    "Tensor logits, Tensor labels",
    (0,),
    direct_cross_entropy,
    call_cross_entropy,
    checked_cross_entropy,
    fake_cross_entropy,
)


# --- The whole objective ------------------------------------------------------------------------------------

#: The model's outputs in the order of the operator's arguments, which is that of the C interface: scGPT's
#: name, the C interface's name, and the term that the output enables.
OUTPUTS = (
    ("mlm_output", "gene_predictions", "mse"),
    ("mlm_zero_probs", "gene_nonzero", "nzlp"),
    ("mvc_output", "cell_predictions", "mvc"),
    ("mvc_zero_probs", "cell_nonzero", "mvc_nzlp"),
    ("cell_emb", "cell_embedding", "ecs"),
    ("cls_output", "cell_type_logits", "cls"),
    ("dab_output", "batch_logits", "dab"),
)
COUNT = len(OUTPUTS)
OUTPUT_NAMES = {
    **NAMES,
    **{field: name for name, field, _ in OUTPUTS},
    "targets": "target_values",
    "mask": "masked_positions",
    "elastic_threshold": "ecs_threshold",
}


class Step(NamedTuple):
    """The parameters of an integration step, checked."""

    #: Which of the model's outputs the step reads, in the order of `OUTPUTS`.
    on: tuple[bool, ...]
    #: Their names; None for the others.
    names: tuple[str | None, ...]
    weights: tuple[float, ...]
    threshold: float
    #: The names of the logged values, with their places.
    terms: dict[str, int]

    @classmethod
    def of(
        cls,
        explicit_zero_prob: Any,
        gepc: Any,
        ecs_threshold: Any,
        ecs_weight: Any,
        cls_weight: Any,
        dab_weight: Any,
        has_cell_types: bool,
        has_batches: bool,
    ) -> "Step":
        zero, cell = flag("explicit_zero_prob", explicit_zero_prob), flag("gepc", gepc)
        threshold = real("ecs_threshold", ecs_threshold)
        weights = {"ecs_weight": ecs_weight, "cls_weight": cls_weight, "dab_weight": dab_weight}
        on = {
            "mlm_output": True,
            "mlm_zero_probs": zero,
            "mvc_output": cell,
            "mvc_zero_probs": zero and cell,
            "cell_emb": threshold > 0,
            "cls_output": has_cell_types,
            "dab_output": has_batches,
        }
        enabled = [term for name, _, term in OUTPUTS if on[name]]
        logged = [*(term for term in TERM_NAMES if term in enabled), "mre"]
        return cls(
            tuple(on.values()),
            tuple(name if flag else None for name, flag in on.items()),
            (1.0, 1.0, 1.0, 1.0, *(real(name, weight) for name, weight in weights.items())),
            threshold if threshold > 0 else 0.8,
            {name: index for index, name in enumerate(logged)},
        )

    @property
    def struct(self) -> bytes:
        return integration_struct(self.on, self.weights, self.threshold)


#: With the types: 1 is not True, and must not find the step of True.
cached_step = functools.lru_cache(maxsize=64, typed=True)(Step.of)


def integration_step(*parameters: Any) -> Step:
    """The step of some parameters. Raises for wrong ones."""
    # torch.compile looks into a function, but not into its cache.
    if is_compiling():
        return Step.of(*parameters)
    try:
        return cached_step(*parameters)
    except TypeError:
        # A parameter that cannot be a key of the cache, so it is not a number.
        return Step.of(*parameters)


@functools.lru_cache(maxsize=64)
def integration_struct(on: tuple[bool, ...], weights: tuple[float, ...], threshold: float) -> bytes:
    """The objective of the enabled terms as a struct of the C interface."""
    chosen = {term: weight for (_, _, term), flag, weight in zip(OUTPUTS, on, weights, strict=True) if flag}
    return objective.TotalObjective(chosen, elastic_threshold=threshold, when_empty="nan").struct


def call_library(
    struct: bytes, terms: Tensor, gradients: Gradients, outputs: Gradients, target: Any, mask: Any, *both: Any
) -> Any:
    """Writes the logged terms, followed by the relative error, and returns the total.

    Integration has no generated predictions and no second embedding. The model's own gradient reversal takes
    the place of the reversed gradient.
    """
    gene, gene_nonzero, cell, cell_nonzero, embedding, types, batches = outputs
    inputs = (
        *(target, mask, gene, gene_nonzero, cell, cell_nonzero, None, embedding, None, types, batches),
        *both,
    )
    gene, gene_nonzero, cell, cell_nonzero, embedding, types, batches = gradients
    places = (gene, gene_nonzero, cell, cell_nonzero, None, embedding, None, types, batches, None)
    return native.logged_objective(workspace(), struct, inputs, places, 1.0, False, terms)


def direct_integration(
    step: Step, outputs: Gradients, target: Tensor, mask: Tensor, *both: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """As the other losses' `direct`. `both`: the labels of cell types and of batches."""
    try:
        if target.requires_grad or mask.requires_grad:
            return None
        enabled = is_grad_enabled()
        gradients = [
            gradient_memory(output) if enabled and output is not None and output.requires_grad else None
            for output in outputs
        ]
    except (AttributeError, RuntimeError):
        # PyTorch's, for an argument that is no plain tensor.
        return None
    terms = torch.empty(len(step.terms), dtype=torch.float32, device=CPU)
    total = call_library(step.struct, terms, gradients, outputs, target, mask, *both)
    if type(total) is not float:
        return None
    loss = scalar(total)
    computed = [gradient for gradient in gradients if gradient is not None]
    if computed:
        pairs = zip(outputs, gradients, strict=True)
        inputs = [output for output, gradient in pairs if gradient is not None]
        loss = attach((loss,), computed, *inputs)
    return loss, terms


def call_integration(gradients: Gradients, *arguments: Any) -> Any:
    outputs, others, (weights, threshold) = arguments[:COUNT], arguments[COUNT:-2], arguments[-2:]
    on = tuple([output is not None for output in outputs])
    terms = torch.empty(on.count(True) + 1, dtype=torch.float32, device=CPU)
    struct = integration_struct(on, tuple(weights), threshold)
    total = call_library(struct, terms, gradients, outputs, *others)
    return (total, terms) if type(total) is float else total


def checked_integration(*arguments: Any) -> tuple[Any, ...]:
    outputs = arguments[:COUNT]
    target, mask, cell_type_labels, batch_labels, weights, threshold = arguments[COUNT:]
    check_kind("target_values", target, TARGETS)
    target = matrix("target_values", as_float(target))
    mask = mask_like("masked_positions", mask, target.shape, "target_values")
    cells, genes = target.shape
    checked = []
    for (name, field, _), tensor in zip(OUTPUTS, outputs, strict=True):
        if tensor is not None:
            tensor = model_matrix(name, tensor)
            has_genes = field not in objective.COLUMNS
            if tensor.shape[0] != cells or (has_genes and tensor.shape[1] != genes):
                expected = f"{genes} columns" if has_genes else "any number of columns"
                raise ShapeError(
                    f"{name} has the shape {tuple(tensor.shape)}; expected {cells} rows, as target_values, "
                    f"and {expected}"
                )
        checked.append(tensor)
    given = (("cell_type_labels", cell_type_labels), ("batch_labels", batch_labels))
    both = [None if tensor is None else labels(name, tensor, cells) for name, tensor in given]
    return *checked, target, mask, *both, weights, threshold


def fake_integration(*arguments: Any) -> tuple[Tensor, ...]:
    outputs = arguments[:COUNT]
    target, mask, cell_type_labels, batch_labels = arguments[COUNT : COUNT + 4]
    check_kind("target_values", target, TARGETS)
    check_mask("masked_positions", mask, target.shape, "target_values")
    for name, given in (("cell_type_labels", cell_type_labels), ("batch_labels", batch_labels)):
        if given is not None:
            check_labels(name, given, target.shape[0])
    for (name, _, _), tensor in zip(OUTPUTS, outputs, strict=True):
        if tensor is not None:
            check_kind(name, tensor, MODEL)
    count = 1 + sum(output is not None for output in outputs)
    return target.new_empty((), dtype=torch.float32), target.new_empty(count, dtype=torch.float32)


integration = Operator(
    "integration",
    ", ".join(f"Tensor? {name}" for name, _, _ in OUTPUTS)
    + ", Tensor target_values, Tensor masked_positions, Tensor? cell_type_labels, Tensor? batch_labels"
    + ", float[] weights, float threshold",
    range(COUNT),
    None,
    call_integration,
    checked_integration,
    fake_integration,
    names_in_messages=OUTPUT_NAMES,
    results=2,
    constant=("target_values", "masked_positions"),
)
