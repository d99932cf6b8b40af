"""PyTorch as a careful engineer would write it: no work is done twice and no pass is superfluous.

Of several ways to write each loss these were the fastest on two cores:
- Value terms: the selected elements are gathered once, so that every later pass sees 40 % of them.
- ECS: the gradient by hand, because autograd would multiply the matrix of pairs twice where once will do, and
  in place, because the matrix of pairs is far larger than any cache.
- CCE: normalised, then multiplied.
- Task heads: the masked tokens alone are decoded; the embedding of a batch is multiplied once, and a query
  computed once per gene; the products of MVC are reassociated; the Bernoulli loss is that of logits.

`torch.compile` is given the `compiled_` variants: no shapes that depend on data, no operations in place.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .head_inputs import DECODER, DISCRIMINATOR, MVC_DECODER
from .inputs import MASK_RATIO
from .problems import CLAMP, ECS_WEIGHT, TEMPERATURE, THRESHOLD

Inputs = dict[str, Tensor]
ECS_FLOOR = 1e-12
CCE_FLOOR = 1e-8


def mse(inputs: Inputs) -> Tensor:
    selected = inputs["mask"].flatten().nonzero().squeeze(1)
    gene, targets = (inputs[name].flatten().index_select(0, selected) for name in ("gene", "targets"))
    return F.mse_loss(gene, targets)


def value_terms(inputs: Inputs) -> tuple[Tensor, Tensor]:
    selected = inputs["mask"].flatten().nonzero().squeeze(1)

    def gathered(name: str) -> Tensor:
        return inputs[name].flatten().index_select(0, selected)

    targets = gathered("targets")
    nonzero = (targets > 0).float()
    gene = gathered("gene")
    total = F.mse_loss(gene, targets) + F.mse_loss(gathered("cell"), targets)
    for name in ("gene_nonzero", "cell_nonzero"):
        probabilities = gathered(name).clamp(CLAMP, 1 - CLAMP)
        total = total + F.binary_cross_entropy(probabilities, nonzero)
    with torch.no_grad():
        metric = ((gene - targets).abs_() / (targets + 1e-6)).mean()
    return total, metric


class ElasticByHand(torch.autograd.Function):
    """ECS with its gradient by formula, two products of B²·D instead of autograd's three."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, embedding: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(embedding, dim=1, keepdim=True).clamp_min_(ECS_FLOOR)
        normalized = embedding / norms
        pairs = normalized @ normalized.t()
        count = pairs.numel()
        pairs.fill_diagonal_(0.0)
        off = pairs <= 0
        pairs.masked_fill_(off, 0.0).sub_(THRESHOLD)
        # A dot product of so many elements loses four digits. sum() adds pairwise.
        value = 1 - pairs.square().sum() / count
        if ctx.needs_input_grad[0]:
            product = (pairs.masked_fill_(off, 0.0) @ normalized).mul_(-4 / count)
            along = (normalized * product).sum(dim=1, keepdim=True)
            ctx.save_for_backward(product.sub_(normalized.mul_(along)).div_(norms))
        return value

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad_output: Tensor) -> Tensor:
        (gradient,) = ctx.saved_tensors
        return grad_output * gradient


def elastic(inputs: Inputs) -> Tensor:
    return ElasticByHand.apply(inputs["embedding"])


def contrastive(inputs: Inputs) -> Tensor:
    # Divide the B × D embeddings by the temperature: that costs less than dividing the B × B matrix.
    first = F.normalize(inputs["embedding"], eps=CCE_FLOOR) / TEMPERATURE
    similarities = first @ F.normalize(inputs["second"], eps=CCE_FLOOR).t()
    return F.cross_entropy(similarities, torch.arange(similarities.shape[0]))


def cross_entropy(inputs: Inputs) -> Tensor:
    return F.cross_entropy(inputs["logits"], inputs["labels"])


def integration(inputs: Inputs) -> tuple[Tensor, Tensor]:
    total, metric = value_terms(inputs)
    return total + ECS_WEIGHT * elastic(inputs) + cross_entropy(inputs), metric


# --- For torch.compile --------------------------------------------------------------------------------------


def compiled_mse(inputs: Inputs) -> Tensor:
    selected = inputs["mask"].float()
    difference = (inputs["gene"] - inputs["targets"]) * selected
    return (difference * difference).sum() / selected.sum()


def compiled_value_terms(inputs: Inputs) -> tuple[Tensor, Tensor]:
    targets, selected = inputs["targets"], inputs["mask"].float()
    count = selected.sum()
    nonzero = (targets > 0).float()
    gene = inputs["gene"]
    total = torch.zeros(())
    for predictions in (gene, inputs["cell"]):
        difference = (predictions - targets) * selected
        total = total + (difference * difference).sum() / count
    for name in ("gene_nonzero", "cell_nonzero"):
        probabilities = inputs[name].clamp(CLAMP, 1 - CLAMP)
        terms = F.binary_cross_entropy(probabilities, nonzero, weight=selected, reduction="sum")
        total = total + terms / count
    metric = ((gene.detach() - targets).abs() / (targets + 1e-6) * selected).sum() / count
    return total, metric


class CompiledElastic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, embedding: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(embedding, dim=1, keepdim=True).clamp_min(ECS_FLOOR)
        normalized = embedding / norms
        pairs = normalized @ normalized.t()
        index = torch.arange(embedding.shape[0])
        on = (pairs > 0) & (index[:, None] != index[None, :])
        difference = torch.where(on, pairs, 0.0) - THRESHOLD
        product = (torch.where(on, difference, 0.0) @ normalized) * (-4 / pairs.numel())
        along = (normalized * product).sum(dim=1, keepdim=True)
        ctx.save_for_backward((product - normalized * along) / norms)
        return 1 - (difference * difference).mean()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad_output: Tensor) -> Tensor:
        (gradient,) = ctx.saved_tensors
        return grad_output * gradient


def compiled_elastic(inputs: Inputs) -> Tensor:
    return CompiledElastic.apply(inputs["embedding"])


def compiled_integration(inputs: Inputs) -> tuple[Tensor, Tensor]:
    total, metric = compiled_value_terms(inputs)
    return total + ECS_WEIGHT * compiled_elastic(inputs) + cross_entropy(inputs), metric


# --- The task heads, for torch.compile too ------------------------------------------------------------------


def masked_rows(mask: Tensor) -> Tensor:
    """The masked tokens of each cell, as indices of B·L tokens: as many in every cell."""
    cells, tokens = mask.shape
    count = cells * int(MASK_RATIO * tokens)
    return torch.nonzero_static(mask.flatten(), size=count).view(cells, -1)


def masked_losses(predictions: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
    """Both losses of a decoder's outputs under the mask."""
    nonzero = F.binary_cross_entropy_with_logits(logits, (targets > 0).float())
    return F.mse_loss(predictions, targets) + nonzero


def masked_targets(inputs: Inputs, rows: Tensor) -> Tensor:
    return inputs["targets"].flatten()[rows]


def expression_decoder(inputs: Inputs) -> Tensor:
    rows = masked_rows(inputs["mask"])
    states = inputs["states"]
    cells, _, width = states.shape
    states = states.view(-1, width).index_select(0, rows.flatten())
    # Both perceptrons read the states, so that their first layers are one product. The half of its weights
    # that reads the batch's embedding is multiplied once per batch.
    perceptrons = [DECODER + name for name in ("fc", "zero_logit")]
    weights = torch.cat([inputs[f"{name}.0.weight"] for name in perceptrons])
    biases = torch.cat([inputs[f"{name}.0.bias"] for name in perceptrons])
    batches = F.linear(inputs["batch_embedding"], weights[:, width:], biases)[inputs["labels"]]
    first = F.linear(states, weights[:, :width]).view(cells, -1, 2 * width)
    # In place, autograd would copy the view.
    first = F.leaky_relu(first + batches.unsqueeze(1)).view(-1, 2 * width)
    halves = first.split(width, dim=1)
    outputs = []
    # Not zip(strict=True), which torch.compile of PyTorch 2.1 refuses.
    for index, name in enumerate(perceptrons):
        hidden = F.linear(halves[index], inputs[f"{name}.2.weight"], inputs[f"{name}.2.bias"])
        output = F.linear(F.leaky_relu_(hidden), inputs[f"{name}.4.weight"], inputs[f"{name}.4.bias"])
        outputs.append(output.view(cells, -1))
    return masked_losses(*outputs, masked_targets(inputs, rows))


def masked_value_shared(inputs: Inputs) -> Tensor:
    """(W·q)·c = q·(Wᵀ·c): queries per gene, and one product of all cells with all genes."""
    rows = masked_rows(inputs["mask"])
    cells, tokens = inputs["mask"].shape
    queries = F.linear(
        inputs["gene_embedding"],
        inputs[f"{MVC_DECODER}gene2query.weight"],
        inputs[f"{MVC_DECODER}gene2query.bias"],
    ).sigmoid()
    embeddings = torch.cat([inputs["embedding"], inputs["batch_embedding"][inputs["labels"]]], dim=1)
    answers = [embeddings @ inputs[MVC_DECODER + name] for name in ("W.weight", "W_zero_logit.weight")]
    products = (torch.cat(answers) @ queries.t()).view(2, cells, -1)
    # With lists of genes, a vector of a query's length per token would be far more than a number.
    genes = inputs["genes"].expand(cells, tokens).flatten()[rows]
    predictions, logits = products.gather(2, genes.expand(2, -1, -1))
    logits = logits + (embeddings @ inputs[f"{MVC_DECODER}W_zero_logit.bias"]).unsqueeze(1)
    return masked_losses(predictions, logits, masked_targets(inputs, rows))


masked_value_lists = masked_value_shared


def discriminator(inputs: Inputs) -> Tensor:
    embedding = inputs["embedding"]
    # The embedding, exactly, with the opposite gradient.
    hidden = 2 * embedding.detach() - embedding
    for layer in (0, 3):
        linear, norm = f"{DISCRIMINATOR}_decoder.{layer}", f"{DISCRIMINATOR}_decoder.{layer + 2}"
        hidden = F.leaky_relu(F.linear(hidden, inputs[f"{linear}.weight"], inputs[f"{linear}.bias"]))
        hidden = F.layer_norm(hidden, hidden.shape[1:], inputs[f"{norm}.weight"], inputs[f"{norm}.bias"])
    name = f"{DISCRIMINATOR}out_layer"
    logits = F.linear(hidden, inputs[f"{name}.weight"], inputs[f"{name}.bias"])
    return F.cross_entropy(logits, inputs["labels"])


def integration_heads(inputs: Inputs) -> Tensor:
    total = expression_decoder(inputs) + masked_value_shared(inputs) + discriminator(inputs)
    return total + ECS_WEIGHT * elastic(inputs)


def compiled_integration_heads(inputs: Inputs) -> Tensor:
    total = expression_decoder(inputs) + masked_value_shared(inputs) + discriminator(inputs)
    return total + ECS_WEIGHT * compiled_elastic(inputs)
