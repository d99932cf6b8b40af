"""Every loss of fastloss.torch with inputs for it and its reference: what the other files of this folder run
through."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import reference
import torch
from torch import Tensor

import fastloss.torch


@dataclass
class Loss:
    name: str
    function: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    #: Fresh arguments, leaves that require gradients where the loss has them, seeded.
    arguments: Callable[[], list[Any]]
    operator: Any

    def __str__(self) -> str:
        return self.name


def values(probabilities: bool, rows: int = 7, columns: int = 130) -> list[Any]:
    random = torch.Generator().manual_seed(1)
    target = torch.randint(0, 51, (rows, columns), generator=random) * (
        torch.rand(rows, columns, generator=random) < 0.6
    )
    target = target.float()
    mask = torch.rand(rows, columns, generator=random) < 0.4
    if probabilities:
        input = torch.rand(rows, columns, generator=random)
    else:
        input = target + 8 * torch.randn(rows, columns, generator=random)
    return [input.requires_grad_(), target, mask]


def embeddings(count: int, rows: int = 33, columns: int = 24) -> list[Any]:
    random = torch.Generator().manual_seed(2)
    common = torch.randn(1, columns, generator=random)
    return [(common + torch.randn(rows, columns, generator=random)).requires_grad_() for _ in range(count)]


def classes(rows: int = 21, count: int = 5) -> list[Any]:
    random = torch.Generator().manual_seed(3)
    labels = torch.randint(0, count, (rows,), generator=random)
    labels[::4] = -100
    return [(3 * torch.randn(rows, count, generator=random)).requires_grad_(), labels]


OPERATORS = torch.ops.fastloss
DIFFERENTIABLE = [
    Loss(
        "masked_mse_loss",
        fastloss.torch.masked_mse_loss,
        reference.masked_mse,
        lambda: values(False),
        OPERATORS.masked_mse,
    ),
    Loss(
        "criterion_neg_log_bernoulli",
        fastloss.torch.criterion_neg_log_bernoulli,
        reference.bernoulli,
        lambda: values(True),
        OPERATORS.bernoulli_nll,
    ),
    Loss(
        "elastic_cell_similarity",
        fastloss.torch.elastic_cell_similarity,
        reference.elastic,
        lambda: [*embeddings(1), 0.3, True],
        OPERATORS.elastic_cell_similarity,
    ),
    Loss(
        "contrastive_cell_embedding",
        fastloss.torch.contrastive_cell_embedding,
        reference.contrastive,
        lambda: [*embeddings(2), 0.5],
        OPERATORS.contrastive_cell_embedding,
    ),
    Loss(
        "cross_entropy",
        fastloss.torch.cross_entropy,
        reference.cross_entropy,
        classes,
        OPERATORS.cross_entropy,
    ),
]
METRIC = Loss(
    "masked_relative_error",
    fastloss.torch.masked_relative_error,
    reference.relative_error,
    lambda: values(False),
    OPERATORS.masked_relative_error,
)

every_loss = pytest.mark.parametrize("loss", DIFFERENTIABLE, ids=str)


def leaves(arguments: list[Any]) -> list[Tensor]:
    return [argument for argument in arguments if isinstance(argument, Tensor) and argument.requires_grad]


def in_double(arguments: list[Any]) -> list[Any]:
    """The same numbers in float64, leaves of their own."""
    return [
        argument.detach().double().requires_grad_(argument.requires_grad)
        if isinstance(argument, Tensor) and argument.dtype == torch.float32
        else argument
        for argument in arguments
    ]


def assert_gradients(found: Any, truth: Any, tolerance: float = 2e-6) -> None:
    """Norm-wise against float64."""
    assert len(found) == len(truth)
    for gradient, true_gradient in zip(found, truth, strict=True):
        assert gradient.dtype == torch.float32 and gradient.shape == true_gradient.shape
        error = (gradient.double() - true_gradient).norm() / true_gradient.norm().clamp_min(1e-30)
        assert error <= tolerance, f"relative error {error:.2e}"
