"""A call of every public function on NumPy arrays, with all its arrays by name: what tests of arguments and
of processes run through."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import fastloss

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Call:
    """A function of the package and its arguments."""

    name: str
    function: Callable[..., Any]
    #: The arrays that are read and the arrays that are written, by the names of the parameters.
    inputs: Arrays
    outputs: Arrays = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def run(self) -> Any:
        return self.function(**self.inputs, **self.outputs, **self.parameters)

    def given(self, name: str, value: Any) -> "Call":
        """The same call with another value of one argument."""
        kind = "inputs" if name in self.inputs else "outputs" if name in self.outputs else "parameters"
        return replace(self, **{kind: {**getattr(self, kind), name: value}})

    def digest(self) -> str:
        """Of the result and of everything that was written, bit by bit."""
        result = self.run()
        parts = result if isinstance(result, tuple) else (result,)
        seen = hashlib.sha256()
        for part in (*parts, *self.outputs.values()):
            seen.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
        return seen.hexdigest()


def evaluate(objective: fastloss.TotalObjective) -> Callable[..., Any]:
    """The objective with its gradients as arguments of their own: gradient_of_… instead of a dictionary."""

    def call(**arguments: Any) -> fastloss.ObjectiveValue:
        prefix = "gradient_of_"
        gradients = {
            name.removeprefix(prefix): arguments.pop(name)
            for name in list(arguments)
            if name.startswith(prefix)
        }
        return objective.evaluate(**arguments, gradients=gradients)

    return call


def calls(
    rows: int = 6, columns: int = 10, masks: int = 3, cells: int = 5, width: int = 4, tokens: int = 7
) -> list[Call]:
    """Of the sizes: rows × columns of values under so many masks, cells × tokens × width of token states."""
    random = np.random.default_rng(1)

    def normal(*shape: int) -> Any:
        return random.standard_normal(shape).astype(np.float32)

    def written(*shape: int) -> Any:
        return np.full(shape, 7, dtype=np.float32)

    values, targets = normal(rows, columns), random.integers(0, 5, (rows, columns)).astype(np.float32)
    mask = random.random((rows, columns)) < 0.5
    mask[:, 0] = True
    probabilities = random.random((rows, columns)).astype(np.float32)
    logits, labels = normal(rows, 5), random.integers(0, 5, rows).astype(np.int32)
    shared = random.random((masks, columns)) < 0.5
    shared[:, 0] = True
    first, second = normal(cells, width), normal(cells, width)
    states, weights = normal(cells, tokens, width), normal(cells, masks, tokens)
    sums = np.einsum("bkl,bld->bkd", weights.astype(np.float64), states)
    norms = np.linalg.norm(sums, axis=2)
    normalized = fastloss.NormalizedPooling((sums / norms[..., None]).astype(np.float32), norms)

    masked = {"predictions": values, "targets": targets, "mask": mask}
    nonzero = {"predictions": probabilities, "targets": targets, "mask": mask}
    value_gradient = {"gradient": written(rows, columns)}
    pooled = {"embedding_gradient": normal(cells, masks, width), "token_states": states, "weights": weights}

    def pooled_gradients() -> Arrays:
        return {
            "states_gradient": written(cells, tokens, width),
            "weights_gradient": written(cells, masks, tokens),
        }

    found = [
        Call("masked_mse", fastloss.masked_mse, masked, value_gradient),
        Call("masked_mse_per_cell", fastloss.masked_mse_per_cell, masked, value_gradient),
        Call("masked_relative_error", fastloss.masked_relative_error, masked),
        Call("masked_relative_error_per_cell", fastloss.masked_relative_error_per_cell, masked),
        Call(
            "cross_entropy",
            fastloss.cross_entropy,
            {"logits": logits, "labels": labels},
            {"gradient": written(rows, 5)},
        ),
        Call(
            "domain_adversarial",
            fastloss.domain_adversarial,
            {"logits": logits, "labels": labels},
            {"discriminator_gradient": written(rows, 5), "embedding_gradient": written(rows, 5)},
            {"lambd": 0.5},
        ),
        Call(
            "gradient_reversal",
            fastloss.gradient_reversal,
            {"gradient": values},
            {"reversed_gradient": written(rows, columns)},
        ),
        Call(
            "elastic_cell_similarity",
            fastloss.elastic_cell_similarity,
            {"embeddings": first},
            {"gradient": written(cells, width)},
        ),
        Call(
            "contrastive_cell_embedding",
            fastloss.contrastive_cell_embedding,
            {"first": first, "second": second},
            {"first_gradient": written(cells, width), "second_gradient": written(cells, width)},
        ),
        Call(
            "cosine_similarity",
            fastloss.cosine_similarity,
            {"embeddings": first},
            {"out": written(cells, cells)},
        ),
        Call("masked_reductions", fastloss.masked_reductions, {"values": values, "masks": shared}),
        Call(
            "masked_reductions_gradient",
            fastloss.masked_reductions_gradient,
            {"output_gradient": normal(rows, masks), "masks": shared},
            value_gradient,
        ),
        Call(
            "weighted_token_pooling",
            fastloss.weighted_token_pooling,
            {"token_states": states, "weights": weights},
        ),
        Call(
            "normalized_weighted_token_pooling",
            fastloss.normalized_weighted_token_pooling,
            {"token_states": states, "weights": weights},
        ),
        Call(
            "weighted_token_pooling_gradient",
            fastloss.weighted_token_pooling_gradient,
            pooled,
            pooled_gradients(),
        ),
        Call(
            "weighted_token_pooling_gradient-normalized",
            fastloss.weighted_token_pooling_gradient,
            pooled,
            pooled_gradients(),
            {"normalized": normalized},
        ),
    ]
    for pooling in ("cls", "avg-pool"):
        found += [
            Call(
                f"token_pooling-{pooling}",
                fastloss.token_pooling,
                {"token_states": states},
                {},
                {"pooling": pooling},
            ),
            Call(
                f"token_pooling_gradient-{pooling}",
                fastloss.token_pooling_gradient,
                {"embedding_gradient": first},
                {"gradient": written(cells, tokens, width)},
                {"pooling": pooling},
            ),
        ]
    for logits_given, inputs in ((False, nonzero), (True, masked)):
        form = "-logits" if logits_given else ""
        parameters = {"logits": logits_given}
        found += [
            Call(f"bernoulli_nll{form}", fastloss.bernoulli_nll, inputs, value_gradient, parameters),
            Call(
                f"bernoulli_nll_per_cell{form}",
                fastloss.bernoulli_nll_per_cell,
                inputs,
                value_gradient,
                parameters,
            ),
        ]
    everything = {
        "targets": targets,
        "mask": mask,
        "gene_predictions": values,
        "gene_nonzero": probabilities,
        "cell_predictions": normal(rows, columns),
        "cell_nonzero": probabilities.copy(),
        "generated_predictions": normal(rows, columns),
        "cell_embedding": normal(rows, width),
        "second_cell_embedding": normal(rows, width),
        "cell_type_logits": logits,
        "cell_type_labels": labels,
        "batch_logits": normal(rows, 3),
        "batch_labels": (labels % 3).astype(np.int32),
    }
    terms = ("mse", "nzlp", "mvc", "mvc_nzlp", "gen", "cls", "cce", "ecs", "dab")
    without = ("targets", "mask", "cell_type_labels", "batch_labels")
    gradients = {
        f"gradient_of_{name}": np.full_like(array, 7)
        for name, array in everything.items()
        if name not in without
    }
    gradients["gradient_of_reversed_batch_logits"] = written(rows, 3)
    objective = fastloss.TotalObjective(dict.fromkeys(terms, 1.0))
    return [*found, Call("TotalObjective", evaluate(objective), everything, gradients)]


def calls_of_each_type(**sizes: int) -> list[Call]:
    """The calls, and those that read a model's outputs again, with all of them in float16."""
    of_floats = calls(**sizes)
    return of_floats + [in_float16(call) for call in of_floats if call.name.startswith(OF_OUTPUTS)]


#: The functions that read outputs of a model.
OF_OUTPUTS = (
    "masked_mse",
    "masked_relative_error",
    "bernoulli_nll",
    "cross_entropy",
    "domain_adversarial",
    "elastic_cell_similarity",
    "contrastive_cell_embedding",
    "TotalObjective",
)


def in_float16(call: Call) -> Call:
    def narrow(arrays: Arrays) -> Arrays:
        return {
            name: array.astype(np.float16) if name != "targets" and array.dtype == np.float32 else array
            for name, array in arrays.items()
        }

    return replace(
        call, name=f"{call.name}-float16", inputs=narrow(call.inputs), outputs=narrow(call.outputs)
    )
