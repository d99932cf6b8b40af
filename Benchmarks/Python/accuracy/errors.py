"""Errors in units in the last place, and their distributions."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
#: A unit in the last place of 1: what float32 resolves, relative to a number just above a power of two.
UNIT = 2.0**-23


def ulp(values: Doubles) -> Doubles:
    """The distance of float32's neighbours around each number."""
    exponents = np.frexp(values)[1].astype(np.float64)
    return np.maximum(np.exp2(exponents - 24), 2.0**-149)


def elementwise(found: Doubles, truth: Doubles) -> Doubles:
    """The errors of all elements in units in the last place; without those that are 0, as they must be."""
    kept = (truth != 0) | (found != 0)
    return finite(np.abs(found - truth)[kept] / ulp(truth[kept]))


def rowwise(found: Doubles, truth: Doubles, scale: Doubles) -> Doubles:
    """The Euclidean norms of the rows' errors, in units in the last place of the rows' scales."""
    kept = scale > 0
    return finite(np.linalg.norm(found - truth, axis=1)[kept] / (UNIT * scale[kept]))


def relative_to(found: Doubles, truth: Doubles, scale: Doubles) -> Doubles:
    """The errors of all elements in units in the last place of given sizes."""
    kept = scale > 0
    return finite(np.abs(found - truth)[kept] / (UNIT * scale[kept]))


def normwise(found: Doubles, truth: Doubles, scale: float) -> float:
    """The Euclidean norm of an array's error, in units in the last place of its own norm or of the scale."""
    assert found.shape == truth.shape
    norm = max(float(np.linalg.norm(truth)), scale)
    return float(finite(np.linalg.norm(found - truth) / (UNIT * norm)))


def finite(errors: Doubles) -> Doubles:
    """NaN is an infinite error: every truth here is finite."""
    return np.where(np.isnan(errors), np.inf, errors)


@dataclass
class Distribution:
    """The errors of all draws."""

    parts: list[Doubles] = field(default_factory=list)

    def add(self, errors: Doubles) -> None:
        self.parts.append(np.atleast_1d(errors).ravel())

    def summary(self) -> dict[str, float | int]:
        errors = np.concatenate(self.parts)
        # Of the sorted errors: interpolating between infinities would be NaN.
        median, high = np.quantile(errors, [0.5, 0.99], method="higher")
        return {
            "count": errors.size,
            "median": float(median),
            "p99": float(high),
            "max": float(errors.max()),
        }
