"""Other work between two calls, the same for everyone: what a step of training does before its losses."""

from collections.abc import Callable
from typing import Any

#: Columns and rows of the matrices that are multiplied.
SIZE = 512
#: The bytes that are read and written: more than the caches hold.
BYTES = 64 * 2**20


def other_work() -> Callable[[], Any]:
    """A product and a pass over memory, both by PyTorch with its own threads."""
    import torch

    left, right = torch.rand(2, SIZE, SIZE)
    memory = torch.zeros(BYTES // 4)

    def work() -> Any:
        torch.mm(left, right)
        return memory.add_(1)

    return work
