"""No loss and no head keeps memory, and no error does."""

from repeated_calls import assert_nothing_is_kept
from test_torch_misuse import MISUSES
from torch_calls import calls


def test_calls() -> None:
    assert_nothing_is_kept({call.name: call.run for call in calls()})


def test_errors() -> None:
    """The first misuse of each function."""
    first = {misuse.call: misuse.row for misuse in reversed(MISUSES)}
    assert_nothing_is_kept(first)
