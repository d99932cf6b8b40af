"""Calls scGPT's own operations where FastLoss does not take the arguments, for `fastloss.patch_scgpt`."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import FastLossError
from ._compatibility import is_compiling
from ._tensors import MODEL

__all__ = ["new_warning", "own_elastic", "takes_embeddings", "takes_values", "with_fallback"]

#: Takes the name of a loss, and why FastLoss does not compute it.
Warn = Callable[[str, str], None]


def new_warning() -> Warn:
    """A function that warns at its first call."""
    given = False

    def warn(name: str, reason: str) -> None:
        nonlocal given
        if given:
            return
        given = True
        warnings.warn(
            f"{name} runs scGPT's own operations, because {reason}. Further calls do the same without a "
            f"warning; patch_scgpt(strict=True) makes them an error",
            UserWarning,
            stacklevel=3,
        )

    # torch.compile calls it while it traces. As torch.compiler.assume_constant_result, which would import
    # torch._dynamo, a matter of seconds.
    warn._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return warn


def with_fallback(
    ours: Callable[..., Tensor],
    own: Callable[..., Tensor],
    takes: Callable[..., bool],
    warn: Warn,
) -> Callable[..., Tensor]:
    """`ours`, or `own` for arguments that `ours` does not take. Both have the same parameters.

    takes: whether `ours` takes the arguments, for torch.compile, which cannot catch the error.
    """
    name = ours.__name__

    @functools.wraps(ours)
    def loss(*args: Any, **kwargs: Any) -> Tensor:
        if is_compiling():
            if takes(*args, **kwargs):
                return ours(*args, **kwargs)
            warn(name, "of a device, type or shape that FastLoss does not take")
            return own(*args, **kwargs)
        try:
            return ours(*args, **kwargs)
        except FastLossError as error:
            # If this raises, the arguments were wrong for scGPT, too.
            result = own(*args, **kwargs)
            warn(name, str(error))
            return result

    return loss


# --- What FastLoss takes ------------------------------------------------------------------------------------

#: A tuple, because torch.compile of PyTorch 2.1 cannot look into sets.
OUTPUTS = tuple(MODEL)


def is_dense(tensor: Tensor) -> bool:
    return tensor.is_cpu and tensor.layout == torch.strided


def takes_values(input: Tensor, target: Tensor, mask: Tensor) -> bool:
    """Without masks of numbers: whether they are all 0 or 1 is known only when the compiled code runs."""
    return (
        is_dense(input)
        and is_dense(target)
        and is_dense(mask)
        and input.dtype in OUTPUTS
        and target.dtype not in (torch.float64, torch.complex64, torch.complex128)
        and mask.dtype == torch.bool
        and input.shape == target.shape
        and input.shape == mask.shape
    )


def takes_embeddings(*arguments: Any) -> bool:
    """One or two embeddings, followed by a number."""
    return all(
        is_dense(embedding) and embedding.dtype in OUTPUTS and embedding.dim() == 2
        for embedding in arguments[:-1]
    )


# --- scGPT's operations -------------------------------------------------------------------------------------


def own_elastic(cell_emb: Tensor, threshold: float) -> Tensor:
    """ECS as `TransformerModel.forward` computes it, operation by operation."""
    normalized = F.normalize(cell_emb, p=2, dim=1)
    pairs = torch.mm(normalized, normalized.t())
    diagonal = torch.eye(pairs.size(0)).bool().to(pairs.device)
    pairs = F.relu(pairs.masked_fill(diagonal, 0.0))
    return torch.mean(1 - (pairs - threshold) ** 2)
