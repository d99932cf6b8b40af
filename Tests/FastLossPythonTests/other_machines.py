"""Runs tests again as on other machines: with the cores and variables that a process has from its start."""

import os
import pathlib
import subprocess
import sys

import pytest
from repeated_calls import IS_LONG

#: Whether there is one core, and the variables. The wheel's own OpenBLAS heeds those of OpenBLAS.
MACHINES: dict[str, tuple[bool, dict[str, str]]] = {
    "one core": (True, {}),
    "one core, 16 workers": (True, {"FASTLOSS_THREADS": "16"}),
    "OPENBLAS_NUM_THREADS=1": (False, {"OPENBLAS_NUM_THREADS": "1"}),
    "BLAS products, OPENBLAS_NUM_THREADS=7": (
        False,
        {"FASTLOSS_ISA": "baseline", "OPENBLAS_NUM_THREADS": "7"},
    ),
    "BLAS products, OPENBLAS_CORETYPE=Prescott": (
        False,
        {"FASTLOSS_ISA": "baseline", "OPENBLAS_CORETYPE": "Prescott"},
    ),
    "BLAS products, OPENBLAS_CORETYPE=Haswell": (
        False,
        {"FASTLOSS_ISA": "baseline", "OPENBLAS_CORETYPE": "Haswell"},
    ),
}
#: The tests inherit the long form, which needs more time.
MOST_SECONDS = 7200 if IS_LONG else 600
every_machine = pytest.mark.parametrize("machine", MACHINES)


def run_tests(config: pytest.Config, machine: str, *tests: pathlib.Path) -> None:
    has_one_core, variables = MACHINES[machine]
    # The tests of PyTorch have helpers in this folder.
    path = os.pathsep.join(
        [str(pathlib.Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    core = min(os.sched_getaffinity(0))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(config.inipath)]
        + [str(test) for test in tests],
        env={**os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        preexec_fn=(lambda: os.sched_setaffinity(0, {core})) if has_one_core else None,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
