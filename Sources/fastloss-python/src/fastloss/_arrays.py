"""What an array has to be before its address is given away: type, element type, shape and strides."""

from ctypes import addressof, c_char
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._parameters import kind_of
from .errors import ArrayError, ShapeError

__all__ = ["Matrix", "States", "address", "block", "labels", "matrix", "output", "plain", "states"]

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


def plain(name: str, array: object, dtype: np.dtype[Any], writable: bool = False) -> npt.NDArray[Any]:
    """The array, once it is known to be one of this element type, and where it is written, to allow that.

    Every array of the caller's passes through here, in whatever shape it comes.
    """
    found = array if type(array) is np.ndarray else unwrapped(name, array, dtype, writable)
    if found.dtype is not dtype and found.dtype != dtype:
        raise ArrayError(f"{name} has elements of {found.dtype}; expected {dtype}: nothing is converted")
    if writable and not found.flags.writeable:
        raise ArrayError(f"{name} is read-only; expected an array to write to")
    return found


def unwrapped(name: str, array: object, dtype: np.dtype[Any], writable: bool) -> npt.NDArray[Any]:
    """The plain array in the memory of a subclass's instance: of a memmap, a matrix, a view of AnnData's.

    Not of a masked array: what it hides would count. And to be written to only of a memmap: others may have
    their own way of that, as AnnData's views, which copy first.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise ArrayError(
            f"{name} is a numpy.ma.{type(array).__name__}, and what it hides would not be left out; expected "
            f"a plain array: pass its .data, and say what counts by mask=, as ~numpy.ma.getmaskarray does"
        )
    if not isinstance(array, np.ndarray):
        raise ArrayError(f"{name} is {kind_of(array)}; expected a numpy.ndarray of {dtype}")
    if writable and not isinstance(array, np.memmap):
        raise ArrayError(
            f"{name} is {kind_of(array)}, whose own way of being written to would be passed over; expected a "
            f"numpy.ndarray to write to: numpy.asarray gives the one beneath"
        )
    return array.view(np.ndarray)


def matrix(
    name: str,
    array: object,
    dtype: np.dtype[Any] = FLOAT,
    like: Matrix | None = None,
    writable: bool = False,
) -> Matrix:
    """A matrix of 2 dimensions, or a vector as one row. Rows may lie apart, elements of a row may not."""
    array = plain(name, array, dtype, writable)
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


def output(name: str, array: object, like: Matrix | None = None) -> Matrix:
    """A matrix that is written to."""
    return matrix(name, array, FLOAT, like, writable=True)


def block(
    name: str, array: object, shape: tuple[int, ...], dtype: np.dtype[Any], writable: bool = False
) -> int:
    """The address of an array of just this shape, whose elements follow each other.

    Of the caller's own array: a reshaped one could be a copy, whose memory is gone when the library reads it.
    """
    array = plain(name, array, dtype, writable)
    if array.shape != shape:
        raise ShapeError(f"{name} has the shape {array.shape}; expected {shape}")
    if not array.flags.c_contiguous:
        raise ArrayError(
            f"{name} has gaps between its elements; numpy.ascontiguousarray makes a copy without"
        )
    return address(array)


def labels(name: str, array: object, count: int) -> int:
    """The address of labels; int32, because that is what the library reads."""
    return block(name, array, (count,), INT)


def states(name: str, array: object, writable: bool = False) -> States:
    """Token states of 3 dimensions; cells and tokens may lie apart."""
    array = plain(name, array, FLOAT, writable)
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
    return States(cells, tokens, width, address(array), width, tokens * width)
