"""The problems of the comparison: losses of real cells, at the sizes that scGPT trains at and at large ones.

The inputs are made from the 700 cells of Benchmarks/Data/pbmc68k in the way that the Swift benchmarks make
theirs: values of real cells, predictions of a half-trained model, embeddings in which similar cells are
similar.
"""

import functools
import pathlib
import string
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

DATA = pathlib.Path(__file__).resolve().parents[2] / "Data" / "pbmc68k"
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase

THRESHOLD = 0.8
TEMPERATURE = 0.5
ECS_WEIGHT = 10.0
MASK_RATIO = 0.4
#: The value that the Bernoulli loss keeps its probabilities from 0 and 1: float32's epsilon, part of the
#: loss.
CLAMP = 2.0**-23

VALUE_INPUTS = ("gene", "gene_nonzero", "cell", "cell_nonzero")


@dataclass(frozen=True)
class Problem:
    """One row of the comparison."""

    #: Which loss: a function of this name in every provider.
    loss: str
    #: The shape as people write it, e.g. 64×1201×512.
    shape: tuple[int, ...]
    #: Whether the gradient is computed.
    gradient: bool = True
    #: The name of the same row in the Swift benchmarks, if it has one.
    swift: str | None = None
    #: Left out with --quick.
    large: bool = False

    @property
    def title(self) -> str:
        return TITLES[self.loss]

    @property
    def shape_text(self) -> str:
        return "×".join(map(str, self.shape))

    @property
    def name(self) -> str:
        mode = "value and gradient" if self.gradient else "value"
        return f"{self.title}, {mode}, {self.shape_text}"

    @property
    def differentiated(self) -> tuple[str, ...]:
        """The inputs whose gradients are computed, in the order in which providers return them."""
        return DIFFERENTIATED[self.loss] if self.gradient else ()

    def inputs(self) -> dict[str, Array]:
        """The inputs by name: float32 arrays, a bool mask, int64 labels. The same ones in every call."""
        return MAKERS[self.loss](*self.shape)


TITLES = {
    "value_terms": "four value terms, relative error",
    "elastic": "ECS",
    "contrastive": "CCE",
    "cross_entropy": "cross-entropy",
    "integration": "integration objective",
}
DIFFERENTIATED = {
    "value_terms": VALUE_INPUTS,
    "elastic": ("embedding",),
    "contrastive": ("embedding", "second"),
    "cross_entropy": ("logits",),
    "integration": (*VALUE_INPUTS, "embedding", "logits"),
}


def swift_name(kernel: str, mode: str, *shape: int) -> str:
    return f"{kernel}/{mode}/{'x'.join(map(str, shape))}"


def problems(quick: bool = False) -> list[Problem]:
    """All rows, the headline first."""
    both = "valueAndGradient"
    total = "TotalObjective(integration)"
    ecs, cce = "ElasticCellSimilarity", "ContrastiveCellEmbedding"
    rows = [
        Problem("integration", (64, 1201, 512), swift=swift_name(total, both, 64, 1201, 512)),
        Problem("integration", (64, 1201, 512), False, swift=swift_name(total, "value", 64, 1201, 512)),
        Problem("integration", (512, 1200, 512), swift=swift_name(total, both, 512, 1200, 512), large=True),
        Problem("value_terms", (64, 1201)),
        Problem("value_terms", (4096, 1201), large=True),
        *[
            Problem("elastic", (rows, 512), swift=swift_name(ecs, both, rows, rows, 512), large=rows > 256)
            for rows in (64, 256, 1024, 4096)
        ],
        *[
            Problem(
                "contrastive", (rows, 512), swift=swift_name(cce, both, rows, rows, 512), large=rows > 256
            )
            for rows in (64, 256, 1024, 4096)
        ],
        Problem("cross_entropy", (32, 50), swift=swift_name("CrossEntropy", both, 32, 50)),
        Problem(
            "cross_entropy", (4096, 1000), swift=swift_name("CrossEntropy", both, 4096, 1000), large=True
        ),
    ]
    return [row for row in rows if not (quick and row.large)]


# --- Inputs -------------------------------------------------------------------------------------------------


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
    "value_terms": value_inputs,
    "elastic": lambda rows, width: {"embedding": embeddings(rows, width)},
    "contrastive": lambda rows, width: {
        "embedding": embeddings(rows, width),
        "second": embeddings(rows, width, noise_seed=8),
    },
    "cross_entropy": class_inputs,
    "integration": integration_inputs,
}
