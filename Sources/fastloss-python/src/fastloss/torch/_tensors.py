"""What a tensor has to be before its address is given away, and the few conversions that are made."""

import torch
from torch import Tensor

from .._arrays import Matrix
from ..errors import ArrayError, ShapeError

__all__ = ["as_float", "check_float", "contiguous", "labels", "mask_like", "matrix"]

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def check_float(name: str, tensor: Tensor) -> None:
    """Float32 on the CPU; real and fake tensors alike."""
    if tensor.dtype is torch.float32 and tensor.is_cpu and tensor.layout is torch.strided:
        return
    raise ArrayError(
        f"{name} is a {tensor.dtype} tensor on {tensor.device}, {tensor.layout}; expected torch.float32 on "
        f"the cpu, torch.strided: FastLoss converts nothing here, .float() and .cpu() do"
    )


def as_float(tensor: Tensor) -> Tensor:
    """Float32; the tensor itself if it is."""
    return tensor if tensor.dtype is torch.float32 else tensor.to(torch.float32)


def contiguous(tensor: Tensor) -> Tensor:
    """The tensor itself if its elements follow each other, else a copy."""
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def mask_like(mask: Tensor, shape: torch.Size) -> Tensor:
    """A contiguous bool mask of that shape. Bool masks are taken as they are; others have to hold 0 and 1
    alone."""
    if mask.shape != shape:
        raise ShapeError(f"mask has the shape {tuple(mask.shape)}; expected {tuple(shape)}, as input")
    if not mask.is_cpu:
        raise ArrayError(f"mask is on {mask.device}; expected a tensor on the cpu")
    if mask.dtype is not torch.bool:
        converted = mask.bool()
        if not torch.equal(converted.to(mask.dtype), mask):
            raise ArrayError(
                "mask holds numbers other than 0 and 1; FastLoss selects by a mask and cannot weigh by it"
            )
        mask = converted
    return mask if mask.is_contiguous() else mask.contiguous()


def matrix(name: str, tensor: Tensor) -> tuple[Tensor, Matrix]:
    """A tensor of 2 dimensions, with the tensor that owns the memory.

    Rows may lie apart, as those of `layer_output[:, 0, :]` do; if the elements of a row do, a copy is made.
    """
    check_float(name, tensor)
    if tensor.dim() != 2:
        raise ShapeError(f"{name} has {tensor.dim()} dimensions; expected 2")
    rows, columns = tensor.shape
    if tensor.is_contiguous() and not tensor.is_neg():
        return tensor, Matrix(rows, columns, tensor.data_ptr(), columns)
    row_stride, column_stride = tensor.stride()
    if tensor.is_neg() or column_stride != 1 or row_stride < columns:
        tensor = contiguous(tensor)
        row_stride = columns
    return tensor, Matrix(rows, columns, tensor.data_ptr(), row_stride)


def labels(name: str, tensor: Tensor, count: int) -> Tensor:
    """Contiguous int32 labels; int64, which PyTorch demands elsewhere, is converted."""
    if not tensor.is_cpu or tensor.dtype not in (torch.int64, torch.int32):
        raise ArrayError(
            f"{name} is a {tensor.dtype} tensor on {tensor.device}; expected torch.int64 or torch.int32 on "
            f"the cpu"
        )
    if tensor.shape != (count,):
        raise ShapeError(f"{name} has the shape {tuple(tensor.shape)}; expected ({count},)")
    if tensor.dtype is torch.int64:
        # Clamped first, so that what no int32 can hold stays out of range instead of wrapping into it.
        tensor = tensor.clamp(INT32_MIN, INT32_MAX).to(torch.int32)
    return tensor if tensor.is_contiguous() else tensor.contiguous()
