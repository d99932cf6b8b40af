"""No NumPy function touches memory outside its arrays, under each instruction set of the processor."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).with_name("guarded_calls.py")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("instruction_set", ["baseline", "avx2", "avx512"])
def test_no_call_leaves_its_arrays(instruction_set: str) -> None:
    result = run(FASTLOSS_ISA=instruction_set)
    lines = result.stdout.splitlines()
    assert result.returncode == 0, f"{lines[-1:]}: {result.returncode}\n{result.stderr}"
    if lines[-1] != instruction_set:
        pytest.skip(f"the processor lacks {instruction_set}")


@pytest.mark.parametrize("place", ["before", "behind", "input"])
def test_a_touch_outside_ends_the_process(place: str) -> None:
    assert run(place).returncode == -signal.SIGSEGV
