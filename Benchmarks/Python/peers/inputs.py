"""The inputs of the losses.

They are made from the 700 cells of Benchmarks/Data/pbmc68k in the way that the Swift benchmarks make theirs:
values of real cells, predictions of a half-trained model, embeddings in which similar cells are similar.
"""

import functools
import pathlib
import string

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

DATA = pathlib.Path(__file__).resolve().parents[2] / "Data" / "pbmc68k"
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase

#: The share of each row's tokens that is masked, as in scGPT's integration.
MASK_RATIO = 0.4


@functools.cache
def cells() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The bins of the real cells, cells × genes, and the GEM well of each from 0."""
    lines = (DATA / "expression.txt").read_text(encoding="utf-8").splitlines()
    bins = np.array([[ALPHABET.index(symbol) for symbol in line] for line in lines[1:]], dtype=np.float32)
    annotations = (DATA / "cells.tsv").read_text(encoding="utf-8").splitlines()[1:]
    wells = np.array([line.split("\t")[2] for line in annotations])
    return bins, np.unique(wells, return_inverse=True)[1].astype(np.int64)


def value_inputs(rows: int, tokens: int) -> dict[str, Array]:
    """Targets, a mask of 40 % of each row, and predictions as of a half-trained model."""
    bins, _ = cells()
    random = np.random.default_rng(1)
    targets = np.ascontiguousarray(
        bins[np.resize(np.arange(len(bins)), rows)][:, np.arange(tokens) % bins.shape[1]]
    )
    ranks = random.random((rows, tokens)).argsort(axis=1)
    mask = ranks < int(MASK_RATIO * tokens)

    def predictions() -> Array:
        return (targets + 8 * random.standard_normal(targets.shape)).astype(np.float32)

    def probabilities() -> Array:
        logits = np.where(targets > 0, 1.5, -1.5) + 1.5 * random.standard_normal(targets.shape)
        return (1 / (1 + np.exp(-logits))).astype(np.float32)

    return {
        "gene": predictions(),
        "gene_nonzero": probabilities(),
        "cell": predictions(),
        "cell_nonzero": probabilities(),
        "targets": targets,
        "mask": mask,
    }


def embeddings(rows: int, width: int, noise_seed: int = 7, noise: float = 0.2) -> Array:
    """A random projection of the centred expression, with noise that differs from one encoding to the
    next."""
    bins, _ = cells()
    projection = np.random.default_rng(6).standard_normal((bins.shape[1], width)) / np.sqrt(bins.shape[1])
    exact = ((bins - bins.mean(axis=0)) @ projection)[np.resize(np.arange(len(bins)), rows)]
    deviation = noise * np.sqrt((exact**2).mean(axis=1, keepdims=True))
    noisy = exact + deviation * np.random.default_rng(noise_seed).standard_normal(exact.shape)
    return noisy.astype(np.float32)


def cone(rows: int, width: int) -> Array:
    """Embeddings within 36° of one direction, with similarities near 0.67, and of different lengths."""
    random = np.random.default_rng(8)
    centre = random.standard_normal(width)
    exact = centre + 0.7 * random.standard_normal((rows, width))
    return ((0.5 + random.random((rows, 1))) * exact / np.sqrt(width)).astype(np.float32)


def class_inputs(rows: int, classes: int) -> dict[str, Array]:
    """Logits that favour the right class by 2, plus noise of standard deviation 2."""
    random = np.random.default_rng(4)
    labels = random.integers(0, classes, rows)
    logits = 2 * random.standard_normal((rows, classes))
    logits[np.arange(rows), labels] += 2
    return {"logits": logits.astype(np.float32), "labels": labels}


def integration_inputs(rows: int, tokens: int, width: int) -> dict[str, Array]:
    classes = int(cells()[1].max()) + 1
    return {
        **value_inputs(rows, tokens),
        "embedding": embeddings(rows, width),
        **class_inputs(rows, classes),
    }


MAKERS = {
    "mse": value_inputs,
    "value_terms": value_inputs,
    "elastic": lambda rows, width: {"embedding": embeddings(rows, width)},
    "elastic_cone": lambda rows, width: {"embedding": cone(rows, width)},
    "contrastive": lambda rows, width: {
        "embedding": embeddings(rows, width),
        "second": embeddings(rows, width, noise_seed=8),
    },
    "cross_entropy": class_inputs,
    "integration": integration_inputs,
}
