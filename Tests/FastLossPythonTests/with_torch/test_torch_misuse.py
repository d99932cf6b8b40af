"""The misuses of PyTorch's functions and heads in the tables of the article "Bad input". Every row is run."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from misuse_table import TORCH, Misuse, rows

import fastloss.torch as fl
from fastloss.torch import heads

B, L, D, C = 2, 3, 4, 3
VALUES = torch.linspace(0.1, 0.9, B * L).reshape(B, L)
TARGETS = torch.arange(B * L, dtype=torch.float32).reshape(B, L)
MASK = torch.ones((B, L), dtype=torch.bool)
LOGITS = torch.linspace(-1, 1, B * C).reshape(B, C)
LABELS = torch.tensor([0, 2])
ROWS = torch.linspace(-1, 1, B * D).reshape(B, D)
STATES = torch.linspace(-1, 1, B * L * D).reshape(B, L, D)


def mse(predictions: Any = VALUES, targets: Any = TARGETS, mask: Any = MASK) -> Any:
    return fl.masked_mse_loss(predictions, targets, mask)


def of(call: str, misuses: dict[str, Callable[[], Any]]) -> list[Misuse]:
    return [Misuse(f"{TORCH}{call}", misuse, run) for misuse, run in misuses.items()]


def decoder_loss(**change: Any) -> Any:
    arguments = {"target": TARGETS, "mask": MASK} | change
    states = arguments.pop("x", STATES)
    return heads.ExprDecoder(D).loss(states, **arguments)


MISUSES = [
    *of(
        "masked_mse_loss",
        {
            "predictions in a list": lambda: mse(VALUES.tolist()),
            "predictions in an array": lambda: mse(VALUES.numpy()),
            "predictions in int64": lambda: mse(TARGETS.long()),
            "predictions in float64": lambda: mse(VALUES.double()),
            "predictions on the device meta": lambda: mse(VALUES.to("meta")),
            "sparse predictions": lambda: mse(VALUES.to_sparse()),
            "1×3 targets for 2×3 predictions": lambda: mse(targets=TARGETS[:1]),
            "a 2×2 mask for 2×3 predictions": lambda: mse(mask=MASK[:, :2]),
        },
    ),
    *of(
        "criterion_neg_log_bernoulli",
        {
            "probabilities above 1": lambda: fl.criterion_neg_log_bernoulli(VALUES + 1, TARGETS, MASK),
            "a probability that is NaN": lambda: fl.criterion_neg_log_bernoulli(
                VALUES * torch.nan, TARGETS, MASK
            ),
        },
    ),
    *of(
        "cross_entropy",
        {
            "label 3 of 3 classes": lambda: fl.cross_entropy(LOGITS, LABELS + 1),
            "label −1": lambda: fl.cross_entropy(LOGITS, LABELS - 1),
            "labels in float32": lambda: fl.cross_entropy(LOGITS, LABELS.float()),
            "1 label for 2 rows": lambda: fl.cross_entropy(LOGITS, LABELS[:1]),
        },
    ),
    *of(
        "elastic_cell_similarity",
        {
            "a threshold of 2": lambda: fl.elastic_cell_similarity(ROWS, 2.0),
            "three dimensions": lambda: fl.elastic_cell_similarity(STATES, 0.3),
            "a threshold in a tensor of two": lambda: fl.elastic_cell_similarity(ROWS, torch.ones(2)),  # type: ignore[arg-type]
        },
    ),
    *of(
        "contrastive_cell_embedding",
        {
            "a temperature of 0": lambda: fl.contrastive_cell_embedding(ROWS, ROWS, 0.0),
            "1×4 for 2×4": lambda: fl.contrastive_cell_embedding(ROWS, ROWS[:1]),
        },
    ),
    *of(
        "integration_loss",
        {
            "outputs without mlm_output": lambda: fl.integration_loss({}, TARGETS, MASK),
            "outputs in a list": lambda: fl.integration_loss([VALUES], TARGETS, MASK),  # type: ignore[arg-type]
        },
    ),
    *of(
        "heads.ExprDecoder.loss",
        {
            "1×3 targets for 2×3 tokens": lambda: decoder_loss(target=TARGETS[:1]),
            "a mask of 2 tokens for 3": lambda: decoder_loss(mask=MASK[:, :2]),
            "targets in a list": lambda: decoder_loss(target=TARGETS.tolist()),
            "a weight that is NaN": lambda: decoder_loss(mse_weight=float("nan")),
        },
    ),
    *of(
        "heads.ClsDecoder.loss",
        {
            "label 3 of 3 classes": lambda: heads.ClsDecoder(D, C).loss(ROWS, LABELS + 1),
        },
    ),
    *of(
        "heads.MVCDecoder",
        {
            "an architecture that does not exist": lambda: heads.MVCDecoder(D, "outer product"),
        },
    ),
]


@pytest.mark.parametrize("misuse", MISUSES, ids=str)
def test_a_misuse_gets_the_error_of_its_row(misuse: Misuse) -> None:
    assert misuse.row() in rows(torch=True)


def test_every_row_is_run() -> None:
    names = [f"| `{misuse.call}` | {misuse.misuse} |" for misuse in MISUSES]
    assert len(set(names)) == len(names) == len(rows(torch=True))
    assert all(any(row.startswith(name) for name in names) for row in rows(torch=True))
