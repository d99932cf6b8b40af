"""scGPT's task heads on the inputs of a problem, in the inputs' precision."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from scgpt_heads import Classifier, ExpressionDecoder, InnerProductDecoder
from torch import Tensor, nn
from torch.func import functional_call

from .head_inputs import BATCHES, DECODER, DISCRIMINATOR, MVC_DECODER

Inputs = dict[str, Tensor]

MODULES: dict[str, Callable[[int], nn.Module]] = {
    DECODER: lambda width: ExpressionDecoder(width, explicit_zeros=True, batch_labels=True),
    MVC_DECODER: lambda width: InnerProductDecoder(
        width, explicit_zeros=True, batch_labels=True, detach=False
    ),
    DISCRIMINATOR: lambda width: Classifier(width, BATCHES, 2, nn.LeakyReLU, strength=1.0),
}


@functools.cache
def module(name: str, width: int) -> nn.Module:
    """A module without parameters of its own: a call gives it those of the problem."""
    with torch.device("meta"):
        return MODULES[name](width)


def apply(name: str, inputs: Inputs, *arguments: Tensor) -> dict[str, Tensor]:
    parameters = {key.removeprefix(name): value for key, value in inputs.items() if key.startswith(name)}
    outputs: dict[str, Any] = functional_call(
        module(name, arguments[0].shape[-1]), parameters, arguments, strict=True
    )
    return outputs


def expression_outputs(inputs: Inputs) -> dict[str, Tensor]:
    """The predictions and the probabilities that they are not zero, of every token."""
    return apply(DECODER, inputs, inputs["states"], inputs["batch_embedding"][inputs["labels"]])


def masked_value_outputs(inputs: Inputs) -> dict[str, Tensor]:
    """The same from the cell embeddings. Every token has a copy of its gene's embedding."""
    genes = inputs["genes"].expand(inputs["mask"].shape)
    return apply(
        MVC_DECODER,
        inputs,
        inputs["embedding"],
        nn.functional.embedding(genes, inputs["gene_embedding"]),
        inputs["batch_embedding"][inputs["labels"]],
    )


def batch_logits(inputs: Inputs) -> Tensor:
    """The discriminator's logits, whose gradient reaches the cell embeddings reversed."""
    return apply(DISCRIMINATOR, inputs, inputs["embedding"])["logits"]
