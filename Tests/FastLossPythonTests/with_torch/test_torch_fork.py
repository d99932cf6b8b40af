"""Every loss and head as the first call of a child process, whose parent has used FastLoss before."""

import pytest
from forked_calls import assert_same_in_a_child, outcomes_in_children
from torch_calls import calls


@pytest.fixture(scope="module")
def outcomes() -> dict[str, tuple[int, str, str]]:
    return outcomes_in_children("torch_calls")


@pytest.mark.parametrize("name", [call.name for call in calls()])
def test_first_call_of_a_child(outcomes: dict[str, tuple[int, str, str]], name: str) -> None:
    assert_same_in_a_child(outcomes[name], name)
