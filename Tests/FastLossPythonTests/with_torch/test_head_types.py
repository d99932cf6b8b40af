"""Heads of 16-bit states and embeddings: bfloat16 and float16, under autocast and torch.compile."""

from typing import Any

import pytest
import test_heads
import torch
from test_heads import (
    BOTH,
    CLASSIFIERS,
    WEIGHTS,
    Case,
    expression_case,
    gradients_of_total,
    is_of_the_library,
)
from torch import Tensor, nn

import fastloss
from fastloss.torch import heads

every_head = pytest.mark.parametrize("name", BOTH)
every_kind = pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])


def found(
    case: Case, inputs: dict[str, Tensor], loss: Any = None
) -> tuple[heads.DecoderLoss, dict[str, Tensor | None]]:
    inputs = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    result = (loss or case.module.loss)(
        **inputs, **case.others, mse_weight=WEIGHTS[0], nzlp_weight=WEIGHTS[1]
    )
    return result, gradients_of_total(result.total, case.module, inputs)


def assert_rounded(
    gradients: dict[str, Tensor | None], exact: dict[str, Tensor | None], inputs: dict[str, Tensor]
) -> None:
    """The gradients of float32, rounded to the types of the inputs; those of the parameters as they are."""
    assert gradients.keys() == exact.keys()
    for name, gradient in gradients.items():
        expected = exact[name]
        assert (gradient is None) == (expected is None), name
        if gradient is not None and expected is not None:
            assert gradient.dtype == (inputs[name].dtype if name in inputs else torch.float32), name
            assert torch.equal(gradient, expected.to(gradient.dtype)), name


@every_head
@every_kind
def test_results_are_those_of_the_widened_inputs(name: str, kind: torch.dtype) -> None:
    case = BOTH[name]()
    inputs = {name: value.to(kind) for name, value in case.inputs.items()}
    expected, exact = found(case, {name: value.float() for name, value in inputs.items()})
    result, gradients = found(case, inputs)
    assert is_of_the_library(result.total) and result.total.dtype == torch.float32
    assert [*result] == [*expected]
    assert_rounded(gradients, exact, inputs)
    with torch.no_grad():
        assert case.module.loss(**inputs, **case.others).mse == expected.mse


@every_head
def test_each_input_has_its_own_type(name: str) -> None:
    """Autocast leaves the outputs of embeddings and normalizations in float32."""
    case = BOTH[name]()
    for half in case.inputs:
        inputs = {key: value.bfloat16() if key == half else value for key, value in case.inputs.items()}
        expected, exact = found(case, {name: value.float() for name, value in inputs.items()})
        result, gradients = found(case, inputs)
        assert is_of_the_library(result.total) and [*result] == [*expected]
        assert_rounded(gradients, exact, inputs)


@pytest.mark.parametrize("name", ["ExprDecoder, batches by label", "MVCDecoder, inner product"])
@every_kind
def test_compiled(name: str, kind: torch.dtype) -> None:
    torch.compiler.reset()
    case = BOTH[name]()
    inputs = {name: value.to(kind) for name, value in case.inputs.items()}
    expected, exact = found(case, {name: value.float() for name, value in inputs.items()})

    def loss(**arguments: Any) -> Any:
        return case.module.loss(**arguments)

    result, gradients = found(case, inputs, torch.compile(loss, fullgraph=True))
    assert [*result] == [*expected]
    assert_rounded(gradients, exact, inputs)
    torch.compiler.reset()


@every_head
def test_autocast(name: str) -> None:
    """The head is computed in float32, from the inputs as they are."""
    case = BOTH[name]()
    inputs = {name: value.bfloat16() for name, value in case.inputs.items()}
    expected, exact = found(case, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        result, gradients = found(case, inputs)
    assert is_of_the_library(result.total) and [*result] == [*expected]
    for key, gradient in exact.items():
        other = gradients[key]
        assert (gradient is None) == (other is None)
        assert gradient is None or (other is not None and torch.equal(other, gradient))


@every_kind
def test_strange_states(kind: torch.dtype) -> None:
    """NaN in a selected token reaches the losses and the token's gradient, and no other token's."""
    case = expression_case(False, "per cell")
    for strange in (float("nan"), float("inf")):
        inputs = {name: value.to(kind) for name, value in case.inputs.items()}
        cell, token = case.others["mask"].nonzero()[0].tolist()
        inputs["x"][cell, token, 3] = strange
        inputs["x"][~case.others["mask"]] = strange
        result, gradients = found(case, inputs)
        assert not result.mse.isfinite()
        of_states = gradients["x"]
        assert of_states is not None and not of_states[cell, token].isfinite().all()
        of_states[cell, token] = 0
        assert of_states.isfinite().all() and not of_states[~case.others["mask"]].any()


def test_small_gradients_of_float16_survive_the_scaler() -> None:
    """They are computed in float32, multiplied, and then rounded."""
    case = expression_case(False, "none")
    x = case.inputs["x"].half().requires_grad_()
    total = case.module.loss(x, **case.others, mse_weight=2.0**-30).total * 2.0**30
    (scaled,) = torch.autograd.grad(total, x)
    (plain,) = torch.autograd.grad(case.module.loss(x, **case.others).total, x)
    assert torch.equal(scaled, plain) and plain.any()


@every_kind
def test_other_layers_widen(kind: torch.dtype) -> None:
    """PyTorch's operations compute other layers in the parameters' float32, too."""
    case = BOTH["ExprDecoder"]()
    case.module.fc[1] = nn.GELU()
    inputs = {name: value.to(kind) for name, value in case.inputs.items()}
    expected, exact = found(case, {name: value.float() for name, value in inputs.items()})
    result, gradients = found(case, inputs)
    assert not is_of_the_library(result.total) and result.total == expected.total
    assert_rounded(gradients, exact, inputs)


@pytest.mark.parametrize("width", [12, 300])
@pytest.mark.parametrize("name", CLASSIFIERS)
@every_kind
def test_classifiers(name: str, width: int, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wider classifiers are PyTorch's operations."""
    monkeypatch.setattr(test_heads, "WIDTH", width)
    torch.manual_seed(6)
    module = CLASSIFIERS[name][0]()
    half = torch.randn(9, width).to(kind)
    labels = torch.tensor([0, 1, 2, 3, -100, 1, 1, 0, 2])

    def gradients(x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = x.requires_grad_()
        loss = module.loss(x, labels)
        return loss, list(torch.autograd.grad(loss, [x, *module.parameters()]))

    loss, found = gradients(half)
    expected, exact = gradients(half.detach().float())
    assert torch.equal(loss, expected) and loss.dtype == torch.float32
    assert found[0].dtype == kind
    for one, other in zip(found, exact, strict=True):
        assert torch.equal(one, other.to(one.dtype))
    if width == 12:
        with torch.autocast("cpu", torch.bfloat16):
            assert module.loss(half, labels).dtype == torch.float32


def test_types_that_no_head_reads() -> None:
    case = BOTH["ExprDecoder"]()
    others = {**case.others, "batch_emb": case.inputs["batch_emb"]}
    for kind in (torch.float64, torch.int64):
        with pytest.raises(fastloss.ArrayError, match=rf"x is a {kind} tensor"):
            case.module.loss(case.inputs["x"].to(kind), **others)
    module = heads.ClsDecoder(12, 4)
    with pytest.raises(fastloss.ArrayError, match=r"x is a torch\.float64 tensor"):
        module.loss(torch.zeros(2, 12, dtype=torch.float64), torch.tensor([0, 1]))
