"""Checks and converts tensors before the library reads their memory."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd import forward_ad

from .. import _native
from .._parameters import kind_of
from ..errors import ArrayError, ShapeError

__all__ = [
    "CPU",
    "FLOAT",
    "MODEL",
    "PLAIN",
    "REAL",
    "TARGETS",
    "as_float",
    "check_kind",
    "check_labels",
    "check_mask",
    "check_tensor",
    "contiguous",
    "labels",
    "mask_like",
    "matrix",
    "native",
    "refuse_transforms",
    "transforms_are_active",
]

#: The types whose tensors have no behaviour of their own.
PLAIN = frozenset({Tensor, torch.nn.Parameter})
#: The calls of the library, for tensors of these types.
native: Any = _native.for_torch((Tensor, *(PLAIN - {Tensor})))

CPU = torch.device("cpu")
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1

STRIDED = torch.strided
FLOAT = frozenset({torch.float32})
#: Types of a model's outputs: those of autocast, too.
MODEL = FLOAT | {torch.bfloat16, torch.float16}
REAL = frozenset(
    getattr(torch, name)
    for name in (
        "bool",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "bfloat16",
        "float32",
        "float64",
    )
    # PyTorch 2.3 added the wider unsigned types.
    if hasattr(torch, name)
)
#: Types that PyTorch has few operations for.
BARE = REAL - {
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
}
#: Types of targets. float64 would lose digits, so that the caller converts it.
TARGETS = REAL - {torch.float64}
LABELS = frozenset({torch.int64, torch.int32})
#: For each, the description, and the call that converts other types.
EXPECTED = {
    FLOAT: ("torch.float32", ".float()"),
    MODEL: ("torch.float32, torch.bfloat16 or torch.float16", ".float()"),
    TARGETS: ("a real type except torch.float64", ".float()"),
    REAL: ("a real type (for a mask, true and false or 1 and 0)", ".bool()"),
    LABELS: ("torch.int64 or torch.int32", ".long()"),
}


# --- Kinds --------------------------------------------------------------------------------------------------


def check_tensor(name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise ArrayError(f"{name} is {kind_of(value)}; expected a torch.Tensor")


def check_kind(name: str, tensor: Tensor, kinds: frozenset[torch.dtype]) -> None:
    """Raises unless the tensor has one of the element types and is dense and on the CPU."""
    if tensor.dtype in kinds and tensor.is_cpu and tensor.layout is STRIDED and not tensor.is_nested:
        return
    nested = "nested " if tensor.is_nested else ""
    expected, _ = EXPECTED[kinds]
    raise ArrayError(
        f"{name} is a {nested}{tensor.dtype} tensor on {tensor.device}, {tensor.layout}; expected {expected} "
        f"on the cpu, torch.strided{conversion(tensor, kinds)}"
    )


def conversion(tensor: Tensor, kinds: frozenset[torch.dtype]) -> str:
    """The end of a message: the calls that make the expected kind of a tensor."""
    if tensor.is_meta:
        return "; a meta tensor has no elements"
    calls = "" if tensor.is_cpu else ".cpu()"
    if tensor.is_nested:
        calls += ".to_padded_tensor(padding)"
    elif tensor.layout is not STRIDED:
        calls += ".to_dense()"
    if tensor.is_quantized:
        calls += ".dequantize()"
    elif tensor.is_complex():
        calls += ".real"
    if tensor.dtype not in kinds:
        _, call = EXPECTED[kinds]
        calls += call
    return f"; convert it with {calls}"


def check_mask(name: str, mask: Tensor, shape: torch.Size, like: str) -> None:
    check_kind(name, mask, REAL)
    if mask.shape != shape:
        raise ShapeError(f"{name} has the shape {tuple(mask.shape)}; expected {tuple(shape)}, as {like}")


def check_labels(name: str, tensor: Tensor, count: int) -> None:
    check_kind(name, tensor, LABELS)
    if tensor.shape != (count,):
        raise ShapeError(f"{name} has the shape {tuple(tensor.shape)}; expected ({count},)")


# --- Transforms ---------------------------------------------------------------------------------------------


def transforms_are_active() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is active."""
    return _are_functorch_transforms_active() or forward_ad._current_level >= 0


def refuse_transforms(arguments: Iterable[tuple[str, Any]]) -> None:
    """Raises for tensors of a transform. The library would silently drop the transform's part."""
    for name, value in arguments:
        if not isinstance(value, Tensor):
            continue
        if is_functorch_wrapped_tensor(value):
            raise ArrayError(
                f"{name} is a tensor of a transform of torch.func (vmap, grad, jvp, …); expected a plain "
                f"tensor, because FastLoss's losses do not support transforms"
            )
        if forward_ad.unpack_dual(value).tangent is not None:  # type: ignore[no-untyped-call]
            raise ArrayError(
                f"{name} has a tangent of forward-mode automatic differentiation; expected a tensor without, "
                f"because FastLoss's losses support reverse mode only"
            )


# --- Memory -------------------------------------------------------------------------------------------------


def as_float(tensor: Tensor) -> Tensor:
    """The tensor as float32, without a copy if it is one."""
    return tensor if tensor.dtype is torch.float32 else tensor.to(torch.float32)


def in_memory(name: str, tensor: Tensor) -> Tensor:
    """The tensor without a subclass. Raises if its elements have no memory."""
    if not tensor.data_ptr() and tensor.numel():
        raise ArrayError(
            f"{name} has no memory for its {tensor.numel()} elements; expected a tensor with storage"
        )
    return tensor if type(tensor) in PLAIN else tensor.as_subclass(Tensor)


def contiguous(name: str, tensor: Tensor) -> Tensor:
    """The tensor if it is contiguous, otherwise a contiguous copy."""
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    return in_memory(name, tensor if tensor.is_contiguous() else tensor.contiguous())


def mask_like(name: str, mask: Tensor, shape: torch.Size, like: str) -> Tensor:
    """A contiguous bool mask of the shape. Masks of other types must hold only 0 and 1."""
    check_mask(name, mask, shape, like)
    if mask.dtype is not torch.bool:
        if mask.dtype in BARE:
            mask = mask.to(torch.int64)
        converted = mask.bool()
        if not torch.equal(converted.to(mask.dtype), mask):
            raise ArrayError(
                f"{name} holds numbers other than 0 and 1; expected only these, because a mask selects and "
                f"does not weight"
            )
        mask = converted
    return contiguous(name, mask)


def matrix(name: str, tensor: Tensor, kinds: frozenset[torch.dtype] = FLOAT) -> Tensor:
    """A tensor of 2 dimensions, as it is or as a contiguous copy.

    Rows may have gaps between them, as in `layer_output[:, 0, :]`. If the elements of a row have, this
    copies.
    """
    check_kind(name, tensor, kinds)
    if tensor.dim() != 2:
        raise ShapeError(f"{name} has {tensor.dim()} dimensions; expected 2")
    row_stride, column_stride = tensor.stride()
    if tensor.is_neg() or column_stride != 1 or row_stride < tensor.shape[1]:
        return contiguous(name, tensor)
    return in_memory(name, tensor)


def labels(name: str, tensor: Tensor, count: int) -> Tensor:
    """Contiguous int32 labels. Converts int64, the type of PyTorch's labels."""
    check_labels(name, tensor, count)
    if tensor.dtype is torch.int64:
        # Clamp first: labels beyond int32 must stay out of range instead of wrapping around.
        tensor = tensor.clamp(INT32_MIN, INT32_MAX).to(torch.int32)
    return contiguous(name, tensor)
