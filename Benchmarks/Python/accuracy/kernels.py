"""The measured kernels: what FastLoss, PyTorch in float32 and float64 compute from the same inputs.

PyTorch in float32 is scGPT's sequence of operations where the comparison with peers has it (`torch_written`).
The truth is float64: its rounding is 10⁻⁸ of the errors that are measured, and its sums of 2²⁴ elements of
one sign are right to 10⁻¹⁴.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from peers import oracle, torch_written
from peers.problems import ECS_WEIGHT, TEMPERATURE, THRESHOLD
from torch import Tensor
from torch.nn import functional as F

import fastloss as fl

from . import heads
from . import inputs as families
from .errors import Doubles, elementwise, normwise, relative_to, rowwise
from .inputs import Arrays, Maker

#: An array by the name of the quantity: a loss, a gradient, an output. Of a head, a list of arrays.
Results = dict[str, Any]
Tensors = dict[str, Tensor]
#: The errors of a result, from the result, the truth and the inputs in float64.
Measure = Callable[[Any, Any, Tensors], Doubles]

#: Pairs of cells with a similarity below this are within float32's rounding of ECS's kink at 0.
KINK = 1e-6
#: ECS's threshold is a float32 number in FastLoss and in PyTorch as written.
EXACT_THRESHOLD = float(np.float32(THRESHOLD))


@dataclass(frozen=True)
class Kernel:
    title: str
    families: dict[str, Maker]
    ours: Callable[[Arrays], Results]
    written: Callable[[Arrays], Results]
    truth: Callable[[Arrays], Results]
    measures: dict[str, Measure]


def in_precision(arrays: Arrays, precision: torch.dtype) -> Tensors:
    return {
        name: torch.from_numpy(array).to(precision if array.dtype == np.float32 else None)
        for name, array in arrays.items()
    }


def doubles(value: Any) -> Doubles:
    return np.asarray(value.detach() if isinstance(value, Tensor) else value, dtype=np.float64)


def differentiated(
    loss: Callable[[Tensors], Any], wanted: dict[str, str], precision: torch.dtype, arrays: Arrays
) -> Results:
    """A loss and the gradients of some inputs, in PyTorch; wanted: the quantities by the inputs' names."""
    tensors = in_precision(arrays, precision)
    leaves = [tensors[name].requires_grad_() for name in wanted]
    outcome = loss(tensors)
    value, metric = outcome if isinstance(outcome, tuple) else (outcome, None)
    results = {"value": doubles(value)}
    if metric is not None:
        results["relative error"] = doubles(metric)
    for quantity, gradient in zip(wanted.values(), torch.autograd.grad(value, leaves), strict=True):
        results[quantity] = doubles(gradient)
    return results


def of_loss(
    title: str,
    makers: dict[str, Maker],
    ours: Callable[[Arrays], Results],
    written: Callable[[Tensors], Any],
    truth: Callable[[Tensors], Any],
    wanted: dict[str, str],
    measures: dict[str, Measure],
) -> Kernel:
    return Kernel(
        title,
        makers,
        ours,
        partial(differentiated, written, wanted, torch.float32),
        partial(differentiated, truth, wanted, torch.float64),
        measures,
    )


def by_element(found: Doubles, truth: Doubles, tensors: Tensors) -> Doubles:
    return elementwise(found, truth)


VALUE_AND_GRADIENT: dict[str, Measure] = {"value": by_element, "gradient": by_element}


# --- Losses over a mask -------------------------------------------------------------------------------------


def masked(function: Callable[..., Any], **options: Any) -> Callable[[Arrays], Results]:
    def run(arrays: Arrays) -> Results:
        gradient = np.empty_like(arrays["predictions"])
        loss = function(**arrays, gradient=gradient, **options)
        return {"value": doubles(loss.value), "gradient": doubles(gradient)}

    return run


def as_arguments(function: Callable[..., Tensor]) -> Callable[[Tensors], Tensor]:
    return lambda t: function(t["predictions"], t["targets"], t["mask"])


def squares(t: Tensors) -> Tensor:
    return oracle.masked_mean((t["predictions"] - t["targets"]) ** 2, t["mask"])


def likelihood(t: Tensors) -> Tensor:
    return oracle.squares_and_likelihood(t["targets"], t["predictions"], t)


def logits_as_written(t: Tensors) -> Tensor:
    nonzero = (t["targets"] > 0).to(t["predictions"].dtype)
    losses = F.binary_cross_entropy_with_logits(t["predictions"], nonzero, reduction="none")
    selected = t["mask"].to(losses.dtype)
    return (losses * selected).sum() / selected.sum()


def logit_likelihood(t: Tensors) -> Tensor:
    wrong = torch.where(t["targets"] > 0, -t["predictions"], t["predictions"])
    return oracle.masked_mean(torch.logaddexp(wrong, torch.zeros_like(wrong)), t["mask"])


def relative_error(t: Tensors) -> Tensor:
    errors = (t["predictions"] - t["targets"]).abs() / (t["targets"] + 1e-6)
    return oracle.masked_mean(errors, t["mask"])


def value_of(loss: Callable[[Tensors], Tensor], precision: torch.dtype, arrays: Arrays) -> Results:
    return {"value": doubles(loss(in_precision(arrays, precision)))}


# --- Classes ------------------------------------------------------------------------------------------------


def cross_entropy(arrays: Arrays) -> Results:
    gradient = np.empty_like(arrays["logits"])
    loss = fl.cross_entropy(arrays["logits"], arrays["labels"].astype(np.int32), gradient=gradient)
    return {"value": doubles(loss.value), "gradient": doubles(gradient)}


def by_probability(found: Doubles, truth: Doubles, tensors: Tensors) -> Doubles:
    """Relative to p, and for the label's element to 1, from which p is subtracted."""
    labels = tensors["labels"].numpy()
    sizes = np.abs(truth)
    sizes[np.arange(len(labels)), labels] = 1 / len(labels)
    # Probabilities below float32's range count in units of the smallest number.
    return relative_to(found, truth, np.maximum(sizes, 2.0**-126))


# --- Pairs of cells -----------------------------------------------------------------------------------------


def elastic(arrays: Arrays) -> Results:
    gradient = np.empty_like(arrays["embedding"])
    loss = fl.elastic_cell_similarity(arrays["embedding"], threshold=THRESHOLD, gradient=gradient)
    return {"value": doubles(loss.value), "gradient": doubles(gradient)}


def contrastive(arrays: Arrays) -> Results:
    first, second = (np.empty_like(arrays[name]) for name in ("embedding", "second"))
    loss = fl.contrastive_cell_embedding(
        arrays["embedding"],
        arrays["second"],
        temperature=TEMPERATURE,
        first_gradient=first,
        second_gradient=second,
    )
    return {"value": doubles(loss.value), "gradient": doubles(first), "second gradient": doubles(second)}


def row_norms(rows: Tensor) -> Tensor:
    return rows.norm(dim=1, keepdim=True).clamp_min(1e-12)


def elastic_in_doubles(t: Tensors) -> Tensor:
    return elastic_of_units(t["embedding"] / row_norms(t["embedding"]))


def elastic_of_units(unit: Tensor) -> Tensor:
    similarities = unit @ unit.T
    pairs = torch.relu(similarities - torch.diag(similarities.diagonal()))
    return (1 - (pairs - EXACT_THRESHOLD) ** 2).mean()


def elastic_rows(found: Doubles, truth: Doubles, tensors: Tensors) -> Doubles:
    """The rows without a pair at ECS's kink, relative to their norms before the projection.

    The projection subtracts the component along the row. It may cancel nearly all of a gradient, that of
    near-duplicates for example. No product in float32 keeps what is left: the errors are compared with the
    size of what was subtracted.
    """
    rows = tensors["embedding"].detach()
    unit = (rows / row_norms(rows)).requires_grad_()
    (gradient,) = torch.autograd.grad(elastic_of_units(unit), [unit])
    with torch.no_grad():
        sizes = row_norms(unit)
        near = (unit @ unit.T).abs() < KINK * sizes * sizes.T
        scale = (gradient / row_norms(rows)).norm(dim=1)
        return rowwise(found, truth, doubles(scale * ~near.any(dim=1)))


def contrastive_rows(name: str, found: Doubles, truth: Doubles, tensors: Tensors) -> Doubles:
    """Relative to the sizes of the terms that make up a row: those of a softmax add up to 0."""
    first, second = (tensors[key].detach() for key in ("embedding", "second"))
    softmax = (floored_rows(first) @ floored_rows(second).T / TEMPERATURE).softmax(dim=1)
    terms = (softmax - torch.eye(len(softmax))).abs() / (TEMPERATURE * len(softmax))
    sizes = (
        terms.sum(dim=1) / first.norm(dim=1) if name == "embedding" else terms.sum(dim=0) / second.norm(dim=1)
    )
    return rowwise(found, truth, doubles(sizes))


def floored_rows(rows: Tensor) -> Tensor:
    return F.normalize(rows, eps=1e-8)


def products_of_pairs(t: Tensors) -> Tensor:
    """CCE without scGPT's B × B × D tensors, which would take 2 GiB each."""
    return F.cross_entropy(
        floored_rows(t["embedding"]) @ floored_rows(t["second"]).T / TEMPERATURE,
        torch.arange(len(t["embedding"])),
    )


def contrastive_as_written(t: Tensors) -> Tensor:
    return torch_written.contrastive(t) if len(t["embedding"]) <= 256 else products_of_pairs(t)


def cosines(arrays: Arrays) -> Results:
    return {"similarities": doubles(fl.cosine_similarity(arrays["embedding"]))}


def cosines_in_torch(precision: torch.dtype, arrays: Arrays) -> Results:
    rows = F.normalize(in_precision(arrays, precision)["embedding"])
    return {"similarities": doubles(rows @ rows.T)}


def by_one(found: Doubles, truth: Doubles, tensors: Tensors) -> Doubles:
    return relative_to(found, truth, np.ones_like(truth))


# --- Reductions and pooling ---------------------------------------------------------------------------------


def reductions(arrays: Arrays) -> Results:
    gradient = np.empty_like(arrays["values"])
    means = fl.masked_reductions(arrays["values"], arrays["masks"])
    fl.masked_reductions_gradient(arrays["upstream"], arrays["masks"], gradient)
    return {"means": doubles(means), "gradient": doubles(gradient)}


def reductions_in_torch(precision: torch.dtype, arrays: Arrays) -> Results:
    t = in_precision(arrays, precision)
    t["values"].requires_grad_()
    masks = t["masks"].to(precision)
    means = t["values"] @ masks.T / masks.sum(dim=1)
    (gradient,) = torch.autograd.grad(means, [t["values"]], t["upstream"])
    return {"means": doubles(means), "gradient": doubles(gradient)}


def mean_sizes(found: Doubles, truth: Doubles, t: Tensors) -> Doubles:
    """Relative to the mean of the absolute values."""
    masks = t["masks"].to(torch.float64)
    return relative_to(found, truth, doubles(t["values"].abs() @ masks.T / masks.sum(dim=1)))


def mean_gradient_sizes(found: Doubles, truth: Doubles, t: Tensors) -> Doubles:
    masks = t["masks"].to(torch.float64)
    return relative_to(found, truth, doubles((t["upstream"].abs() / masks.sum(dim=1)) @ masks))


def average(arrays: Arrays) -> Results:
    gradient = np.empty_like(arrays["states"])
    embeddings = fl.token_pooling(arrays["states"], "avg-pool")
    fl.token_pooling_gradient(arrays["upstream"], gradient, "avg-pool")
    return {"embeddings": doubles(embeddings), "gradient": doubles(gradient)}


def average_in_torch(precision: torch.dtype, arrays: Arrays) -> Results:
    t = in_precision(arrays, precision)
    t["states"].requires_grad_()
    embeddings = t["states"].mean(dim=1)
    (gradient,) = torch.autograd.grad(embeddings, [t["states"]], t["upstream"])
    return {"embeddings": doubles(embeddings), "gradient": doubles(gradient)}


def average_sizes(found: Doubles, truth: Doubles, t: Tensors) -> Doubles:
    return relative_to(found, truth, doubles(t["states"].abs().mean(dim=1)))


def weighted(arrays: Arrays) -> Results:
    states, weights = arrays["states"], arrays["weights"]
    pooled = fl.normalized_weighted_token_pooling(states, weights)
    gradients = np.empty_like(states), np.empty_like(weights)
    fl.weighted_token_pooling_gradient(
        arrays["upstream"][:, None],
        states,
        weights,
        normalized=pooled,
        states_gradient=gradients[0],
        weights_gradient=gradients[1],
    )
    return {
        "embeddings": doubles(pooled.embeddings[:, 0]),
        "states' gradient": doubles(gradients[0]),
        "weights' gradient": doubles(gradients[1][:, 0]),
    }


def weighted_in_torch(precision: torch.dtype, arrays: Arrays) -> Results:
    """scGPT's w-pool: the product of weights and states, summed, then normalised."""
    t = in_precision(arrays, precision)
    leaves = [t["states"].requires_grad_(), t["weights"].requires_grad_()]
    embeddings = F.normalize((t["states"] * t["weights"][:, 0, :, None]).sum(dim=1), dim=1)
    gradients = torch.autograd.grad(embeddings, leaves, t["upstream"])
    return {
        "embeddings": doubles(embeddings),
        "states' gradient": doubles(gradients[0]),
        "weights' gradient": doubles(gradients[1][:, 0]),
    }


def sums(t: Tensors) -> tuple[Tensor, Tensor]:
    """The norm of each cell's weighted sum, and that of the sum of absolute values."""
    parts = t["states"] * t["weights"][:, 0, :, None]
    return parts.sum(dim=1).norm(dim=1), parts.abs().sum(dim=1).norm(dim=1)


def weighted_rows(found: Doubles, truth: Doubles, t: Tensors) -> Doubles:
    """Relative to the sum of absolute values over the norm: the sum's condition number."""
    norm, size = sums(t)
    return rowwise(found, truth, doubles(size / norm))


def weighted_states_sizes(found: Doubles, truth: Doubles, t: Tensors) -> Doubles:
    norm, size = sums(t)
    cells = size / norm**2 * t["upstream"].norm(dim=1)
    scale = cells[:, None] * t["weights"][:, 0].abs()
    width = found.shape[2]
    return rowwise(found.reshape(-1, width), truth.reshape(-1, width), doubles(scale).ravel())


def weighted_weights_sizes(found: Doubles, truth: Doubles, t: Tensors) -> Doubles:
    norm, size = sums(t)
    cells = size / norm**2 * t["upstream"].norm(dim=1)
    return relative_to(found, truth, doubles(cells[:, None] * t["states"].norm(dim=2)))


# --- The objective ------------------------------------------------------------------------------------------

#: This objective's inputs that have gradients: FastLoss's names and those of the quantities.
OBJECTIVE_SLOTS = {
    "gene": "gene_predictions",
    "gene_nonzero": "gene_nonzero",
    "cell": "cell_predictions",
    "cell_nonzero": "cell_nonzero",
    "embedding": "cell_embedding",
    "logits": "batch_logits",
}


def objective(arrays: Arrays) -> Results:
    gradients = {slot: np.empty_like(arrays[name]) for name, slot in OBJECTIVE_SLOTS.items()}
    value = fl.TotalObjective.integration(ecs_threshold=THRESHOLD).evaluate(
        targets=arrays["targets"],
        mask=arrays["mask"],
        batch_labels=arrays["labels"].astype(np.int32),
        **{slot: arrays[name] for name, slot in OBJECTIVE_SLOTS.items()},
        gradients=gradients,
    )
    results = {"value": doubles(value.total), "relative error": doubles(value.relative_error)}
    return results | {f"{name} gradient": doubles(gradients[slot]) for name, slot in OBJECTIVE_SLOTS.items()}


def objective_in_doubles(t: Tensors) -> tuple[Tensor, Tensor]:
    total, metric = oracle.value_terms(t)
    return total + ECS_WEIGHT * elastic_in_doubles(t) + oracle.cross_entropy(t), metric


def objective_rows(found: Doubles, truth: Doubles, t: Tensors) -> Doubles:
    return elastic_rows(found / ECS_WEIGHT, truth / ECS_WEIGHT, t)


# --- The task heads -----------------------------------------------------------------------------------------


def by_norm(scales: heads.Scales, found: list[Doubles], truth: list[Doubles], tensors: Tensors) -> Doubles:
    """An error for each array, relative to its norm or to a larger scale."""
    triples = zip(found, truth, scales(tensors), strict=True)
    return np.array([normwise(one, exact, scale) for one, exact, scale in triples])


def of_head(
    title: str,
    draw: Any,
    ours: Callable[[Arrays], Results],
    written: Callable[[Tensors], Tensor],
    head: heads.Head,
) -> Kernel:
    return Kernel(
        title,
        heads.families(draw, head.total),
        ours,
        partial(heads.with_gradients, written, head.wanted, torch.float32),
        partial(heads.with_gradients, head.total, head.wanted, torch.float64),
        {"value": by_element, "gradients": partial(by_norm, head.scales)},
    )


# --- The list -----------------------------------------------------------------------------------------------

KERNELS = [
    of_loss(
        "masked MSE",
        families.VALUE_FAMILIES,
        masked(fl.masked_mse),
        as_arguments(torch_written.masked_mse),
        squares,
        {"predictions": "gradient"},
        VALUE_AND_GRADIENT,
    ),
    of_loss(
        "Bernoulli NLL",
        families.PROBABILITY_FAMILIES,
        masked(fl.bernoulli_nll),
        as_arguments(torch_written.bernoulli_nll),
        likelihood,
        {"predictions": "gradient"},
        VALUE_AND_GRADIENT,
    ),
    of_loss(
        "Bernoulli NLL, logits",
        families.LOGIT_FAMILIES,
        masked(fl.bernoulli_nll, logits=True),
        logits_as_written,
        logit_likelihood,
        {"predictions": "gradient"},
        VALUE_AND_GRADIENT,
    ),
    Kernel(
        "masked relative error",
        families.VALUE_FAMILIES,
        lambda arrays: {"value": doubles(fl.masked_relative_error(**arrays).value)},
        partial(value_of, as_arguments(torch_written.relative_error), torch.float32),
        partial(value_of, relative_error, torch.float64),
        {"value": by_element},
    ),
    of_loss(
        "cross-entropy",
        families.CLASS_FAMILIES,
        cross_entropy,
        torch_written.cross_entropy,
        oracle.cross_entropy,
        {"logits": "gradient"},
        {"value": by_element, "gradient": by_probability},
    ),
    of_loss(
        "ECS",
        families.EMBEDDING_FAMILIES,
        elastic,
        torch_written.elastic,
        elastic_in_doubles,
        {"embedding": "gradient"},
        {"value": by_element, "gradient": elastic_rows},
    ),
    of_loss(
        "CCE",
        families.EMBEDDING_FAMILIES,
        contrastive,
        contrastive_as_written,
        contrastive_as_written,
        {"embedding": "gradient", "second": "second gradient"},
        {
            "value": by_element,
            "gradient": partial(contrastive_rows, "embedding"),
            "second gradient": partial(contrastive_rows, "second"),
        },
    ),
    Kernel(
        "cosine similarity",
        families.EMBEDDING_FAMILIES,
        cosines,
        partial(cosines_in_torch, torch.float32),
        partial(cosines_in_torch, torch.float64),
        {"similarities": by_one},
    ),
    Kernel(
        "masked reductions",
        families.REDUCTION_FAMILIES,
        reductions,
        partial(reductions_in_torch, torch.float32),
        partial(reductions_in_torch, torch.float64),
        {"means": mean_sizes, "gradient": mean_gradient_sizes},
    ),
    Kernel(
        "average pooling",
        families.POOLING_FAMILIES,
        average,
        partial(average_in_torch, torch.float32),
        partial(average_in_torch, torch.float64),
        {"embeddings": average_sizes, "gradient": by_element},
    ),
    Kernel(
        "weighted pooling, normalized",
        families.POOLING_FAMILIES,
        weighted,
        partial(weighted_in_torch, torch.float32),
        partial(weighted_in_torch, torch.float64),
        {
            "embeddings": weighted_rows,
            "states' gradient": weighted_states_sizes,
            "weights' gradient": weighted_weights_sizes,
        },
    ),
    of_loss(
        "integration objective",
        families.OBJECTIVE_FAMILIES,
        objective,
        torch_written.integration,
        objective_in_doubles,
        {name: f"{name} gradient" for name in OBJECTIVE_SLOTS},
        {
            "value": by_element,
            "relative error": by_element,
            **{f"{name} gradient": by_element for name in ("gene", "gene_nonzero", "cell", "cell_nonzero")},
            "embedding gradient": objective_rows,
            "logits gradient": by_probability,
        },
    ),
    of_head(
        "expression decoder",
        heads.expression_inputs,
        heads.expression_decoder,
        torch_written.expression_decoder,
        heads.EXPRESSION_HEAD,
    ),
    of_head(
        "masked-value decoder",
        heads.masked_value_inputs,
        heads.masked_value_decoder,
        torch_written.masked_value_shared,
        heads.MASKED_VALUE_HEAD,
    ),
    of_head(
        "cell-type decoder",
        heads.class_inputs,
        heads.classify,
        heads.CELL_TYPE_HEAD.total,
        heads.CELL_TYPE_HEAD,
    ),
    of_head(
        "adversarial discriminator",
        heads.class_inputs,
        heads.discriminate,
        heads.DISCRIMINATOR_HEAD.total,
        heads.DISCRIMINATOR_HEAD,
    ),
    Kernel(
        "batch-label encoder",
        heads.families(heads.encoder_inputs),
        heads.encoder,
        partial(heads.encoder_in_torch, torch.float32),
        partial(heads.encoder_in_torch, torch.float64),
        {
            "outputs": partial(by_norm, lambda tensors: [0.0]),
            "gradients": partial(by_norm, heads.ENCODER_HEAD.scales),
        },
    ),
]
