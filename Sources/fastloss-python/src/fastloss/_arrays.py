"""Checks type, element type, shape and strides of arrays before the library reads their memory."""

from ctypes import addressof, c_char
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._parameters import kind_of
from .errors import ArrayError, ShapeError

__all__ = [
    "Matrix",
    "States",
    "address",
    "block",
    "checked_labels",
    "checked_matrix",
    "checked_output",
    "matrix",
    "model_type",
    "output",
    "plain",
    "states",
]

FLOAT = np.dtype(np.float32)
BOOL = np.dtype(np.bool_)
INT = np.dtype(np.int32)


def model_type(array: object) -> np.dtype[Any]:
    """The type that an output of the model is read as: float16 and ml_dtypes' bfloat16, else float32."""
    found = getattr(array, "dtype", None)
    if isinstance(found, np.dtype) and found.isnative and found.name in ("float16", "bfloat16"):
        return found
    return FLOAT


class Matrix(NamedTuple):
    """A matrix of the C interface."""

    rows: int
    columns: int
    address: int
    #: Elements from one row to the next.
    stride: int


class States(NamedTuple):
    """Token states (B, L, D) of the C interface."""

    cells: int
    tokens: int
    width: int
    address: int
    token_stride: int
    cell_stride: int


def address(array: npt.NDArray[Any]) -> int:
    try:
        # Three times as fast as NumPy's attributes, but only for writable and contiguous arrays.
        return addressof(c_char.from_buffer(array))  # type: ignore[arg-type]
    except (BufferError, TypeError, ValueError):
        location: int = array.__array_interface__["data"][0]
        return location


def plain(name: str, array: object, dtype: np.dtype[Any], writable: bool = False) -> npt.NDArray[Any]:
    """The array as a plain numpy.ndarray. Raises for other element types, and for read-only outputs.

    Every array from the caller passes through this function.
    """
    found = array if type(array) is np.ndarray else unwrapped(name, array, dtype, writable)
    if found.dtype is not dtype and found.dtype != dtype:
        raise ArrayError(f"{name} has elements of {found.dtype}; expected {dtype}")
    if writable and not found.flags.writeable:
        raise ArrayError(f"{name} is read-only; expected a writable array")
    return found


def unwrapped(name: str, array: object, dtype: np.dtype[Any], writable: bool) -> npt.NDArray[Any]:
    """The plain array of an instance of a subclass: a memmap, a matrix, a view of AnnData.

    Raises for a masked array, because its hidden elements would count. Outputs may only be memmaps: other
    subclasses may override assignment, as the views of AnnData do, which copy first.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise ArrayError(
            f"{name} is a numpy.ma.{type(array).__name__}, whose hidden elements would count; expected a "
            f"plain array: pass its .data, and ~numpy.ma.getmaskarray of it as mask="
        )
    if not isinstance(array, np.ndarray):
        raise ArrayError(f"{name} is {kind_of(array)}; expected a numpy.ndarray of {dtype}")
    if writable and not isinstance(array, np.memmap):
        raise ArrayError(
            f"{name} is {kind_of(array)}, which may override assignment; expected a numpy.ndarray, for "
            f"example from numpy.asarray"
        )
    return array.view(np.ndarray)


def matrix(
    name: str,
    array: object,
    dtype: np.dtype[Any] = FLOAT,
    like: Matrix | None = None,
    writable: bool = False,
) -> Matrix:
    """A matrix of 2 dimensions, or a vector as one row. Only rows may have gaps between them."""
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
            f"{name} has strides of {array.strides} bytes; expected contiguous rows in ascending order, for "
            f"example from numpy.ascontiguousarray"
        )
    return Matrix(rows, columns, address(array), row_bytes // dtype.itemsize)


def output(name: str, array: object, like: Matrix | None = None) -> Matrix:
    """A matrix to write to."""
    return matrix(name, array, FLOAT, like, writable=True)


def block(
    name: str, array: object, shape: tuple[int, ...], dtype: np.dtype[Any], writable: bool = False
) -> int:
    """The address of a contiguous array of exactly this shape.

    Never reshapes the array: that could copy it, and the copy would be freed before the library reads it.
    """
    array = plain(name, array, dtype, writable)
    if array.shape != shape:
        raise ShapeError(f"{name} has the shape {array.shape}; expected {shape}")
    if not array.flags.c_contiguous:
        raise ArrayError(
            f"{name} has gaps between its elements; expected a contiguous array, for example from "
            f"numpy.ascontiguousarray"
        )
    return address(array)


def checked_matrix(
    name: str,
    array: object,
    dtype: np.dtype[Any] = FLOAT,
    like: Matrix | None = None,
    writable: bool = False,
) -> npt.NDArray[Any]:
    """A matrix as the plain array that `_native` reads."""
    matrix(name, array, dtype, like, writable)
    return plain(name, array, dtype, writable)


def checked_output(name: str, array: object, like: Matrix, dtype: np.dtype[Any] = FLOAT) -> npt.NDArray[Any]:
    """A matrix to write to, as a plain array."""
    return checked_matrix(name, array, dtype, like, writable=True)


def checked_labels(name: str, array: object, count: int) -> npt.NDArray[Any]:
    """Contiguous int32 labels as a plain array."""
    block(name, array, (count,), INT)
    return plain(name, array, INT)


def states(name: str, array: object, writable: bool = False) -> States:
    """Token states of 3 dimensions. Cells and tokens may have gaps between them."""
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
                f"{name} has strides of {array.strides} bytes; expected contiguous columns and ascending "
                f"tokens and cells, for example from numpy.ascontiguousarray"
            )
        return States(cells, tokens, width, address(array), token_bytes // size, cell_bytes // size)
    return States(cells, tokens, width, address(array), width, tokens * width)
