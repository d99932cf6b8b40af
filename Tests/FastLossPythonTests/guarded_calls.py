"""Runs calls on arrays that lie against unreadable pages, inputs read-only: those of `calls.py`, or with the
argument `torch` those of `with_torch/torch_calls.py`.

A program: the tests of bounds run it under each instruction set. A touch outside an array ends it by a
signal, and its last line names the call.
"""

import ctypes
import mmap
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from calls import Call, calls_of_each_type

import fastloss

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
NO_ACCESS = 0
#: Around vectors of 4, 8 and 16 floats, and odd ones: arrays that end at an unreadable page begin at every
#: alignment of a float.
SIZES = [*range(1, 19), 31, 33, 47, 63, 65, 97]


class Guarded:
    """Arrays of one call, each directly behind an unreadable page or directly before one."""

    def __init__(self, at_end: bool) -> None:
        self.at_end = at_end
        self.mappings: list[tuple[int, int]] = []

    def copy(self, array: Any, writable: bool) -> Any:
        page = mmap.PAGESIZE
        size = max(1, -(-array.nbytes // page)) * page
        length = size + 2 * page
        start = libc.mmap(None, length, NO_ACCESS, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        assert start not in (None, ctypes.c_void_p(-1).value), ctypes.get_errno()
        self.mappings.append((start, length))
        assert libc.mprotect(start + page, size, mmap.PROT_READ | mmap.PROT_WRITE) == 0
        # NaN of every type around the array.
        ctypes.memset(start + page, 0xFF, size)
        place = start + page + (size - array.nbytes if self.at_end else 0)
        bytes_there = (ctypes.c_char * array.nbytes).from_address(place)
        found = np.frombuffer(bytes_there, dtype=array.dtype).reshape(array.shape)
        found[...] = array
        if not writable:
            assert libc.mprotect(start + page, size, mmap.PROT_READ) == 0
        return found

    def release(self) -> None:
        for start, length in self.mappings:
            assert libc.munmap(start, length) == 0


def placed(call: Call, guarded: Guarded) -> Call:
    for name, array in {**call.inputs, **call.outputs}.items():
        call = call.given(name, guarded.copy(array, name in call.outputs))
    normalized = call.parameters.get("normalized")
    if normalized is not None:
        arrays = (guarded.copy(array, False) for array in normalized)
        call = call.given("normalized", fastloss.NormalizedPooling(*arrays))
    return call


def run_all(calls: Callable[..., list[Call]]) -> None:
    for size in SIZES:
        sizes = {"rows": 1 + size % 3, "columns": size, "masks": 1 + size % 4}
        for call in calls(**sizes, cells=1 + size % 5, width=size, tokens=1 + size * 5 % 19):
            expected = call.digest()
            for at_end in (False, True):
                print(
                    f"{call} of size {size}, at the {'end' if at_end else 'start'} of its pages", flush=True
                )
                guarded = Guarded(at_end)
                assert placed(call, guarded).digest() == expected
                guarded.release()
    print(fastloss.describe()["instructionSet"])


def touch(what: str) -> None:
    """Ends the process: the check of the check."""
    guarded = Guarded(at_end=what == "behind")
    array = guarded.copy(np.ones(3, np.float32), writable=what != "input")
    offset = {"before": -4, "behind": 12, "input": 0}[what]
    ctypes.memset(array.ctypes.data + offset, 1, 4)


# --- For the tests ------------------------------------------------------------------------------------------


def run_program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, __file__, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def assert_within_bounds(instruction_set: str, *arguments: str) -> None:
    result = run_program(*arguments, FASTLOSS_ISA=instruction_set)
    lines = result.stdout.splitlines()
    assert result.returncode == 0, f"{lines[-1:]}: {result.returncode}\n{result.stderr}"
    if lines[-1] != instruction_set:
        pytest.skip(f"the processor lacks {instruction_set}")


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "numpy"
    if what == "numpy":
        run_all(calls_of_each_type)
    elif what == "torch":
        sys.path.insert(0, str(pathlib.Path(__file__).with_name("with_torch")))
        import torch_calls

        run_all(torch_calls.calls)
        run_all(torch_calls.calls_across_processes)
        # A thread of PyTorch's process group may still release a tensor. If Python has ended, that aborts.
        sys.stdout.flush()
        os._exit(0)
    else:
        touch(what)
