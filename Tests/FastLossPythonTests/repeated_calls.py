"""Repeats calls with each number of workers, and in threads that mix them: the bits must stay the same.

`FASTLOSS_LONG_TESTS=1` asks for the long forms, which scripts/verify runs.
"""

import os
import random
import threading
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
