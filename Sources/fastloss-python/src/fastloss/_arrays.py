"""What an array has to be before its address is given away: type, element type, shape and strides."""

from ctypes import addressof, c_char
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import ArrayError, InvalidParameterError, ShapeError

__all__ = ["Matrix", "States", "address", "chosen", "label", "labels", "matrix", "output", "states", "vector"]

FLOAT = np.dtype(np.float32)
BOOL = np.dtype(np.bool_)
INT = np.dtype(np.int32)


class Matrix(NamedTuple):
    """A matrix in the terms of the C interface."""

    rows: int
    columns: int
    address: int
    #: Elements from one row to the next.
    stride: int


class States(NamedTuple):
    """Token states (B, L, D) in the terms of the C interface."""

    cells: int
    tokens: int
    width: int
    address: int
    token_stride: int
    cell_stride: int


def address(array: npt.NDArray[Any]) -> int:
    try:
        # A third of what NumPy's own attributes cost, but only for what is writable and contiguous.
        return addressof(c_char.from_buffer(array))  # type: ignore[arg-type]
    except (BufferError, TypeError, ValueError):
        location: int = array.__array_interface__["data"][0]
        return location


def check(name: str, array: object, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if not isinstance(array, np.ndarray):
        raise ArrayError(f"{name} is a {type(array).__name__}; expected a numpy.ndarray of {dtype}")
    if array.dtype != dtype:
        raise ArrayError(f"{name} has elements of {array.dtype}; expected {dtype}: nothing is converted")
    return array


def matrix(name: str, array: object, dtype: np.dtype[Any] = FLOAT, like: Matrix | None = None) -> Matrix:
    """A matrix of 2 dimensions, or a vector as one row. Rows may lie apart, elements of a row may not."""
    array = check(name, array, dtype)
    if array.ndim == 2:
        rows, columns = array.shape
    elif array.ndim == 1:
        rows, columns = 1, array.shape[0]
    else:
        raise ShapeError(f"{name} has {array.ndim} dimensions; expected 2, or 1 for a single row")
    if like is not None and (rows, columns) != (like.rows, like.columns):
        raise ShapeError(f"{name} is {rows} × {columns}; expected {like.rows} × {like.columns}")
    if array.flags.c_contiguous:
        return Matrix(rows, columns, address(array), columns)
    element_bytes = array.strides[-1]
    row_bytes = array.strides[0] if rows > 1 and array.ndim == 2 else columns * dtype.itemsize
    contiguous_rows = element_bytes == dtype.itemsize or columns <= 1
    if not contiguous_rows or row_bytes % dtype.itemsize or row_bytes < columns * dtype.itemsize:
        raise ArrayError(
            f"{name} has strides of {array.strides} bytes; expected rows whose elements follow each other, "
            f"the rows in order: numpy.ascontiguousarray makes such a copy"
        )
    return Matrix(rows, columns, address(array), row_bytes // dtype.itemsize)


def output(name: str, array: object, like: Matrix) -> Matrix:
    """A matrix that is written to."""
    result = matrix(name, array, like=like)
    if not array.flags.writeable:  # type: ignore[attr-defined]
        raise ArrayError(f"{name} is read-only; expected an array to write to")
    return result


def vector(name: str, array: object, count: int, dtype: np.dtype[Any], writable: bool = False) -> int:
    """The address of `count` elements without gaps."""
    array = check(name, array, dtype)
    if array.shape != (count,):
        raise ShapeError(f"{name} has the shape {array.shape}; expected ({count},)")
    if not array.flags.c_contiguous:
        raise ArrayError(
            f"{name} has gaps between its elements; numpy.ascontiguousarray makes a copy without"
        )
    if writable and not array.flags.writeable:
        raise ArrayError(f"{name} is read-only; expected an array to write to")
    return address(array)


def labels(name: str, array: object, count: int) -> int:
    """The address of labels; int32, because that is what the library reads."""
    return vector(name, array, count, INT)


def states(name: str, array: object, writable: bool = False) -> States:
    """Token states of 3 dimensions; cells and tokens may lie apart."""
    array = check(name, array, FLOAT)
    if array.ndim != 3:
        raise ShapeError(f"{name} has {array.ndim} dimensions; expected 3: cells, tokens, width")
    cells, tokens, width = array.shape
    size = FLOAT.itemsize
    cell_bytes, token_bytes, element_bytes = array.strides
    if not array.flags.c_contiguous:
        contiguous = element_bytes == size or width <= 1
        if not contiguous or cell_bytes % size or token_bytes % size or token_bytes < 0 or cell_bytes < 0:
            raise ArrayError(
                f"{name} has strides of {array.strides} bytes; expected the columns of a token to follow "
                f"each other: numpy.ascontiguousarray makes such a copy"
            )
        return States(cells, tokens, width, address(array), token_bytes // size, cell_bytes // size)
    if writable and not array.flags.writeable:
        raise ArrayError(f"{name} is read-only; expected an array to write to")
    return States(cells, tokens, width, address(array), width, tokens * width)


def label(name: str, value: int) -> int:
    """A label that an int32 can hold: ctypes would cut off the rest without a word."""
    if not -(2**31) <= value < 2**31:
        raise InvalidParameterError(f"{name} is {value}; expected a number that an int32 can hold")
    return value


def chosen(name: str, value: str, values: dict[str, int]) -> int:
    """The number of one of a few words."""
    try:
        return values[value]
    except (KeyError, TypeError):
        raise InvalidParameterError(
            f"{name} is {value!r}; expected one of {', '.join(map(repr, values))}"
        ) from None
