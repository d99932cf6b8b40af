"""16-bit predictions of the masked losses: bfloat16 and float16, under autocast and torch.compile."""

from typing import Any

import pytest
import torch
from losses import METRIC, every_loss
from torch import Tensor

import fastloss
import fastloss.torch

MASKED = every_loss.args[1][:2]
masked_loss = pytest.mark.parametrize("loss", MASKED, ids=[loss.name for loss in MASKED])
every_kind = pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])


def arguments_of(loss: Any, kind: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    input, target, mask = loss.arguments()
    return input.detach().to(kind).requires_grad_(), target, mask


@masked_loss
@every_kind
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("factor", [1.0, 3.0, 1024.0])
def test_value_and_gradient(loss: Any, kind: torch.dtype, compiled: bool, factor: float) -> None:
    input, target, mask = arguments_of(loss, kind)
    function = torch.compile(loss.function, fullgraph=True) if compiled else loss.function
    widened = input.detach().double().requires_grad_()
    truth = loss.reference(widened, target.double(), mask)
    (exact,) = torch.autograd.grad(truth, widened)
    value = function(input, target, mask)
    assert value.dtype == torch.float32 and value.item() == pytest.approx(truth.item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(value * factor, input)
    assert gradient.dtype == kind and gradient.shape == input.shape
    # Half a unit in the last place; with another factor, bfloat16 is rounded a second time.
    epsilon = torch.finfo(kind).eps * (0.5 if factor == 1 or kind == torch.float16 else 1)
    expected = exact * factor
    limit = (epsilon * 1.001 * expected.abs()).clamp(min=torch.finfo(kind).smallest_normal * epsilon)
    assert ((gradient.double() - expected).abs() <= limit).all()


@every_kind
def test_small_gradients_of_float16_survive_the_scaler(kind: torch.dtype) -> None:
    """2(x − t)/M is below float16's smallest number; 2¹⁶ times that is not."""
    count = 1 << 20
    input = torch.full((count,), 0.015625, dtype=kind, requires_grad=True)
    target, mask = torch.zeros(count), torch.ones(count, dtype=torch.bool)
    (fastloss.torch.masked_mse_loss(input, target, mask) * 65536.0).backward()
    assert input.grad is not None and (input.grad == 0.03125 / 16).all()


@masked_loss
@every_kind
def test_without_gradients(loss: Any, kind: torch.dtype) -> None:
    input, target, mask = arguments_of(loss, kind)
    with torch.no_grad():
        value = loss.function(input, target, mask)
        assert value == loss.function(input.float(), target, mask)
    transposed = input.detach().t().contiguous().t()
    assert not transposed.is_contiguous() and loss.function(transposed, target, mask) == value


@every_kind
def test_metric(kind: torch.dtype) -> None:
    input, target, mask = arguments_of(METRIC, kind)
    assert METRIC.function(input, target, mask) == METRIC.function(input.float(), target, mask)


@every_kind
def test_gradient_of_the_target(kind: torch.dtype) -> None:
    input, target, mask = arguments_of(MASKED[0], kind)
    target.requires_grad_()
    value = fastloss.torch.masked_mse_loss(input, target, mask)
    of_input, of_target = torch.autograd.grad(value, [input, target])
    assert of_input.dtype == kind and of_target.dtype == torch.float32
    assert torch.equal(of_input, (-of_target).to(kind))


def test_autocast() -> None:
    """A model's outputs under autocast go to the loss as they are; the weights get float32 gradients."""
    torch.manual_seed(1)
    layer = torch.nn.Linear(8, 31)
    states, target = torch.randn(5, 8), torch.rand(5, 31)
    mask = torch.rand(5, 31) < 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(states)
        assert output.dtype == torch.bfloat16
        loss = fastloss.torch.masked_mse_loss(output, target, mask)
        own = torch.nn.functional.mse_loss(output[mask].float(), target[mask])
    assert loss.item() == pytest.approx(own.item(), rel=1e-6)
    found = torch.autograd.grad(loss, layer.weight, retain_graph=True)[0]
    expected = torch.autograd.grad(own, layer.weight)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=1e-3)


@every_kind
def test_other_losses_refuse_and_name_the_conversion(kind: torch.dtype) -> None:
    embeddings = torch.ones(3, 4, dtype=kind)
    for call in (
        lambda: fastloss.torch.elastic_cell_similarity(embeddings, 0.6),
        lambda: fastloss.torch.contrastive_cell_embedding(embeddings, embeddings),
    ):
        with pytest.raises(fastloss.ArrayError, match=r"expected torch.float32 on the cpu.*\.float\(\)$"):
            call()
