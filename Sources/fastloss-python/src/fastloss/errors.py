"""The exceptions of FastLoss. Each message has the argument, the expected value and the actual one."""

from . import _abi

__all__ = [
    "ArrayError",
    "EmptySelectionError",
    "FastLossError",
    "InvalidParameterError",
    "LabelOutOfRangeError",
    "OutOfMemoryError",
    "OverlapError",
    "ProbabilityOutOfRangeError",
    "RankFailedError",
    "RanksDisagreeError",
    "ShapeError",
]


class FastLossError(ValueError):
    """The base class. `status` is a constant of `fastloss.h`, or None if the error was found in Python."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ArrayError(FastLossError, TypeError):
    """An array or tensor of the wrong type, element type, device or memory layout."""


class ShapeError(FastLossError):
    """Arrays whose shapes do not match, or an invalid shape."""


class InvalidParameterError(FastLossError):
    """A hyper-parameter, weight or scale outside its range."""


class EmptySelectionError(FastLossError):
    """Nothing to reduce: an empty mask, only ignored labels, no rows."""


class LabelOutOfRangeError(FastLossError, IndexError):
    """A label that is neither a class nor the ignored label; often −1, a categorical type's "missing"."""


class ProbabilityOutOfRangeError(FastLossError):
    """A selected probability that is NaN or outside [0, 1]. The gradients then hold unspecified values."""


class OverlapError(FastLossError):
    """An output that shares memory with an input or another output."""


class OutOfMemoryError(FastLossError, MemoryError):
    """The system has no memory for the scratch memory of a call, for example because of `ulimit -v`."""


class RanksDisagreeError(FastLossError):
    """A process of a group has another option than the first one. Every process raises it."""


class RankFailedError(FastLossError, RuntimeError):
    """A process of a group raised an error of its own, ended, or was late. Every other process raises it."""


#: By status. All other statuses are a FastLossError.
BY_STATUS: dict[int, type[FastLossError]] = {
    _abi.ERROR_SHAPE_MISMATCH: ShapeError,
    _abi.ERROR_INVALID_SHAPE: ShapeError,
    _abi.ERROR_DIMENSION_TOO_LARGE: ShapeError,
    _abi.ERROR_INVALID_PARAMETER: InvalidParameterError,
    _abi.ERROR_EMPTY_SELECTION: EmptySelectionError,
    _abi.ERROR_LABEL_OUT_OF_RANGE: LabelOutOfRangeError,
    _abi.ERROR_PROBABILITY_OUT_OF_RANGE: ProbabilityOutOfRangeError,
    _abi.ERROR_OVERLAPPING_BUFFERS: OverlapError,
    _abi.ERROR_OUT_OF_MEMORY: OutOfMemoryError,
    _abi.ERROR_RANKS_DISAGREE: RanksDisagreeError,
    _abi.ERROR_RANK_FAILED: RankFailedError,
    _abi.ERROR_NULL_POINTER: ArrayError,
    _abi.ERROR_MISALIGNED_POINTER: ArrayError,
    _abi.ERROR_INVALID_STRIDE: ArrayError,
}
