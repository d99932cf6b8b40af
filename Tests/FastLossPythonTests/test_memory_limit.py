"""With little memory left, every function gives the right result or raises MemoryError."""

from limited_calls import assert_limits_are_errors


def test_limits_of_the_address_space() -> None:
    assert_limits_are_errors("calls", (0, 1 << 18, 1 << 22, 1 << 26, 1 << 30))


def test_limits_of_products_by_blas() -> None:
    """The products of the baseline are OpenBLAS's, which ends the process if it finds no memory."""
    assert_limits_are_errors("calls", (0, 1 << 22, 1 << 27, 3 << 26, 1 << 30), FASTLOSS_ISA="baseline")
