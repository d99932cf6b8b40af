"""The article "Bad input" lists misuses of Python with the error that each gets. Here every row is run."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from misuse_table import Misuse, rows

import fastloss

B, L, D, C, K = 2, 3, 4, 3, 2
random = np.random.default_rng(1)
VALUES = random.random((B, L)).astype(np.float32)
TARGETS = np.arange(B * L, dtype=np.float32).reshape(B, L)
MASK = np.ones((B, L), dtype=np.bool_)
LOGITS = random.standard_normal((B, C)).astype(np.float32)
LABELS = np.array([0, 2], dtype=np.int32)
ROWS = random.standard_normal((B, D)).astype(np.float32)
STATES = random.standard_normal((B, L, D)).astype(np.float32)
WEIGHTS = random.standard_normal((B, K, L)).astype(np.float32)


def read_only(array: Any) -> Any:
    frozen = array.copy()
    frozen.flags.writeable = False
    return frozen


def unaligned(array: Any) -> Any:
    memory = np.zeros(array.nbytes + 1, dtype=np.uint8)[1:]
    return memory.view(array.dtype).reshape(array.shape)


def mse(predictions: Any = VALUES, targets: Any = TARGETS, mask: Any = MASK, **rest: Any) -> Any:
    return fastloss.masked_mse(predictions, targets, mask, **rest)


def pooling_gradient(**arguments: Any) -> None:
    fastloss.weighted_token_pooling_gradient(ROWS[:, None].repeat(K, axis=1), STATES, WEIGHTS, **arguments)


def objective(weights: Any, **inputs: Any) -> Any:
    return fastloss.TotalObjective(weights).evaluate(**inputs)


def of(call: str, misuses: dict[str, Callable[[], Any]]) -> list[Misuse]:
    return [Misuse(f"fastloss.{call}", misuse, run) for misuse, run in misuses.items()]


MISUSES = [
    *of(
        "masked_mse",
        {
            "predictions in a list": lambda: mse(VALUES.tolist()),
            "predictions are None": lambda: mse(None),
            "predictions in float64": lambda: mse(VALUES.astype(np.float64)),
            "targets in int64": lambda: mse(targets=TARGETS.astype(np.int64)),
            "predictions in the other byte order": lambda: mse(VALUES.astype(">f4")),
            "predictions in Fortran's order": lambda: mse(np.asfortranarray(VALUES)),
            "predictions with the rows reversed": lambda: mse(VALUES[::-1]),
            "predictions with every other column": lambda: mse(np.repeat(VALUES, 2, axis=1)[:, ::2]),
            "predictions in a masked array": lambda: mse(np.ma.MaskedArray(VALUES)),
            "predictions of three dimensions": lambda: mse(VALUES[None]),
            "a number as predictions": lambda: mse(np.float32(1)),
            "1×3 targets for 2×3 predictions": lambda: mse(targets=TARGETS[:1]),
            "a 2×2 mask for 2×3 predictions": lambda: mse(mask=MASK[:, :2]),
            "a mask in float32": lambda: mse(mask=MASK.astype(np.float32)),
            "a mask that selects nothing": lambda: mse(mask=~MASK),
            "no rows": lambda: mse(VALUES[:0], TARGETS[:0], MASK[:0]),
            "a read-only gradient": lambda: mse(gradient=read_only(VALUES)),
            "a gradient in float64": lambda: mse(gradient=np.zeros((B, L))),
            "predictions in float16 and a gradient in float32": lambda: mse(
                VALUES.astype(np.float16), gradient=np.zeros((B, L), np.float32)
            ),
            "a 2×2 gradient for 2×3 predictions": lambda: mse(gradient=np.zeros((B, 2), np.float32)),
            "a gradient in a matrix": lambda: mse(gradient=VALUES.copy().view(np.matrix)),
            "the gradient in the memory of the targets": lambda: mse(gradient=TARGETS),
            "a gradient whose rows lie on each other": lambda: mse(
                gradient=np.lib.stride_tricks.as_strided(VALUES.copy(), (B, L), (0, 4))
            ),
            "a reduction that does not exist": lambda: mse(reduction="median"),
            "a rule that does not exist": lambda: mse(when_empty="none"),
            "a gradient_scale that is NaN": lambda: mse(
                gradient=np.zeros_like(VALUES), gradient_scale=np.nan
            ),
            "a gradient_scale beyond float32": lambda: mse(gradient_scale=1e300),
            "a gradient_scale in a str": lambda: mse(gradient_scale="1"),
            "accumulate is 1": lambda: mse(accumulate=1),
        },
    ),
    *of(
        "masked_mse_per_cell",
        {
            "a cell without a selected element": lambda: fastloss.masked_mse_per_cell(
                VALUES, TARGETS, MASK & (np.arange(B) == 1)[:, None]
            ),
        },
    ),
    *of(
        "bernoulli_nll",
        {
            "probabilities of 1.5": lambda: fastloss.bernoulli_nll(np.full((B, L), 1.5, np.float32), TARGETS),
            "a probability that is NaN": lambda: fastloss.bernoulli_nll(
                np.full((B, L), np.nan, np.float32), TARGETS
            ),
            "logits is 1": lambda: fastloss.bernoulli_nll(VALUES, TARGETS, logits=1),  # type: ignore[arg-type]
        },
    ),
    *of(
        "masked_relative_error",
        {"targets are None": lambda: fastloss.masked_relative_error(VALUES, None)},  # type: ignore[arg-type]
    ),
    *of(
        "cross_entropy",
        {
            "labels in int64": lambda: fastloss.cross_entropy(LOGITS, LABELS.astype(np.int64)),
            "labels in a list": lambda: fastloss.cross_entropy(LOGITS, LABELS.tolist()),  # type: ignore[arg-type]
            "1 label for 2 rows": lambda: fastloss.cross_entropy(LOGITS, LABELS[:1]),
            "label 3 of 3 classes": lambda: fastloss.cross_entropy(LOGITS, LABELS + np.int32(1)),
            "label −1": lambda: fastloss.cross_entropy(LOGITS, LABELS - np.int32(1)),
            "only ignored labels": lambda: fastloss.cross_entropy(LOGITS, np.full(B, -100, np.int32)),
            "an ignored label beyond int32": lambda: fastloss.cross_entropy(
                LOGITS, LABELS, ignored_label=2**31
            ),
        },
    ),
    *of(
        "domain_adversarial",
        {
            "an infinite λ": lambda: fastloss.domain_adversarial(LOGITS, LABELS, lambd=np.inf),
            "both gradients in one memory": lambda: fastloss.domain_adversarial(
                LOGITS,
                LABELS,
                **dict.fromkeys(("discriminator_gradient", "embedding_gradient"), LOGITS.copy()),
            ),
        },
    ),
    *of(
        "gradient_reversal",
        {"the output in the memory of the input": lambda: fastloss.gradient_reversal(VALUES, VALUES)},
    ),
    *of(
        "elastic_cell_similarity",
        {
            "a threshold of 2": lambda: fastloss.elastic_cell_similarity(ROWS, threshold=2),
            "a threshold that is None": lambda: fastloss.elastic_cell_similarity(ROWS, threshold=None),  # type: ignore[arg-type]
            "`certifies` is 1": lambda: fastloss.elastic_cell_similarity(ROWS, certifies=1),  # type: ignore[arg-type]
            "no rows": lambda: fastloss.elastic_cell_similarity(ROWS[:0], when_empty="error"),
            "2³¹ rows of no columns": lambda: fastloss.elastic_cell_similarity(
                np.empty((2**31, 0), np.float32)
            ),
        },
    ),
    *of(
        "contrastive_cell_embedding",
        {
            "a temperature of 0": lambda: fastloss.contrastive_cell_embedding(ROWS, ROWS, temperature=0),
            "1×4 for 2×4": lambda: fastloss.contrastive_cell_embedding(ROWS, ROWS[:1]),
            "float16 and float32": lambda: fastloss.contrastive_cell_embedding(ROWS.astype(np.float16), ROWS),
        },
    ),
    *of(
        "cosine_similarity",
        {
            "3×3 similarities for 2 rows": lambda: fastloss.cosine_similarity(
                ROWS, out=np.zeros((3, 3), np.float32)
            ),
            "the similarities in the memory of the embeddings": lambda: fastloss.cosine_similarity(
                ROWS, out=ROWS[:, :B]
            ),
        },
    ),
    *of(
        "masked_reductions",
        {
            "masks in int8": lambda: fastloss.masked_reductions(VALUES, MASK.view(np.int8)),  # type: ignore[arg-type]
            "masks of 2 columns for 3": lambda: fastloss.masked_reductions(VALUES, MASK[:, :2]),
            "an empty mask": lambda: fastloss.masked_reductions(VALUES, ~MASK),
        },
    ),
    *of(
        "token_pooling",
        {
            "states of two dimensions": lambda: fastloss.token_pooling(ROWS),
            "no tokens": lambda: fastloss.token_pooling(STATES[:, :0]),
            "a pooling that does not exist": lambda: fastloss.token_pooling(STATES, "max"),  # type: ignore[arg-type]
            "states with the tokens reversed": lambda: fastloss.token_pooling(STATES[:, ::-1]),
        },
    ),
    *of(
        "weighted_token_pooling",
        {
            "weights of two dimensions": lambda: fastloss.weighted_token_pooling(STATES, WEIGHTS[:, 0]),
            "weights of 2 tokens for 3": lambda: fastloss.weighted_token_pooling(
                STATES, WEIGHTS[..., :2].copy()
            ),
        },
    ),
    *of(
        "weighted_token_pooling_gradient",
        {
            "a gradient in the memory of the states": lambda: pooling_gradient(states_gradient=STATES),
            "normalized is a tuple": lambda: pooling_gradient(normalized=(ROWS, ROWS)),
            "norms in float32": lambda: pooling_gradient(
                normalized=fastloss.NormalizedPooling(
                    ROWS[:, None].repeat(K, axis=1),
                    np.ones((B, K), np.float32),  # type: ignore[arg-type]
                )
            ),
        },
    ),
    *of(
        "TotalObjective",
        {
            "a term that does not exist": lambda: objective({"mlm": 1}),
            "weights in a list": lambda: objective([("mse", 1)]),
            "a weight that is NaN": lambda: objective({"mse": np.nan}, targets=TARGETS),
            "a term without its input": lambda: objective({"mse": 1}, targets=TARGETS),
            "a gradient of a target": lambda: objective(
                {"mse": 1}, targets=TARGETS, gene_predictions=VALUES, gradients={"targets": VALUES}
            ),
            "a gradient without its input": lambda: objective(
                {"mse": 1}, targets=TARGETS, gene_predictions=VALUES, gradients={"cell_embedding": ROWS}
            ),
            "a gradient in the memory of its input": lambda: objective(
                {"mse": 1}, targets=TARGETS, gene_predictions=VALUES, gradients={"gene_predictions": VALUES}
            ),
            "gradients in a list": lambda: objective(
                {"mse": 1}, targets=TARGETS, gene_predictions=VALUES, gradients=[VALUES]
            ),
            "1 row of targets for 2 cells": lambda: objective(
                {"mse": 1}, targets=TARGETS[:1], gene_predictions=VALUES
            ),
            "logits without labels": lambda: objective({"dab": 1}, batch_logits=LOGITS),
            "label 3 of 3 batches": lambda: objective(
                {"dab": 1}, batch_logits=LOGITS, batch_labels=LABELS + np.int32(1)
            ),
            "a threshold of 2": lambda: fastloss.TotalObjective({"ecs": 1}, elastic_threshold=2).evaluate(
                cell_embedding=ROWS
            ),
        },
    ),
    *of(
        "set_workers",
        {
            "0 workers": lambda: fastloss.set_workers(0),
            "workers is True": lambda: fastloss.set_workers(True),
        },
    ),
]


@pytest.fixture(autouse=True)
def nothing_is_written() -> Any:
    """No input changes: the gradients that share memory with one are not written."""
    arrays = [VALUES, TARGETS, MASK, LOGITS, LABELS, ROWS, STATES, WEIGHTS]
    before = [array.copy() for array in arrays]
    yield
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("misuse", MISUSES, ids=str)
def test_a_misuse_gets_the_error_of_its_row(misuse: Misuse) -> None:
    assert misuse.row() in rows(torch=False)


def test_every_row_is_run() -> None:
    names = [f"| `{misuse.call}` | {misuse.misuse} |" for misuse in MISUSES]
    assert len(set(names)) == len(names) == len(rows(torch=False))
    assert all(any(row.startswith(name) for name in names) for row in rows(torch=False))
