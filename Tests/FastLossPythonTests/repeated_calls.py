"""Repeats calls with each number of workers, in threads that mix them and while signals arrive: the bits must
stay the same, and no call may keep memory.

`FASTLOSS_LONG_TESTS=1` asks for the long forms, which scripts/verify runs.
"""

import ctypes
import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from calls import Call

import fastloss

IS_LONG = os.environ.get("FASTLOSS_LONG_TESTS") == "1"
#: Small ones, and ones that eight workers share.
SIZES = (
    {},
    {"rows": 1, "columns": 1, "masks": 1, "cells": 1, "width": 1, "tokens": 1},
    {"rows": 300, "columns": 200, "masks": 7, "cells": 256, "width": 64, "tokens": 30},
)
REPETITIONS = 100 if IS_LONG else 2
#: Calls of each of the threads.
THREADS, CALLS = 8, 4000 if IS_LONG else 100
#: Of each call, in the search for leaks.
CALLS_OF_EACH = 100_000 if IS_LONG else 500
#: Seconds in which signals arrive.
DURATION = 30 if IS_LONG else 1


@contextmanager
def workers(number: int | None) -> Iterator[None]:
    fastloss.set_workers(number)
    try:
        yield
    finally:
        fastloss.set_workers(None)


def assert_same_bits(calls: Callable[..., list[Call]]) -> None:
    for sizes in SIZES:
        made = calls(**sizes)
        with workers(1):
            expected = {call.name: call.digest() for call in made}
        for number in (1, 2, 3, 4, 8):
            with workers(number):
                for call in made:
                    for run in range(REPETITIONS):
                        assert call.digest() == expected[call.name], (
                            f"{call} of {sizes}: {number} workers, run {run}"
                        )


def assert_threads_agree(calls: Callable[..., list[Call]]) -> None:
    """Each thread has arrays of its own."""
    with workers(1):
        expected = [call.digest() for sizes in SIZES for call in calls(**sizes)]
    wrong: list[str] = []
    ended: list[int] = []

    def work(seed: int) -> None:
        choice = random.Random(seed)
        own = [call for sizes in SIZES for call in calls(**sizes)]
        for _ in range(CALLS):
            index = choice.randrange(len(own))
            if own[index].digest() != expected[index]:
                wrong.append(own[index].name)
        ended.append(seed)

    with workers(2):
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong and sorted(ended) == list(range(THREADS)), (wrong[:5], ended)


def assert_signals_do_no_harm(calls: Callable[..., list[Call]]) -> None:
    """A signal every millisecond, with a handler in Python."""
    every = [call for sizes in SIZES for call in calls(**sizes)]
    expected = [call.digest() for call in every]
    arrived: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: arrived.append(number))
    signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
    end = time.monotonic() + DURATION
    wrong: list[str] = []
    try:
        while time.monotonic() < end:
            pairs = zip(every, expected, strict=True)
            wrong += [call.name for call, digest in pairs if call.digest() != digest]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert arrived and not wrong, (len(arrived), wrong[:5])


# --- Memory -------------------------------------------------------------------------------------------------


class AllocatorState(ctypes.Structure):
    """glibc's struct mallinfo2. `uordblks` is the number of bytes that the program holds."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def held() -> tuple[int, int]:
    """Bytes of the C allocator, large blocks included, and blocks of Python's."""
    gc.collect()
    state = mallinfo2()
    return state.uordblks + state.hblkhd, sys.getallocatedblocks()


mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = AllocatorState


def kept(calls: int, body: Callable[[], object]) -> tuple[int, int]:
    """Bytes and blocks that calls keep, the least of three tries at most: the first fills caches."""
    for _ in range(10):
        body()
    bytes = blocks = sys.maxsize
    tries = 0
    while tries < 3 and not is_little(calls, bytes, blocks):
        before = held()
        for _ in range(calls):
            body()
        after = held()
        bytes, blocks = min(bytes, after[0] - before[0]), min(blocks, after[1] - before[1])
        tries += 1
    return bytes, blocks


def is_little(calls: int, bytes: int, blocks: int) -> bool:
    """A leak is at least the smallest block of the C allocator, or one of Python's, in each call."""
    return bytes < 16 * calls and blocks < calls


def assert_nothing_is_kept(bodies: dict[str, Callable[[], object]]) -> None:
    for name, body in bodies.items():
        bytes, blocks = kept(CALLS_OF_EACH, body)
        assert is_little(CALLS_OF_EACH, bytes, blocks), (
            f"{name} keeps {bytes} bytes and {blocks} blocks after {CALLS_OF_EACH} calls"
        )


def assert_leaks_are_found() -> None:
    """A leak of each kind in every call: the check of the check."""
    blocks: list[object] = []
    assert kept(CALLS_OF_EACH, lambda: blocks.append(object()))[1] >= CALLS_OF_EACH
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    addresses: list[int] = []
    assert kept(CALLS_OF_EACH, lambda: addresses.append(libc.malloc(1)))[0] >= 16 * CALLS_OF_EACH
    libc.free.argtypes = [ctypes.c_void_p]
    for address in addresses:
        libc.free(address)
