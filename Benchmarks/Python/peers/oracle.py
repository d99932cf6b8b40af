"""The truth: every loss in float64, written independently of the providers.

The task heads are scGPT's modules in float64: what PyTorch as written computes in float32.
"""

import numpy as np
import torch
from torch import Tensor

from .head_modules import batch_logits, expression_outputs, masked_value_outputs
from .problems import CLAMP, ECS_WEIGHT, TEMPERATURE, THRESHOLD, Array, Problem
from .providers import Result


def masked_mean(elements: Tensor, mask: Tensor) -> Tensor:
    return elements[mask].sum() / mask.sum()


def clamped(probabilities: Tensor) -> Tensor:
    """scGPT's clamp, which is part of the loss: float32's in float64, too.

    Its gradient is 1 at the ends, as that of `Tensor.clamp` was before PyTorch 2.15, where it is 0.
    """
    low, high = probabilities < CLAMP, probabilities > 1 - CLAMP
    return probabilities.masked_fill(low, CLAMP).masked_fill(high, 1 - CLAMP)


def squares_and_likelihood(predictions: Tensor, probabilities: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """The squared error of the predictions plus the Bernoulli loss of the probabilities."""
    targets, mask = inputs["targets"], inputs["mask"]
    probabilities = clamped(probabilities)
    logarithms = torch.where(targets > 0, probabilities.log(), torch.log1p(-probabilities))
    return masked_mean((predictions - targets) ** 2, mask) - masked_mean(logarithms, mask)


def mse(inputs: dict[str, Tensor]) -> Tensor:
    return masked_mean((inputs["gene"] - inputs["targets"]) ** 2, inputs["mask"])


def value_terms(inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    targets, mask = inputs["targets"], inputs["mask"]
    total = squares_and_likelihood(inputs["gene"], inputs["gene_nonzero"], inputs)
    total = total + squares_and_likelihood(inputs["cell"], inputs["cell_nonzero"], inputs)
    # Upstream's 1e-6 is added in float32's precision or better; the targets are whole numbers.
    metric = masked_mean((inputs["gene"].detach() - targets).abs() / (targets + 1e-6), mask)
    return total, metric


def elastic(inputs: dict[str, Tensor]) -> Tensor:
    embedding = inputs["embedding"]
    rows = embedding / embedding.norm(dim=1, keepdim=True).clamp_min(1e-12)
    similarities = rows @ rows.T
    pairs = torch.relu(similarities - torch.diag(similarities.diagonal()))
    return (1 - (pairs - THRESHOLD) ** 2).mean()


def contrastive(inputs: dict[str, Tensor]) -> Tensor:
    first, second = inputs["embedding"], inputs["second"]
    first = first / first.norm(dim=1, keepdim=True).clamp_min(1e-8)
    second = second / second.norm(dim=1, keepdim=True).clamp_min(1e-8)
    logits = first @ second.T / TEMPERATURE
    return (logits.logsumexp(dim=1) - logits.diagonal()).mean()


def cross_entropy(inputs: dict[str, Tensor]) -> Tensor:
    logits, labels = inputs["logits"], inputs["labels"]
    return (logits.logsumexp(dim=1) - logits.gather(1, labels[:, None])[:, 0]).mean()


def integration(inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    total, metric = value_terms(inputs)
    return total + ECS_WEIGHT * elastic(inputs) + cross_entropy(inputs), metric


def expression_decoder(inputs: dict[str, Tensor]) -> Tensor:
    outputs = expression_outputs(inputs)
    return squares_and_likelihood(outputs["predictions"], outputs["nonzeroProbabilities"], inputs)


def masked_value_shared(inputs: dict[str, Tensor]) -> Tensor:
    outputs = masked_value_outputs(inputs)
    return squares_and_likelihood(outputs["predictions"], outputs["nonzeroProbabilities"], inputs)


masked_value_lists = masked_value_shared


def integration_heads(inputs: dict[str, Tensor]) -> Tensor:
    total = expression_decoder(inputs) + masked_value_shared(inputs) + ECS_WEIGHT * elastic(inputs)
    return total + cross_entropy({"logits": batch_logits(inputs), "labels": inputs["labels"]})


def truth(problem: Problem, inputs: dict[str, Array]) -> Result:
    """The loss, the metric and the gradients in float64."""
    tensors = {
        name: torch.from_numpy(value.astype(np.float64) if value.dtype == np.float32 else value)
        for name, value in inputs.items()
    }
    wanted = [tensors[name].requires_grad_() for name in problem.differentiated]
    outcome = globals()[problem.function](tensors)
    loss, metric = outcome if isinstance(outcome, tuple) else (outcome, None)
    gradients = torch.autograd.grad(loss, wanted) if wanted else ()
    return loss.item(), None if metric is None else metric.item(), [g.numpy() for g in gradients]


def error(result: Result, truth: Result) -> float:
    """The largest relative error of the loss, the metric and the gradients; of a gradient, norm-wise."""
    (loss, metric, gradients), (true_loss, true_metric, true_gradients) = result, truth
    assert len(gradients) == len(true_gradients)
    errors = [abs(loss - true_loss) / abs(true_loss)]
    if metric is not None and true_metric is not None:
        errors.append(abs(metric - true_metric) / abs(true_metric))
    for gradient, true_gradient in zip(gradients, true_gradients, strict=True):
        assert gradient.shape == true_gradient.shape, (gradient.shape, true_gradient.shape)
        errors.append(float(np.linalg.norm(gradient - true_gradient) / np.linalg.norm(true_gradient)))
    # If either number is NaN, the comparison must fail.
    return max(errors) if all(map(np.isfinite, errors)) else float("inf")
