"""The misuses of PyTorch's functions and heads in the tables of the article "Bad input". Every row is run."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from misuse_table import TORCH, Misuse, rows

import fastloss.torch as fl
from fastloss.torch import heads

B, L, D, C, G = 2, 3, 4, 3, 5
VALUES = torch.linspace(0.1, 0.9, B * L).reshape(B, L)
TARGETS = torch.arange(B * L, dtype=torch.float32).reshape(B, L)
MASK = torch.ones((B, L), dtype=torch.bool)
LOGITS = torch.linspace(-1, 1, B * C).reshape(B, C)
LABELS = torch.tensor([0, 2])
ROWS = torch.linspace(-1, 1, B * D).reshape(B, D)
STATES = torch.linspace(-1, 1, B * L * D).reshape(B, L, D)
TABLE = torch.linspace(-1, 1, G * D).reshape(G, D)
GENES = torch.arange(B * L).reshape(B, L) % G


def mse(predictions: Any = VALUES, targets: Any = TARGETS, mask: Any = MASK) -> Any:
    return fl.masked_mse_loss(predictions, targets, mask)


def of(call: str, misuses: dict[str, Callable[[], Any]]) -> list[Misuse]:
    return [Misuse(f"{TORCH}{call}", misuse, run) for misuse, run in misuses.items()]


def expression_loss(batches: bool = False, **change: Any) -> Any:
    arguments = {"x": STATES, "target": TARGETS, "mask": MASK} | change
    return heads.ExprDecoder(D, use_batch_labels=batches).loss(**arguments)


def masked_value_loss(style: str = "inner product", batches: bool = False, **change: Any) -> Any:
    decoder = heads.MVCDecoder(D, style, use_batch_labels=batches)
    arguments = {"cell_emb": ROWS, "gene_embs": TABLE, "target": TARGETS, "mask": MASK, "genes": GENES}
    return decoder.loss(**(arguments | change))


def classifier_loss(x: Any = ROWS, labels: Any = LABELS) -> Any:
    return heads.ClsDecoder(D, C).loss(x, labels)


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
            "`certifies` is 1": lambda: fl.elastic_cell_similarity(ROWS, 0.3, certifies=1),  # type: ignore[arg-type]
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
            "states in a list": lambda: expression_loss(x=STATES.tolist()),
            "states in float64": lambda: expression_loss(x=STATES.double()),
            "states on the device meta": lambda: expression_loss(x=STATES.to("meta")),
            "sparse states": lambda: expression_loss(x=STATES.to_sparse()),
            "states of two dimensions": lambda: expression_loss(x=ROWS),
            "states of 3 columns for a width of 4": lambda: expression_loss(x=STATES[..., :3]),
            "no embeddings of batches where the layers have columns for them": lambda: expression_loss(True),
            "embeddings of batches where the layers have no columns for them": lambda: expression_loss(
                batch_emb=ROWS
            ),
            "embeddings of batches in an array": lambda: expression_loss(True, batch_emb=ROWS.numpy()),
            "1×4 embeddings of batches for 2 cells": lambda: expression_loss(True, batch_emb=ROWS[:1]),
            "1×3 targets for 2×3 tokens": lambda: expression_loss(target=TARGETS[:1]),
            "targets in float64": lambda: expression_loss(target=TARGETS.double()),
            "targets in a list": lambda: expression_loss(target=TARGETS.tolist()),
            "a mask of 2 tokens for 3": lambda: expression_loss(mask=MASK[:, :2]),
            "a mask of 2": lambda: expression_loss(mask=2 * MASK.int()),
            "a mask that is None": lambda: expression_loss(mask=None),
            "a weight that is NaN": lambda: expression_loss(mse_weight=float("nan")),
            "a weight beyond float32": lambda: expression_loss(nzlp_weight=1e300),
        },
    ),
    *of(
        "heads.MVCDecoder",
        {
            "an architecture that does not exist": lambda: heads.MVCDecoder(D, "outer product"),
        },
    ),
    *of(
        "heads.MVCDecoder.loss",
        {
            "cell embeddings in an array": lambda: masked_value_loss(cell_emb=ROWS.numpy()),
            "cell embeddings in float64": lambda: masked_value_loss(cell_emb=ROWS.double()),
            "cell embeddings of three dimensions": lambda: masked_value_loss(cell_emb=STATES),
            "cell embeddings of 3 columns for a width of 4": lambda: masked_value_loss(cell_emb=ROWS[:, :3]),
            "1 cell embedding for 2 rows of genes": lambda: masked_value_loss(cell_emb=ROWS[:1]),
            "embeddings of batches with “sum query”": lambda: masked_value_loss(
                "sum query", True, batch_emb=ROWS
            ),
            "no embeddings of batches where the layers have columns for them": lambda: masked_value_loss(
                batches=True
            ),
            "gene embeddings of one dimension": lambda: masked_value_loss(gene_embs=TABLE[0], genes=None),
            "gene embeddings of three dimensions with genes": lambda: masked_value_loss(gene_embs=STATES),
            "gene embeddings of 3 columns for a width of 4": lambda: masked_value_loss(
                gene_embs=TABLE[:, :3]
            ),
            "5 gene embeddings for 3 tokens": lambda: masked_value_loss(genes=None),
            "genes in a list": lambda: masked_value_loss(genes=GENES.tolist()),
            "genes in float32": lambda: masked_value_loss(genes=GENES.float()),
            "genes of one dimension": lambda: masked_value_loss(genes=GENES[0]),
            "gene 5 of 5": lambda: masked_value_loss(genes=GENES + 1),
            "gene −1": lambda: masked_value_loss(genes=GENES - 1),
        },
    ),
    *of(
        "heads.ClsDecoder.loss",
        {
            "embeddings in a list": lambda: classifier_loss(ROWS.tolist()),
            "embeddings in float64": lambda: classifier_loss(ROWS.double()),
            "embeddings of three dimensions": lambda: classifier_loss(STATES),
            "embeddings of 3 columns for a width of 4": lambda: classifier_loss(ROWS[:, :3]),
            "label 3 of 3 classes": lambda: classifier_loss(labels=LABELS + 1),
            "1 label for 2 rows": lambda: classifier_loss(labels=LABELS[:1]),
            "labels in float32": lambda: classifier_loss(labels=LABELS.float()),
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
