"""The goldens that the Swift tests use too: what PyTorch's autograd makes of every loss, in float64."""

import json
import math
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "FastLossTests" / "Goldens"

#: Values of all losses, and gradients norm-wise, against float64. As the tolerances of the Swift tests.
VALUE_TOLERANCE = 2e-6
GRADIENT_TOLERANCE = 5e-6


@dataclass
class Case:
    name: str
    parameters: dict[str, Any]
    inputs: dict[str, list[Any]]
    truth: dict[str, npt.NDArray[np.float64]]
    naive: dict[str, npt.NDArray[np.float64]]

    def floats(self, name: str, *shape: int) -> npt.NDArray[np.float32]:
        return np.array([float(value) for value in self.inputs[name]], dtype=np.float32).reshape(shape)

    def bools(self, name: str, *shape: int) -> npt.NDArray[np.bool_]:
        return np.array(self.inputs[name], dtype=bool).reshape(shape)

    def labels(self, name: str) -> npt.NDArray[np.int32]:
        return np.array(self.inputs[name], dtype=np.int32)


def cases(stem: str) -> Iterator[Case]:
    def numbers(results: dict[str, list[Any]]) -> dict[str, npt.NDArray[np.float64]]:
        return {key: np.array([float(value) for value in values]) for key, values in results.items()}

    for case in json.loads((FOLDER / f"{stem}.json").read_text())["cases"]:
        yield Case(
            case["name"],
            case["parameters"],
            case["inputs"],
            numbers(case["float64"]),
            numbers(case["float32"]),
        )


def assert_close(
    found: Any,
    truth: npt.NDArray[np.float64],
    naive: npt.NDArray[np.float64],
    tolerance: float = VALUE_TOLERANCE,
) -> None:
    """At least as close to the truth as PyTorch in float32, give or take the tolerance: norm-wise, NaN where
    it is NaN."""
    found = np.asarray(found, dtype=np.float64).reshape(-1)
    assert found.shape == truth.shape, (found.shape, truth.shape)
    finite = np.isfinite(truth)
    np.testing.assert_array_equal(found[~finite], truth[~finite])
    scale = float(np.linalg.norm(truth[finite]))
    error = float(np.linalg.norm(found[finite] - truth[finite]))
    allowed = tolerance * scale
    if np.isfinite(naive[finite]).all():
        allowed += float(np.linalg.norm(naive[finite] - truth[finite]))
    assert math.isfinite(error) and error <= allowed, (
        f"error {error:.3g} of {scale:.3g}, allowed {allowed:.3g}"
    )
