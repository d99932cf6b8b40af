"""Every loss and head gives the same bits, with its gradients: with any number of workers, run after run, and
in threads."""

from repeated_calls import assert_same_bits, assert_signals_do_no_harm, assert_threads_agree
from torch_calls import calls


def test_any_number_of_workers() -> None:
    assert_same_bits(calls)


def test_threads_that_mix_all_calls() -> None:
    assert_threads_agree(calls)


def test_signals_during_calls() -> None:
    assert_signals_do_no_harm(calls)
