"""FastLoss as a user of PyTorch calls it."""

from torch import Tensor

import fastloss.torch as fl

from .problems import TEMPERATURE, THRESHOLD

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
