"""FastLoss as a user of PyTorch calls it."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

import fastloss.torch as fl
from fastloss.torch.heads import AdversarialDiscriminator, ExprDecoder, MVCDecoder

from .head_inputs import BATCHES, DECODER, DISCRIMINATOR, MVC_DECODER
from .problems import ECS_WEIGHT, TEMPERATURE, THRESHOLD

Inputs = dict[str, Tensor]


def outputs(inputs: Inputs) -> dict[str, Tensor]:
    """Under the names that scGPT's model gives them."""
    return {
        "mlm_output": inputs["gene"],
        "mlm_zero_probs": inputs["gene_nonzero"],
        "mvc_output": inputs["cell"],
        "mvc_zero_probs": inputs["cell_nonzero"],
    }


def mse(inputs: Inputs) -> Tensor:
    return fl.masked_mse_loss(inputs["gene"], inputs["targets"], inputs["mask"])


def value_terms(inputs: Inputs) -> tuple[Tensor, Tensor]:
    loss = fl.integration_loss(outputs(inputs), inputs["targets"], inputs["mask"], ecs_threshold=0)
    return loss.total, loss.terms["mre"]


def elastic(inputs: Inputs) -> Tensor:
    return fl.elastic_cell_similarity(inputs["embedding"], THRESHOLD)


def contrastive(inputs: Inputs) -> Tensor:
    return fl.contrastive_cell_embedding(inputs["embedding"], inputs["second"], TEMPERATURE)


def cross_entropy(inputs: Inputs) -> Tensor:
    return fl.cross_entropy(inputs["logits"], inputs["labels"])


def integration(inputs: Inputs) -> tuple[Tensor, Tensor]:
    model_outputs = {**outputs(inputs), "cell_emb": inputs["embedding"], "dab_output": inputs["logits"]}
    loss = fl.integration_loss(
        model_outputs, inputs["targets"], inputs["mask"], inputs["labels"], ecs_threshold=THRESHOLD
    )
    return loss.total, loss.terms["mre"]


# --- The task heads -----------------------------------------------------------------------------------------


class Loss(nn.Module):
    """A head whose call is its loss."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.head = head

    def forward(self, *arguments: Any, **named: Any) -> Any:
        return self.head.loss(*arguments, **named)


HEADS: dict[str, Callable[[int], nn.Module]] = {
    DECODER: lambda width: ExprDecoder(width, explicit_zero_prob=True, use_batch_labels=True),
    MVC_DECODER: lambda width: MVCDecoder(width, explicit_zero_prob=True, use_batch_labels=True),
    DISCRIMINATOR: lambda width: AdversarialDiscriminator(width, BATCHES, reverse_grad=True),
}


@functools.cache
def head(name: str, width: int) -> nn.Module:
    """A head without parameters of its own: a call gives it those of the problem."""
    with torch.device("meta"):
        return Loss(HEADS[name](width))


def head_loss(name: str, inputs: Inputs, *arguments: Tensor, **named: Tensor) -> Any:
    parameters = {
        "head." + key.removeprefix(name): value for key, value in inputs.items() if key.startswith(name)
    }
    return functional_call(head(name, arguments[0].shape[-1]), parameters, arguments, named, strict=True)


def batch_embeddings(inputs: Inputs) -> Tensor:
    """The embedding of each cell's batch."""
    return inputs["batch_embedding"][inputs["labels"]]


def expression_decoder(inputs: Inputs) -> Tensor:
    loss = head_loss(
        DECODER, inputs, inputs["states"], inputs["targets"], inputs["mask"], batch_embeddings(inputs)
    )
    return loss.total


def masked_value_shared(inputs: Inputs) -> Tensor:
    loss = head_loss(
        MVC_DECODER,
        inputs,
        inputs["embedding"],
        inputs["gene_embedding"],
        inputs["targets"],
        inputs["mask"],
        inputs["genes"].expand(inputs["mask"].shape),
        batch_embeddings(inputs),
    )
    return loss.total


masked_value_lists = masked_value_shared


def integration_heads(inputs: Inputs) -> Tensor:
    batches = head_loss(DISCRIMINATOR, inputs, inputs["embedding"], inputs["labels"])
    total = expression_decoder(inputs) + masked_value_shared(inputs) + batches
    return total + ECS_WEIGHT * elastic(inputs)
