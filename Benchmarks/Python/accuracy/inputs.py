"""The adversarial inputs: each maker draws the inputs of one kind of loss in float32.

The kinds of numbers:

- lognormal: sizes that spread over many orders of magnitude, as counts of transcripts do;
- Cauchy: tails so heavy that a few elements decide every sum;
- near-duplicates: operands that differ in their last digits;
- cancelling: large numbers whose differences or sums are small;
- wide: exponents drawn uniformly;
- huge: rows whose squares overflow in float32;
- long: 2²⁴ selected elements or more, where float32 no longer counts by ones.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
Arrays = dict[str, Array]
Maker = Callable[[np.random.Generator], Arrays]

#: B × L of a draw, and of the long one, of which 0.1 % are not selected: 16.8 million elements, 2²⁴ and more.
VALUES = (64, 257)
LONG_VALUES = (4099, 4111)
#: B × C of logits.
CLASSES = (256, 50)
LONG_CLASSES = (16_400, 1024)
#: B × D of embeddings. The long one has 2²⁴ pairs of cells.
EMBEDDINGS = (128, 64)
LONG_EMBEDDINGS = (4099, 32)


def single(values: npt.ArrayLike) -> Array:
    return np.ascontiguousarray(values, dtype=np.float32)


def signs(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return random.choice([-1.0, 1.0], shape)


# --- Predictions and targets --------------------------------------------------------------------------------


def masked(random: np.random.Generator, predictions: Array, targets: Array, share: float = 0.4) -> Arrays:
    mask = random.random(targets.shape) < share
    mask[:, 0] = True
    return {"predictions": single(predictions), "targets": single(targets), "mask": mask}


def lognormal_values(random: np.random.Generator) -> Arrays:
    return masked(random, random.lognormal(0, 3, VALUES), random.lognormal(0, 3, VALUES))


def cauchy_values(random: np.random.Generator) -> Arrays:
    """Targets that are not negative, as counts; a third of them is 0."""
    targets = np.maximum(0, 10 * random.standard_cauchy(VALUES)) * (random.random(VALUES) < 0.67)
    return masked(random, targets + random.standard_cauchy(VALUES), targets)


def duplicate_values(random: np.random.Generator) -> Arrays:
    targets = random.lognormal(0, 2, VALUES)
    return masked(random, targets * (1 + 4e-7 * random.standard_normal(VALUES)), targets)


def cancelling_values(random: np.random.Generator) -> Arrays:
    targets = 1e4 + random.random(VALUES)
    return masked(random, targets + 1e-2 * random.standard_normal(VALUES), targets)


def wide_values(random: np.random.Generator) -> Arrays:
    return masked(random, 10 ** random.uniform(-12, 12, VALUES), 10 ** random.uniform(-12, 12, VALUES))


def long_values(random: np.random.Generator) -> Arrays:
    targets = random.lognormal(0, 1, LONG_VALUES)
    return masked(random, targets + random.standard_normal(LONG_VALUES), targets, 0.999)


def equal_values(random: np.random.Generator) -> Arrays:
    """Every element adds the same number to the sum: one that no float32 holds."""
    ones = np.ones(LONG_VALUES)
    return masked(random, 1.1 * ones, ones, 0.999)


VALUE_FAMILIES: dict[str, Maker] = {
    "lognormal": lognormal_values,
    "Cauchy": cauchy_values,
    "near-duplicates": duplicate_values,
    "cancelling": cancelling_values,
    "wide": wide_values,
    "long": long_values,
    "long, equal": equal_values,
}


# --- Probabilities and logits of "not zero" -----------------------------------------------------------------


def nonzero(random: np.random.Generator, predictions: Array, share: float = 0.4) -> Arrays:
    """The targets that decide z are half of them 0."""
    targets = random.integers(0, 2, predictions.shape)
    return masked(random, predictions, targets, share)


def sigmoid(logits: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(logits, -700, 700)))


def edge_probabilities(random: np.random.Generator) -> Arrays:
    """2⁻ᵏ and 1 − 2⁻ᵏ, the ends of the clamp, 0 and 1."""
    power = 0.5 ** random.integers(1, 27, VALUES)
    return nonzero(random, np.where(random.random(VALUES) < 0.5, power, 1 - power))


def confident_probabilities(random: np.random.Generator) -> Arrays:
    """Within a few millionths of what they should be: a loss of small terms."""
    inputs = nonzero(random, random.uniform(1e-7, 1e-5, VALUES))
    rounded = single(inputs["predictions"])
    return inputs | {"predictions": np.where(inputs["targets"] > 0, np.float32(1) - rounded, rounded)}


PROBABILITY_FAMILIES: dict[str, Maker] = {
    "lognormal": lambda random: nonzero(random, np.minimum(1, 1e-3 * random.lognormal(0, 3, VALUES))),
    "Cauchy": lambda random: nonzero(random, sigmoid(3 * random.standard_cauchy(VALUES))),
    "edges": edge_probabilities,
    "confident": confident_probabilities,
    "long": lambda random: nonzero(random, random.random(LONG_VALUES), 0.999),
}
LOGIT_FAMILIES: dict[str, Maker] = {
    "lognormal": lambda random: nonzero(random, signs(random, VALUES) * random.lognormal(0, 2, VALUES)),
    "Cauchy": lambda random: nonzero(random, 3 * random.standard_cauchy(VALUES)),
    "small": lambda random: nonzero(random, 1e-6 * random.standard_normal(VALUES)),
    "confident": lambda random: nonzero(random, signs(random, VALUES) * random.uniform(10, 90, VALUES)),
    "long": lambda random: nonzero(random, 3 * random.standard_normal(LONG_VALUES), 0.999),
}


# --- Logits of classes --------------------------------------------------------------------------------------


def classified(random: np.random.Generator, logits: Array) -> Arrays:
    return {"logits": single(logits), "labels": random.integers(0, logits.shape[1], logits.shape[0])}


def confident_logits(random: np.random.Generator) -> Arrays:
    inputs = classified(random, random.standard_normal(CLASSES))
    inputs["logits"][np.arange(CLASSES[0]), inputs["labels"]] += random.uniform(5, 40, CLASSES[0])
    return inputs


CLASS_FAMILIES: dict[str, Maker] = {
    "lognormal": lambda random: classified(random, random.lognormal(0, 2, CLASSES)),
    "Cauchy": lambda random: classified(random, random.standard_cauchy(CLASSES)),
    "near-duplicates": lambda random: classified(random, 3 + 1e-6 * random.standard_normal(CLASSES)),
    "cancelling": lambda random: classified(random, 1e4 + random.standard_normal(CLASSES)),
    "confident": confident_logits,
    "long": lambda random: classified(random, 2 * random.standard_normal(LONG_CLASSES)),
}


# --- Embeddings ---------------------------------------------------------------------------------------------


def pair(random: np.random.Generator, first: Array) -> Arrays:
    """Two encodings of the same cells, which differ by noise of a tenth of each row's size."""
    sizes = np.sqrt((first**2).mean(axis=1, keepdims=True))
    return {
        "embedding": single(first),
        "second": single(first + 0.1 * sizes * random.standard_normal(first.shape)),
    }


def duplicate_rows(random: np.random.Generator) -> Array:
    return random.standard_normal(EMBEDDINGS[1]) + 1e-4 * random.standard_normal(EMBEDDINGS)


def cancelling_rows(random: np.random.Generator) -> Array:
    """Rows and their opposites: every sum over the cells cancels."""
    half = random.standard_normal((EMBEDDINGS[0] // 2, EMBEDDINGS[1]))
    return np.concatenate([half, -half]) + 1e-3 * random.standard_normal(EMBEDDINGS)


def scaled_rows(random: np.random.Generator) -> Array:
    """Rows from 10⁻¹⁵ to 10¹⁵ in size: their squares still fit float32's exponents."""
    return random.standard_normal(EMBEDDINGS) * 10 ** random.uniform(-15, 15, (EMBEDDINGS[0], 1))


def huge_rows(random: np.random.Generator) -> Array:
    """The squares of every other row's elements overflow in float32."""
    return random.standard_normal(EMBEDDINGS) * 10 ** random.choice([0.0, 20.0], (EMBEDDINGS[0], 1))


ROWS: dict[str, Callable[[np.random.Generator], Array]] = {
    "lognormal": lambda random: signs(random, EMBEDDINGS) * random.lognormal(0, 2, EMBEDDINGS),
    "Cauchy": lambda random: random.standard_cauchy(EMBEDDINGS),
    "near-duplicates": duplicate_rows,
    "cancelling": cancelling_rows,
    "wide": scaled_rows,
    "huge": huge_rows,
    "long": lambda random: random.standard_normal(LONG_EMBEDDINGS),
}
EMBEDDING_FAMILIES: dict[str, Maker] = {
    name: lambda random, draw=draw: pair(random, draw(random)) for name, draw in ROWS.items()
}


# --- Rows under masks, and token states ---------------------------------------------------------------------


def reduced(random: np.random.Generator, values: Array, masks: int = 16) -> Arrays:
    selected = random.random((masks, values.shape[1])) < 0.4
    selected[:, 0] = True
    upstream = single(random.lognormal(0, 2, (values.shape[0], masks)))
    return {"values": single(values), "masks": selected, "upstream": upstream}


def opposites(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Large numbers and their opposites with small noise, along the last axis."""
    half = random.lognormal(3, 2, (*shape[:-1], shape[-1] // 2))
    return np.concatenate([half, -half], axis=-1) + 1e-2 * random.standard_normal(shape)


REDUCTION_SHAPE = (64, 2048)
REDUCTION_FAMILIES: dict[str, Maker] = {
    "lognormal": lambda random: reduced(random, random.lognormal(0, 3, REDUCTION_SHAPE)),
    "Cauchy": lambda random: reduced(random, random.standard_cauchy(REDUCTION_SHAPE)),
    "near-duplicates": lambda random: reduced(random, 1 + 1e-6 * random.standard_normal(REDUCTION_SHAPE)),
    "cancelling": lambda random: reduced(random, opposites(random, REDUCTION_SHAPE)),
    "long": lambda random: reduced(random, random.lognormal(0, 1, (2, 42_000_000)), masks=1),
}


def pooled(random: np.random.Generator, states: Array) -> Arrays:
    cells, tokens, width = states.shape
    return {
        "states": single(states),
        "weights": single(signs(random, (cells, 1, tokens)) * random.lognormal(0, 1, (cells, 1, tokens))),
        "upstream": single(random.standard_normal((cells, width))),
    }


STATES = (16, 1201, 24)
POOLING_FAMILIES: dict[str, Maker] = {
    "lognormal": lambda random: pooled(random, random.lognormal(0, 3, STATES)),
    "Cauchy": lambda random: pooled(random, random.standard_cauchy(STATES)),
    "near-duplicates": lambda random: pooled(random, 1 + 1e-6 * random.standard_normal(STATES)),
    "cancelling": lambda random: pooled(
        random, opposites(random, (STATES[0], STATES[2], 1200)).transpose(0, 2, 1)
    ),
    "long": lambda random: pooled(random, random.lognormal(0, 1, (1, 1 << 24, 2))),
}


# --- The objective ------------------------------------------------------------------------------------------


def integration(random: np.random.Generator, name: str) -> Arrays:
    """scGPT's integration of inputs of one kind, where the kind exists for a part of them."""
    values = VALUE_FAMILIES[name](random)
    more = VALUE_FAMILIES[name](random)
    nonzero = PROBABILITY_FAMILIES.get(name, PROBABILITY_FAMILIES["edges"])
    cells = VALUES[0]
    labelled = CLASS_FAMILIES.get(name, CLASS_FAMILIES["confident"])(random)
    targets = values["targets"]
    return {
        "gene": values["predictions"],
        "gene_nonzero": nonzero(random)["predictions"],
        "cell": single(targets + (more["predictions"] - more["targets"])),
        "cell_nonzero": nonzero(random)["predictions"],
        "targets": targets,
        "mask": values["mask"],
        "embedding": single(ROWS.get(name, ROWS["lognormal"])(random)[:cells]),
        "logits": labelled["logits"][:cells],
        "labels": labelled["labels"][:cells],
    }


OBJECTIVE_FAMILIES: dict[str, Maker] = {
    name: lambda random, name=name: integration(random, name)
    for name in ("lognormal", "Cauchy", "near-duplicates", "cancelling")
}
#: The inputs of which one draw is enough, and too much for a quick check.
LONG = ("long", "long, equal")
