"""Every function gives the golden values on other machines and in other environments."""

import pathlib

import pytest
from other_machines import every_machine, run_tests


@every_machine
def test_goldens(pytestconfig: pytest.Config, machine: str) -> None:
    run_tests(pytestconfig, machine, pathlib.Path(__file__).with_name("test_goldens.py"))
