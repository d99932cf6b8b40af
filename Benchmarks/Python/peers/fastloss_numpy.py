"""FastLoss on NumPy arrays: each function makes a call that writes the gradients into arrays made
beforehand."""

from collections.abc import Callable
from typing import Any

import numpy as np

import fastloss as fl

from .problems import TEMPERATURE, THRESHOLD

Arrays = dict[str, Any]
#: This comparison's names of inputs, and the objective's.
NAMES = {
    "gene": "gene_predictions",
    "gene_nonzero": "gene_nonzero",
    "cell": "cell_predictions",
    "cell_nonzero": "cell_nonzero",
    "embedding": "cell_embedding",
    "logits": "batch_logits",
}


def objective(
    total: fl.TotalObjective, inputs: Arrays, gradients: Arrays
) -> Callable[[], tuple[float, float]]:
    arguments = {NAMES.get(name, name): value for name, value in inputs.items() if name != "labels"}
    if "labels" in inputs:
        arguments["batch_labels"] = inputs["labels"].astype(np.int32)
    places = {NAMES[name]: value for name, value in gradients.items()}

    def call() -> tuple[float, float]:
        value = total.evaluate(**arguments, gradients=places)
        assert value.relative_error is not None
        return value.total, value.relative_error

    return call


def mse(inputs: Arrays, gradients: Arrays) -> Callable[[], Any]:
    arguments = inputs["gene"], inputs["targets"], inputs["mask"]
    return lambda: fl.masked_mse(*arguments, gradient=gradients.get("gene")).value


def value_terms(inputs: Arrays, gradients: Arrays) -> Callable[[], Any]:
    weights = {"mse": 1.0, "nzlp": 1.0, "mvc": 1.0, "mvc_nzlp": 1.0}
    return objective(fl.TotalObjective(weights), inputs, gradients)


def elastic(inputs: Arrays, gradients: Arrays) -> Callable[[], Any]:
    return lambda: (
        fl.elastic_cell_similarity(
            inputs["embedding"], threshold=THRESHOLD, gradient=gradients.get("embedding")
        ).value
    )


def contrastive(inputs: Arrays, gradients: Arrays) -> Callable[[], Any]:
    return lambda: (
        fl.contrastive_cell_embedding(
            inputs["embedding"],
            inputs["second"],
            temperature=TEMPERATURE,
            first_gradient=gradients.get("embedding"),
            second_gradient=gradients.get("second"),
        ).value
    )


def cross_entropy(inputs: Arrays, gradients: Arrays) -> Callable[[], Any]:
    labels = inputs["labels"].astype(np.int32)
    return lambda: fl.cross_entropy(inputs["logits"], labels, gradient=gradients.get("logits")).value


def integration(inputs: Arrays, gradients: Arrays) -> Callable[[], Any]:
    return objective(fl.TotalObjective.integration(ecs_threshold=THRESHOLD), inputs, gradients)
