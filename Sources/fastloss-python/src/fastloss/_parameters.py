"""What a parameter has to be before ctypes gets it.

ctypes cuts off the bits of an integer that do not fit, makes infinity of a number that no float32 can hold,
and takes a truth value for a number, all without a word. So every parameter passes through one of these
functions.
"""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from .errors import InvalidParameterError

__all__ = ["chosen", "flag", "integer", "kind_of", "mapping", "real", "shown"]

#: The largest number that a float32 can hold.
FLOAT_MAX = float(np.finfo(np.float32).max)


def shown(value: object) -> str:
    """A value as an error message shows it: itself where it is short, else its type."""
    try:
        text = repr(value)
    except Exception:  # Also that of an int with more digits than Python prints.
        text = ""
    return text if 0 < len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"


def kind_of(value: object) -> str:
    """What came in the place of an array: what it is, not what it holds."""
    if value is None:
        return "None"
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"a {module}{kind.__qualname__}"


def real(name: str, value: Any) -> float:
    """A finite number that a float32 can hold."""
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
    raise InvalidParameterError(f"{name} is {shown(value)}; expected a finite number that a float32 can hold")


def integer(name: str, value: Any, bits: int = 32) -> int:
    """An integer that so many bits can hold, one of them for the sign."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidParameterError(f"{name} is {shown(value)}; expected an integer")
    number = int(value)
    if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        raise InvalidParameterError(
            f"{name} is {shown(number)}; expected a number that an int{bits} can hold"
        )
    return number


def flag(name: str, value: Any) -> bool:
    """A truth value, and nothing that merely counts as one."""
    if value is True or value is False:
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    raise InvalidParameterError(f"{name} is {shown(value)}; expected True or False")


def chosen(name: str, value: Any, values: dict[str, int]) -> int:
    """The number of one of a few words."""
    try:
        return values[value]
    except (KeyError, TypeError):
        raise InvalidParameterError(
            f"{name} is {shown(value)}; expected one of {', '.join(map(repr, values))}"
        ) from None


def mapping(name: str, value: Any, content: str) -> Mapping[Any, Any]:
    """A dictionary or something like it."""
    if isinstance(value, Mapping):
        return value
    raise InvalidParameterError(f"{name} is {shown(value)}; expected a mapping of {content}")
