"""The computations of `fastloss.torch`: tensors in, one call of the library, tensors out."""

import functools
from collections.abc import Sequence
from ctypes import addressof
from typing import Any

import torch
from torch import Tensor

from .. import _abi, objective
from .._library import NAMES, TERM_NAMES, fail, library, masked_options, sized, workspace
from .._parameters import real
from ..errors import EmptySelectionError, ShapeError
from ._operators import Operator, Outcome
from ._tensors import (
    CPU,
    FLOAT,
    REAL,
    address,
    as_float,
    check_kind,
    check_labels,
    check_mask,
    contiguous,
    labels,
    mask_like,
    matrix,
)

__all__ = ["bernoulli", "contrastive", "cross_entropy", "elastic", "integration", "mse", "relative_error"]

MEAN = _abi.REDUCTION_MEAN
#: A loss without selected elements is NaN, as in PyTorch. For the metric it is an error, as in upstream.
NAN, ERROR = _abi.EMPTY_NAN, _abi.EMPTY_ERROR
DROP_IN = masked_options(MEAN, NAN)
METRIC = masked_options(MEAN, ERROR)

#: scGPT's names of the parameters, for messages.
MASKED_NAMES = {"predictions": "input", "targets": "target"}
EMBEDDING_NAMES = {"embeddings": "cell_emb", "first": "cell1", "second": "cell2"}


def scalar(value: float) -> Tensor:
    return torch.scalar_tensor(value, dtype=torch.float32, device=CPU)


def like(tensor: Tensor) -> Tensor:
    """Contiguous memory for the gradient of a tensor."""
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def gradient_struct(gradient: Tensor | None, columns: int) -> _abi.Gradient | None:
    if gradient is None:
        return None
    return sized(_abi.Gradient, gradient.data_ptr(), columns, 0, 1.0, 0)


def pointer(struct: Any) -> int | None:
    return None if struct is None else addressof(struct)


def fake_loss(first: Tensor) -> tuple[Tensor, ...]:
    return (first.new_empty(()),)


# --- Masked value losses ------------------------------------------------------------------------------------


def check_values(input: Tensor, target: Tensor) -> None:
    check_kind("input", input, FLOAT)
    check_kind("target", target, REAL)
    if target.shape != input.shape:
        raise ShapeError(
            f"target has the shape {tuple(target.shape)}; expected {tuple(input.shape)}, as input"
        )


def values(input: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Three contiguous tensors of one shape, copied only if necessary."""
    check_values(input, target)
    return contiguous(input), contiguous(as_float(target)), mask_like("mask", mask, input.shape, "input")


def masked(
    function: Any, gradient: Tensor | None, input: Tensor, target: Tensor, mask: Tensor
) -> tuple[Tensor, ...]:
    """Runs a masked loss over all elements as one row: the loss does not depend on the shape."""
    count = input.numel()
    place = gradient_struct(gradient, count)
    loss = _abi.LossValue()
    status = function(
        1,
        count,
        input.data_ptr(),
        count,
        target.data_ptr(),
        count,
        address("mask", mask),
        count,
        DROP_IN,
        pointer(place),
        workspace(),
        addressof(loss),
    )
    if status:
        fail(status, MASKED_NAMES)
    return (scalar(loss.value),)


def compute_mse(wanted: Sequence[bool], input: Tensor, target: Tensor, mask: Tensor) -> Outcome:
    input, target, mask = values(input, target, mask)
    gradient = torch.empty_like(input) if wanted[0] or wanted[1] else None
    results = masked(library.fastloss_masked_mse, gradient, input, target, mask)
    # The gradient of the target is the negative gradient of the input.
    target_gradient = gradient.neg() if gradient is not None and wanted[1] else None
    return results, (gradient if wanted[0] else None, target_gradient)


def compute_bernoulli(wanted: Sequence[bool], input: Tensor, target: Tensor, mask: Tensor) -> Outcome:
    input, target, mask = values(input, target, mask)
    gradient = torch.empty_like(input) if wanted[0] else None
    return masked(library.fastloss_bernoulli_nll, gradient, input, target, mask), (gradient,)


def compute_relative_error(wanted: Sequence[bool], input: Tensor, target: Tensor, mask: Tensor) -> Outcome:
    input, target, mask = values(input, target, mask)
    count = input.numel()
    loss = _abi.LossValue()
    status = library.fastloss_masked_relative_error(
        1,
        count,
        input.data_ptr(),
        count,
        target.data_ptr(),
        count,
        address("mask", mask),
        count,
        METRIC,
        workspace(),
        addressof(loss),
    )
    if status == _abi.ERROR_EMPTY_SELECTION:
        raise EmptySelectionError("mask selects no element; expected at least one", status)
    if status:
        fail(status, MASKED_NAMES)
    return (scalar(loss.value),), ()


def fake_masked(input: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    check_values(input, target)
    check_mask("mask", mask, input.shape, "input")
    return fake_loss(input)


VALUES = "Tensor input, Tensor target, Tensor mask"
mse = Operator("masked_mse", VALUES, (0, 1), compute_mse, fake_masked, constant=("mask",))
bernoulli = Operator("bernoulli_nll", VALUES, (0,), compute_bernoulli, fake_masked, constant=("mask",))
relative_error = Operator("masked_relative_error", VALUES, (), compute_relative_error, fake_masked)


# --- Cell embeddings ----------------------------------------------------------------------------------------


def compute_elastic(wanted: Sequence[bool], cell_emb: Tensor, threshold: float) -> Outcome:
    owner, e = matrix("cell_emb", cell_emb)
    gradient = like(cell_emb) if wanted[0] else None
    place = gradient_struct(gradient, e.columns)
    options = sized(_abi.ElasticOptions, real("threshold", threshold), NAN)
    loss = _abi.LossValue()
    status = library.fastloss_elastic_cell_similarity(
        *e, addressof(options), pointer(place), workspace(), addressof(loss)
    )
    del owner
    if status:
        fail(status, EMBEDDING_NAMES)
    return (scalar(loss.value),), (gradient,)


def fake_elastic(cell_emb: Tensor, threshold: float) -> tuple[Tensor, ...]:
    check_kind("cell_emb", cell_emb, FLOAT)
    return fake_loss(cell_emb)


def compute_contrastive(wanted: Sequence[bool], cell1: Tensor, cell2: Tensor, temperature: float) -> Outcome:
    check_pair(cell1, cell2)
    first_owner, a = matrix("cell1", cell1)
    second_owner, b = matrix("cell2", cell2)
    gradients = [like(cell) if flag else None for cell, flag in zip((cell1, cell2), wanted, strict=True)]
    places = [gradient_struct(gradient, a.columns) for gradient in gradients]
    options = sized(_abi.ContrastiveOptions, real("temperature", temperature), NAN)
    loss = _abi.LossValue()
    status = library.fastloss_contrastive_cell_embedding(
        *a,
        b.address,
        b.stride,
        addressof(options),
        pointer(places[0]),
        pointer(places[1]),
        workspace(),
        addressof(loss),
    )
    del first_owner, second_owner
    if status:
        fail(status, EMBEDDING_NAMES)
    return (scalar(loss.value),), gradients


def check_pair(cell1: Tensor, cell2: Tensor) -> None:
    # Before the shapes: some kinds of tensors have none.
    check_kind("cell1", cell1, FLOAT)
    check_kind("cell2", cell2, FLOAT)
    if cell1.shape != cell2.shape:
        raise ShapeError(f"cell2 has the shape {tuple(cell2.shape)}; expected {tuple(cell1.shape)}, as cell1")


def fake_contrastive(cell1: Tensor, cell2: Tensor, temperature: float) -> tuple[Tensor, ...]:
    check_pair(cell1, cell2)
    return fake_loss(cell1)


elastic = Operator(
    "elastic_cell_similarity", "Tensor cell_emb, float threshold", (0,), compute_elastic, fake_elastic
)
contrastive = Operator(
    "contrastive_cell_embedding",
    "Tensor cell1, Tensor cell2, float temperature",
    (0, 1),
    compute_contrastive,
    fake_contrastive,
)


# --- Classification -----------------------------------------------------------------------------------------


def compute_cross_entropy(wanted: Sequence[bool], logits: Tensor, target: Tensor) -> Outcome:
    owner, z = matrix("logits", logits)
    target = labels("labels", target, z.rows)
    gradient = like(logits) if wanted[0] else None
    place = gradient_struct(gradient, z.columns)
    options = sized(_abi.CrossEntropyOptions, MEAN, NAN, _abi.IGNORED_LABEL)
    loss = _abi.LossValue()
    status = library.fastloss_cross_entropy(
        *z, address("labels", target), addressof(options), pointer(place), workspace(), addressof(loss)
    )
    del owner
    if status:
        fail(status)
    return (scalar(loss.value),), (gradient,)


def fake_cross_entropy(logits: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    check_kind("logits", logits, FLOAT)
    check_labels("labels", target, logits.shape[0])
    return fake_loss(logits)


cross_entropy = Operator(
    "cross_entropy", "Tensor logits, Tensor labels", (0,), compute_cross_entropy, fake_cross_entropy
)


# --- The whole objective ------------------------------------------------------------------------------------

#: The model's outputs in the order of the operator's arguments: scGPT's name, the C interface's name, and the
#: term that the output enables.
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


@functools.lru_cache(maxsize=64)
def integration_terms(
    on: tuple[bool, ...], weights: tuple[float, ...], threshold: float
) -> tuple[_abi.Objective, list[int]]:
    """The objective of the enabled terms, and their indices in its results."""
    chosen = {term: weight for (_, _, term), flag, weight in zip(OUTPUTS, on, weights, strict=True) if flag}
    total = objective.TotalObjective(chosen, elastic_threshold=threshold, when_empty="nan")
    return total.struct, [TERM_NAMES.index(term) for term in chosen]


def compute_integration(wanted: Sequence[bool], *arguments: Any) -> Outcome:
    """Arguments: seven outputs, targets, mask, labels of cell types and of batches, seven weights, β."""
    outputs = arguments[:COUNT]
    target, mask, cell_type_labels, batch_labels, weights, threshold = arguments[COUNT:]
    # Copied and converted tensors must live until the end of the call.
    check_kind("target_values", target, REAL)
    target, place = matrix("target_values", as_float(target))
    mask = mask_like("masked_positions", mask, target.shape, "target_values")
    owners = [target, mask]
    cells, genes = place.rows, place.columns
    inputs = sized(_abi.ObjectiveInputs, cells, genes)
    places = sized(_abi.ObjectiveGradients, 1.0, 0)
    fill(inputs.targets, place.address, place.stride)
    fill(inputs.mask, address("masked_positions", mask), genes)
    gradients: list[Tensor | None] = []
    for (name, field, _), tensor, flag in zip(OUTPUTS, outputs, wanted, strict=True):
        gradient = None
        if tensor is not None:
            owner, place = matrix(name, tensor)
            owners.append(owner)
            fill(getattr(inputs, field), place.address, place.stride)
            columns = objective.COLUMNS.get(field)
            if columns is not None:
                setattr(inputs, columns, place.columns)
            if place.rows != cells or (columns is None and place.columns != genes):
                expected = f"{genes} columns" if columns is None else "any number of columns"
                raise ShapeError(
                    f"{name} has the shape {tuple(tensor.shape)}; expected {cells} rows, as target_values, "
                    f"and {expected}"
                )
            if flag:
                gradient = like(tensor)
                fill(getattr(places, field), gradient.data_ptr(), place.columns)
        gradients.append(gradient)
    for name, given in (("cell_type_labels", cell_type_labels), ("batch_labels", batch_labels)):
        if given is not None:
            converted = labels(name, given, cells)
            owners.append(converted)
            setattr(inputs, name, address(name, converted))

    on = tuple([output is not None for output in outputs])
    struct, indices = integration_terms(on, tuple(weights), threshold)
    value = objective.evaluate(struct, inputs, places if True in wanted else None, OUTPUT_NAMES)
    logged = value.logged
    terms = [logged[index] for index in indices]
    terms.append(value.relative_error)
    return (scalar(value.total), torch.tensor(terms, dtype=torch.float32, device=CPU)), gradients


def fill(view: _abi.View, location: int, stride: int) -> None:
    view.data = location
    view.stride = stride


def fake_integration(*arguments: Any) -> tuple[Tensor, ...]:
    outputs = arguments[:COUNT]
    target, mask, cell_type_labels, batch_labels = arguments[COUNT : COUNT + 4]
    check_kind("target_values", target, REAL)
    check_mask("masked_positions", mask, target.shape, "target_values")
    for name, given in (("cell_type_labels", cell_type_labels), ("batch_labels", batch_labels)):
        if given is not None:
            check_labels(name, given, target.shape[0])
    for (name, _, _), tensor in zip(OUTPUTS, outputs, strict=True):
        if tensor is not None:
            check_kind(name, tensor, FLOAT)
    count = 1 + sum(output is not None for output in outputs)
    return target.new_empty((), dtype=torch.float32), target.new_empty(count, dtype=torch.float32)


integration = Operator(
    "integration",
    ", ".join(f"Tensor? {name}" for name, _, _ in OUTPUTS)
    + ", Tensor target_values, Tensor masked_positions, Tensor? cell_type_labels, Tensor? batch_labels"
    + ", float[] weights, float threshold",
    range(COUNT),
    compute_integration,
    fake_integration,
    results=2,
    constant=("target_values", "masked_positions"),
)
