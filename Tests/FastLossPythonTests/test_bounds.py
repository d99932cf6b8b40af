"""No NumPy function touches memory outside its arrays, under each instruction set of the processor."""

import signal

import pytest
from guarded_calls import assert_within_bounds, run_program


@pytest.mark.parametrize("instruction_set", ["baseline", "avx2", "avx512"])
def test_no_call_leaves_its_arrays(instruction_set: str) -> None:
    assert_within_bounds(instruction_set)


@pytest.mark.parametrize("place", ["before", "behind", "input"])
def test_a_touch_outside_ends_the_process(place: str) -> None:
    assert run_program(place).returncode == -signal.SIGSEGV
