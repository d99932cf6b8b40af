"""Has libfastloss compute on PyTorch's OpenMP threads.

A training step alternates between PyTorch and the losses. With two sets of threads, each would find the other
on its processors.
"""

import os
from pathlib import Path

import torch

from .. import _native

__all__ = ["share_threads"]


def share_threads() -> None:
    """Lends PyTorch's threads to the library.

    It keeps its own helpers if PyTorch has no OpenMP, or if the user has its threads sleep at once after a
    parallel operation (OMP_WAIT_POLICY=passive): waking them takes longer than a loss.
    """
    if os.environ.get("OMP_WAIT_POLICY", "").lower() != "passive":
        _native.use_openmp(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
