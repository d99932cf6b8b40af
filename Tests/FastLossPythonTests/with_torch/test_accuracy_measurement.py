"""The measurement of errors finds errors that are put in, and none of FastLoss's larger than PyTorch's."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from accuracy import report
from accuracy.__main__ import measure
from accuracy.errors import elementwise, normwise, ulp
from accuracy.heads import Head
from accuracy.inputs import LONG
from accuracy.kernels import KERNELS, Kernel


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.title)
def test_no_error_is_larger_than_pytorchs(kernel: Kernel) -> None:
    # The largest error of few sums in float32 varies more than rounding.
    draws = 25 if kernel.title == "masked reductions" else 2
    for family in kernel.families:
        if family not in LONG:
            assert report.larger(measure(kernel, family, draws)) == []


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.title)
def test_an_error_that_is_put_in_is_found(kernel: Kernel) -> None:
    def worse(arrays: Any) -> Any:
        """Off by 10⁻⁵: a hundred units in the last place."""
        results = kernel.ours(arrays)
        return {
            name: [array * (1 + 1e-5) for array in value] if isinstance(value, list) else value * (1 + 1e-5)
            for name, value in results.items()
        }

    rows = measure(replace(kernel, ours=worse), "lognormal", 1)
    found = report.larger(rows)
    assert all(any(row["quantity"] in message for message in found) for row in rows)


def test_units_in_the_last_place() -> None:
    values = np.array([1.0, 1.999, 2.0, -0.75, 1e-45, 3e38])
    expected = [np.spacing(np.float32(abs(value))) for value in values]
    np.testing.assert_array_equal(ulp(values), expected)
    assert elementwise(np.array([1 + 2.0**-23, 0.0]), np.array([1.0, 0.0])).tolist() == [1]
    assert elementwise(np.array([np.nan]), np.array([1.0])).tolist() == [np.inf]
    assert normwise(np.array([1 + 2.0**-23, 0]), np.array([1.0, 0]), 0.0) == 1


def test_the_scale_of_a_gradient_is_what_rounding_changes() -> None:
    """σ(a − b) of numbers that are 10⁴ times their difference, and σ(a) of a number of its own size."""
    numbers = {
        "a": torch.tensor([1e4 + 1], dtype=torch.float64),
        "b": torch.tensor([1e4], dtype=torch.float64),
    }
    head = Head(("a", "b"), lambda t: [t["a"] - t["b"]], lambda outputs, t: outputs[0].sigmoid().sum())
    slope = torch.sigmoid(torch.tensor(1.0)).item() * torch.sigmoid(torch.tensor(-1.0)).item()
    curvature = slope * (1 - 2 * torch.sigmoid(torch.tensor(1.0)).item())
    for scale in head.scales(numbers):
        assert scale == pytest.approx(2e4 * abs(curvature), rel=0.01)
    plain = Head(("a",), lambda t: [t["a"]], lambda outputs, t: outputs[0].sigmoid().sum())
    assert plain.scales({"a": torch.tensor([1.0], dtype=torch.float64)}) == pytest.approx([slope], rel=1e-6)


def test_the_truth_is_in_double_precision() -> None:
    """Beside it, float64 of another order of sums is within 10⁻¹³."""
    (kernel,) = (kernel for kernel in KERNELS if kernel.title == "masked MSE")
    arrays = kernel.families["lognormal"](np.random.default_rng(1))
    truth = kernel.truth(arrays)
    exact = {name: array.astype(np.float64) for name, array in arrays.items()}
    squares = (exact["predictions"] - exact["targets"])[arrays["mask"]] ** 2
    assert truth["value"] == pytest.approx(float(np.sort(squares).sum() / squares.size), rel=1e-13)
    assert truth["gradient"].dtype == np.float64 and isinstance(kernel.truth, partial)
    assert torch.get_default_dtype() == torch.float32
