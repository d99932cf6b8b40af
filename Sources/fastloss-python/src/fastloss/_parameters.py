"""Checks and converts parameters before they reach the library.

ctypes silently truncates integers, converts numbers beyond float32 to infinity, and takes truth values for
numbers. `_native` reads exact types only: float, int, str, True and False. Every other parameter passes
through one of these functions.
"""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from . import _abi
from .errors import InvalidParameterError

__all__ = [
    "EMPTY_RULES",
    "POOLINGS",
    "REDUCTIONS",
    "chosen",
    "flag",
    "integer",
    "kind_of",
    "mapping",
    "real",
    "shown",
    "word",
]

#: The words for the constants of the C interface.
REDUCTIONS = {"mean": _abi.REDUCTION_MEAN, "sum": _abi.REDUCTION_SUM}
EMPTY_RULES = {"error": _abi.EMPTY_ERROR, "zero": _abi.EMPTY_ZERO, "nan": _abi.EMPTY_NAN}
POOLINGS = {"cls": _abi.POOLING_CLS, "avg-pool": _abi.POOLING_AVERAGE}

#: The largest finite float32.
FLOAT_MAX = float(np.finfo(np.float32).max)


def shown(value: object) -> str:
    """The value in an error message: its representation if it is short, otherwise its type."""
    try:
        text = repr(value)
    except Exception:  # For example an int with too many digits to print.
        text = ""
    return text if 0 < len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"


def kind_of(value: object) -> str:
    """The type of an argument that is not an array."""
    if value is None:
        return "None"
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"a {module}{kind.__qualname__}"


def real(name: str, value: Any) -> float:
    """A finite number within the range of float32."""
    if type(value) is float:
        number = value
    elif isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidParameterError(f"{name} is {shown(value)}; expected a number")
    else:
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
    if -FLOAT_MAX <= number <= FLOAT_MAX:
        return number
    raise InvalidParameterError(
        f"{name} is {shown(value)}; expected a finite number within the range of float32"
    )


def integer(name: str, value: Any, bits: int = 32) -> int:
    """A signed integer of at most `bits` bits."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidParameterError(f"{name} is {shown(value)}; expected an integer")
    number = int(value)
    if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        raise InvalidParameterError(
            f"{name} is {shown(number)}; expected a number within the range of int{bits}"
        )
    return number


def flag(name: str, value: Any) -> bool:
    """True or False; other truthy and falsy values are errors."""
    if value is True or value is False:
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    raise InvalidParameterError(f"{name} is {shown(value)}; expected True or False")


def chosen(name: str, value: Any, values: dict[str, int]) -> int:
    """The constant of a word."""
    try:
        return values[value]
    except (KeyError, TypeError):
        raise InvalidParameterError(
            f"{name} is {shown(value)}; expected one of {', '.join(map(repr, values))}"
        ) from None


def word(name: str, value: Any, values: dict[str, int]) -> str:
    """One of the words, for `_native`."""
    chosen(name, value, values)
    return str(value)


def mapping(name: str, value: Any, content: str) -> Mapping[Any, Any]:
    """A mapping, for example a dict."""
    if isinstance(value, Mapping):
        return value
    raise InvalidParameterError(f"{name} is {shown(value)}; expected a mapping of {content}")
