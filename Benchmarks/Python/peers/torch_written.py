"""PyTorch with the operations that scGPT's own code performs, one after another.

What makes it slow is kept, because it is what users run: masks that are converted and multiplied into both
operands of every term, a distribution object per Bernoulli term, an identity matrix per ECS, and a CCE that
broadcasts all pairs to (B, B, D) before it reduces them. The task heads decode every token, and then select.
"""

import torch
from torch import Tensor
from torch.distributions import Bernoulli
from torch.nn import functional as F

from .head_modules import batch_logits, expression_outputs, masked_value_outputs
from .problems import ECS_WEIGHT, TEMPERATURE, THRESHOLD

Inputs = dict[str, Tensor]


def masked_mse(predictions: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    selected = mask.float()
    squares = F.mse_loss(predictions * selected, targets * selected, reduction="sum")
    return squares / selected.sum()


def bernoulli_nll(probabilities: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    selected = mask.float()
    log_likelihoods = Bernoulli(probs=probabilities).log_prob((targets > 0).float())
    return -(log_likelihoods * selected).sum() / selected.sum()


@torch.no_grad()
def relative_error(predictions: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    assert mask.any()
    return ((predictions[mask] - targets[mask]).abs() / (targets[mask] + 1e-6)).mean()


def mse(inputs: Inputs) -> Tensor:
    return masked_mse(inputs["gene"], inputs["targets"], inputs["mask"])


def value_terms(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The sum of the four terms, and the metric."""
    targets, mask = inputs["targets"], inputs["mask"]
    total = masked_mse(inputs["gene"], targets, mask)
    total = total + bernoulli_nll(inputs["gene_nonzero"], targets, mask)
    total = total + masked_mse(inputs["cell"], targets, mask)
    total = total + bernoulli_nll(inputs["cell_nonzero"], targets, mask)
    return total, relative_error(inputs["gene"], targets, mask)


def elastic(inputs: Inputs) -> Tensor:
    normalized = F.normalize(inputs["embedding"], p=2, dim=1)
    similarities = torch.mm(normalized, normalized.t())
    diagonal = torch.eye(similarities.size(0)).bool()
    similarities = F.relu(similarities.masked_fill(diagonal, 0.0))
    return torch.mean(1 - (similarities - THRESHOLD) ** 2)


def contrastive(inputs: Inputs) -> Tensor:
    """The pairs are several tensors of B × B × D numbers: 128 MiB each at B = 256, 2 GiB at B = 1024."""
    first, second = inputs["embedding"].unsqueeze(1), inputs["second"].unsqueeze(0)
    similarities = F.cosine_similarity(first, second, dim=-1) / TEMPERATURE
    return F.cross_entropy(similarities, torch.arange(similarities.size(0)).long())


def cross_entropy(inputs: Inputs) -> Tensor:
    return F.cross_entropy(inputs["logits"], inputs["labels"])


def integration(inputs: Inputs) -> tuple[Tensor, Tensor]:
    total, metric = value_terms(inputs)
    total = total + ECS_WEIGHT * elastic(inputs)
    return total + cross_entropy(inputs), metric


# --- The task heads -----------------------------------------------------------------------------------------


def decoder_losses(outputs: Inputs, inputs: Inputs) -> Tensor:
    """Of every token's outputs, those under the mask count."""
    targets, mask = inputs["targets"], inputs["mask"]
    squares = masked_mse(outputs["predictions"], targets, mask)
    return squares + bernoulli_nll(outputs["nonzeroProbabilities"], targets, mask)


def expression_decoder(inputs: Inputs) -> Tensor:
    return decoder_losses(expression_outputs(inputs), inputs)


def masked_value_shared(inputs: Inputs) -> Tensor:
    return decoder_losses(masked_value_outputs(inputs), inputs)


masked_value_lists = masked_value_shared


def integration_heads(inputs: Inputs) -> Tensor:
    total = expression_decoder(inputs) + masked_value_shared(inputs) + ECS_WEIGHT * elastic(inputs)
    return total + F.cross_entropy(batch_logits(inputs), inputs["labels"])
