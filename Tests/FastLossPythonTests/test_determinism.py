"""Every function gives the same bits: with any number of workers, run after run, and in threads."""

from calls import calls_of_each_type
from repeated_calls import assert_same_bits, assert_signals_do_no_harm, assert_threads_agree


def test_any_number_of_workers() -> None:
    assert_same_bits(calls_of_each_type)


def test_threads_that_mix_all_calls() -> None:
    assert_threads_agree(calls_of_each_type)


def test_signals_during_calls() -> None:
    assert_signals_do_no_harm(calls_of_each_type)
