"""No function keeps memory, and no error does."""

from calls import calls_of_each_type
from repeated_calls import assert_leaks_are_found, assert_nothing_is_kept
from test_misuse import MISUSES


def test_calls() -> None:
    assert_nothing_is_kept({call.name: call.run for call in calls_of_each_type()})


def test_errors() -> None:
    """The first misuse of each function."""
    first = {misuse.call: misuse.row for misuse in reversed(MISUSES)}
    assert_nothing_is_kept(first)


def test_leaks_are_found() -> None:
    assert_leaks_are_found()
