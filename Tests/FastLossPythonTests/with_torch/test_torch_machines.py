"""Every loss and head agrees with PyTorch in float64 on other machines and in other environments."""

import pathlib

import pytest
from other_machines import every_machine, run_tests


@every_machine
def test_losses_and_heads(pytestconfig: pytest.Config, machine: str) -> None:
    here = pathlib.Path(__file__)
    losses = f"{here.with_name('test_losses.py')}::test_value_and_gradient_against_float64"
    run_tests(pytestconfig, machine, pathlib.Path(losses), here.with_name("test_random_heads.py"))
