"""With little memory left, every loss and head gives the right result or raises an error."""

from limited_calls import assert_limits_are_errors


def test_limits_of_the_address_space() -> None:
    """With less, PyTorch's own operations end the process, for want of thread-local data."""
    assert_limits_are_errors("torch_calls", (1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 30))
