"""16-bit outputs of a model: bfloat16 and float16, under autocast and torch.compile."""

from typing import Any

import pytest
import torch
from losses import METRIC, every_loss, leaves
from torch import Tensor

import fastloss
import fastloss.torch

LOSSES = every_loss.args[1]
every_kind = pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])


def changed(arguments: list[Any], kind: torch.dtype) -> list[Any]:
    """The arguments with the model's outputs in this type, as leaves."""
    return [
        argument.detach().to(kind).requires_grad_()
        if isinstance(argument, Tensor) and argument.requires_grad
        else argument
        for argument in arguments
    ]


def own(loss: Any, arguments: list[Any], kind: torch.dtype) -> tuple[Tensor, tuple[Tensor, ...]]:
    """PyTorch's value and gradients of the same outputs, computed in this type."""
    widened = changed(arguments, kind)
    others = [x.to(kind) if isinstance(x, Tensor) and x.dtype == torch.float32 else x for x in widened]
    value = loss.reference(*others)
    return value, torch.autograd.grad(value, leaves(widened))


@every_loss
@every_kind
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("factor", [1.0, 3.0, 1024.0])
def test_value_and_gradient(loss: Any, kind: torch.dtype, compiled: bool, factor: float) -> None:
    arguments = changed(loss.arguments(), kind)
    function = torch.compile(loss.function, fullgraph=True) if compiled else loss.function
    truth, exact = own(loss, arguments, torch.float64)
    _, plain = own(loss, arguments, torch.float32)
    value = function(*arguments)
    assert value.dtype == torch.float32 and value.item() == pytest.approx(truth.item(), rel=1e-6)
    inputs = leaves(arguments)
    gradients = torch.autograd.grad(value * factor, inputs)
    # Half a unit in the last place; with another factor, bfloat16 is rounded a second time.
    epsilon = torch.finfo(kind).eps * (0.5 if factor == 1 or kind == torch.float16 else 1)
    for gradient, input, one, float_gradient in zip(gradients, inputs, exact, plain, strict=True):
        assert gradient.dtype == kind and gradient.shape == input.shape
        expected = one * factor
        difference = (gradient.double() - expected).abs()
        limit = (epsilon * 1.001 * expected.abs()).clamp(min=torch.finfo(kind).smallest_normal * epsilon)
        # The float32 gradient of embeddings has an error relative to their largest.
        assert (difference <= limit + 1e-6 * expected.abs().max()).all()
        if factor == 1:
            # As near the truth as PyTorch's computation in float32, rounded.
            others = (float_gradient.to(kind).double() - expected).norm()
            assert difference.norm() <= 1.01 * others


@every_kind
def test_small_gradients_of_float16_survive_the_scaler(kind: torch.dtype) -> None:
    """2(x − t)/M is below float16's smallest number; 2¹⁶ times that is not."""
    count = 1 << 20
    input = torch.full((count,), 0.015625, dtype=kind, requires_grad=True)
    target, mask = torch.zeros(count), torch.ones(count, dtype=torch.bool)
    (fastloss.torch.masked_mse_loss(input, target, mask) * 65536.0).backward()
    assert input.grad is not None and (input.grad == 0.03125 / 16).all()


@every_loss
@every_kind
def test_without_gradients(loss: Any, kind: torch.dtype) -> None:
    arguments = changed(loss.arguments(), kind)
    with torch.no_grad():
        value = loss.function(*arguments)
        assert value == loss.function(*changed(arguments, torch.float32))
    first, *others = arguments
    transposed = first.detach().t().contiguous().t()
    assert not transposed.is_contiguous() and loss.function(transposed, *others) == value


@every_kind
def test_metric(kind: torch.dtype) -> None:
    input, target, mask = changed(METRIC.arguments(), kind)
    assert METRIC.function(input, target, mask) == METRIC.function(input.float(), target, mask)


@every_kind
def test_gradient_of_the_target(kind: torch.dtype) -> None:
    input, target, mask = changed(LOSSES[0].arguments(), kind)
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
def test_embeddings_of_two_types(kind: torch.dtype) -> None:
    """They are computed in float32, and each gradient has the type of its tensor."""
    first, second, temperature = LOSSES[3].arguments()
    half = first.detach().to(kind).requires_grad_()
    value = fastloss.torch.contrastive_cell_embedding(half, second, temperature)
    of_half, of_second = torch.autograd.grad(value, [half, second])
    assert of_half.dtype == kind and of_second.dtype == torch.float32
    widened = half.detach().float().requires_grad_()
    expected = fastloss.torch.contrastive_cell_embedding(widened, second, temperature)
    of_first, of_other = torch.autograd.grad(expected, [widened, second])
    assert value == expected
    assert torch.equal(of_half, of_first.to(kind)) and torch.equal(of_second, of_other)


def test_autocast_of_embeddings() -> None:
    torch.manual_seed(1)
    layer = torch.nn.Linear(8, 31)
    states = torch.randn(5, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = layer(states)
        assert embeddings.dtype == torch.bfloat16
        loss = fastloss.torch.elastic_cell_similarity(embeddings, 0.6)
    own = LOSSES[2].reference(embeddings.float(), 0.6)
    assert loss.item() == pytest.approx(own.item(), rel=1e-6)
    found = torch.autograd.grad(loss, layer.weight, retain_graph=True)[0]
    expected = torch.autograd.grad(own, layer.weight)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=1e-3)
