"""What FastLoss raises. Each message names the argument, what was expected and what came."""

__all__ = [
    "ArrayError",
    "EmptySelectionError",
    "FastLossError",
    "InvalidParameterError",
    "LabelOutOfRangeError",
    "OverlapError",
    "ProbabilityOutOfRangeError",
    "ShapeError",
]


class FastLossError(ValueError):
    """Any error of FastLoss; `status` is the code of `fastloss.h`, or None if Python found it."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ArrayError(FastLossError, TypeError):
    """An array or tensor of the wrong type, element type, device or memory layout."""


class ShapeError(FastLossError):
    """Arrays whose shapes do not fit together, or a shape that no loss is defined for."""


class InvalidParameterError(FastLossError):
    """A hyper-parameter, weight or scale outside its range."""


class EmptySelectionError(FastLossError):
    """Nothing to reduce: an empty mask, only ignored labels, no rows."""


class LabelOutOfRangeError(FastLossError, IndexError):
    """A label that is neither a class nor the ignored one; often −1, a categorical type's "missing"."""


class ProbabilityOutOfRangeError(FastLossError):
    """A selected probability that is NaN or outside [0, 1]. Gradients hold unspecified values then."""


class OverlapError(FastLossError):
    """An output that shares memory with an input or another output."""


#: By `fastloss_status`; what is not listed is a plain FastLossError.
BY_STATUS: dict[int, type[FastLossError]] = {
    1: ShapeError,
    2: ShapeError,
    3: ShapeError,
    4: InvalidParameterError,
    5: EmptySelectionError,
    6: LabelOutOfRangeError,
    7: ProbabilityOutOfRangeError,
    8: OverlapError,
    # No memory behind an array, elements that are not aligned, rows that lie on each other.
    100: ArrayError,
    101: ArrayError,
    102: ArrayError,
}
